/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_num.c - lib/base/num.h: both sides of every limit. */
#include "test_base.h"

#include "base/num.h"

static void test_i64(void **state)
{
    static const struct {
        const char *text;
        int64_t min, max;
        int ret;
        int64_t wanted;
    } rows[] = {
        {"0", 0, 10, 0, 0},
        {"10", 0, 10, 0, 10},
        {"11", 0, 10, -1, 0},
        {"-1", 0, 10, -1, 0},
        {"-1", -1, 10, 0, -1},
        {"-2", -1, 10, -1, 0},
        {"007", 0, 10, 0, 7},
        {"", 0, 10, -1, 0},
        {"-", -10, 10, -1, 0},
        {"+1", 0, 10, -1, 0},
        {" 1", 0, 10, -1, 0},
        {"1 ", 0, 10, -1, 0},
        {"1x", 0, 10, -1, 0},
        {"1e3", 0, 5000, -1, 0},
        {"--1", -10, 10, -1, 0},
        {"9223372036854775807", 0, INT64_MAX, 0, INT64_MAX},
        {"9223372036854775808", 0, INT64_MAX, -1, 0},
        {"-9223372036854775808", INT64_MIN, 0, 0, INT64_MIN},
        {"-9223372036854775809", INT64_MIN, 0, -1, 0},
        {"99999999999999999999999999", 0, INT64_MAX, -1, 0},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err err = ERR_INIT;
        int64_t got = 4711;

        check_int(rows[i].text,
                  num_parse_i64(slice_str(rows[i].text), rows[i].min, rows[i].max, &got, &err),
                  rows[i].ret);
        check_int(rows[i].text, got, rows[i].ret == 0 ? rows[i].wanted : 4711);
        check_int(rows[i].text, err.kind, rows[i].ret == 0 ? ERR_NONE : ERR_BAD_INPUT);
        check_int("a failure says why", err.text[0] != '\0', rows[i].ret != 0);
    }
    check_int("NUL inside", num_parse_i64(slice_of("1\0", 2), 0, 10, &(int64_t){0}, NULL), -1);
}

static void test_base(void **state)
{
    static const struct {
        const char *text;
        int base;
        uint64_t max;
        int ret;
        uint64_t wanted;
    } rows[] = {
        {"755", 8, 07777, 0, 0755},
        {"8", 8, 07777, -1, 0},
        {"7777", 8, 07777, 0, 07777},
        {"10000", 8, 07777, -1, 0},
        {"fF", 16, 255, 0, 255},
        {"100", 16, 255, -1, 0},
        {"0x1", 16, 255, -1, 0},
        {"g", 16, 255, -1, 0},
        {"", 10, 255, -1, 0},
        {"-1", 10, 255, -1, 0},
        {"zz", 36, 10000, 0, 1295},
        {"18446744073709551615", 10, UINT64_MAX, 0, UINT64_MAX},
        {"18446744073709551616", 10, UINT64_MAX, -1, 0},
        {"18446744073709551620", 10, UINT64_MAX, -1, 0},
        {"184467440737095516150", 10, UINT64_MAX, -1, 0},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t got = 4711;

        check_int(
            rows[i].text,
            num_parse_u64_base(slice_str(rows[i].text), rows[i].base, rows[i].max, &got, NULL),
            rows[i].ret);
        check_int(rows[i].text, (long long) got,
                  (long long) (rows[i].ret == 0 ? rows[i].wanted : 4711));
    }
}

static void test_time(void **state)
{
    static const struct {
        const char *text;
        char unit;
        int64_t max;
        int ret;
        int64_t wanted;
    } rows[] = {
        {"0", 's', 100, 0, 0},
        {"5", 's', 100, 0, 5},
        {"5", 'm', 1000, 0, 300},
        {"5s", 'h', 100, 0, 5},
        {"2m", 's', 120, 0, 120},
        {"2m", 's', 119, -1, 0},
        {"1h", 's', 3600, 0, 3600},
        {"1d", 's', 86400, 0, 86400},
        {"1w", 's', 604800, 0, 604800},
        {"1w", 's', 604799, -1, 0},
        {"", 's', 100, -1, 0},
        {"s", 's', 100, -1, 0},
        {"5x", 's', 100, -1, 0},
        {"5ss", 's', 100, -1, 0},
        {"-5s", 's', 100, -1, 0},
        {"5 s", 's', 100, -1, 0},
        {"15250284452471w", 's', INT64_MAX, 0, 15250284452471 * 604800},
        {"15250284452472w", 's', INT64_MAX, -1, 0},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err err = ERR_INIT;
        int64_t got = 4711;

        check_int(rows[i].text,
                  num_parse_time(slice_str(rows[i].text), rows[i].unit, rows[i].max, &got, &err),
                  rows[i].ret);
        check_int(rows[i].text, got, rows[i].ret == 0 ? rows[i].wanted : 4711);
        check_int("a failure says why", err.text[0] != '\0', rows[i].ret != 0);
    }
}

static void test_bool(void **state)
{
    static const struct {
        const char *text;
        int ret;
        bool wanted;
    } rows[] = {
        {"yes", 0, true}, {"no", 0, false}, {"YES", 0, true},    {"No", 0, false},
        {"", -1, false},  {"y", -1, false}, {"yess", -1, false}, {"1", -1, false},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bool got = !rows[i].wanted;

        check_int(rows[i].text, num_parse_bool(slice_str(rows[i].text), &got, NULL), rows[i].ret);
        check_int(rows[i].text, got, rows[i].ret == 0 ? rows[i].wanted : !rows[i].wanted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_i64),
        cmocka_unit_test(test_base),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_bool),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
