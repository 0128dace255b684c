/* SPDX-License-Identifier: Apache-2.0 */
/* err.c - see err.h. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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
    vsnprintf(text, sizeof(text), fmt, ap);
    clean(text);
    e->kind = kind;
    snprintf(e->dsn, sizeof(e->dsn), "%s", dsn);
    memcpy(e->text, text, sizeof(text));
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
    char old[ERR_TEXT_MAX];
    va_list ap;

    if (e == NULL)
        return -1;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    clean(text);
    memcpy(old, e->text, sizeof(old));
    snprintf(e->text, sizeof(e->text), "%.300s%.*s", text, (int) (sizeof(e->text) - 1), old);
    return -1;
}
