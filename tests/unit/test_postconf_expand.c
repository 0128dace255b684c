/* SPDX-License-Identifier: Apache-2.0 */
/* test_postconf_expand.c - main.cf on disk: lines, $name in all forms, binding, families; master.cf. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "postconf/master_cf.h"

static char dir[64];

static void put(const char *name, const char *text)
{
    struct buf path = BUF_INIT(256);
    struct err err = ERR_INIT;

    path_join(&path, dir, name);
    if (file_replace(buf_cstr(&path), slice_str(text), 0644, &err) == -1)
        fail_msg("%s", err.text);
    buf_fini(&path);
}

static int setup(void **state)
{
    (void) state;
    (void) snprintf(dir, sizeof(dir), "/tmp/postconf-test.XXXXXX");
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    static const char *const names[] = {"main.cf", "master.cf"};

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct buf path = BUF_INIT(256);

        path_join(&path, dir, names[i]);
        (void) unlink(buf_cstr(&path));
        buf_fini(&path);
    }
    return rmdir(dir);
}

static struct config *load(const char *text)
{
    struct config *cfg = NULL;
    struct err err = ERR_INIT;

    put("main.cf", text);
    if (config_load(dir, NULL, 0, NULL, &cfg, &err) == -1)
        fail_msg("%s", err.text);
    return cfg;
}

static void test_expand(void **state)
{
    static const struct {
        const char *text, *value; /* NULL: an error */
    } cases[] = {
        {"plain", "plain"},
        {"$a", "A"},
        {"${a}", "A"},
        {"$(a)", "A"},
        {"$$a", "$a"},
        {"x$a.y", "xA.y"},
        {"$none", ""},
        {"${a?yes}", "yes"},
        {"${none?yes}", ""},
        {"${a:no}", ""},
        {"${none:no}", "no"},
        {"${a?{$b}:{no}}", "B"},
        {"${none?{yes}:{no}}", "no"},
        {"${a?{yes}}", "yes"},
        {"${none:{no}}", "no"},
        {"${{$a} == {A} ? {same} : {other}}", "same"},
        {"${{$a} != {A} ? {same} : {other}}", "other"},
        {"${{9} < {10} ? {number} : {text}}", "number"},
        {"${{a} < {b} ? {x}}", "x"},
        {"${{b} < {a} ? {x}}", ""},
        {"${{10} >= {10} ? {x} : {y}}", "x"},
        {"${{3.10} >level {3.9} ? {x} : {y}}", "x"},
        {"${{3.6} <=level {3.6} ? {x} : {y}}", "x"},
        {"${{2} <level {1} ? {x} : {y}}", "y"},
        {"$nested", "A-B"},
        {"$", NULL},
        {"${a", NULL},
        {"${}", NULL},
        {"${a!b}", NULL},
        {"$loop1", NULL},
        {"${{a} ~ {b} ? {x}}", NULL},
        {"${a?{x} y}", NULL},
    };
    struct config *cfg = load("a = A\nb = B\nnested = $a-$b\nloop1 = $loop2\nloop2 = $loop1\n");

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = BUF_INIT(1000);
        struct err err = ERR_INIT;
        int ret = config_expand(cfg, cases[i].text, &out, &err);

        if (cases[i].value == NULL) {
            if (ret == 0)
                fail_msg("%s: accepted as \"%s\"", cases[i].text, buf_cstr(&out));
        } else if (ret == -1) {
            fail_msg("%s: %s", cases[i].text, err.text);
        } else if (strcmp(buf_cstr(&out), cases[i].value) != 0) {
            fail_msg("%s: got \"%s\", wanted \"%s\"", cases[i].text, buf_cstr(&out),
                     cases[i].value);
        }
        buf_fini(&out);
    }
    config_unref(&cfg);
}

static void test_lines(void **state)
{
    struct config *cfg = load(
        "# comment\n\na = one\n   two\n# between\n\n\tthree\nb=\n  c = still b\nd = last\nd = wins\n");

    (void) state;
    assert_string_equal(config_raw(cfg, "a"), "one two three");
    assert_string_equal(config_raw(cfg, "b"), "c = still b");
    assert_string_equal(config_raw(cfg, "d"), "wins");
    assert_int_equal(config_line(cfg, "d"), 11);
    config_unref(&cfg);
}

