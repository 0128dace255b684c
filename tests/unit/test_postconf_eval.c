/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_postconf_eval.c - $name expressions, one by one as Postfix 3.7's "postconf -x" evaluates them, and the limits of
 * expansion.
 */
#include "test_postconf.h"

#include <stdlib.h>

#include "postconf/config_int.h"

static const char settings[] =
    "yes = yes\nempty =\ntwo = a b\nnum = 10\ncompatibility_level = 3.6\nself = $self\n"
    "one = $another\nanother = x$one\n";

static void test_values(void **state)
{
    static const struct {
        const char *text;
        const char *wanted; /* NULL: an error */
    } rows[] = {
        {"", ""},
        {"$yes", "yes"},
        {"${ yes }", "yes"},
        {"$(yes)", "yes"},
        {"$( yes )", "yes"},
        {"$yes.foo", "yes.foo"},
        {"$yes-foo", "yes-foo"},
        {"$yes$num", "yes10"},
        {"$YES", ""},
        {"$1abc", ""},
        {"$$", "$"},
        {"$$yes", "$yes"},
        {"$$$yes", "$yes"},
        {"{a b}", "{a b}"},
        {"$ yes", NULL},
        {"$(yes", NULL},
        {"${yes", NULL},
        {"$", NULL},
        {"a$", NULL},
        {"$-", NULL},
        {"${}", NULL},
        {"${yes#x}", NULL},
        {"${nosuch{x}}", NULL},
        /* a text for the one case or the other */
        {"${yes?abc}", "abc"},
        {"[${yes? abc }]", "[ abc ]"},
        {"[${yes ? abc }]", "[ abc ]"},
        {"[${yes?{ abc }}]", "[ abc ]"},
        {"${yes?{abc}}", "abc"},
        {"${yes?{abc}:{def}}", "abc"},
        {"${empty?{abc}:{def}}", "def"},
        {"${empty? {abc} : {def} }", "def"},
        {"[${empty?{abc}: def }]", "[ def ]"},
        {"${yes?{abc}:def}", "abc"},
        {"${empty?{abc}:def}", "def"},
        {"${empty:abc}", "abc"},
        {"[${empty: def }]", "[ def ]"},
        {"${empty:{abc} }", "abc"},
        {"${yes:abc}", ""},
        {"${yes?a?b:c}", "a?b:c"},
        {"${yes?a:b}", "a:b"},
        {"${empty?a:b}", ""},
        {"${yes?}", ""},
        {"${yes?{}}", ""},
        {"${empty:}", ""},
        {"[${yes?a}b}]", "[ab}]"},
        {"[${yes?(}]", "[(]"},
        {"$(yes?abc)", "abc"},
        {"$(empty:{abc})", "abc"},
        {"${yes?{${empty?{q}:{r}}}}", "r"},
        {"${nosuch?a}${nosuch:b}", "b"},
        {"${empty?{a$}}", ""}, /* what is not chosen is not looked at */
        {"${yes?{a$}}", NULL},
        {"${empty:{abc}x}", NULL},
        {"${empty:{abc}:{def}}", NULL},
        {"${yes:{a} : {b}}", NULL},
        {"${yes?{a}b}", NULL},
        {"$(yes?{)", NULL},
        {"[${yes?a{b}", NULL},
        /* comparisons */
        {"${{1} == {1} ? {a} : {b}}", "a"},
        {"${{1}=={1}?{a}:{b}}", "a"},
        {"$({1}=={1}?{x}:{y})", "x"},
        {"${ {1}=={1} }", "true"},
        {"${{1} == {1}}", "true"},
        {"${{1} == {2}}", ""},
        {"${{1} == {2}?{a}}", ""},
        {"${{1} == {2}:{a}}", "a"},
        {"${{1} == {1}:{a}}", ""},
        {"${{1} == {1}?a}", "a"},
        {"${{1} == {2}?a:b}", ""},
        {"[${{1} == {1} ?  abc }]", "[  abc ]"},
        {"[${{1} == {2} : x y }]", "[ x y ]"},
        {"${{10} < {9}}", ""},
        {"${{9} < {10}}", "true"},
        {"${{10} < {9x}}", "true"},
        {"${{010} == {10}}", "true"},
        {"${{ 10} == {10}}", ""},
        {"${{+10} == {10}}", ""},
        {"${{-2} < {-10}}", ""},
        {"${{} == {}}", "true"},
        {"${{} < {0}}", "true"},
        {"${{abc} < {abd}}", "true"},
        {"${{ab} < {abc}}", "true"},
        {"${{ABC} == {abc}}", ""},
        {"${{1} != {2}}", "true"},
        {"${{2} >= {2}}", "true"},
        {"${{2} <= {1}}", ""},
        {"${{2} > {1}}", "true"},
        {"${{$num} > {9} ? {a$two} : {b}}", "aa b"},
        {"${{9223372036854775806} < {9223372036854775807}}", "true"},
        {"${{9223372036854775807} < {9223372036854775808}}", NULL},
        {"${{1} = {1}?{a}:{b}}", NULL},
        {"${{1}}", NULL},
        {"${{1} == 1}", NULL},
        {"${{1}=={1} x}", NULL},
        {"${{1} == {1} ? {a} {b}}", NULL},
        {"${{1} == {1} ? {a} : {b} : {c}}", NULL},
        {"${{$yes$} == {1}}", NULL},
        /* compatibility levels */
        {"${{3.6} <=level {3.10}}", "true"},
        {"${{3.6} <=level {3.6}}", "true"},
        {"${{3.6} >=level {3.7}}", ""},
        {"${{3.6} ==level {3.6.0}}", "true"},
        {"${{3.6} !=level {3.6}}", ""},
        {"${{3} <level {3.0.1}}", "true"},
        {"${{3.6.11} <level {3.7}}", "true"},
        {"${{03.6} ==level {3.6}}", "true"},
        {"${{300} <level {4}}", ""},
        {"${{3.1023} <level {4}}", "true"},
        {"${{3.1024} <level {4}}", NULL},
        {"${{3.1.1023} <level {4}}", "true"},
        {"${{3.1.1024} <level {4}}", NULL},
        {"${{4294967295} <level {4}}", ""},
        {"${{9223372036854775807} <level {4}}", NULL},
        {"${{3.6.} ==level {3.6}}", NULL},
        {"${{.6} ==level {3.6}}", NULL},
        {"${{3.6.1.1} <level {3.6}}", NULL},
        {"${{ 3.6 } ==level {3.6}}", NULL},
        {"${{-1} ==level {3.6}}", NULL},
        {"${{x} ==level {3.6}}", NULL},
        {"${{} <level {3.6}}", NULL},
        {"${{3.6} < level {3.6}}", NULL},
        {"${{$compatibility_level} <level {3.6} ? {old} : {new}}", "new"},
        {"${{$compatibility_level} <level {3.7} ? {old} : {new}}", "old"},
        /* the function of 3.11 */
        {"${domain_to_ascii{x.$yes}}", "x.yes"},
        {"${domain_to_ascii{\xc3\xa9}}", NULL},
        {"${domain_to_ascii{x}y}", NULL},
        {"${domain_to_ascii{x}", NULL},
    };
    struct config *cfg = config_of(settings);

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = BUF_INIT(CONFIG_VALUE_MAX);
        struct err err = ERR_INIT;
        int ret = config_expand(cfg, rows[i].text, &out, &err);

        check_int(rows[i].text, ret, rows[i].wanted != NULL ? 0 : -1);
        if (ret == 0)
            check_str(rows[i].text, buf_cstr(&out), rows[i].wanted);
        check_int(rows[i].text, err.text[0] != '\0', rows[i].wanted == NULL);
        buf_fini(&out);
    }
    config_unref(&cfg);
}

