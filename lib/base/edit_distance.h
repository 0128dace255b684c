/* SPDX-License-Identifier: Apache-2.0 */
/*
 * edit_distance.h - how far one word is from another: which known one a misspelt one may mean.
 */
#ifndef PR_EDIT_DISTANCE_H
#define PR_EDIT_DISTANCE_H

#include "base/base.h"

/* Damerau-Levenshtein distance (adjacent transposition counts one); limit + 1 if it is more, or a word has more than 126 bytes. */
unsigned edit_distance(const char *a, const char *b, unsigned limit);

#endif
