/* SPDX-License-Identifier: Apache-2.0 */
/* test_map_query.c - templates of queries and results, the domain option, and the files that hold them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "maps/map_query.h"
#include "maps/map_source.h"

static void quote(struct slice part, struct buf *out, void *arg)
{
    (void) arg;
    for (size_t i = 0; i < part.len; i++) {
        if (part.ptr[i] == '\'')
            buf_putc(out, '\'');
        buf_putc(out, part.ptr[i]);
    }
}

static struct map_query *query(const char *format)
{
    struct map_query *q;
    struct err err = ERR_INIT;

    if (map_query_new(format, &q, &err) == -1)
        fail_msg("%s: %s", format, err.text);
    return q;
}

static void check(const char *format, const char *key, bool made, struct buf *out,
                  const char *wanted)
{
    if (made != (wanted != NULL) || (made && strcmp(buf_cstr(out), wanted) != 0))
        fail_msg("\"%s\" for \"%s\": got \"%s\", wanted \"%s\"", format, key,
                 made ? buf_cstr(out) : "(none)", wanted != NULL ? wanted : "(none)");
}

static void test_keys(void **state)
{
    static const struct {
        const char *format, *key, *wanted; /* NULL: no lookup */
    } cases[] = {
        {"a %s b", "joe", "a joe b"},
        {"%%s", "joe", "%s"},
        {"'%s'", "x' OR '1'='1", "'x'' OR ''1''=''1'"},
        {"%u", "joe@a.test", "joe"},
        {"%u", "joe", "joe"},
        {"%u", "@a.test", NULL},
        {"%u", "o'b@a.test", "o''b"},
        {"%u|%d", "a@b@c.test", "a@b|c.test"},
        {"%d", "joe@a.test", "a.test"},
        {"%d", "joe", NULL},
        {"%d", "joe@", NULL},
        {"%u", "joe@", "joe"},
        {"%u", "@", NULL},
        {"%s", "joe@", "joe@"},
        {"%1", "joe@", NULL},
        {"%d", "@a.test", "a.test"},
        {"%S %U %D", "joe@a.test", "joe@a.test joe a.test"},
        {"%3.%2.%1", "user@mail.example.com", "mail.example.com"},
        {"%1", "user@com", "com"},
        {"%2", "user@com", NULL},
        {"%4", "user@mail.example.com", NULL},
        {"%1", "com", NULL},
        {"%1", "user@a..b", "b"},
        {"%2", "user@a..b", "a"},
        {"%3", "user@a..b", NULL},
        {"%2.%1", "user@a.b.", "a.b"},
        {"%1", "user@.", NULL},
        {"%1", "user@[1.2.3.4]", "4]"},
        {"no key", "joe", "no key"},
        {"", "joe", ""},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = BUF_INIT(1000);
        struct map_query *q = query(cases[i].format);
        bool made = map_query_for_key(q, slice_str(cases[i].key), quote, NULL, &out);

        check(cases[i].format, cases[i].key, made, &out, cases[i].wanted);
        map_query_free(&q);
        buf_fini(&out);
    }
}

static void test_results(void **state)
{
    static const struct {
        const char *format, *key, *result, *wanted; /* NULL: skipped */
        bool fits;
    } cases[] = {
        {"%s", "k", "v", "v", true},
        {"%s", "k", "", NULL, true},
        {"smtp:[%s]", "k", "host", "smtp:[host]", true},
        {"%u", "k", "joe@a.test", "joe", true},
        {"%u", "k", "@a.test", NULL, true},
        {"%u", "k", "joe", "joe", true},
        {"%d", "k", "joe@a.test", "a.test", true},
        {"%d", "k", "joe", NULL, true},
        {"%s+%S", "key@k.test", "v", "v+key@k.test", true},
        {"%s+%U+%D+%1", "key@k.test", "v", "v+key+k.test+test", true},
        {"%s+%D", "key", "v", NULL, false},
        {"%s+%2", "key@test", "v", NULL, false},
        {"%%%s", "k", "v", "%v", true},
        {"plain", "k", "v", "plain", true},
        {"plain", "k", "", NULL, true},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = BUF_INIT(1000);
        struct map_query *q = query(cases[i].format);
        bool made;

        buf_puts(&out, "x,");
        made = map_query_for_result(q, slice_str(cases[i].key), slice_str(cases[i].result), &out);
        assert_memory_equal(out.ptr, "x,", 2);
        if (!made)
            assert_int_equal(out.len, 2);
        buf_consume(&out, 2);
        check(cases[i].format, cases[i].result, made, &out, cases[i].wanted);
        if (map_query_key_fits(q, slice_str(cases[i].key)) != cases[i].fits)
            fail_msg("\"%s\" for key \"%s\": fits wrongly", cases[i].format, cases[i].key);
        map_query_free(&q);
        buf_fini(&out);
    }
}

