/* SPDX-License-Identifier: Apache-2.0 */
/* test_mail_address.c - paths, quoting, header mailboxes, extensions, host names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mail/address.h"

static void check(const char *name, struct slice got, const char *wanted)
{
    if (!slice_eq_str(got, wanted))
        fail_msg("%s: got \"%.*s\", wanted \"%s\"", name, SLICE_FMT(got), wanted);
}

static void test_path(void **state)
{
    static const struct {
        const char *input;
        bool strict, utf8;
        const char *addr; /* NULL: an error */
        const char *rest;
    } cases[] = {
        {"<user@example.com>", true, false, "user@example.com", ""},
        {"<>", true, false, "", ""},
        {"<user@example.com> SIZE=10", true, false, "user@example.com", " SIZE=10"},
        {"<\"joe smith\"@example.com>", true, false, "joe smith@example.com", ""},
        {"<\"a\\\"b\"@example.com>", true, false, "a\"b@example.com", ""},
        {"<\"a>b\"@example.com>", true, false, "a>b@example.com", ""},
        {"<@a.test,@b.test:user@example.com>", true, false, "user@example.com", ""},
        {"<user@[127.0.0.1]>", true, false, "user@[127.0.0.1]", ""},
        {"<user@[IPv6:::1]>", true, false, "user@[IPv6:::1]", ""},
        {"<postmaster>", true, false, "postmaster", ""},
        {"user@example.com", false, false, "user@example.com", ""},
        {" <user@example.com>", false, false, "user@example.com", ""},
        {"user@example.com SIZE=1", false, false, "user@example.com", " SIZE=1"},
        {"<\xc3\xa4@example.com>", true, true, "\xc3\xa4@example.com", ""},
        {"user@example.com", true, false, NULL, NULL},
        {"<user@example.com", true, false, NULL, NULL},
        {"<user@example.com", false, false, NULL, NULL},
        {"<\"user@example.com>", false, false, NULL, NULL},
        {"<user@[127.0.0.1>", false, false, NULL, NULL},
        {"<@a.test>", true, false, NULL, NULL},
        {"<.user@example.com>", true, false, NULL, NULL},
        {"<us er@example.com>", true, false, NULL, NULL},
        {"<us..er@example.com>", true, false, NULL, NULL},
        {"<a<b@example.com>", false, false, NULL, NULL},
        {"<a\rb@example.com>", false, false, NULL, NULL},
        {"<\xc3\xa4@example.com>", true, false, NULL, NULL},
        {"", false, false, NULL, NULL},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = BUF_INIT(1024);
        struct slice text = slice_str(cases[i].input);
        struct err err = ERR_INIT;
        int ret = address_parse_path(&text, cases[i].strict, cases[i].utf8, &out, &err);

        if (cases[i].addr == NULL) {
            if (ret != -1)
                fail_msg("%s: accepted as \"%.*s\"", cases[i].input, SLICE_FMT(buf_view(&out)));
            assert_int_not_equal(err.kind, ERR_NONE);
        } else {
            if (ret != 0)
                fail_msg("%s: refused: %s", cases[i].input, err.text);
            check(cases[i].input, buf_view(&out), cases[i].addr);
            check(cases[i].input, text, cases[i].rest);
        }
        buf_fini(&out);
    }
}

static void test_path_limit(void **state)
{
    char text[64] = "<aaaaaaaaaa@b>";
    struct slice s = slice_str(text);
    struct err err = ERR_INIT;
    struct buf fits = BUF_INIT(12);
    struct buf small = BUF_INIT(11);

    (void) state;
    assert_int_equal(address_parse_path(&s, true, false, &fits, &err), 0);
    s = slice_str(text);
    assert_int_equal(address_parse_path(&s, true, false, &small, &err), -1);
    buf_fini(&fits);
    buf_fini(&small);
}

