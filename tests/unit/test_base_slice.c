/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_slice.c - lib/base/slice.h. */
#include "test_base.h"

#include <stdlib.h>

static void test_equality(void **state)
{
    static const struct {
        const char *a, *b;
        bool eq, caseeq;
    } rows[] = {
        {"", "", true, true},         {"a", "", false, false},
        {"abc", "abc", true, true},   {"abc", "ABC", false, true},
        {"abc", "abd", false, false}, {"[", "{", false, false},
        {"@", "`", false, false},     {"\xc3\xa4", "\xc3\x84", false, false},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        check_int(rows[i].a, slice_eq(slice_str(rows[i].a), slice_str(rows[i].b)), rows[i].eq);
        check_int(rows[i].a, slice_eq_str(slice_str(rows[i].a), rows[i].b), rows[i].eq);
        check_int(rows[i].a, slice_caseeq(slice_str(rows[i].a), slice_str(rows[i].b)),
                  rows[i].caseeq);
        check_int(rows[i].a, slice_caseeq_str(slice_str(rows[i].a), rows[i].b), rows[i].caseeq);
    }
    assert_true(slice_eq(slice_of(NULL, 0), SLICE_EMPTY));
    assert_true(slice_eq(slice_str(NULL), SLICE_EMPTY));
    assert_true(slice_eq(slice_of("a\0b", 3), slice_of("a\0b", 3)));
    assert_false(slice_eq(slice_of("a\0b", 3), slice_of("a\0c", 3)));
}

static void test_ends(void **state)
{
    static const struct {
        const char *s, *part;
        bool starts, case_starts, ends, case_ends;
    } rows[] = {
        {"abc", "", true, true, true, true},         {"abc", "abc", true, true, true, true},
        {"abc", "abcd", false, false, false, false}, {"abc", "ab", true, true, false, false},
        {"abc", "bc", false, false, true, true},     {"abc", "AB", false, true, false, false},
        {"abc", "BC", false, false, false, true},    {"", "", true, true, true, true},
        {"", "a", false, false, false, false},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice s = slice_str(rows[i].s);
        struct slice part = slice_str(rows[i].part);

        check_int(rows[i].part, slice_starts_with(s, part), rows[i].starts);
        check_int(rows[i].part, slice_case_starts_with(s, part), rows[i].case_starts);
        check_int(rows[i].part, slice_ends_with(s, part), rows[i].ends);
        check_int(rows[i].part, slice_case_ends_with(s, part), rows[i].case_ends);
    }
}

static void test_find(void **state)
{
    (void) state;
    check_int("first", slice_find(SLICE_LIT("a,b,c"), ','), 1);
    check_int("last", slice_rfind(SLICE_LIT("a,b,c"), ','), 3);
    check_int("none", slice_find(SLICE_LIT("abc"), ','), -1);
    check_int("none, from the end", slice_rfind(SLICE_LIT("abc"), ','), -1);
    check_int("empty", slice_find(slice_of(NULL, 0), ','), -1);
    check_int("empty, from the end", slice_rfind(slice_of(NULL, 0), ','), -1);
    check_int("NUL is a byte", slice_find(slice_of("a\0b", 3), '\0'), 1);
}

static void test_trim_and_sub(void **state)
{
    (void) state;
    check_slice("both sides", slice_trim(SLICE_LIT(" \t a b \r\n"), NULL), "a b");
    check_slice("all space", slice_trim(SLICE_LIT("  \n"), NULL), "");
    check_slice("empty", slice_trim(SLICE_EMPTY, NULL), "");
    check_slice("own set", slice_trim(SLICE_LIT(",,a ,"), ","), "a ");
    check_int("NUL is no space", (long long) slice_trim(slice_of("\0 ", 2), NULL).len, 1);
    check_slice("middle", slice_sub(SLICE_LIT("abcdef"), 2, 4), "cd");
    check_slice("clipped", slice_sub(SLICE_LIT("abc"), 1, SIZE_MAX), "bc");
    check_slice("crossed", slice_sub(SLICE_LIT("abc"), 2, 1), "");
    check_slice("beyond", slice_sub(SLICE_LIT("abc"), 9, 12), "");
}

static void test_tokens(void **state)
{
    static const struct {
        const char *text;
        bool braces;
        const char *wanted; /* joined by | */
    } rows[] = {
        {"", false, ""},
        {" ,, ", false, ""},
        {"a", false, "a"},
        {"a, b,,c ", false, "a|b|c"},
        {"{ a, b } c", false, "{|a|b|}|c"},
        {"{ a, b } c", true, "{ a, b }|c"},
        {"x{ a }y,z", true, "x{ a }y|z"},
        {"{ a { b, c } d } e", true, "{ a { b, c } d }|e"},
        {"{ never closed, x", true, "{ never closed, x"},
        {"} a", true, "}|a"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice rest = slice_str(rows[i].text);
        struct slice token;
        char got[100] = "";
        size_t len = 0;

        while (rows[i].braces ? slice_token_braces(&rest, ", ", &token)
                              : slice_token(&rest, ", ", &token))
            len += (size_t) snprintf(got + len, sizeof(got) - len, "%s%.*s", len > 0 ? "|" : "",
                                     SLICE_FMT(token));
        check_str(rows[i].text, got, rows[i].wanted);
        check_int("nothing is left", (long long) rest.len, 0);
    }
}

static void test_dup(void **state)
{
    char *copy = slice_dup(slice_of("a\0b", 3));

    (void) state;
    assert_memory_equal(copy, "a\0b", 4);
    free(copy);
    copy = slice_dup(slice_of(NULL, 0));
    check_str("nothing", copy, "");
    free(copy);
}

static void test_ascii(void **state)
{
    (void) state;
    for (int c = -1; c < 256; c++) {
        bool upper = c >= 'A' && c <= 'Z';
        bool lower = c >= 'a' && c <= 'z';
        bool digit = c >= '0' && c <= '9';

        check_int("lower", ascii_lower(c), upper ? c - 'A' + 'a' : c);
        check_int("upper", ascii_upper(c), lower ? c - 'a' + 'A' : c);
        check_int("digit", ascii_is_digit(c), digit);
        check_int("alpha", ascii_is_alpha(c), upper || lower);
        check_int("alnum", ascii_is_alnum(c), upper || lower || digit);
        check_int("space", ascii_is_space(c), c > 0 && strchr(" \t\n\v\f\r", c) != NULL);
        check_int("print", ascii_is_print(c), c >= 32 && c < 127);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equality), cmocka_unit_test(test_ends),
        cmocka_unit_test(test_find),     cmocka_unit_test(test_trim_and_sub),
        cmocka_unit_test(test_tokens),   cmocka_unit_test(test_dup),
        cmocka_unit_test(test_ascii),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
