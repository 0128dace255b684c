/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_lines.c - the source text of tables, as postmap(1) and postalias(1) read it: logical lines, and the rows in them.
 *
 * A line that begins with white space continues the last one, of which it becomes a part as it is, without the line feed. Empty
 * lines and lines whose first visible character is "#" are left out, in the middle of a logical line too.
 */
#include "maps/map_int.h"

#include "base/file.h"
#include "base/log.h"

#define LINE_LIMIT (1U << 20)
#define CHUNK      65536

struct joiner {
    map_line_fn *fn;
    void *arg;
    struct buf logical; /* empty: none begun */
    int line;           /* of the source, 1 is the first */
    int begun;          /* where logical began */
};

static int flush(struct joiner *j, struct err *err)
{
    int ret = 0;

    if (j->logical.len > 0)
        ret = j->fn(slice_trim(buf_view(&j->logical), MAP_SPACE), j->begun, j->arg, err);
    buf_reset(&j->logical);
    return ret;
}

static int take(struct joiner *j, struct slice one, struct err *err)
{
    struct slice text = slice_trim(one, MAP_SPACE);

    j->line++;
    if (text.len == 0 || text.ptr[0] == '#')
        return 0;
    if (!ascii_is_space((unsigned char) one.ptr[0])) {
        if (flush(j, err) == -1)
            return -1;
        j->begun = j->line;
    } else if (j->begun == 0) {
        return j->fn(one, j->line, j->arg, err); /* nothing that it could continue */
    }
    buf_put_slice(&j->logical, one);
    if (!buf_ok(&j->logical))
        return err_input(err, "line %d: longer than %u bytes", j->begun, LINE_LIMIT);
    return 0;
}

/* The complete lines at the front of *text; at the end also one without a line feed. */
static int take_all(struct joiner *j, struct slice *text, bool end, struct err *err)
{
    while (text->len > 0) {
        ptrdiff_t nl = slice_find(*text, '\n');

        if (nl == -1 && !end)
            return 0;
        if (take(j, slice_sub(*text, 0, nl == -1 ? text->len : (size_t) nl), err) == -1)
            return -1;
        *text = nl == -1 ? SLICE_EMPTY : slice_sub(*text, (size_t) nl + 1, text->len);
    }
    return end ? flush(j, err) : 0;
}

int map_lines_each(struct slice text, map_line_fn *fn, void *arg, struct err *err)
{
    struct joiner j = {.fn = fn, .arg = arg, .logical = BUF_INIT(LINE_LIMIT)};
    int ret = take_all(&j, &text, true, err);

    buf_fini(&j.logical);
    return ret;
}

int map_lines_fd(int fd, map_line_fn *fn, void *arg, struct err *err)
{
    struct joiner j = {.fn = fn, .arg = arg, .logical = BUF_INIT(LINE_LIMIT)};
    struct buf chunk = BUF_INIT((size_t) LINE_LIMIT + CHUNK);
    int ret = -1;

    for (;;) {
        char *room = buf_reserve(&chunk, CHUNK);
        ssize_t n = room != NULL ? fd_read_some(fd, room, CHUNK) : 0;
        struct slice text;

        if (room == NULL) {
            err_input(err, "line %d: longer than %u bytes", j.line + 1, LINE_LIMIT);
            break;
        }
        if (n == -1) {
            err_sys(err, "read");
            break;
        }
        buf_advance(&chunk, (size_t) n);
        text = buf_view(&chunk);
        if (take_all(&j, &text, n == 0, err) == -1)
            break;
        buf_consume(&chunk, chunk.len - text.len);
        if (n == 0) {
            ret = 0;
            break;
        }
    }
    buf_fini(&chunk);
    buf_fini(&j.logical);
    return ret;
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
    *value = slice_trim(slice_sub(line, at, line.len), MAP_SPACE);
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
