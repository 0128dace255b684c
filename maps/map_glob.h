/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_glob.h - regular expressions that are only strings with ".*" between them, "^Subject: .*offer number 42", perhaps with
 * one part that may be missing, "@(.*\.)?domain\.example$": whether they match is found
 * here in a fraction of the time that a library takes, most of which goes into machine code or tables of its own that are not in
 * the processor's caches, where there are thousands.
 *
 * The answer is always the one that the library would give. What a group matched is not told.
 */
#ifndef PR_MAP_GLOB_H
#define PR_MAP_GLOB_H

#include "base/slice.h"

struct glob;

enum glob_flags {
    GLOB_FOLDS = 1,       /* ASCII letters in either case */
    GLOB_NEWLINE_END = 2, /* "$" matches before a newline at the end too, as Perl's does */
    GLOB_NO_NUL = 4,      /* "." does not match NUL, as glibc's does not */
};

/*
 * expression: of Perl's or POSIX's extended syntax, correct, where "." is any byte (but see GLOB_NO_NUL), "^" and "$" only the key's
 * ends. NULL: it is not of that kind. The caller's, by free().
 */
NODISCARD struct glob *glob_of(struct slice expression, unsigned flags);
/* Does the expression have a group that a result may ask for? */
bool glob_has_group(const struct glob *g);
/* Bytes: it may be copied, to an address that a uint64_t may have. */
size_t glob_size(const struct glob *g);
/* Any number of threads. */
bool glob_matches(const struct glob *g, struct slice key);

#endif
