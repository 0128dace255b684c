/* SPDX-License-Identifier: Apache-2.0 */
/* test_map_regexp_cost.c - expressions of a kind that people write are let through; those that regcomp() does not survive are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <malloc.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "maps/map_regexp_cost.h"

static const char *const usual[] = {
    "",
    "a",
    "^Subject: .*offer number 00042",
    "@(.*\\.)?domain00042\\.example$",
    "^([a-z0-9-]{1,63}\\.){1,127}$",
    "^.{0,998}$",
    "^.{1000,}$",
    "^[0-9]{1,3}(\\.[0-9]{1,3}){3}$",
    "(^|[^a-z])+(foo|bar)($|[^a-z])+",
    "^((^|,)[a-z]+)+$",
    "(\\bfoo\\b *)+",
    "\\bfoo\\b|\\bbar\\b|\\bbaz\\b",
    "((a*)*)*",
    "[])(+{}*]+",
    "[[:alpha:][.-.][=a=]]+x++",
    "[unfinished",
    "a{2",
    "x)y",
    "+a",
    "\\",
};

/* What each of them does to glibc 2.36: */
static const char *const deadly[] = {
    "a++++++++++++++++++++",                                        /* 700 MB */
    "((((((((((((((((((((a+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+", /* not measured to its end */
    "((a{1,100}){1,100}){1,100}",
    "a{32767}{32767}",
    "(a?){4000}",                                                   /* 1.2 GB */
    "(\\<a?\\>^){300}",                                             /* 2.6 GB, 10 s */
    "(\\ba?\\B){30}",                                               /* 5.4 GB */
    "((a*?){43})*",                                                 /* doubles with each */
    "(^|$){40}",                                                    /* 1.2 GB */
    "(\\b|\\B|^)*(\\b|\\B|^)*",                                     /* minutes */
    "(^|$)*(^|$)*(^|$)*(^|$)*(^|$)*(^|$)*(^|$)*(^|$)*(^|$)*(^|$)*", /* seconds */
};

static void test_usual(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++) {
        for (int basic = 0; basic < 2; basic++) {
            struct err err = ERR_INIT;
            uint64_t bytes;

            if (regexp_cost(slice_str(usual[i]), basic == 1, &bytes, &err) == -1)
                fail_msg("%s: %s", usual[i], err.text);
        }
    }
}

static void test_deadly(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++) {
        struct err err = ERR_INIT;
        uint64_t bytes;

        if (regexp_cost(slice_str(deadly[i]), false, &bytes, &err) == 0)
            fail_msg("%s: let through, for %llu bytes", deadly[i], (unsigned long long) bytes);
        assert_int_equal(err.kind, ERR_BAD_INPUT);
    }
    /* the obsolete syntax has them too */
    uint64_t bytes;
    assert_int_equal(regexp_cost(SLICE_LIT("\\(\\(a\\{1,200\\}\\)\\{1,200\\}\\)\\{1,200\\}"), true,
                                 &bytes, NULL),
                     -1);
    assert_int_equal(regexp_cost(SLICE_LIT("a++++++++++++++++++++"), true, &bytes, NULL), 0);
}

static struct buf nested(unsigned depth)
{
    struct buf b = BUF_INIT(SIZE_MAX);

    for (unsigned i = 0; i < depth; i++)
        buf_putc(&b, '(');
    buf_putc(&b, 'a');
    for (unsigned i = 0; i < depth; i++)
        buf_putc(&b, ')');
    return b;
}

static void test_depth(void **state)
{
    struct buf most = nested(REGEXP_DEPTH_MAX);
    struct buf more = nested(REGEXP_DEPTH_MAX + 1);
    struct buf many = nested(1000000);
    struct err err = ERR_INIT;
    uint64_t bytes;

    (void) state;
    assert_int_equal(regexp_cost(buf_view(&most), false, &bytes, &err), 0);
    assert_int_equal(regexp_cost(buf_view(&more), false, &bytes, &err), -1);
    assert_int_equal(regexp_cost(buf_view(&many), false, &bytes, &err), -1);
    assert_non_null(strstr(err.text, "parentheses"));
    buf_fini(&most);
    buf_fini(&more);
    buf_fini(&many);
}

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* The heap that regcomp() really takes. */
static uint64_t taken(const char *expression)
{
    struct mallinfo2 before = mallinfo2();
    struct mallinfo2 after;
    regex_t re;

    assert_int_equal(regcomp(&re, expression, REG_EXTENDED), 0);
    after = mallinfo2();
    regfree(&re);
    return after.uordblks + after.hblkhd - before.uordblks - before.hblkhd;
}

/* A measure, not a law: within a factor of three, for what is large. */
static void test_truth(void **state)
{
    static const char *const expressions[] = {
        "(a?){500}",
        "a{0,1000}",
        "^.{0,998}$",
        "(a|b?|c*){200}",
        "((a?){20}){20}",
        "a++++++++++++++",
        "^([a-z0-9-]{1,63}\\.){1,127}$",
    };

    (void) state;
    for (size_t i = 0; i < sizeof(expressions) / sizeof(expressions[0]); i++) {
        uint64_t bytes = 0;
        uint64_t real = taken(expressions[i]);

        assert_int_equal(regexp_cost(slice_str(expressions[i]), false, &bytes, NULL), 0);
        if (bytes > 3 * real || real > 3 * bytes)
            fail_msg("%s: said %llu bytes, took %llu", expressions[i], (unsigned long long) bytes,
                     (unsigned long long) real);
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usual),
        cmocka_unit_test(test_deadly),
        cmocka_unit_test(test_depth),
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(test_truth),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
