/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main_cf.c - the lines of main.cf: comments, continuation, "name = value". postconf(5).
 *
 * A line that begins with white space continues the last one, also over comments and empty lines in between. Before the
 * first one there is nothing to continue: Postfix drops such a line with a warning, and so it goes here.
 */
#include <string.h>

#include "base/lines.h"
#include "postconf/config_int.h"

struct reader {
    int (*fn)(struct slice name, struct slice value, int line, void *arg, struct err *err);
    void *arg;
};

static int take(struct slice s, int line, void *arg, struct err *err)
{
    struct reader *r = arg;
    ptrdiff_t eq = slice_find(s, '=');
    struct slice name;
    struct slice value;

    if (slice_find(s, '\0') != -1)
        return err_input(err, "line %d: a NUL byte", line);
    if (ascii_is_space((unsigned char) s.ptr[0]))
        return r->fn(SLICE_EMPTY, slice_trim(s, NULL), line, r->arg, err);
    if (eq == -1)
        return err_input(err, "line %d: missing '=' after the name: \"%.*s\"", line,
                         (int) (s.len < 80 ? s.len : 80), s.ptr);
    name = slice_trim(slice_sub(s, 0, (size_t) eq), NULL);
    value = slice_trim(slice_sub(s, (size_t) eq + 1, s.len), NULL);
    if (name.len == 0)
        return err_input(err, "line %d: missing name before '='", line);
    for (size_t i = 0; i < name.len; i++)
        if (ascii_is_space((unsigned char) name.ptr[i]))
            return err_input(err, "line %d: missing '=' after the name \"%.*s\"", line, (int) i,
                             name.ptr);
    return r->fn(name, value, line, r->arg, err);
}

int main_cf_parse(const char *path, struct slice text,
                  int (*fn)(struct slice name, struct slice value, int line, void *arg,
                            struct err *err),
                  void *arg, struct err *err)
{
    static const struct lines_style style = {.limit = CONFIG_VALUE_MAX, .one_space = true};
    struct reader r = {fn, arg};

    if (lines_each(text, &style, take, &r, err) == -1)
        return err_prefix(err, "%s, ", path);
    return 0;
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
