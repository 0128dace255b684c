/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.h - counters in shared memory, and the clock of queue ids. The master makes the region (memfd),
 * every worker inherits and maps it; a program alone has a private one. Lock-free.
 */
#ifndef PR_METRICS_H
#define PR_METRICS_H

#include "base/err.h"

#define METRICS_SLOTS    1024
#define METRICS_NAME_MAX 120

/* Makes a region; returns its descriptor (not close-on-exec: to be inherited) or -1. */
NODISCARD int metrics_create(struct err *err);
/* Maps the region of a descriptor (which may be closed afterwards). Not called: a private region. */
NODISCARD int metrics_attach(int fd, struct err *err);
/* Finds or makes the counter of a name; never NULL (over the limit: a scratch counter). Keep it. */
_Atomic int64_t *metrics_counter(const char *name);
void metrics_add(_Atomic int64_t *counter, int64_t n);
void metrics_each(void (*fn)(const char *name, int64_t value, void *arg), void *arg);
/* A number that no process of this instance gets twice: microseconds of the wall clock, or the last one
 * plus 1 when the clock stands or falls back. */
int64_t metrics_unique_us(void);
/* Makes later numbers greater than us: the queue knows older ones. */
void metrics_unique_raise(int64_t us);

#endif
