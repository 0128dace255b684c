/* SPDX-License-Identifier: Apache-2.0 */
/*
 * local_int.h - what the files of local(8) share.
 *
 * The way of a recipient: local_main.c; aliases and .forward files give elements (local_expand.c); an element is an address (gathered,
 * sent on as one message by local_forward.c), a file, a command (local_command.c), an :include: file, or the user's own mailbox.
 */
#ifndef PR_LOCAL_INT_H
#define PR_LOCAL_INT_H

#include "base/arena.h"
#include "base/vec.h"
#include "local/local_params.h"
#include "mail/intake.h"
#include "maps/policy.h"
#include "master/worker.h"
#include "route/route.h"

struct local {
    struct local_params p;
    struct mailbox_options mailbox;
    struct map_list *aliases, *mailbox_commands, *mailbox_transports, *fallback_transports;
    struct route *route;
    struct intake_pool *intake;
    const char *myorigin, *myhostname, *delimiter, *mail_name;
    struct mailbox_owner default_privs;
    bool long_ids;
};

/* One recipient under way. What went wrong first decides; a temporary failure outranks a permanent one. */
struct local_job {
    struct local *l;
    struct deliver_request *r;
    const struct proto_deliver_rcpt *rcpt;
    struct arena *arena;
    struct slice delivered_to; /* user@domain as in Delivered-To: */
    struct slice sender;       /* of what is sent on: the message's, or owner-NAME */
    struct vec forward;        /* char *, addresses to send on to */
    unsigned elements;         /* so far: expansion is bounded */
    unsigned delivered;
    unsigned passes;            /* recipients handed to another agent, which logged them */
    struct proto_status passed; /* what it said of the last; strings in the arena */
    struct buf how;             /* "delivered to maildir" ... */
    struct err err;             /* of the worst failure */
};

/* Who an element belongs to. */
struct local_rights {
    struct mailbox_owner owner;
    const char *origin; /* "alias", "forward", "include" */
    const char *user;   /* login name, or NULL for aliases */
    const char *home;
};

/* Is the word in a list of words? */
bool local_has_word(const char *list, const char *word);

/* local_expand.c */
/* Whom a template is about; NULL: no such thing, and for user the recipient's name without its extension. */
struct local_names {
    const char *user, *home, *shell;
};
/* local_template.c: $home $user $extension $recipient_delimiter $shell $domain $local $recipient, and their conditional forms;
 * filter: the characters that values keep, others become "_"; NULL: all. */
void local_expand(const struct local_job *j, struct slice text, const struct local_names *names,
                  const char *filter, struct buf *out);
/* local_pass.c: hands the recipient to another agent, "transport:nexthop". */
void local_pass(struct local_job *j, struct slice transport);
/* The same by the table's word for the user, else to `otherwise`. False: neither names a transport. */
bool local_transport(struct local_job *j, struct map_list *maps, const char *parameter,
                     const char *otherwise, struct slice user);
/* local_biff.c: "USER@OFFSET" to the comsat service; nobody hears whether it listens. */
void local_biff(const char *user, off_t offset);
void local_recipient(struct local_job *j, struct slice name, unsigned depth);
void local_fail(struct local_job *j, const struct err *err);
/* local_command.c: runs "sh -c command" with the message on standard input; with default_privs where the rights are root's. */
NODISCARD int local_command(struct local_job *j, const char *command,
                            const struct local_rights *given, struct err *err);
/* local_forward.c */
NODISCARD int local_forward(struct local_job *j, struct err *err);

#endif
