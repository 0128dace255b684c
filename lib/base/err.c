/* SPDX-License-Identifier: Apache-2.0 */
/* err.c - see err.h. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define PREFIX_MAX 300

static void clean(char *text)
{
    for (unsigned char *p = (unsigned char *) text; *p != '\0'; p++)
        if (*p < ' ' || *p == 127)
            *p = '?';
}

static void fill(struct err *e, enum err_kind kind, const char *dsn, const char *fmt, va_list ap)
{
    char text[ERR_TEXT_MAX];

    if (e == NULL)
        return;
    if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
        text[0] = '\0';
    clean(text);
    e->kind = kind;
    snprintf(e->dsn, sizeof(e->dsn), "%s", dsn);
    memcpy(e->text, text, strlen(text) + 1);
}

#define FILL(kind, dsn)                                                                            \
    do {                                                                                           \
        va_list ap;                                                                                \
        va_start(ap, fmt);                                                                         \
        fill(e, (kind), (dsn), fmt, ap);                                                           \
        va_end(ap);                                                                                \
    } while (0)

int err_set(struct err *e, enum err_kind kind, const char *dsn, const char *fmt, ...)
{
    FILL(kind, dsn != NULL ? dsn : "");
    return -1;
}

int err_temporary(struct err *e, const char *fmt, ...)
{
    FILL(ERR_TEMPORARY, "");
    return -1;
}

int err_permanent(struct err *e, const char *fmt, ...)
{
    FILL(ERR_PERMANENT, "");
    return -1;
}

int err_input(struct err *e, const char *fmt, ...)
{
    FILL(ERR_BAD_INPUT, "");
    return -1;
}

const char *err_errno_text(int errnum, char *buf, size_t len)
{
    return strerror_r(errnum, buf, len);
}

int err_sys(struct err *e, const char *fmt, ...)
{
    int saved = errno;
    char why[128];
    size_t len;

    FILL(ERR_TEMPORARY, saved == ENOSPC || saved == EDQUOT ? "4.3.1" : "4.3.0");
    if (e != NULL) {
        len = strlen(e->text);
        snprintf(e->text + len, sizeof(e->text) - len, ": %s",
                 err_errno_text(saved, why, sizeof(why)));
    }
    errno = saved;
    return -1;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    size_t len;
    size_t room;
    size_t old;
    va_list ap;

    if (e == NULL)
        return -1;
    va_start(ap, fmt);
    if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
        text[0] = '\0';
    va_end(ap);
    clean(text);
    /* what does not fit is cut from the end of the old text, but context may not crowd it out */
    len = strnlen(text, PREFIX_MAX);
    room = sizeof(e->text) - 1 - len;
    old = strlen(e->text);
    if (old > room)
        old = room;
    memmove(e->text + len, e->text, old);
    memcpy(e->text, text, len);
    e->text[len + old] = '\0';
    return -1;
}
