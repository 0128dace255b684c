/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h - memory that is released as a whole. One owner; not thread-safe.
 */
#ifndef PR_ARENA_H
#define PR_ARENA_H

#include "base/slice.h"

struct arena;

NODISCARD struct arena *arena_new(size_t chunk_bytes); /* 0: 4096 */
void arena_free(struct arena **a);
void arena_reset(struct arena *a);                         /* keeps at most one chunk */
NODISCARD void *arena_alloc(struct arena *a, size_t size); /* zeroed, aligned to 16 */
NODISCARD char *arena_strdup(struct arena *a, const char *s);
/* A copy with a NUL after it. */
struct slice arena_slice(struct arena *a, struct slice s);
char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
