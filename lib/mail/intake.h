/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intake.h - the client side of cleanup: how smtpd, pickup, bounce and local hand in a message.
 *
 * An intake_pool keeps idle connections; a message takes one and gives it back. Two ways to wait for
 * the result: intake_wait() blocks; or park on intake_fd() and call intake_poll() when it is readable.
 */
#ifndef PR_MAIL_INTAKE_H
#define PR_MAIL_INTAKE_H

#include "mail/proto.h"

struct intake_pool;
struct intake;

/* path of cleanup's socket. Thread-safe. */
NODISCARD struct intake_pool *intake_pool_new(const char *path, const char *service);
void intake_pool_free(struct intake_pool **p);
/* Closes idle connections whose server has said goodbye or has gone. */
void intake_pool_trim(struct intake_pool *p);
/* Takes or makes a connection. NULL: cleanup cannot be reached (temporary). */
NODISCARD struct intake *intake_begin(struct intake_pool *p, const struct mail_envelope *env,
                                      struct err *err);
/* Each queues, and writes when enough has gathered, blocking no longer than a minute. -1: the connection is
 * gone; the message cannot be known to be queued, so it counts as temporary failure. */
NODISCARD int intake_rcpt(struct intake *in, const struct mail_rcpt *rcpt, struct err *err);
NODISCARD int intake_data(struct intake *in, struct slice content, struct err *err);
/*
 * Room of SHARE_SLOT_BYTES (base/share.h) to read content into, once there has been much; then intake_room_filled() passes on
 * what is in it, or it is left as it is. NULL: err says why, or, with err untouched, there is none: intake_data() takes it.
 * What is in the room may be read until the next call for this message.
 */
NODISCARD char *intake_room(struct intake *in, struct err *err);
NODISCARD int intake_room_filled(struct intake *in, size_t len, struct err *err);
NODISCARD int intake_end(struct intake *in,
                         struct err *err); /* writes all; the result comes next */
/* The Received field of mail that has no client: of a user's file in maildrop/, of what is queued anew. */
void intake_received(struct buf *out, const char *myhostname, const char *mail_name, uid_t uid,
                     const char *queue_id);
int intake_fd(const struct intake *in);
/* The result has been read already: the descriptor may never become readable again. */
bool intake_has_result(const struct intake *in);
/* CHAN_OK: *result filled (slices valid until intake_free). */
NODISCARD enum chan_result intake_poll(struct intake *in, struct proto_result *result,
                                       struct err *err);
NODISCARD enum chan_result intake_wait(struct intake *in, int timeout_ms,
                                       struct proto_result *result, struct err *err);
/* Before the result: aborts the message. After: the connection goes back to its pool. */
void intake_free(struct intake **in);

#endif
