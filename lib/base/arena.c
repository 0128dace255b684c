/* SPDX-License-Identifier: Apache-2.0 */
/* arena.c - see arena.h: a list of chunks, the newest in front. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

#define ALIGN 16

struct chunk {
    struct chunk *next;
    size_t size;
    size_t used;
    _Alignas(ALIGN) char data[];
};

struct arena {
    struct chunk *chunks;
    size_t chunk_bytes;
};

struct arena *arena_new(size_t chunk_bytes)
{
    struct arena *a = xcalloc(1, sizeof(*a));

    a->chunk_bytes = chunk_bytes > 0 ? chunk_bytes : 4096;
    return a;
}

void arena_free(struct arena **a)
{
    if (*a == NULL)
        return;
    for (struct chunk *c = (*a)->chunks; c != NULL;) {
        struct chunk *next = c->next;

        free(c);
        c = next;
    }
    free(*a);
    *a = NULL;
}

void arena_reset(struct arena *a)
{
    struct chunk *keep = NULL;

    for (struct chunk *c = a->chunks; c != NULL;) {
        struct chunk *next = c->next;

        if (keep == NULL && c->size == a->chunk_bytes)
            keep = c;
        else
            free(c);
        c = next;
    }
    if (keep != NULL) {
        keep->next = NULL;
        keep->used = 0;
    }
    a->chunks = keep;
}

void *arena_alloc(struct arena *a, size_t size)
{
    size_t need = (size + ALIGN - 1) & ~(size_t) (ALIGN - 1);
    struct chunk *c = a->chunks;
    void *p;

    if (need < size)
        panic("arena: %zu bytes wanted", size);
    if (c == NULL || need > c->size - c->used) {
        size_t bytes = need > a->chunk_bytes ? need : a->chunk_bytes;

        c = xmalloc(sizeof(*c) + bytes);
        c->size = bytes;
        c->used = 0;
        if (bytes > a->chunk_bytes && a->chunks != NULL) {
            /* full at once: the chunk in front goes on being filled */
            c->next = a->chunks->next;
            a->chunks->next = c;
        } else {
            c->next = a->chunks;
            a->chunks = c;
        }
    }
    p = c->data + c->used;
    c->used += need;
    memset(p, 0, need);
    return p;
}

struct slice arena_slice(struct arena *a, struct slice s)
{
    char *p = arena_alloc(a, s.len + 1);

    if (s.len > 0)
        memcpy(p, s.ptr, s.len);
    return slice_of(p, s.len);
}

char *arena_strdup(struct arena *a, const char *s)
{
    size_t size = strlen(s) + 1;

    return memcpy(arena_alloc(a, size), s, size);
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    char *p;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        return arena_alloc(a, 1);
    p = arena_alloc(a, (size_t) n + 1);
    va_start(ap, fmt);
    vsnprintf(p, (size_t) n + 1, fmt, ap);
    va_end(ap);
    return p;
}