static void test_loops(void **state)
{
    static const struct {
        const char *text;
        const char *why;
    } rows[] = {
        {"$self", "refers to itself: $self -> $self"},
        {"$one", "refers to itself: $one -> $another -> $one"},
        {"${empty:$one}", "refers to itself: $one -> $another -> $one"},
        {"${{$self} == {} ? {a}}", "refers to itself: $self -> $self"},
    };
    struct config *cfg = config_of(settings);

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = BUF_INIT(CONFIG_VALUE_MAX);
        struct err err = ERR_INIT;

        check_int(rows[i].text, config_expand(cfg, rows[i].text, &out, &err), -1);
        check_contains(rows[i].text, err.text, rows[i].why);
        buf_fini(&out);
    }
    check_int("config_get of a loop is NULL", config_get(cfg, "self") == NULL, true);
    config_unref(&cfg);
}

/* x0 = $x1 $x1 ..., down to the last, which is `last`. */
static struct config *tree(unsigned depth, unsigned width, const char *last)
{
    struct buf text = BUF_INIT(SIZE_MAX);
    struct config *cfg;

    for (unsigned i = 0; i + 1 < depth; i++) {
        buf_printf(&text, "x%u =", i);
        for (unsigned n = 0; n < width; n++)
            buf_printf(&text, " ${x%u}", i + 1);
        buf_putc(&text, '\n');
    }
    buf_printf(&text, "x%u = %s\n", depth - 1, last);
    cfg = config_of(buf_cstr(&text));
    buf_fini(&text);
    return cfg;
}

static void test_limits(void **state)
{
    static const struct {
        const char *name;
        unsigned depth, width;
        const char *last;
        const char *why; /* NULL: none */
    } rows[] = {
        {"100 deep", 100, 1, "x", NULL},
        {"101 deep", 101, 1, "x", "more than 100 deep"},
        {"too many names that are all empty", 40, 2, "", "names"},
        {"too long", 15, 2,
         "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
         "longer than 1048576 bytes"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config *cfg = tree(rows[i].depth, rows[i].width, rows[i].last);
        struct buf out = BUF_INIT(CONFIG_VALUE_MAX);
        struct err err = ERR_INIT;

        check_int(rows[i].name, config_expand(cfg, "$x0", &out, &err),
                  rows[i].why != NULL ? -1 : 0);
        if (rows[i].why != NULL)
            check_contains(rows[i].name, err.text, rows[i].why);
        buf_fini(&out);
        config_unref(&cfg);
    }
}

static void note(struct slice name, void *arg)
{
    buf_printf(arg, "%.*s,", SLICE_FMT(name));
}

static void test_references(void **state)
{
    static const struct {
        const char *text;
        const char *wanted;
    } rows[] = {
        {"no names", ""},
        {"$a $$b ${c} $(d) ${ e }", "a,c,d,e,"},
        {"${a?$b}${c:{$d}}", "a,b,c,d,"},
        {"${{$a} == {$b} ? {$c} : {$d}}", "a,b,c,d,"},
        {"${domain_to_ascii{$a}}", "a,"},
        {"$", ""},
        {"${", ""},
        {"$-a", ""},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf names = BUF_INIT(1000);

        config_each_reference(rows[i].text, note, &names);
        check_str(rows[i].text, buf_cstr(&names), rows[i].wanted);
        buf_fini(&names);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_loops),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_references),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