static void test_many_results(void **state)
{
    static const struct {
        const char *format, *key, *results[4];
        int64_t limit;
        const char *wanted; /* NULL: not found; "": try again */
    } cases[] = {
        {"%s", "k", {"a", "b", "c"}, 0, "a,b,c"},
        {"%s", "k", {"a", "b", "c"}, -1, "a,b,c"},
        {"%s", "k", {"a", "b", "c"}, 3, "a,b,c"},
        {"%s", "k", {"a", "b", "c"}, 2, ""},
        {"%s", "k", {"a"}, 1, "a"},
        {"%s", "k", {"a", "b"}, 1, ""},
        {"%s", "k", {"", "a", ""}, 1, "a"}, /* what is skipped does not count */
        {"%d", "k", {"a", "b@c", "d@e"}, 2, "c,e"},
        {"%s", "k", {""}, 0, NULL},
        {"%s", "k", {NULL}, 0, NULL},
        {"OK", "k", {"a", "b"}, 0, "OK,OK"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct map_query *q = query(cases[i].format);
        struct buf value = BUF_INIT(1000);
        struct map_results r;
        struct err err = ERR_INIT;
        enum map_result res = MAP_FOUND;

        map_results_begin(&r, q, cases[i].limit, slice_str(cases[i].key));
        for (size_t k = 0; cases[i].results[k] != NULL; k++)
            if (map_results_add(&r, slice_str(cases[i].results[k]), &err) == -1)
                res = MAP_RETRY;
        res = map_results_end(&r, res, &value);
        if (cases[i].wanted == NULL)
            assert_int_equal(res, MAP_NOTFOUND);
        else if (cases[i].wanted[0] == '\0')
            assert_int_equal(res, MAP_RETRY);
        else
            check(cases[i].format, cases[i].key, res == MAP_FOUND, &value, cases[i].wanted);
        map_query_free(&q);
        buf_fini(&value);
    }
}

static void test_wrong_formats(void **state)
{
    static const char *const formats[] = {"%", "a%", "%x", "%0", "% s", "%%%"};

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        struct map_query *q;
        struct err err = ERR_INIT;

        assert_int_equal(map_query_new(formats[i], &q, &err), -1);
        assert_int_equal(err.kind, ERR_BAD_INPUT);
    }
}

/* --- with a configuration -------------------------------------------------------------------------- */

static char dir[64];
static struct config *cfg;
static struct map_env *env;

static const char *put(const char *name, const char *text)
{
    static char path[128];
    struct err err = ERR_INIT;

    (void) snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (file_replace(path, slice_str(text), 0600, &err) == -1)
        fail_msg("%s", err.text);
    return path;
}

