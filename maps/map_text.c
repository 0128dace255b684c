/* SPDX-License-Identifier: Apache-2.0 */
/* map_text.c - table sources as text, and the texthash and inline types. */
#include "maps/map_int.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/htable.h"
#include "base/log.h"

#define TEXT_MAX   (1U << 30)
#define LINE_LIMIT (1U << 20)

int map_lines_each(struct slice text,
                   int (*fn)(struct slice line, int number, void *arg, struct err *err), void *arg,
                   struct err *err)
{
    struct buf logical = BUF_INIT(LINE_LIMIT);
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
        if (ascii_is_space((unsigned char) one.ptr[0]) && begun != 0) {
            buf_putc(&logical, ' ');
            buf_put_slice(&logical, trimmed);
        } else {
            if (logical.len > 0)
                ret = fn(buf_view(&logical), begun, arg, err);
            buf_reset(&logical);
            buf_put_slice(&logical, trimmed);
            begun = line;
        }
        if (!buf_ok(&logical))
            ret = err_input(err, "line %d: longer than %u bytes", begun, LINE_LIMIT);
    }
    if (ret == 0 && logical.len > 0)
        ret = fn(buf_view(&logical), begun, arg, err);
    buf_fini(&logical);
    return ret;
}

int map_row_split(struct slice line, struct buf *key, struct slice *value, struct err *err)
{
    size_t at = 0;

    if (line.ptr[0] == '"') {
        for (at = 1; at < line.len && line.ptr[at] != '"'; at++) {
            if (line.ptr[at] == '\\' && at + 1 < line.len)
                at++;
            buf_putc(key, line.ptr[at]);
        }
        at++;
    } else {
        while (at < line.len && !ascii_is_space((unsigned char) line.ptr[at]))
            buf_putc(key, line.ptr[at++]);
    }
    *value = slice_trim(slice_sub(line, at, line.len), NULL);
    if (key->len == 0)
        return err_input(err, "empty key");
    if (value->len == 0)
        return err_input(err, "expected format: key whitespace value");
    return 0;
}

int file_stamp_fd(int fd, struct file_stamp *out, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) == -1)
        return err_sys(err, "fstat");
    *out = (struct file_stamp){st.st_dev, st.st_ino, st.st_size, st.st_mtim};
    return 0;
}

bool file_stamp_differs(const struct file_stamp *s, const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 &&
           (st.st_dev != s->dev || st.st_ino != s->ino || st.st_size != s->size ||
            st.st_mtim.tv_sec != s->mtime.tv_sec || st.st_mtim.tv_nsec != s->mtime.tv_nsec);
}

int file_read_stamped(const char *path, struct buf *out, struct file_stamp *stamp, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int ret;

    if (fd == -1)
        return err_sys(err, "open %s", path);
    ret = file_stamp_fd(fd, stamp, err);
    fd_close(&fd);
    return ret == 0 ? file_read(path, out, err) : -1;
}

/* --- texthash, inline ------------------------------------------------------------------------------ */

struct text_map {
    struct htable *rows;
    struct file_stamp stamp;
    const char *path;
};

static void lower(struct buf *b)
{
    for (size_t i = 0; i < b->len; i++)
        b->ptr[i] = (char) ascii_lower((unsigned char) b->ptr[i]);
}

static int add_row(struct text_map *t, struct slice line, int number, struct err *err)
{
    struct buf key = BUF_INIT(MAP_KEY_MAX);
    struct slice value;
    int ret = map_row_split(line, &key, &value, err);

    if (ret == 0) {
        lower(&key);
        if (htable_get(t->rows, buf_view(&key)) != NULL)
            log_warning("%s, line %d: duplicate entry: \"%s\"", t->path, number, buf_cstr(&key));
        else
            htable_put(t->rows, buf_view(&key), slice_dup(value));
    }
    buf_fini(&key);
    return ret;
}

static int take_line(struct slice line, int number, void *arg, struct err *err)
{
    struct text_map *t = arg;
    struct err why = ERR_INIT;

    if (add_row(t, line, number, &why) == 0)
        return 0;
    if (map_open_is_strict())
        return err_input(err, "%s, line %d: %s", t->path, number, why.text);
    log_warning("%s, line %d: %s", t->path, number, why.text);
    return 0;
}

static void text_close(void *impl)
{
    struct text_map *t = impl;

    htable_free(&t->rows, free);
    free(t);
}

static int text_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    struct text_map *t = xcalloc(1, sizeof(*t));
    struct buf text = BUF_INIT(TEXT_MAX);
    int ret = -1;

    (void) env;
    t->rows = htable_new(false);
    t->path = path;
    if (file_read_stamped(path, &text, &t->stamp, err) == 0)
        ret = map_lines_each(buf_view(&text), take_line, t, err);
    buf_fini(&text);
    if (ret == -1)
        text_close(t);
    else
        *impl = t;
    return ret;
}

static bool text_is_stale(void *impl, const char *path)
{
    return file_stamp_differs(&((struct text_map *) impl)->stamp, path);
}

static enum map_result text_lookup(void *impl, struct slice key, struct buf *value, struct err *err)
{
    const char *found = htable_get(((struct text_map *) impl)->rows, key);

    (void) err;
    if (found == NULL)
        return MAP_NOTFOUND;
    buf_puts(value, found);
    return MAP_FOUND;
}

/* inline:{ key=value, {key = text with spaces or commas} } */
static int inline_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    struct text_map *t = xcalloc(1, sizeof(*t));
    struct slice rest = slice_trim(slice_str(path), NULL);
    struct slice element;
    int ret = 0;

    (void) env;
    t->rows = htable_new(false);
    if (rest.len < 2 || rest.ptr[0] != '{' || rest.ptr[rest.len - 1] != '}')
        ret = err_input(err, "inline:%s: wants { key=value, ... }", path);
    else
        rest = slice_sub(rest, 1, rest.len - 1);
    while (ret == 0 && slice_token_braces(&rest, ", \t\r\n", &element)) {
        struct slice inside = element;
        struct buf key = BUF_INIT(MAP_KEY_MAX);
        ptrdiff_t eq;

        if (inside.ptr[0] == '{' && inside.ptr[inside.len - 1] == '}')
            inside = slice_trim(slice_sub(inside, 1, inside.len - 1), NULL);
        eq = slice_find(inside, '=');
        if (eq < 1) {
            ret = err_input(err, "inline: \"%.*s\" is not key=value", SLICE_FMT(element));
        } else {
            char *old;

            buf_put_slice(&key, slice_trim(slice_sub(inside, 0, (size_t) eq), NULL));
            lower(&key);
            old = htable_put(
                t->rows, buf_view(&key),
                slice_dup(slice_trim(slice_sub(inside, (size_t) eq + 1, inside.len), NULL)));
            free(old);
        }
        buf_fini(&key);
    }
    if (ret == 0 && htable_len(t->rows) == 0)
        ret = err_input(err, "inline:%s: empty table", path);
    if (ret == -1)
        text_close(t);
    else
        *impl = t;
    return ret;
}

const struct map_type map_type_texthash = {.name = "texthash",
                                           .flags = MAP_FLAG_FIXED | MAP_FLAG_LOCAL,
                                           .open = text_open,
                                           .close = text_close,
                                           .lookup = text_lookup,
                                           .is_stale = text_is_stale};
const struct map_type map_type_inline = {.name = "inline",
                                         .flags = MAP_FLAG_FIXED | MAP_FLAG_LOCAL,
                                         .open = inline_open,
                                         .close = text_close,
                                         .lookup = text_lookup};
