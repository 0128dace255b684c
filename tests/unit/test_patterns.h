/* SPDX-License-Identifier: Apache-2.0 */
/* test_patterns.h - what tests of random tables share: numbers that SEED=n makes again, a table from its text. */
#ifndef PR_TEST_PATTERNS_H
#define PR_TEST_PATTERNS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "maps/map_int.h"

static uint64_t random_state;

/* SEED of the environment, or the time; says which. */
static inline void random_begin(void)
{
    const char *text = getenv("SEED");
    unsigned long long seed =
        text != NULL ? strtoull(text, NULL, 10) : (unsigned long long) time(NULL);

    print_message("SEED=%llu\n", seed);
    random_state = seed * 2654435761U * 2 + 1;
}

/* KEYS of the environment, or these. */
static inline uint64_t random_keys(uint64_t otherwise)
{
    const char *text = getenv("KEYS");

    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

/* xorshift64*: the same numbers everywhere */
static inline uint32_t random_below(uint32_t n)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t) ((random_state * UINT64_C(0x2545F4914F6CDD1D)) >> 33) % n;
}

static inline struct pattern_table *load_table(const struct map_type *type, struct slice text)
{
    char path[] = "/tmp/pattern-test.XXXXXX";
    int fd = mkstemp(path);
    struct err err = ERR_INIT;
    void *impl = NULL;

    assert_true(fd != -1);
    assert_int_equal(fd_write_all(fd, text.ptr, text.len), 0);
    fd_close(&fd);
    if (type->open(path, NULL, &impl, &err) == -1)
        fail_msg("%s", err.text);
    unlink(path);
    return impl;
}

#endif
