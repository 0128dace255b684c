/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slice.h - a borrowed run of bytes. NUL is just a byte. Pass by value.
 */
#ifndef PR_SLICE_H
#define PR_SLICE_H

#include <string.h>

#include "base/base.h"

struct slice {
    const char *ptr; /* may be NULL when len is 0 */
    size_t len;
};

/* For printf: printf("%.*s", SLICE_FMT(s)) */
#define SLICE_FMT(s)   (int) (s).len, ((s).ptr != NULL ? (s).ptr : "")
#define SLICE_LIT(lit) ((struct slice){("" lit), sizeof(lit) - 1})
#define SLICE_EMPTY    ((struct slice){"", 0})

static inline struct slice slice_of(const char *ptr, size_t len)
{
    return (struct slice){ptr, len};
}

/* s may be NULL: the empty slice. */
static inline struct slice slice_str(const char *s)
{
    return (struct slice){s, s != NULL ? strlen(s) : 0};
}

bool slice_eq(struct slice a, struct slice b);
bool slice_eq_str(struct slice a, const char *b);
bool slice_caseeq(struct slice a, struct slice b); /* ASCII case only */
bool slice_caseeq_str(struct slice a, const char *b);
bool slice_starts_with(struct slice s, struct slice prefix);
bool slice_case_starts_with(struct slice s, struct slice prefix);
bool slice_ends_with(struct slice s, struct slice suffix);
bool slice_case_ends_with(struct slice s, struct slice suffix);
bool slice_is_ascii(struct slice s); /* no byte above 127 */
/* Index of the first/last c, or -1. */
ptrdiff_t slice_find(struct slice s, char c);
ptrdiff_t slice_rfind(struct slice s, char c);
/* Without leading and trailing bytes of `space` (NULL: " \t\r\n"). */
struct slice slice_trim(struct slice s, const char *space);
/* [from, to) clipped to the slice. */
struct slice slice_sub(struct slice s, size_t from, size_t to);
/*
 * Cuts the next token, delimited by any of `seps`, from the front of *rest; empty tokens are skipped.
 * False when none is left. slice_token_braces() treats a {...} group as one token (braces kept), as
 * Postfix's list syntax does.
 */
bool slice_token(struct slice *rest, const char *seps, struct slice *out);
bool slice_token_braces(struct slice *rest, const char *seps, struct slice *out);
/* A NUL-terminated heap copy; the caller frees. */
NODISCARD char *slice_dup(struct slice s);
/* Locale-free ASCII. */
int ascii_lower(int c);
int ascii_upper(int c);
bool ascii_is_space(int c);
bool ascii_is_digit(int c);
bool ascii_is_alpha(int c);
bool ascii_is_alnum(int c);
bool ascii_is_print(int c);

#endif
