/* SPDX-License-Identifier: Apache-2.0 */
/* test_map_combined.c - tables made of tables; keys folded to lower case; what each table was asked. */
#include "test_map_files.h"

#include "base/metrics.h"

/* --- combined tables, folding, counters -------------------------------------------------------------- */

static void test_combined(void **state)
{
    static const struct {
        const char *spec, *key, *value;
    } cases[] = {
        {"unionmap:{static:a,inline:{k=b}}", "K", "a,b"},
        {"unionmap:{static:a,inline:{k=b}}", "x", "a"},
        {"pipemap:{inline:{k=L},inline:{l=m}}", "K", "m"},
        {"pipemap:{inline:{k=L},inline:{x=m}}", "K", NULL},
        {"pipemap:{unionmap:{inline:{k=l}},inline:{l=m}}", "k", "m"},
        {"randmap:{v}", "x", "v"},
        {"debug:inline:{k=v}", "K", "v"},
        {"debug:inline:{k=v}", "l", NULL},
        {"internal:x", "k", NULL},
        {"regexp:{ { /^(k)$/ $1$1 }, {/l/ {braced} text} }", "K", "KK"},
        {"regexp:{ { /^(k)$/ $1$1 }, {/l/ {braced} text} }", "l", "{braced} text"},
        {"regexp:{ { /^(k)$/ $1$1 }, {/l/ {braced} text} }", "m", NULL},
        {"pcre:{{if /^k/} {/(?<=k)l{2}/ two} {# no rule} {endif} {!/x/ none}}", "kll", "two"},
        {"pcre:{{if /^k/} {/(?<=k)l{2}/ two} {# no rule} {endif} {!/x/ none}}", "mll", "none"},
        {"cidr:{{10.0.0.0/8 inside},{::/0 six}}", "10.1.2.3", "inside"},
        {"cidr:{{10.0.0.0/8 inside},{::/0 six}}", "::1", "six"},
        {"cidr:{}", "10.1.2.3", NULL},
        {"unionmap:{cidr:{{10.0.0.0/8 a}},pcre:{{/^10/ b}}}", "10.1.2.3", "a,b"},
        {"inline:{\xc3\x89t\xc3\xa9=1}", "\xc3\xa9T\xc3\x89", "1"},
        {"inline:{stra\xc3\x9f"
         "e=1}",
         "STRASSE", "1"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = ERR_INIT;
        struct map *m;

        if (map_open(env, slice_str(cases[i].spec), &m, &err) == -1)
            fail_msg("%s: %s", cases[i].spec, err.text);
        expect(m, cases[i].key, cases[i].value);
    }
}

/* What is wrong with rules that stand in a table's name. */
static void test_wrong_rules(void **state)
{
    static const struct {
        const char *spec, *why;
    } cases[] = {
        {"regexp:{ /x/ y }", "\"/x/\" is no { rule }"},
        {"regexp:{ {/x/ y} more }", "\"more\" is no { rule }"},
        {"cidr:{ {10.0.0.0/8 y}", "is no { rule }"},
        {"pcre:{ {/x/ y} } more", "no \"}\" at the end"},
        {"cidr:{ {10.0.0.0/8 y}, {10.0.0.1/8 z} }", "line 2: "},
        {"regexp:{ {/(/ y} }", "line 1: "},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = ERR_INIT;

        if (map_check(env, slice_str(cases[i].spec), &err) == 0 ||
            strstr(err.text, cases[i].why) == NULL)
            fail_msg("%s: \"%s\"", cases[i].spec, err.text);
    }
}

struct seen {
    int64_t found, notfound, retry, timed;
};

static void see(const char *name, int64_t value, void *arg)
{
    struct seen *s = arg;

    if (strcmp(name, "map.found unionmap:{static:counted}") == 0)
        s->found = value;
    else if (strcmp(name, "map.notfound inline:{counted=1}") == 0)
        s->notfound = value;
    else if (strcmp(name, "map.retry fail:counted") == 0)
        s->retry = value;
    else if (strstr(name, " unionmap:{static:counted}") != NULL)
        s->timed += value;
}

static void test_counters(void **state)
{
    struct seen s = {0};
    struct err err = ERR_INIT;
    struct buf value = BUF_INIT(100);
    struct map *m;

    (void) state;
    for (int i = 0; i < 16; i++) {
        assert_int_equal(map_open(env, SLICE_LIT("unionmap:{static:counted}"), &m, &err), 0);
        expect(m, "x", "counted");
        assert_int_equal(map_open(env, SLICE_LIT("inline:{counted=1}"), &m, &err), 0);
        expect(m, "x", NULL);
    }
    assert_int_equal(map_open(env, SLICE_LIT("fail:counted"), &m, &err), 0);
    assert_int_equal(map_lookup(m, SLICE_LIT("x"), &value, &err), MAP_RETRY);
    metrics_each(see, &s);
    assert_int_equal(s.found, 16);
    assert_int_equal(s.notfound, 16);
    assert_int_equal(s.retry, 1);
    assert_int_equal(s.timed, 16);
    buf_fini(&value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_combined),
        cmocka_unit_test(test_wrong_rules),
        cmocka_unit_test(test_counters),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
