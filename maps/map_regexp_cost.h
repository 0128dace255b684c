/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_regexp_cost.h - what regcomp(3) will take for an expression, told before it is asked.
 *
 * The C library writes repeats out: "a++++++++++++++++++++" becomes a million nodes and 700 MB, "(\<a?\>^){300}" 2.6 GB and ten
 * seconds, 100,000 parentheses end the process for want of stack. One line of a table is not to take a daemon with it.
 */
#ifndef PR_MAP_REGEXP_COST_H
#define PR_MAP_REGEXP_COST_H

#include "base/err.h"

#define REGEXP_BYTES_MAX ((uint64_t) 256 << 20) /* for one expression */
#define REGEXP_DEPTH_MAX 250                    /* parentheses within parentheses: PCRE2's limit */

/*
 * The bytes of memory that the expression will take, on glibc, give or take a factor of three where it matters. basic: regex(7)'s
 * obsolete syntax. Wrong expressions have some answer too: regcomp() says what is wrong. -1: beyond one of the limits above.
 */
NODISCARD int regexp_cost(struct slice expression, bool basic, uint64_t *bytes, struct err *err);

#endif
