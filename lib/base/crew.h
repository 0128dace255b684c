/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crew.h - which of the threads that share one source of work goes next, so that about as many are at work as there are
 * processors, and none is woken for what another can do in a moment.
 *
 * One thread at a time leads: it waits at the source. What it finds it works on itself, piece by piece, while the others sleep;
 * nobody is at the source meanwhile. Another is called when much is left over, when who works says that he will wait for
 * something (blocking.h), or when the deputy, who looks after some milliseconds, finds that nothing went on.
 *
 * All of a crew is guarded by its lock, which the owner uses for the work, too; every function wants it held. The calling thread is the
 * one meant.
 */
#ifndef PR_CREW_H
#define PR_CREW_H

#include "base/lock.h"

struct crew_seat; /* a sleeping thread */

struct crew {
    struct lock lock;        /* of the crew, and of its owner's work */
    unsigned limit;          /* at work at once; those that wait for something do not count */
    unsigned at_work;        /* got work since `epoch` began, and have not come back */
    unsigned called;         /* were woken and do not run yet */
    uint64_t epoch;          /* raised when those at work are given up for stuck */
    uint64_t moves;          /* work taken and given back */
    bool has_leader;         /* a thread waits at the source */
    bool deputy_sleeps;      /* it looks again when it is told to */
    struct crew_seat *seats; /* the sleepers, the last one first */
    struct crew_seat *deputy;
};

/* limit: at least 1. */
void crew_init(struct crew *c, enum lock_rank rank, unsigned limit);
/* No thread is in it any more, but for the calling one. */
void crew_fini(struct crew *c);
/* The thread is back for more. */
void crew_return_locked(struct crew *c) REQUIRES(c->lock);
/* May it take work that is there, may it lead? */
bool crew_may_work_locked(const struct crew *c) REQUIRES(c->lock);
bool crew_may_lead_locked(const struct crew *c) REQUIRES(c->lock);
/* It begins with a piece of work; so much is left. */
void crew_begin_locked(struct crew *c, size_t left) REQUIRES(c->lock);
/* It waits at the source from here, to there. The lock is dropped in between. */
void crew_lead_locked(struct crew *c) REQUIRES(c->lock);
void crew_led_locked(struct crew *c) REQUIRES(c->lock);
/* Sleeps until it is called, or is needed. */
void crew_sleep_locked(struct crew *c) REQUIRES(c->lock);
/* There is new work, or there may be: calls somebody if nobody else would look. */
void crew_offer_locked(struct crew *c) REQUIRES(c->lock);
void crew_call_all_locked(struct crew *c) REQUIRES(c->lock);
/* Has this thread waited (blocking.h) since it began with what it has? */
bool crew_has_blocked(void);

#endif
