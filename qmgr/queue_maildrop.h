/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue_maildrop.h - what lies in maildrop/, where pickup has not come yet: lists of the queue, postcat, postsuper -d. Who calls needs the
 * rights to read it, or to remove from it: qmgr lists while the system runs, else the command does.
 */
#ifndef PR_QMGR_QUEUE_MAILDROP_H
#define PR_QMGR_QUEUE_MAILDROP_H

#include "base/arena.h"
#include "mail/proto.h"
#include "qmgr/store.h"

struct queue_maildrop; /* a walk */

/* NULL: there is no such directory, or it is not ours to read. */
struct queue_maildrop *queue_maildrop_open(const char *queue_directory);
void queue_maildrop_close(struct queue_maildrop **w);
/*
 * The next complete message, in arena: 1. 0: that was the last. -1: a file that is no message, or cannot be read; the walk
 * goes on. queue_id is the file's name; size that of the content as far as it is known without rewriting.
 */
NODISCARD int queue_maildrop_next(struct queue_maildrop *w, struct arena *arena,
                                  struct proto_queue_item *item, struct store_rcpt **rcpts,
                                  size_t *nrcpts, struct err *err);

/*
 * One message, by its file's name: 1; its content goes to content_fd (-1: nowhere). 0: there is none, or postdrop is still writing it. -1: no
 * message, or not readable.
 */
NODISCARD int queue_maildrop_read(const char *queue_directory, const char *queue_id,
                                  struct arena *arena, int content_fd, struct mail_envelope *env,
                                  struct store_rcpt **rcpts, size_t *nrcpts, struct err *err);
/* Removes the file, if it is there, or all of them; those go that can. Adds to *count. */
NODISCARD int queue_maildrop_remove(const char *queue_directory, const char *queue_id,
                                    size_t *count, struct err *err);
NODISCARD int queue_maildrop_remove_all(const char *queue_directory, size_t *count,
                                        struct err *err);

#endif
