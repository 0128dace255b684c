/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_buf.c - lib/base/buf.h: the limit from both sides, and that running over it is remembered. */
#include "test_base.h"

#include <stdlib.h>

#include "base/buf.h"

static void test_append(void **state)
{
    struct buf b = BUF_INIT(SIZE_MAX);
    char *text;

    (void) state;
    check_str("new", buf_cstr(&b), "");
    buf_puts(&b, "ab");
    buf_putc(&b, 'c');
    buf_put_slice(&b, SLICE_LIT("de"));
    buf_put(&b, NULL, 0);
    buf_printf(&b, "-%d-%s", 42, "x");
    check_str("all kinds", buf_cstr(&b), "abcde-42-x");
    check_slice("view", buf_view(&b), "abcde-42-x");
    buf_truncate(&b, 5);
    buf_truncate(&b, 50);
    check_slice("truncated", buf_view(&b), "abcde");
    buf_consume(&b, 2);
    check_slice("consumed", buf_view(&b), "cde");
    buf_consume(&b, 0);
    buf_consume(&b, 99);
    check_slice("all consumed", buf_view(&b), "");
    buf_puts(&b, "kept");
    text = buf_take(&b);
    check_str("taken", text, "kept");
    free(text);
    check_int("empty after take", (long long) b.len, 0);
    text = buf_take(&b);
    check_str("nothing taken", text, "");
    free(text);
    buf_fini(&b);
}

static void test_limit(void **state)
{
    static const struct {
        const char *name;
        size_t limit, put;
        bool ok;
    } rows[] = {
        {"nothing into nothing", 0, 0, true}, {"one into nothing", 0, 1, false},
        {"one below", 10, 9, true},           {"exactly", 10, 10, true},
        {"one over", 10, 11, false},          {"exactly, past the first storage", 1000, 1000, true},
        {"over, past it", 1000, 1001, false},
    };
    char data[1001];

    (void) state;
    memset(data, 'x', sizeof(data));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf b;

        buf_init(&b, rows[i].limit);
        buf_put(&b, data, rows[i].put);
        check_int(rows[i].name, buf_ok(&b), rows[i].ok);
        check_int(rows[i].name, (long long) b.len, rows[i].ok ? (long long) rows[i].put : 0);
        buf_reset(&b);
        for (size_t k = 0; k < rows[i].put; k++)
            buf_putc(&b, 'x');
        check_int("byte by byte", buf_ok(&b), rows[i].ok);
        buf_reset(&b);
        buf_printf(&b, "%.*s", (int) rows[i].put, data);
        check_int("printed", buf_ok(&b), rows[i].ok);
        check_int("length of the text", (long long) strlen(buf_cstr(&b)),
                  rows[i].ok ? (long long) rows[i].put : 0);
        buf_fini(&b);
    }
}

static void test_over_is_remembered(void **state)
{
    struct buf b = BUF_INIT(4);

    (void) state;
    buf_puts(&b, "ab");
    buf_puts(&b, "cde");
    buf_puts(&b, "f");
    buf_putc(&b, 'g');
    buf_printf(&b, "h");
    assert_null(buf_reserve(&b, 1));
    check_int("failed", buf_ok(&b), false);
    check_str("nothing after it", buf_cstr(&b), "ab");
    buf_reset(&b);
    buf_puts(&b, "wxyz");
    check_int("after a reset", buf_ok(&b), true);
    check_str("the NUL does not count", buf_cstr(&b), "wxyz");
    buf_fini(&b);
}

static void test_reserve(void **state)
{
    struct buf b = BUF_INIT(300);
    char *room = buf_reserve(&b, 300);

    (void) state;
    assert_non_null(room);
    memset(room, 'r', 300);
    buf_advance(&b, 300);
    assert_non_null(buf_reserve(&b, 0));
    assert_null(buf_reserve(&b, 1));
    buf_fini(&b);
    buf_init(&b, SIZE_MAX);
    buf_putc(&b, 'x');
    assert_null(buf_reserve(&b, SIZE_MAX - 1)); /* with the NUL more than any size */
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_over_is_remembered),
        cmocka_unit_test(test_reserve),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
