/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_waits.h - what a message, or a recipient of it, waits for, told to who lists the queue.
 */
#ifndef PR_QMGR_WAITS_H
#define PR_QMGR_WAITS_H

#include "qmgr/qmgr_int.h"

struct waits {
    const char *word;  /* for programs; "": nothing that can be named */
    struct slice text; /* for people, without the time; in the arena */
    int64_t until_us;  /* wall clock; 0: nobody knows */
};

void waits_of_message(struct qmgr *q, const struct queued *qd, const struct mail_envelope *env,
                      struct arena *arena, struct waits *out);
/* r: of an active message, NULL when it is not in memory. */
void waits_of_active(struct qmgr *q, const struct rcpt *r, struct arena *arena, struct waits *out);
/* Of a deferred one: it is suspended, or the destination that its domain names is dead. */
void waits_of_deferred(struct qmgr *q, struct slice sender, const struct store_rcpt *r,
                       struct arena *arena, struct waits *out);

#endif
