/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_base.h - checks of a table's row: a failure prints the row's name, what came and what was wanted.
 */
#ifndef PR_TEST_BASE_H
#define PR_TEST_BASE_H

/* cmocka wants these before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/slice.h"

static inline void check_int(const char *name, long long got, long long wanted)
{
    if (got != wanted)
        fail_msg("%s: got %lld, wanted %lld", name, got, wanted);
}

static inline void check_slice(const char *name, struct slice got, const char *wanted)
{
    if (!slice_eq_str(got, wanted))
        fail_msg("%s: got \"%.*s\", wanted \"%s\"", name, SLICE_FMT(got), wanted);
}

static inline void check_str(const char *name, const char *got, const char *wanted)
{
    if (got == NULL || strcmp(got, wanted) != 0)
        fail_msg("%s: got \"%s\", wanted \"%s\"", name, got != NULL ? got : "(null)", wanted);
}

static inline void check_contains(const char *name, const char *got, const char *wanted)
{
    if (got == NULL || strstr(got, wanted) == NULL)
        fail_msg("%s: got \"%s\", wanted it to contain \"%s\"", name, got != NULL ? got : "(null)",
                 wanted);
}

#endif