static void test_errors(void **state)
{
    static const char *const texts[] = {"no equals sign\n", "= value\n", "two words = x\n"};

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct config *cfg = NULL;
        struct err err = ERR_INIT;

        put("main.cf", texts[i]);
        if (config_load(dir, NULL, 0, NULL, &cfg, &err) == 0)
            fail_msg("accepted: %s", texts[i]);
        if (strstr(err.text, "main.cf, line 1:") == NULL)
            fail_msg("no file and line: %s", err.text);
    }
}

static void test_bind(void **state)
{
    struct config_common common;
    struct config *cfg = load(
        "myhostname = h.example\nmyorigin = $mydomain\nenable_long_queue_ids = YES\nsmtp_destination_concurrency_limit = 7\n");
    struct err err = ERR_INIT;
    int64_t n = 0;

    (void) state;
    if (config_bind(cfg, &config_common_params, &common, &err) == -1)
        fail_msg("%s", err.text);
    assert_string_equal(common.mydomain, "example");
    assert_string_equal(common.myorigin, "example");
    assert_true(common.enable_long_queue_ids);
    assert_int_equal(config_get_service_int(cfg, "smtp", "destination_concurrency_limit", &n, &err),
                     0);
    assert_int_equal(n, 7);
    assert_int_equal(
        config_get_service_int(cfg, "relay", "destination_concurrency_limit", &n, &err), 0);
    assert_int_equal(n, 20);
    config_unref(&cfg);
    cfg = load("enable_long_queue_ids = maybe\n");
    assert_int_equal(config_bind(cfg, &config_common_params, &common, &err), -1);
    if (strstr(err.text, "line 1: enable_long_queue_ids") == NULL)
        fail_msg("no file and line: %s", err.text);
    config_unref(&cfg);
}

static void collect(enum config_finding kind, const char *file, int line, const char *text,
                    void *arg)
{
    (void) kind;
    (void) file;
    (void) line;
    buf_printf(arg, "%s\n", text);
}

static void test_findings(void **state)
{
    struct config *cfg = load(
        "smtpd_recipent_restrictions = permit\nmine = x\nrelayhost = $mine\nsmtpd_tls_loglevel = 1\n");
    struct buf out = BUF_INIT(65536);

    (void) state;
    config_check(cfg, collect, &out);
    (void) buf_cstr(&out);
    assert_non_null(strstr(
        out.ptr,
        "unknown parameter smtpd_recipent_restrictions: did you mean smtpd_recipient_restrictions?"));
    assert_non_null(strstr(out.ptr, "smtpd_tls_loglevel is not yet effective"));
    assert_null(strstr(out.ptr, "unknown parameter mine"));
    buf_fini(&out);
    config_unref(&cfg);
}

static void test_master_cf(void **state)
{
    static const struct {
        const char *text, *error; /* NULL: good */
    } cases[] = {
        {"smtp inet n - n - - smtpd\n  -o a=b -o { c = d e }\n", NULL},
        {"qmgr unix n - n 300 1 qmgr\nflush unix n - n 1000? 0 flush\n", NULL},
        {"smtp inet n - n - -\n", "line 1: only 7 of 8 columns"},
        {"smtp ine n - n - - smtpd\n", "unknown service type"},
        {"smtp inet n - x - - smtpd\n", "column \"chroot\""},
        {"smtp inet n - n - many smtpd\n", "maxproc"},
        {"smtp inet n - n - - /bin/smtpd\n", "not a path"},
        {"smtp inet n - n - - smtpd -o\n", "-o without"},
        {"\n\nsmtp inet n - n - - smtpd -o x\n", "line 3"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct master_cf *m = NULL;
        struct err err = ERR_INIT;
        int ret;

        put("master.cf", cases[i].text);
        ret = master_cf_load(dir, &m, &err);
        if (cases[i].error == NULL ? ret != 0
                                   : ret == 0 || strstr(err.text, cases[i].error) == NULL)
            fail_msg("case %zu: %s", i, err.text);
        if (i == 0) {
            const struct master_service *s = master_cf_find(m, "smtp", SERVICE_INET);

            assert_non_null(s);
            assert_string_equal(s->overrides[0], "a=b");
            assert_string_equal(s->overrides[1], "c=d e");
            assert_int_equal(s->max_processes, -1);
        }
        master_cf_free(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expand),   cmocka_unit_test(test_lines),
        cmocka_unit_test(test_errors),   cmocka_unit_test(test_bind),
        cmocka_unit_test(test_findings), cmocka_unit_test(test_master_cf),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
