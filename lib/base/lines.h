/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lines.h - text of logical lines, as Postfix's configuration files and the sources of its tables have them (postconf(5),
 * postmap(1)).
 *
 * A line that begins with white space continues the last one. Empty lines, and lines whose first visible character is "#", are left
 * out, also in the middle of a logical line.
 */
#ifndef PR_LINES_H
#define PR_LINES_H

#include "base/err.h"
#include "base/slice.h"

#define LINES_SPACE " \t\r\n\v\f"

struct lines_style {
    size_t limit; /* bytes of a logical line */
    bool
        one_space; /* what continues a line is joined by one space; else it stands there as it was, without its line feed */
};

/*
 * One logical line, without white space at its ends; number: of its first line, 1 is the first of the text. A line that begins with
 * white space and has none to continue comes as it is, to be complained of. -1 stops, with err set.
 */
typedef int lines_fn(struct slice line, int number, void *arg, struct err *err);

/* -1: fn said so, or a line is too long ("line N: ...", err_input). */
NODISCARD int lines_each(struct slice text, const struct lines_style *style, lines_fn *fn,
                         void *arg, struct err *err);
/* The same from a file, of which little more than a line is in memory at a time; -1 also with err_sys. */
NODISCARD int lines_fd(int fd, const struct lines_style *style, lines_fn *fn, void *arg,
                       struct err *err);

#endif
