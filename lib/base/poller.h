/* SPDX-License-Identifier: Apache-2.0 */
/*
 * poller.h - where sessions wait: many parked descriptors, any number of threads that take the next one
 * with something to do. A parked item costs a table slot, no thread and no buffer.
 *
 * Each arm is for one event. From poller_arm() until poller_next() hands it back, the item belongs to
 * the poller; then to the thread that got it, alone. Readiness and time-out exclude each other.
 */
#ifndef PR_POLLER_H
#define PR_POLLER_H

#include "base/err.h"
#include "base/mtime.h"

enum {
    POLLER_READ = 1,
    POLLER_WRITE = 2,
    POLLER_HANGUP = 4,
    POLLER_TIMEOUT = 8,
    POLLER_WOKEN = 16,
    /* Of poller_arm() only. STAYS: the descriptor is the item's until poller_forget_fd() or poller_item_free(), and is not closed
     * before. DRAINED, with STAYS: all that was there has been read (a read got less than it asked for, or EAGAIN). Together they
     * save a system call for each arm; a hand-out may then find that nothing is there. */
    POLLER_STAYS = 32,
    POLLER_DRAINED = 64
};

struct poller;
struct poller_item; /* one slot; made once for each session */

NODISCARD struct poller *poller_new(struct err *err); /* NULL on failure */
void poller_free(struct poller **p);                  /* after all threads have left */
NODISCARD struct poller_item *poller_item_new(struct poller *p, void *arg);
void poller_item_free(struct poller_item **item); /* only while it is yours */
/* Waits for events on fd (may differ from time to time) until deadline (MONO_NEVER; 100 ms coarse).
 * fd -1: for the deadline and poller_wake() only. A descriptor that cannot be watched: POLLER_HANGUP. */
void poller_arm(struct poller_item *item, int fd, unsigned events, struct mono_time deadline);
/* Any thread: if the item is parked, it is handed back now with POLLER_WOKEN; else its next poller_arm()
 * hands it back at once, so that a wake that comes early is not lost. Several early wakes are one. */
void poller_wake(struct poller_item *item);
/* poller_wake() for each item there is (drain). */
void poller_wake_all(struct poller *p);
/* Forget a descriptor before it is closed or handed away, when its item lives on. */
void poller_forget_fd(struct poller_item *item);
/* Blocks until an item is ready; its arg, and what happened in *events. NULL after poller_stop(). */
void *poller_next(struct poller *p, unsigned *events);
void poller_stop(struct poller *p);

#endif
