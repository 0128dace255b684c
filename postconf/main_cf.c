/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main_cf.c - the lines of main.cf: comments, continuation, "name = value". postconf(5).
 *
 * A line that begins with white space continues the last one, also over comments and empty lines in between. Before the
 * first one there is nothing to continue: Postfix drops such a line with a warning, and so it goes here.
 */
#include <string.h>

#include "postconf/config_int.h"

static int finish(const char *path, struct buf *logical, int line,
                  int (*fn)(struct slice, struct slice, int, void *, struct err *), void *arg,
                  struct err *err)
{
    struct slice s = slice_trim(buf_view(logical), NULL);
    ptrdiff_t eq = slice_find(s, '=');
    struct slice name;
    struct slice value;
    int ret;

    if (s.len == 0)
        return 0;
    if (eq == -1)
        return err_input(err, "%s, line %d: missing '=' after the name: \"%.*s\"", path, line,
                         (int) (s.len < 80 ? s.len : 80), s.ptr);
    name = slice_trim(slice_sub(s, 0, (size_t) eq), NULL);
    value = slice_trim(slice_sub(s, (size_t) eq + 1, s.len), NULL);
    if (name.len == 0)
        return err_input(err, "%s, line %d: missing name before '='", path, line);
    for (size_t i = 0; i < name.len; i++)
        if (ascii_is_space((unsigned char) name.ptr[i]))
            return err_input(err, "%s, line %d: missing '=' after the name \"%.*s\"", path, line,
                             (int) i, name.ptr);
    ret = fn(name, value, line, arg, err);
    buf_reset(logical);
    return ret;
}

int main_cf_parse(const char *path, struct slice text,
                  int (*fn)(struct slice name, struct slice value, int line, void *arg,
                            struct err *err),
                  void *arg, struct err *err)
{
    struct buf logical = BUF_INIT(CONFIG_VALUE_MAX);
    int line = 0;
    int begun = 0;
    int ret = 0;

    while (text.len > 0 && ret == 0) {
        ptrdiff_t nl = slice_find(text, '\n');
        struct slice one = slice_sub(text, 0, nl == -1 ? text.len : (size_t) nl);
        struct slice trimmed = slice_trim(one, NULL);

        text = nl == -1 ? SLICE_EMPTY : slice_sub(text, (size_t) nl + 1, text.len);
        line++;
        if (trimmed.len == 0 || trimmed.ptr[0] == '#')
            continue;
        if (memchr(one.ptr, '\0', one.len) != NULL) {
            ret = err_input(err, "%s, line %d: a NUL byte", path, line);
        } else if (ascii_is_space((unsigned char) one.ptr[0]) && begun != 0) {
            if (logical.len > 0)
                buf_putc(&logical, ' ');
            buf_put_slice(&logical, trimmed);
        } else if (ascii_is_space((unsigned char) one.ptr[0])) {
            ret = fn(SLICE_EMPTY, trimmed, line, arg, err);
        } else {
            ret = finish(path, &logical, begun, fn, arg, err);
            buf_reset(&logical);
            buf_put_slice(&logical, trimmed);
            begun = line;
        }
        if (ret == 0 && !buf_ok(&logical))
            ret =
                err_input(err, "%s, line %d: longer than %u bytes", path, begun, CONFIG_VALUE_MAX);
    }
    if (ret == 0)
        ret = finish(path, &logical, begun, fn, arg, err);
    buf_fini(&logical);
    return ret;
}

static int ignore(struct slice name, struct slice value, int line, void *arg, struct err *err)
{
    (void) name;
    (void) value;
    (void) line;
    (void) arg;
    (void) err;
    return 0;
}

void config_text_salvage(struct slice text, struct buf *out)
{
    while (text.len > 0) {
        size_t end = 0;
        struct slice logical;

        /* a line, and those that continue it */
        do {
            ptrdiff_t nl = slice_find(slice_sub(text, end, text.len), '\n');

            end = nl == -1 ? text.len : end + (size_t) nl + 1;
        } while (end < text.len && ascii_is_space((unsigned char) text.ptr[end]));
        logical = slice_sub(text, 0, end);
        text = slice_sub(text, end, text.len);
        if (main_cf_parse("", logical, ignore, NULL, NULL) == 0)
            buf_put_slice(out, logical);
    }
}
