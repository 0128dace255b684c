/* SPDX-License-Identifier: Apache-2.0 */
/* test_postconf_master.c - master.cf: columns, arguments, lines, and services written again. */
#include "test_postconf.h"

#include <stdlib.h>

#include "postconf/postconf_int.h"

static void join(char *const *words, struct buf *out)
{
    for (; *words != NULL; words++)
        buf_printf(out, "<%s>", *words);
}

static void test_columns(void **state)
{
    static const struct {
        const char *line;
        const char *
            wanted; /* private unprivileged chroot wakeup if_used max command; NULL: error holds why */
        const char *why;
    } rows[] = {
        {"a unix - - - - - x", "1 1 0 0 0 -1 x", NULL},
        {"a unix n n y 60 1 x", "0 0 1 60 0 1 x", NULL},
        {"a unix y y n 300? 0 x", "1 1 0 300 1 0 x", NULL},
        {"a inet - - - - - x", "1 1 0 0 0 -1 x", NULL},
        {"a unix-dgram - - - 0 1000000 x", "1 1 0 0 0 1000000 x", NULL},
        {"a fifo - - - 1000000 - x", "1 1 0 1000000 0 -1 x", NULL},
        {"a pass - - - - - x", "1 1 0 0 0 -1 x", NULL},
        {"a\tunix - -\t- -  - x", "1 1 0 0 0 -1 x", NULL},
        {"a inet y - - - - x", NULL, "an inet service cannot be private"},
        {"a tcp - - - - - x", NULL, "unknown service type \"tcp\""},
        {"a unix Y - - - - x", NULL, "column \"private\""},
        {"a unix - x - - - x", NULL, "column \"unpriv\""},
        {"a unix - - 1 - - x", NULL, "column \"chroot\""},
        {"a unix - - - -1 - x", NULL, "column \"wakeup\""},
        {"a unix - - - 1000001 - x", NULL, "column \"wakeup\""},
        {"a unix - - - ? - x", NULL, "column \"wakeup\""},
        {"a unix - - - - -1 x", NULL, "column \"maxproc\""},
        {"a unix - - - - 1000001 x", NULL, "column \"maxproc\""},
        {"a unix - - - - - /bin/x", NULL, "not a path"},
        {"a unix - - - - -", NULL, "only 7 of 8 columns"},
        {"", NULL, "only 0 of 8 columns"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct master_service *s = NULL;
        struct err err = ERR_INIT;
        struct buf got = BUF_INIT(1000);
        int ret = master_service_parse(slice_str(rows[i].line), &s, &err);

        check_int(rows[i].line, ret, rows[i].wanted != NULL ? 0 : -1);
        if (ret == 0) {
            buf_printf(&got, "%d %d %d %d %d %d %s", s->is_private, s->unprivileged, s->chroot,
                       s->wakeup_s, s->wakeup_if_used, s->max_processes, s->command);
            check_str(rows[i].line, buf_cstr(&got), rows[i].wanted);
        } else {
            check_contains(rows[i].line, err.text, rows[i].why);
        }
        buf_fini(&got);
        master_service_free(&s);
    }
}

static void test_arguments(void **state)
{
    static const struct {
        const char *text;
        const char *args; /* NULL: an error */
        const char *overrides;
    } rows[] = {
        {"", "", ""},
        {"-v", "<-v>", ""},
        {"-o a=b", "<-o><a=b>", "<a=b>"},
        {"-oa=b", "<-o><a=b>", "<a=b>"},
        {"-o {a=b}", "<-o><a=b>", "<a=b>"},
        {"-o { a = b c }", "<-o><a=b c>", "<a=b c>"},
        {"-o {a = {b} c}", "<-o><a={b} c>", "<a={b} c>"},
        {"-o a=", "<-o><a=>", "<a=>"},
        {"-o a=b=c", "<-o><a=b=c>", "<a=b=c>"},
        {"-v -o a=b -o c=d -v", "<-v><-o><a=b><-o><c=d><-v>", "<a=b><c=d>"},
        {"flags=x argv=/bin/y -o z", "<flags=x><argv=/bin/y><-o><z>", ""},
        {"user=x argv=/bin/y { a b } {c}", "<user=x><argv=/bin/y><a b><c>", ""},
        {"-o a=b flags=x -o y", "<-o><a=b><flags=x><-o><y>", "<a=b>"},
        {"-", "<->", ""},
        {"{-v} -o a=b", "<-v><-o><a=b>", "<a=b>"},
        {"{-o} a=b", "<-o><a=b>", "<a=b>"},
        {"-x{c d} -o a=b", "<-x{c d}><-o><a=b>", "<a=b>"},
        {"-o", NULL, NULL},
        {"-o a", NULL, NULL},
        {"-o =a", NULL, NULL},
        {"-o {a", NULL, NULL},
        {"-o {a=b", NULL, NULL},
        {"x {y", NULL, NULL},
        {"x {y}z", NULL, NULL},
        {"x {y}{z}", NULL, NULL},
        {"x {{y}{z}}", "<x><{y}{z}>", ""},
        {"x y{z}", "<x><y{z}>", ""},
        {"-o y{=z", NULL, NULL},
        {"x y{z", NULL, NULL},
        {"x y}z", "<x><y}z>", ""},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf line = BUF_INIT(1000);
        struct master_service *s = NULL;
        struct err err = ERR_INIT;
        int ret;

        buf_printf(&line, "a unix - - - - - x %s", rows[i].text);
        ret = master_service_parse(buf_view(&line), &s, &err);
        check_int(rows[i].text, ret, rows[i].args != NULL ? 0 : -1);
        if (ret == 0) {
            struct buf args = BUF_INIT(1000);
            struct buf overrides = BUF_INIT(1000);

            join(s->args, &args);
            join(s->overrides, &overrides);
            check_str(rows[i].text, buf_cstr(&args), rows[i].args);
            check_str(rows[i].text, buf_cstr(&overrides), rows[i].overrides);
            buf_fini(&args);
            buf_fini(&overrides);
        }
        buf_fini(&line);
        master_service_free(&s);
    }
}

static void test_lines(void **state)
{
    static const struct {
        const char *text;
        const char *wanted; /* name/type:line of each; NULL: error holds why */
        const char *why;    /* or the first warning */
    } rows[] = {
        {"", "", NULL},
        {"# c\n\n \n", "", NULL},
        {"a unix - - - - - x", "a/unix:1 ", NULL},
        {"# c\na unix - - - - - x\n  -v\n\n# d\n  -v\nb inet - - - - - y\n", "a/unix:2 b/inet:7 ",
         NULL},
        {"a unix - - - - - x\na inet - - - - - x\n", "a/unix:1 a/inet:2 ", NULL},
        {"a unix - - - - - x\nb unix - - - - - x\na unix - - - - - y\n", "b/unix:2 a/unix:3 ",
         "FILE, line 3: replacing the earlier service a/unix (line 1)"},
        {"  x\na unix - - - - - x\n", "a/unix:2 ",
         "FILE, line 1: ignored: begins with white space"},
        {"a unix - - - - - x\n\nb unix\n", NULL, "FILE, line 3: only 2 of 8 columns"},
        {"a unix - - - - - x\n  -o y\n", NULL, "FILE, line 1: -o y: name=value is wanted"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct master_cf *m = NULL;
        struct err err = ERR_INIT;
        struct buf got = BUF_INIT(1000);
        int ret = master_cf_parse("FILE", slice_str(rows[i].text), &m, &err);

        check_int(rows[i].text, ret, rows[i].wanted != NULL ? 0 : -1);
        if (ret == -1) {
            check_contains(rows[i].text, err.text, rows[i].why);
            continue;
        }
        for (size_t n = 0; n < m->services.len; n++) {
            const struct master_service *s = m->services.items[n];

            buf_printf(&got, "%s/%s:%d ", s->name, service_type_name(s->type), s->line);
        }
        check_str(rows[i].text, buf_cstr(&got), rows[i].wanted);
        check_int(rows[i].text, (long long) m->warnings.len, rows[i].why != NULL);
        if (rows[i].why != NULL)
            check_contains(rows[i].text, m->warnings.items[0], rows[i].why);
        buf_fini(&got);
        master_cf_free(&m);
    }
    struct master_cf *m = NULL;
    struct err err = ERR_INIT;

    check_int("a NUL byte", master_cf_parse("FILE", slice_of("a\0b", 3), &m, &err), -1);
    check_contains("a NUL byte", err.text, "FILE, line 1: a NUL byte");
}

static void test_written_again(void **state)
{
    static const struct {
        const char *line;
        const char *wanted;
        const char *folded;
    } rows[] = {
        {"smtp inet n - y - - smtpd",
         "smtp       inet  n       -       y       -       -       smtpd\n",
         "smtp       inet  n       -       y       -       -       smtpd\n"},
        {"127.0.0.1:10025 inet n - y - 1 smtpd -v -o {a=b} -o { c = d  e }",
         "127.0.0.1:10025 inet n   -       y       -       1       smtpd -v -o a=b -o {c=d  e}\n",
         "127.0.0.1:10025 inet n   -       y       -       1       smtpd -v\n    -o a=b\n    -o {c=d  e}\n"},
        {"verylongname unix-dgram n - - 10? - x",
         "verylongname unix-dgram n -      -       10?     -       x\n",
         "verylongname unix-dgram n -      -       10?     -       x\n"},
        {"a unix - - - - - x -o a=i:{b c} y}{d e}",
         "a          unix  -       -       -       -       -       x -o {a=i:{b c}} y}{d e}\n",
         "a          unix  -       -       -       -       -       x\n    -o {a=i:{b c}}\n    y}{d e}\n"},
        {"a unix - - - - - x -o a=b #b",
         "a          unix  -       -       -       -       -       x -o a=b #b\n",
         "a          unix  -       -       -       -       -       x\n    -o a=b #b\n"},
        {"m unix - n n - - pipe -o a=b flags=DRXhu user=vmail argv=/usr/bin/maildrop -d ${recipient} { a b } {}",
         "m          unix  -       n       n       -       -       pipe -o a=b flags=DRXhu user=vmail "
         "argv=/usr/bin/maildrop -d ${recipient} {a b} {}\n",
         "m          unix  -       n       n       -       -       pipe\n    -o a=b\n    flags=DRXhu user=vmail "
         "argv=/usr/bin/maildrop -d ${recipient} {a b} {}\n"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct master_service *s = NULL;
        struct err err = ERR_INIT;
        struct buf flat = BUF_INIT(1000);
        struct buf folded = BUF_INIT(1000);

        if (master_service_parse(slice_str(rows[i].line), &s, &err) == -1)
            fail_msg("%s: %s", rows[i].line, err.text);
        postconf_put_service(s, false, &flat);
        postconf_put_service(s, true, &folded);
        check_str(rows[i].line, buf_cstr(&flat), rows[i].wanted);
        check_str(rows[i].line, buf_cstr(&folded), rows[i].folded);
        buf_fini(&flat);
        buf_fini(&folded);
        master_service_free(&s);
    }
}

static void test_patterns(void **state)
{
    static const struct {
        const char *pattern;
        bool fits;
        const char *rest;
    } rows[] = {
        {"smtp", true, "*"},      {"smtp/inet", true, "*"}, {"smtp/inet/chroot", true, "chroot"},
        {"*", true, "*"},         {"*/inet", true, "*"},    {"*/*/x", true, "x"},
        {"smtp/unix", false, ""}, {"smtpd", false, ""},     {"smtp/*/a/b", true, "a/b"},
        {"", false, ""},          {"/inet", false, ""},
    };
    struct master_service *s = NULL;
    struct err err = ERR_INIT;

    (void) state;
    assert_int_equal(master_service_parse(SLICE_LIT("smtp inet n - n - - smtpd"), &s, &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice rest = SLICE_EMPTY;
        bool fits = postconf_match_service(rows[i].pattern, s, &rest);

        check_int(rows[i].pattern, fits, rows[i].fits);
        if (fits)
            check_slice(rows[i].pattern, rest, rows[i].rest);
    }
    master_service_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns),  cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_lines),    cmocka_unit_test(test_written_again),
        cmocka_unit_test(test_patterns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
