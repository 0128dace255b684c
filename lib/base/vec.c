/* SPDX-License-Identifier: Apache-2.0 */
/* vec.c - see vec.h. */
#include "base/vec.h"

#include <stdlib.h>
#include <string.h>

void vec_fini(struct vec *v)
{
    free(v->items);
    *v = VEC_INIT;
}

void vec_push(struct vec *v, void *item)
{
    if (v->len == v->cap) {
        v->cap = v->cap == 0 ? 8 : v->cap * 2;
        v->items = xrealloc(v->items, v->cap * sizeof(*v->items));
    }
    v->items[v->len++] = item;
}

void *vec_pop(struct vec *v)
{
    return v->len > 0 ? v->items[--v->len] : NULL;
}

void vec_remove(struct vec *v, size_t i)
{
    memmove(v->items + i, v->items + i + 1, (v->len - i - 1) * sizeof(*v->items));
    v->len--;
}

void vec_clear(struct vec *v, void (*free_item)(void *))
{
    if (free_item != NULL)
        for (size_t i = 0; i < v->len; i++)
            free_item(v->items[i]);
    v->len = 0;
}

static int compare(const void *a, const void *b, void *cmp)
{
    int (*const *fn)(const void *, const void *) = cmp;

    return (*fn)(*(void *const *) a, *(void *const *) b);
}

/* A merge sort, so that equal elements keep their order. */
void vec_sort(struct vec *v, int (*cmp)(const void *a, const void *b))
{
    void **spare;

    if (v->len < 2)
        return;
    spare = xmalloc(v->len * sizeof(*spare));
    for (size_t width = 1; width < v->len; width *= 2) {
        for (size_t lo = 0; lo < v->len; lo += 2 * width) {
            size_t mid = lo + width < v->len ? lo + width : v->len;
            size_t hi = lo + 2 * width < v->len ? lo + 2 * width : v->len;
            size_t i = lo;
            size_t j = mid;

            for (size_t k = lo; k < hi; k++) {
                bool left = i < mid && (j >= hi || compare(&v->items[i], &v->items[j], &cmp) <= 0);

                spare[k] = left ? v->items[i++] : v->items[j++];
            }
        }
        memcpy(v->items, spare, v->len * sizeof(*spare));
    }
    free(spare);
}
