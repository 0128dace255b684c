/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.h - a bounded pool of threads that run jobs; threads are started as needed.
 */
#ifndef PR_POOL_H
#define PR_POOL_H

#include "base/base.h"

struct pool;

NODISCARD struct pool *pool_new(const char *name, unsigned max_threads,
                                size_t stack_bytes);          /* 0: 256 KiB */
void pool_run(struct pool *p, void (*fn)(void *), void *arg); /* queues; never blocks */
size_t pool_queued(struct pool *p);
/* Runs what is queued, then joins all threads. */
void pool_free(struct pool **p);

#endif
