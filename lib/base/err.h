/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.h - why an action failed: a kind that decides what happens, an RFC 3463 code where one applies,
 * and one line of text. The kind outranks the text. Lives on the caller's stack.
 */
#ifndef PR_ERR_H
#define PR_ERR_H

#include "base/slice.h"

enum err_kind {
    ERR_NONE = 0,
    ERR_TEMPORARY, /* try later: defer */
    ERR_PERMANENT, /* will not get better: bounce, refuse */
    ERR_BAD_INPUT, /* what a person or a peer gave us is wrong */
};

#define ERR_TEXT_MAX 512

struct err {
    enum err_kind kind;
    char dsn[12]; /* "4.3.0" or "" */
    char text[ERR_TEXT_MAX];
};

#define ERR_INIT ((struct err){ERR_NONE, "", ""})

/* Fills e (NULL: nothing). All return -1, so that `return err_set(...)` works. Text is cut to fit and
 * control bytes become '?'. */
int err_set(struct err *e, enum err_kind kind, const char *dsn, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
int err_temporary(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);
int err_permanent(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);
int err_input(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "WHAT: strerror(errno)"; ENOENT, EACCES and the like stay temporary: a file may come back. */
int err_sys(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Puts context in front of the text. */
int err_prefix(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* strerror without its thread trouble; buf is returned. */
const char *err_errno_text(int errnum, char *buf, size_t len);

#endif