static int setup(void **state)
{
    struct err err = ERR_INIT;

    (void) state;
    (void) snprintf(dir, sizeof(dir), "/tmp/query-test.XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    put("main.cf", "myhostname = h.test\nmine_host = a.$myhostname\nmine_port = 7\n");
    if (config_load(dir, NULL, 0, NULL, &cfg, &err) == -1)
        return -1;
    env = map_env_new(cfg);
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    (void) state;
    map_env_free(&env);
    config_unref(&cfg);
    (void) snprintf(command, sizeof(command), "rm -r -- %s", dir);
    return system(command); /* NOLINT: a directory of our own */
}

static enum map_result domains(const char *list, const char *key)
{
    struct map_domains *d = map_domains_new(env, list);
    struct err err = ERR_INIT;
    enum map_result first = map_domains_ask(d, slice_str(key), &err);

    assert_int_equal(map_domains_ask(d, slice_str(key), &err), first);
    assert_int_equal(first == MAP_RETRY, err.kind == ERR_TEMPORARY);
    map_domains_free(&d);
    return first;
}

static void test_domains(void **state)
{
    (void) state;
    assert_int_equal(domains(NULL, "joe"), MAP_FOUND);
    assert_int_equal(domains(" ,", "joe"), MAP_FOUND);
    assert_int_equal(domains("a.test, b.test", "joe@b.test"), MAP_FOUND);
    assert_int_equal(domains("a.test, b.test", "joe@B.Test"), MAP_FOUND);
    assert_int_equal(domains("a.test, b.test", "joe@c.test"), MAP_NOTFOUND);
    assert_int_equal(domains("a.test, b.test", "joe@sub.b.test"), MAP_NOTFOUND);
    assert_int_equal(domains("a.test", "@a.test"), MAP_NOTFOUND);
    assert_int_equal(domains("a.test", "a.test"), MAP_NOTFOUND);
    assert_int_equal(domains("a.test", "joe"), MAP_NOTFOUND);
    assert_int_equal(domains("inline:{b.test=x}", "joe@b.test"), MAP_FOUND);
    assert_int_equal(domains("inline:{b.test=x}", "joe@c.test"), MAP_NOTFOUND);
    assert_int_equal(domains("fail:x", "joe@c.test"), MAP_RETRY);
}

struct options {
    const char *host, *word, *none;
    int64_t port, pause;
    bool on;
};
static const struct param rows[] = {
    PARAM_STRING("host", struct options, host, .def = "localhost", .not_empty = true),
    PARAM_STRING("word", struct options, word, .def = ""),
    PARAM_STRING("none", struct options, none),
    PARAM_INT("port", struct options, port, .def = "5", .min = 1, .max = 10),
    PARAM_TIME("pause", struct options, pause, .def = "2", .min = 1, .max = 3600),
    PARAM_BOOL("on", struct options, on, .def = "no"),
};

static void test_file(void **state)
{
    struct map_source *s = NULL;
    struct options o;
    struct err err = ERR_INIT;
    const char *path = put("a.cf", "# comment\nhost = $myhostname\n  and more\nport=9\n"
                                   "pause = 1m\non = yes\nport = 10\nother = x\nword =\n");

    (void) state;
    if (map_source_open(path, env, rows, ARRAY_LEN(rows), &o, &s, &err) == -1)
        fail_msg("%s", err.text);
    assert_string_equal(o.host, "$myhostname  and more");
    assert_string_equal(o.word, "");
    assert_null(o.none);
    assert_int_equal(o.port, 10);
    assert_int_equal(o.pause, 60);
    assert_true(o.on);
    assert_true(map_source_has(s, "word"));
    assert_false(map_source_has(s, "none"));
    assert_false(map_source_is_stale(s, path));
    put("a.cf", "host = b\n");
    assert_true(map_source_is_stale(s, path));
    map_source_free(&s);
}

static void test_main_cf(void **state)
{
    struct map_source *s = NULL;
    struct options o;
    struct err err = ERR_INIT;

    (void) state;
    if (map_source_open("mine", env, rows, ARRAY_LEN(rows), &o, &s, &err) == -1)
        fail_msg("%s", err.text);
    assert_string_equal(o.host, "a.h.test");
    assert_int_equal(o.port, 7);
    assert_false(map_source_is_stale(s, "mine"));
    map_source_free(&s);
}

static void test_wrong_files(void **state)
{
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"port = 11\n", ", line 1: port: "},
        {"\nport = x\n", ", line 2: port: "},
        {"pause = 0\n", ", line 1: pause: "},
        {"on = maybe\n", ", line 1: on: "},
        {"host =\n", ", line 1: host: may not be empty"},
        {"host\n", ", line 1: not \"name = value\""},
        {"= x\n", ", line 1: not \"name = value\""},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct map_source *s = NULL;
        struct options o;
        struct err err = ERR_INIT;

        if (map_source_open(put("b.cf", cases[i].text), env, rows, ARRAY_LEN(rows), &o, &s, &err) !=
            -1)
            fail_msg("\"%s\" is taken", cases[i].text);
        assert_null(s);
        if (strstr(err.text, cases[i].wanted) == NULL)
            fail_msg("\"%s\": %s", cases[i].text, err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),         cmocka_unit_test(test_results),
        cmocka_unit_test(test_many_results), cmocka_unit_test(test_wrong_formats),
        cmocka_unit_test(test_domains),      cmocka_unit_test(test_file),
        cmocka_unit_test(test_main_cf),      cmocka_unit_test(test_wrong_files),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
