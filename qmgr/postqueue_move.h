/* SPDX-License-Identifier: Apache-2.0 */
/* postqueue_move.h - postqueue --move-to: has mail handed to another host, waits, tells what stayed. */
#ifndef PR_POSTQUEUE_MOVE_H
#define PR_POSTQUEUE_MOVE_H

#include <stdio.h>

#include "qmgr/queue_client.h"

/*
 * select, held: which mail. Tells on standard output what stayed, as it turns out, and the sums; on a terminal, how far it is, on
 * standard error. EX_OK: the host has all that was meant. EX_TEMPFAIL: some stays. What fails at once is fatal: EX_NOPERM,
 * EX_UNAVAILABLE.
 */
NODISCARD int postqueue_move(const struct queue_client *q, const char *host,
                             const struct proto_queue_select *select, bool held, bool json);

/* The last line of it. why: the reason for which it ended early, or empty. */
void postqueue_move_sum(FILE *out, const char *host, const struct proto_queue_moved *n,
                        struct slice why);

#endif
