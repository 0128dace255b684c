/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_clock.h - the queue manager's time of day: the wall clock without its jumps. When somebody sets the clock forward, all deferred
 * mail would be due at once and mail would be returned as too old; set back, everything would wait for that long. Here a
 * jump is noticed (the monotonic clock says how far the wall clock should have gone), and time goes on as if it had
 * not happened. Small corrections are followed. One thread.
 */
#ifndef PR_QMGR_CLOCK_H
#define PR_QMGR_CLOCK_H

#include "base/mtime.h"

#define CLOCK_STEPS 8

struct clock_step {
    int64_t before_us, after_us; /* what the wall clock said, just before and after */
};

struct qmgr_clock {
    struct mono_time mono;                /* when the clocks were last compared */
    int64_t wall_us;                      /* and what the wall clock said then */
    int64_t offset_us;                    /* from the wall clock to ours */
    struct clock_step steps[CLOCK_STEPS]; /* the last ones, oldest first */
    unsigned nsteps;
};

void qmgr_clock_init(struct qmgr_clock *c, struct mono_time mono, struct wall_time wall);
/* Compares: about once a second. The jump that was found, or 0. */
int64_t qmgr_clock_compare(struct qmgr_clock *c, struct mono_time mono, struct wall_time wall);
/* Our time of day. */
int64_t qmgr_clock_us(const struct qmgr_clock *c, struct wall_time wall);
/* How long ago, in our time, the wall clock said arrival_us; not less than 0. What a jump made ambiguous counts as later. */
int64_t qmgr_clock_age_us(const struct qmgr_clock *c, int64_t arrival_us, struct wall_time wall);

#endif
