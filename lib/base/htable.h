/* SPDX-License-Identifier: Apache-2.0 */
/*
 * htable.h - byte-string keys to pointers. Keys are copied, values are the caller's. Seeded hash
 * (siphash), so that keys from the network cannot be chosen to collide. Not thread-safe.
 */
#ifndef PR_HTABLE_H
#define PR_HTABLE_H

#include "base/slice.h"

struct htable;

NODISCARD struct htable *htable_new(bool fold_case);
/* free_value may be NULL. */
void htable_free(struct htable **t, void (*free_value)(void *));
void *htable_get(const struct htable *t, struct slice key); /* NULL: absent */
/* Returns the value that was there before, or NULL. value must not be NULL. */
void *htable_put(struct htable *t, struct slice key, void *value);
void *htable_remove(struct htable *t, struct slice key); /* the value, or NULL */
size_t htable_len(const struct htable *t);
/* Calls fn for each entry in no order; fn must not change the table. Stops when fn returns false. */
void htable_each(const struct htable *t, bool (*fn)(struct slice key, void *value, void *arg),
                 void *arg);
uint64_t hash_bytes(struct slice s); /* the process's seeded hash */

#endif
