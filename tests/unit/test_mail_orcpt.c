/* SPDX-License-Identifier: Apache-2.0 */
/* test_mail_orcpt.c - original recipients (RFC 3461, RFC 6533), and UTF-8 as such. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/utf8.h"
#include "mail/orcpt.h"

static void parses(void **state)
{
    static const struct {
        const char *text, *type, *addr; /* type NULL: it is none */
    } cases[] = {
        {"rfc822;user@example.org", "rfc822", "user@example.org"},
        {"rfc822;u+2Bx@example.org", "rfc822", "u+x@example.org"},
        {"rfc822;+C3+B6@example.org", "rfc822", "\xc3\xb6@example.org"},
        {"rfc822;", "rfc822", ""},
        {"x400;a", "x400", "a"},
        {"utf-8;\\x{FC}@example.org", "utf-8", "\xc3\xbc@example.org"},
        {"UTF-8;\\x{fc}\\x{1F600}", "UTF-8", "\xc3\xbc\xf0\x9f\x98\x80"},
        {"utf-8;\xc3\xbc@example.org", "utf-8", "\xc3\xbc@example.org"},
        {"utf-8;j+C3+BC", "utf-8", "j\xc3\xbc"},
        {"utf-8;\\x{5C}\\x{2B}\\x{3D}\\x{20}", "utf-8", "\\+= "},
        {"utf-8;\\x{10FFFF}", "utf-8", "\xf4\x8f\xbf\xbf"},
        {"utf-8;a\\b", "utf-8", "a\\b"},
        {"utf-8;\\x{110000}", NULL, NULL},
        {"utf-8;\\x{D800}", NULL, NULL}, /* half of a character of another encoding */
        {"utf-8;\\x{0}", NULL, NULL},
        {"utf-8;\\x{}", NULL, NULL},
        {"utf-8;\\x{zz}", NULL, NULL},
        {"utf-8;\\x{1234567}", NULL, NULL},
        {"utf-8;\\x{FC", NULL, NULL},
        {"utf-8;\\x", NULL, NULL},
        {"utf-8;\xfc@example.org", NULL, NULL},
        {"utf-8;+C3", NULL, NULL},
        {"utf-8;a=b", NULL, NULL},
        {"utf-8;a+00b", NULL, NULL},
        {"utf-8;a b", NULL, NULL},
        {"rfc822;\xc3\xbc@example.org", NULL, NULL},
        {"rfc822;x+", NULL, NULL},
        {"rfc822", NULL, NULL},
        {";a", NULL, NULL},
        {"", NULL, NULL},
        {"\xc3\xbc;a", NULL, NULL},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf addr = BUF_INIT(100);
        struct slice type = SLICE_EMPTY;
        int ret;

        buf_puts(&addr, "before");
        ret = orcpt_parse(slice_str(cases[i].text), &type, &addr);
        if (ret != (cases[i].type != NULL ? 0 : -1))
            fail_msg("%s: got %d", cases[i].text, ret);
        assert_true(slice_starts_with(buf_view(&addr), SLICE_LIT("before")));
        if (ret == -1) {
            assert_int_equal(addr.len, 6);
        } else {
            assert_true(slice_eq_str(type, cases[i].type));
            assert_string_equal(buf_cstr(&addr) + 6, cases[i].addr);
        }
        buf_fini(&addr);
    }
}

static void is_limited(void **state)
{
    struct buf addr = BUF_INIT(4);
    struct slice type;

    (void) state;
    assert_int_equal(orcpt_parse(SLICE_LIT("rfc822;12345"), &type, &addr), -1);
    buf_fini(&addr);
}

static void prints(void **state)
{
    static const struct {
        const char *addr, *wanted;
    } cases[] = {
        {"user@example.org", "rfc822;user@example.org"},
        {"u+x@example.org", "rfc822;u+2Bx@example.org"},
        {"a b@example.org", "rfc822;\"a+20b\"@example.org"},
        {"\xc3\xb6@example.org", "utf-8;\\x{F6}@example.org"},
        {"a@b\xc3\xbc\x63her", "utf-8;a@b\\x{FC}cher"},
        {"\xf0\x9f\x98\x80+=\\@x", "utf-8;\"\\x{1F600}\\x{2B}\\x{3D}\\x{5C}\\x{5C}\"@x"},
        {"\xfc@x", "utf-8;?@x"}, /* not UTF-8 at all */
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = BUF_INIT(200);
        struct buf again = BUF_INIT(200);
        struct slice type;

        orcpt_print(slice_str(cases[i].addr), &out);
        assert_string_equal(buf_cstr(&out), cases[i].wanted);
        assert_int_equal(orcpt_parse(buf_view(&out), &type, &again), 0);
        buf_fini(&out);
        buf_fini(&again);
    }
}

static void utf8(void **state)
{
    static const struct {
        struct slice text;
        bool valid;
    } cases[] = {
        {SLICE_LIT(""), true},
        {SLICE_LIT("plain"), true},
        {SLICE_LIT("\xc3\xbc"), true},
        {SLICE_LIT("\xe6\xbc\xa2"), true},
        {SLICE_LIT("\xf4\x8f\xbf\xbf"), true},
        {SLICE_LIT("\xf4\x90\x80\x80"), false}, /* beyond the last */
        {SLICE_LIT("\xed\xa0\x80"), false},     /* surrogate */
        {SLICE_LIT("\xc0\xaf"), false},         /* longer than needed */
        {SLICE_LIT("\xe0\x80\xaf"), false},
        {SLICE_LIT("\xf0\x80\x80\xaf"), false},
        {SLICE_LIT("\xc3"), false},
        {SLICE_LIT("\xc3("), false},
        {SLICE_LIT("\xfc"), false},
        {SLICE_LIT("\x80"), false},
        {SLICE_LIT("\xff"), false},
    };
    uint32_t c = 7;

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (utf8_is_valid(cases[i].text) != cases[i].valid)
            fail_msg("case %zu", i);
    assert_int_equal(utf8_decode(SLICE_EMPTY, &c), 0);
    for (c = 1; c <= UTF8_CODE_MAX; c += c < 0x3000 ? 1 : 997) {
        struct buf out = BUF_INIT(4);
        uint32_t again = 0;

        if (c >= 0xd800 && c < 0xe000)
            continue;
        utf8_encode(c, &out);
        assert_int_equal(utf8_decode(buf_view(&out), &again), out.len);
        assert_int_equal(again, c);
        buf_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses),
        cmocka_unit_test(is_limited),
        cmocka_unit_test(prints),
        cmocka_unit_test(utf8),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
