/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mtime.h - two kinds of time that do not mix: monotonic (durations, deadlines) and wall-clock (stamps).
 */
#ifndef PR_MTIME_H
#define PR_MTIME_H

#include "base/buf.h"

struct mono_time {
    int64_t us;
};
struct wall_time {
    int64_t us; /* since the epoch, UTC */
};

#define MONO_NEVER ((struct mono_time){INT64_MAX})

struct mono_time mono_now(void);
struct mono_time mono_after_ms(struct mono_time t, int64_t ms); /* saturates */
int64_t mono_diff_ms(struct mono_time later, struct mono_time earlier);
int64_t mono_diff_us(struct mono_time later, struct mono_time earlier);
/* Milliseconds until t, 0 if past, for poll(2); -1 for MONO_NEVER. */
int mono_poll_ms(struct mono_time t);

struct wall_time wall_now(void);
int64_t wall_seconds(struct wall_time t);
/* RFC 5322 date-time in the local zone: "Mon, 23 Nov 2026 12:16:21 +0000 (UTC)", as Postfix prints it. */
void wall_rfc5322(struct wall_time t, struct buf *out);
/* "Nov 23 12:16:21", local zone: log lines. */
void wall_syslog(struct wall_time t, struct buf *out);
/* "Mon Nov 23 12:16:21", local zone: mailq. */
void wall_mailq(struct wall_time t, struct buf *out);

#endif
