/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_relay.h - passes the workers' log lines on to syslog, many at a time, in the order in which they were made.
 *
 * Each worker puts its lines into a ring of its own (base/log_ring.h), which costs it no system call; a thread of master takes
 * them from all rings every few milliseconds. With maillog_file workers write their lines themselves, and this rests.
 */
#ifndef PR_LOG_RELAY_H
#define PR_LOG_RELAY_H

#include "base/err.h"

struct log_relay;
struct log_source; /* one worker's ring */

/* Starts the thread, with all signals that the caller has blocked. */
NODISCARD struct log_relay *log_relay_start(struct err *err);
/* Where writers wake the thread. */
int log_relay_wake_fd(const struct log_relay *relay);
/* *fd: the ring, for the worker; the caller closes it. NULL: there is none, the worker sends its lines itself. */
NODISCARD struct log_source *log_relay_add(struct log_relay *relay, int *fd, struct err *err);
/* The worker has ended: the source goes when its last lines are on their way. Accepts NULL. */
void log_relay_end(struct log_relay *relay, struct log_source **source);
/* Passes on what is there, and ends the thread. Accepts NULL. */
void log_relay_stop(struct log_relay **relay);

#endif
