/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buf.h - a growable byte buffer with a limit. Running over the limit is remembered (buf_ok is false),
 * later appends do nothing: build a line straight, ask once. One owner; not thread-safe.
 */
#ifndef PR_BUF_H
#define PR_BUF_H

#include <stdarg.h>

#include "base/slice.h"

struct buf {
    char *ptr; /* NUL-terminated after buf_cstr() only */
    size_t len;
    size_t cap;
    size_t limit; /* bytes; SIZE_MAX for none */
    bool failed;
};

#define BUF_INIT(limit_bytes) ((struct buf){NULL, 0, 0, (limit_bytes), false})

void buf_init(struct buf *b, size_t limit_bytes);
void buf_fini(struct buf *b);  /* releases storage; b may be used again */
void buf_reset(struct buf *b); /* len 0, failed false; storage kept */
static inline bool buf_ok(const struct buf *b)
{
    return !b->failed;
}
void buf_put(struct buf *b, const void *data, size_t len);
void buf_putc(struct buf *b, char c);
void buf_puts(struct buf *b, const char *s);
void buf_put_slice(struct buf *b, struct slice s);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
/* Room for len more bytes, to be filled by the caller, then buf_advance(); NULL over the limit. */
NODISCARD char *buf_reserve(struct buf *b, size_t len);
void buf_advance(struct buf *b, size_t len);
void buf_truncate(struct buf *b, size_t len);
/* Drops len bytes from the front (moves the rest). */
void buf_consume(struct buf *b, size_t len);
static inline struct slice buf_view(const struct buf *b)
{
    return (struct slice){b->ptr, b->len};
}
/* NUL-terminated view; never NULL. */
const char *buf_cstr(struct buf *b);
/* The storage, NUL-terminated, is the caller's to free; b is empty afterwards. */
NODISCARD char *buf_take(struct buf *b);

#endif
