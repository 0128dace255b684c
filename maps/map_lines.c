/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_lines.c - the source text of tables, as postmap(1) and postalias(1) read it: logical lines, and the rows in them.
 */
#include "maps/map_int.h"

#include "base/log.h"

static const struct lines_style style = {.limit = 1U << 20};

int map_lines_each(struct slice text, lines_fn *fn, void *arg, struct err *err)
{
    return lines_each(text, &style, fn, arg, err);
}

int map_lines_fd(int fd, lines_fn *fn, void *arg, struct err *err)
{
    return lines_fd(fd, &style, fn, arg, err);
}

int map_row_split(struct slice line, struct slice *key, struct slice *value, struct err *err)
{
    size_t at = 0;
    bool quoted = false;

    if (ascii_is_space((unsigned char) line.ptr[0]))
        return err_input(err, "logical line must not start with whitespace: \"%.*s\"",
                         SLICE_FMT(line));
    while (at < line.len && (quoted || !ascii_is_space((unsigned char) line.ptr[at]))) {
        if (line.ptr[at] == '"')
            quoted = !quoted;
        else if (line.ptr[at] == '\\' && at + 1 < line.len)
            at++;
        at++;
    }
    if (quoted)
        return err_input(err, "unbalanced '\"' in '%.*s'", SLICE_FMT(line));
    *key = slice_sub(line, 0, at);
    *value = slice_trim(slice_sub(line, at, line.len), LINES_SPACE);
    if (value->len == 0 || slice_find(line, '\0') != -1)
        return err_input(err, "expected format: key whitespace value");
    return 0;
}

void map_row_warn(const char *path, int line, struct slice key)
{
    if (key.ptr[key.len - 1] == ':')
        log_warning("%s, line %d: record is in \"key: value\" format; is this an alias file?", path,
                    line);
}
