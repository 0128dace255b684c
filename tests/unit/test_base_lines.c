/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_lines.c - lib/base/lines.h: what is one line, how it is joined, where it began, how long it may be. */
#include "test_base.h"

#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/lines.h"

static int take(struct slice line, int number, void *arg, struct err *err)
{
    (void) err;
    buf_printf(arg, "%d[%.*s]", number, SLICE_FMT(line));
    return 0;
}

static int refuse(struct slice line, int number, void *arg, struct err *err)
{
    (void) take(line, number, arg, NULL);
    return err_input(err, "enough");
}

/* The text through a pipe, so that reads end where they like. */
static int from_pipe(const char *text, const struct lines_style *style, struct buf *out,
                     struct err *err)
{
    int fd[2];
    int ret;

    assert_int_equal(pipe(fd), 0);
    assert_int_equal(write(fd[1], text, strlen(text)), strlen(text));
    close(fd[1]);
    ret = lines_fd(fd[0], style, take, out, err);
    close(fd[0]);
    return ret;
}

static void test_lines(void **state)
{
    static const struct {
        const char *text, *one_space, *as_it_is;
    } rows[] = {
        {"", "", ""},
        {"\n\n", "", ""},
        {"a", "1[a]", "1[a]"},
        {"a\nb\n", "1[a]2[b]", "1[a]2[b]"},
        {"\n# c\n a # d\n", "3[ a # d]", "3[ a # d]"},
        {"a\n  b  \n\tc\nd", "1[a b c]4[d]", "1[a  b  \tc]4[d]"},
        {"a \r\n\n  # c\n#c\n b\r\n", "1[a b]", "1[a \r b]"},
        {" stray\na\n b\n", "1[ stray]2[a b]", "1[ stray]2[a b]"},
        {"a\n#b\n c\n", "1[a c]", "1[a c]"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (int one_space = 0; one_space < 2; one_space++) {
            const struct lines_style style = {.limit = 100, .one_space = one_space != 0};
            const char *wanted = one_space ? rows[i].one_space : rows[i].as_it_is;
            struct buf out = BUF_INIT(1000);
            struct err err = ERR_INIT;

            assert_int_equal(lines_each(slice_str(rows[i].text), &style, take, &out, &err), 0);
            assert_string_equal(buf_cstr(&out), wanted);
            buf_reset(&out);
            assert_int_equal(from_pipe(rows[i].text, &style, &out, &err), 0);
            assert_string_equal(buf_cstr(&out), wanted);
            buf_fini(&out);
        }
    }
}

static void test_limits(void **state)
{
    static const struct lines_style style = {.limit = 8, .one_space = true};
    struct buf out = BUF_INIT(1000);
    struct err err = ERR_INIT;

    (void) state;
    assert_int_equal(lines_each(SLICE_LIT("12345678\n"), &style, take, &out, &err), 0);
    assert_int_equal(lines_each(SLICE_LIT("a\n123\n 4567\n 8"), &style, take, &out, &err), -1);
    assert_string_equal(err.text, "line 2: longer than 8 bytes");
    assert_int_equal(from_pipe("a\n123456789\n", &style, &out, &err), -1);
    assert_string_equal(err.text, "line 2: longer than 8 bytes");
    buf_fini(&out);
}

static void test_stop(void **state)
{
    static const struct lines_style style = {.limit = 100};
    struct buf out = BUF_INIT(1000);
    struct err err = ERR_INIT;

    (void) state;
    assert_int_equal(lines_each(SLICE_LIT("a\nb\n"), &style, refuse, &out, &err), -1);
    assert_string_equal(buf_cstr(&out), "1[a]");
    assert_string_equal(err.text, "enough");
    assert_int_equal(lines_fd(-1, &style, take, &out, &err), -1);
    assert_true(err.text[0] != '\0');
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