static void test_quote(void **state)
{
    static const struct {
        const char *internal, *external;
    } cases[] = {
        {"user@example.com", "user@example.com"},
        {"a.b@example.com", "a.b@example.com"},
        {"joe smith@example.com", "\"joe smith\"@example.com"},
        {"a\"b@c", "\"a\\\"b\"@c"},
        {".a@c", "\".a\"@c"},
        {"a..b@c", "\"a..b\"@c"},
        {"a@b@c", "\"a@b\"@c"},
        {"", ""},
        {"@c", "\"\"@c"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = BUF_INIT(1024);
        struct buf back = BUF_INIT(1024);

        address_quote(slice_str(cases[i].internal), &out);
        check(cases[i].internal, buf_view(&out), cases[i].external);
        address_unquote(buf_view(&out), &back);
        check("and back", buf_view(&back), cases[i].internal);
        buf_fini(&out);
        buf_fini(&back);
    }
}

static void join(struct slice raw, struct slice addr, void *arg)
{
    struct buf *out = arg;

    (void) raw;
    buf_putc(out, '[');
    buf_put_slice(out, addr);
    buf_putc(out, ']');
}

static void test_header(void **state)
{
    static const struct {
        const char *value, *addrs;
    } cases[] = {
        {" user@example.com\r\n", "[user@example.com]"},
        {" a@b, c@d", "[a@b][c@d]"},
        {" Joe <joe@b>", "[joe@b]"},
        {" \"Smith, Joe\" <joe@b>, c@d", "[joe@b][c@d]"},
        {" joe@b (Joe (nested) Smith)", "[joe@b]"},
        {" (before) joe@b", "[joe@b]"},
        {" friends: a@b, c@d;, e@f", "[a@b][c@d][e@f]"},
        {" undisclosed-recipients:;", ""},
        {" <@relay:user@b>", "[user@b]"},
        {" \"joe smith\"@b", "[joe smith@b]"},
        {" =?utf-8?q?J=C3=B6?= <j@b>", "[j@b]"},
        {" a@[IPv6:::1]", "[a@[IPv6:::1]]"},
        {" a@b,\r\n\tc@d", "[a@b][c@d]"},
        {" , ,", ""},
        {"", ""},
        {" <", ""},
        {" (never closed", ""},
        {" \"never closed", "[never closed]"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = BUF_INIT(4096);

        address_header_each(slice_str(cases[i].value), join, &out);
        check(cases[i].value, buf_view(&out), cases[i].addrs);
        buf_fini(&out);
    }
}

static bool to_x(struct slice addr, struct buf *out, void *arg)
{
    (void) arg;
    if (!slice_eq_str(addr, "a@b"))
        return false;
    buf_puts(out, "x@y");
    return true;
}

static void test_rewrite(void **state)
{
    static const struct {
        const char *value, *result;
    } cases[] = {
        {" a@b", " x@y"},
        {" Joe <a@b>, c@d (a@b)\r\n", " Joe <x@y>, c@d (a@b)\r\n"},
        {" c@d", " c@d"},
        {" a@b, a@b", " x@y, x@y"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = BUF_INIT(4096);

        address_header_rewrite(slice_str(cases[i].value), to_x, NULL, &out);
        check(cases[i].value, buf_view(&out), cases[i].result);
        buf_fini(&out);
    }
}

static void test_extension(void **state)
{
    static const struct {
        const char *local, *delimiters;
        bool has;
        const char *user, *ext;
    } cases[] = {
        {"joe+list", "+", true, "joe", "list"},
        {"joe", "+", false, "joe", ""},
        {"+list", "+", false, "+list", ""},
        {"joe-a+b", "+-", true, "joe", "a+b"},
        {"owner-list", "-", false, "owner-list", ""},
        {"list-request", "-", false, "list-request", ""},
        {"joe+", "+", true, "joe", ""},
        {"joe+x", "", false, "joe+x", ""},
        {"mailer-daemon", "-", false, "mailer-daemon", ""},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct slice user;
        struct slice ext;

        assert_int_equal(
            address_split_extension(slice_str(cases[i].local), cases[i].delimiters, &user, &ext),
            cases[i].has);
        check(cases[i].local, user, cases[i].user);
        check(cases[i].local, ext, cases[i].ext);
    }
}

static void test_hostname(void **state)
{
    static const char *const good[] = {"a", "a.b", "a-b.c", "a_b.c", "1a.b", "xn--a.b"};
    static const char *const bad[] = {"",     ".",       "a..b", "-a.b", "a-.b",
                                      "a.b-", "1.2.3.4", "a b",  "a.b.", "[1.2.3.4]"};

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (!hostname_valid(slice_str(good[i])))
            fail_msg("%s: refused", good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (hostname_valid(slice_str(bad[i])))
            fail_msg("%s: accepted", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path),     cmocka_unit_test(test_path_limit),
        cmocka_unit_test(test_quote),    cmocka_unit_test(test_header),
        cmocka_unit_test(test_rewrite),  cmocka_unit_test(test_extension),
        cmocka_unit_test(test_hostname),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
