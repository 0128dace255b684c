/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h - one thread's event loop: descriptors, timers, work posted by other threads.
 *
 * A callback never runs inside the call that registered it. Deleting any watch or timer from any
 * callback is safe: it is not called again, its memory goes at the end of the turn.
 */
#ifndef PR_LOOP_H
#define PR_LOOP_H

#include "base/mtime.h"

enum { LOOP_READ = 1, LOOP_WRITE = 2, LOOP_HANGUP = 4 }; /* HANGUP is only reported, always */

struct loop;
struct loop_io;
struct loop_timer;

typedef void (*loop_io_fn)(void *arg, unsigned events);
typedef void (*loop_fn)(void *arg);

NODISCARD struct loop *loop_new(void);
void loop_free(struct loop **l);
void loop_run(struct loop *l); /* until loop_stop() */
void loop_stop(struct loop *l);
struct mono_time loop_now(const struct loop *l); /* the turn's time, without a system call */
/* How long the longest turn took since this was last asked: so long did whatever came meanwhile wait. */
int64_t loop_longest_us(struct loop *l);

/* The descriptor stays the caller's. */
NODISCARD struct loop_io *loop_io_new(struct loop *l, int fd, unsigned events, loop_io_fn fn,
                                      void *arg);
void loop_io_set(struct loop_io *io, unsigned events);
void loop_io_free(struct loop_io **io);

NODISCARD struct loop_timer *loop_timer_new(struct loop *l, loop_fn fn, void *arg);
void loop_timer_set(struct loop_timer *t, int64_t after_ms); /* fires once; set again moves it */
void loop_timer_cancel(struct loop_timer *t);
void loop_timer_free(struct loop_timer **t);

/* Any thread: fn(arg) runs on the loop's thread, in the order posted by one thread. */
void loop_post(struct loop *l, loop_fn fn, void *arg);
/* The loop's own thread: fn(arg) runs at the end of this turn. */
void loop_defer(struct loop *l, loop_fn fn, void *arg);

#endif
