/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue_client.h - what the queue commands share: the configuration, the way to qmgr, who may do what.
 */
#ifndef PR_QUEUE_CLIENT_H
#define PR_QUEUE_CLIENT_H

#include "mail/proto.h"
#include "postconf/config.h"
#include "qmgr/store.h"

struct queue_client {
    const char *program;
    struct config *cfg;
    struct config_common common;
};

extern const struct param_set queue_client_params;

/* Loads the configuration (dir may be NULL) and opens the log; fatal when that fails. */
void queue_client_init(struct queue_client *q, const char *program, const char *config_dir);
void queue_client_fini(struct queue_client *q);
/* A connection to qmgr; NULL: the mail system is down (err). */
NODISCARD struct chan *queue_client_connect(const struct queue_client *q, struct err *err);
/* Sends one operation and waits for its result; -1: the connection broke. result lives until the channel's next call. */
NODISCARD int queue_client_ask(struct chan *c, uint16_t frame_type, const struct proto_queue_op *op,
                               struct proto_result *result, struct err *err);
/* authorized_mailq_users and the like: root and mail_owner always may. what: "view the mail queue". Fatal (EX_NOPERM) if not. */
void queue_client_authorize(const struct queue_client *q, const char *param, const char *what);
/* Root, or mail_owner: in a private instance there is nobody else. */
bool queue_client_is_owner(const struct queue_client *q);
/* Who does it, for logs and lists. Under sudo, who called that. */
struct slice queue_client_who(size_t max);
/* Options for store_open*(); fatal when they are wrong. */
void queue_client_store_options(const struct queue_client *q, struct store_options *out);
/* As root: becomes mail_owner, for good, so that what is made in the queue belongs to it. Fatal on failure. */
void queue_client_become_owner(const struct queue_client *q);
/* Whose the queue's files are to be: mail_owner's; of a system that an ordinary user runs, his. */
void queue_client_owner(const struct queue_client *q, uid_t *uid, gid_t *gid);

#endif
