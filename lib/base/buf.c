/* SPDX-License-Identifier: Apache-2.0 */
/* buf.c - see buf.h. One byte more than cap is never needed: buf_cstr() reserves its own. */
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

#define FIRST_CAP 128

void buf_init(struct buf *b, size_t limit_bytes)
{
    *b = BUF_INIT(limit_bytes);
}

void buf_fini(struct buf *b)
{
    free(b->ptr);
    b->ptr = NULL;
    b->len = b->cap = 0;
    b->failed = false;
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    b->failed = false;
}

/* Storage for len more bytes and a NUL. */
static bool grow(struct buf *b, size_t len)
{
    size_t need;
    size_t cap = b->cap;

    if (b->failed)
        return false;
    if (len > b->limit - b->len || __builtin_add_overflow(b->len, len, &need) ||
        __builtin_add_overflow(need, 1, &need)) {
        b->failed = true;
        return false;
    }
    if (need <= cap)
        return true;
    if (cap < FIRST_CAP)
        cap = FIRST_CAP;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    b->ptr = xrealloc(b->ptr, cap);
    b->cap = cap;
    return true;
}

void buf_put(struct buf *b, const void *data, size_t len)
{
    if (len == 0 || !grow(b, len))
        return;
    memcpy(b->ptr + b->len, data, len);
    b->len += len;
}

void buf_putc(struct buf *b, char c)
{
    if (b->len + 1 < b->cap && b->len < b->limit && !b->failed)
        b->ptr[b->len++] = c;
    else
        buf_put(b, &c, 1);
}

void buf_puts(struct buf *b, const char *s)
{
    buf_put(b, s, strlen(s));
}

void buf_put_slice(struct buf *b, struct slice s)
{
    buf_put(b, s.ptr, s.len);
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    size_t room = b->cap > b->len ? b->cap - b->len : 0;
    int n;

    if (b->failed)
        return;
    va_copy(again, ap);
    n = vsnprintf(room > 0 ? b->ptr + b->len : NULL, room, fmt, ap);
    if (n < 0) {
        b->failed = true;
    } else if (grow(b, (size_t) n)) {
        if ((size_t) n >= room)
            vsnprintf(b->ptr + b->len, (size_t) n + 1, fmt, again);
        b->len += (size_t) n;
    }
    va_end(again);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(b, fmt, ap);
    va_end(ap);
}

char *buf_reserve(struct buf *b, size_t len)
{
    return grow(b, len) ? b->ptr + b->len : NULL;
}

void buf_advance(struct buf *b, size_t len)
{
    b->len += len;
}

void buf_truncate(struct buf *b, size_t len)
{
    if (len < b->len)
        b->len = len;
}

void buf_consume(struct buf *b, size_t len)
{
    if (len >= b->len) {
        b->len = 0;
        return;
    }
    if (len > 0)
        memmove(b->ptr, b->ptr + len, b->len - len);
    b->len -= len;
}

const char *buf_cstr(struct buf *b)
{
    if (b->cap <= b->len) {
        /* the NUL does not count against the limit */
        b->ptr = xrealloc(b->ptr, b->len + 1);
        b->cap = b->len + 1;
    }
    b->ptr[b->len] = '\0';
    return b->ptr;
}

char *buf_take(struct buf *b)
{
    char *p;

    (void) buf_cstr(b);
    p = b->ptr;
    b->ptr = NULL;
    b->len = b->cap = 0;
    b->failed = false;
    return p;
}
