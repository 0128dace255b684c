/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec.h - an array of pointers that grows. The elements' owner is the caller.
 */
#ifndef PR_VEC_H
#define PR_VEC_H

#include "base/base.h"

struct vec {
    void **items;
    size_t len;
    size_t cap;
};

#define VEC_INIT ((struct vec){NULL, 0, 0})

void vec_fini(struct vec *v); /* releases the array, not the elements */
void vec_push(struct vec *v, void *item);
void *vec_pop(struct vec *v);                             /* NULL when empty */
void vec_remove(struct vec *v, size_t i);                 /* keeps order */
void vec_clear(struct vec *v, void (*free_item)(void *)); /* free_item may be NULL */
void vec_sort(struct vec *v,
              int (*cmp)(const void *a, const void *b)); /* a, b: the elements themselves */

#endif
