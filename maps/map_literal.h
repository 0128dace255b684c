/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_literal.h - what a key must contain for a regular expression to match it: strings that are read off the expression.
 *
 * Never too much: a key that lacks what is asked for is not matched by the expression. Where an expression has
 * something that is not understood here with certainty, nothing is asked for. Upper-case ASCII letters are folded to lower case.
 */
#ifndef PR_MAP_LITERAL_H
#define PR_MAP_LITERAL_H

#include "base/buf.h"
#include "base/vec.h"

/* One of these strings; at least one, none empty. */
struct literal_choice {
    struct vec strings; /* struct slice *, heap, with their bytes behind them */
};
/* Each of these choices; none: nothing is known. */
struct literals {
    struct vec choices; /* struct literal_choice * */
};

enum literal_syntax {
    LITERAL_PCRE, /* pcre2pattern(3), without PCRE2_EXTENDED */
    LITERAL_ERE   /* regex(7), extended, with GNU's escapes */
};

/* NULL: nothing is known. The caller's. */
NODISCARD struct literals *literals_of(struct slice expression, enum literal_syntax syntax);
void literals_free(struct literals **l); /* accepts NULL */

/* The case of a byte of a literal, or of a key that is searched. */
static inline char literal_fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

#endif
