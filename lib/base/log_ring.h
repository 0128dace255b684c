/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_ring.h - log lines on their way from one process to another, in memory that both have.
 *
 * A line that was put outlives its writer, whatever ends it. The reader takes lines some milliseconds later, many at a time,
 * so that neither is woken for each. The writer is trusted with nothing but its own lines: the memory cannot shrink, and
 * whatever it says there is checked.
 */
#ifndef PR_LOG_RING_H
#define PR_LOG_RING_H

#include "base/err.h"
#include "base/mtime.h"
#include "base/slice.h"

#define LOG_RING_BYTES    131072
#define LOG_RING_LINE_MAX 4096

struct log_ring;

/* Makes a ring's memory; returns its descriptor (close-on-exec) or -1. The reader counts as asleep. */
NODISCARD int log_ring_create(struct err *err);
/* NULL: that descriptor is no ring. wake_fd, the writer's: an eventfd that wakes the reader, borrowed as long as lines are put. */
NODISCARD struct log_ring *log_ring_map(int fd, int wake_fd, struct err *err);
void log_ring_unmap(struct log_ring **ring);

/* The writer's side: its threads, and processes that it forks, may share it. False: there is no room, or the ring is closed. */
NODISCARD bool log_ring_put(struct log_ring *ring, struct slice line);
/* There is no reader any more: nothing more is put, and the writer may take what is there. */
void log_ring_close(struct log_ring *ring);

/*
 * The reader's side, one thread. Gives line() all lines that were put until then, the oldest first, each with its time; lines are
 * borrowed for the call. False: what the writer left there is no lines; it was thrown away.
 *
 * If a line of one writer led another one to a line of its own, and both times are taken with the same `until` of now, the second
 * line is not given unless the first is.
 */
NODISCARD bool log_ring_take(struct log_ring *ring, struct mono_time until,
                             void (*line)(struct mono_time put, struct slice line, void *arg),
                             void *arg);
/* The next line wakes the reader. True: nothing is there yet. */
NODISCARD bool log_ring_sleep(struct log_ring *ring);

#endif
