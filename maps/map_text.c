/* SPDX-License-Identifier: Apache-2.0 */
/* map_text.c - texthash: a table's source, asked as it is. */
#include "maps/map_int.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/htable.h"
#include "base/log.h"
#include "base/utf8.h"

struct text_map {
    struct htable *rows;
    struct file_stamp stamp;
    const char *path;
    enum map_folding folding;
};

static int add_row(struct text_map *t, struct slice line, int number, struct err *err)
{
    struct buf folded = BUF_INIT((size_t) MAP_KEY_MAX * 2);
    struct slice key;
    struct slice value;

    if (t->folding == MAP_FOLD_UTF8 && !utf8_is_valid(line))
        return err_input(err, "non-UTF-8 input \"%.*s\"", SLICE_FMT(line));
    if (map_row_split(line, &key, &value, err) == -1)
        return -1;
    map_row_warn(t->path, number, key);
    map_fold(t->folding, key, &folded);
    if (!buf_ok(&folded) || key.len > MAP_KEY_MAX) {
        buf_fini(&folded);
        return err_input(err, "key is longer than %d bytes", MAP_KEY_MAX);
    }
    if (htable_get(t->rows, buf_view(&folded)) != NULL)
        log_warning("%s, line %d: duplicate entry: \"%.*s\"", t->path, number, SLICE_FMT(key));
    else
        htable_put(t->rows, buf_view(&folded), slice_dup(value));
    buf_fini(&folded);
    return 0;
}

static int take_line(struct slice line, int number, void *arg, struct err *err)
{
    struct text_map *t = arg;
    struct err why = ERR_INIT;

    if (add_row(t, line, number, &why) == 0)
        return 0;
    if (map_open_is_strict())
        return err_input(err, "%s, line %d: %s", t->path, number, why.text);
    log_warning("%s, line %d: %s -- ignoring this line", t->path, number, why.text);
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
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int ret = -1;

    t->folding = map_env_folding(env);
    t->rows = htable_new(false);
    t->path = path;
    if (fd == -1)
        err_sys(err, "open database %s", path);
    else if (file_stamp_fd(fd, &t->stamp, err) == 0)
        ret = map_lines_fd(fd, take_line, t, err);
    fd_close(&fd);
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
    (void) err;
    return map_rows_lookup(((struct text_map *) impl)->rows, key, value);
}

static int text_each(void *impl, bool (*fn)(struct slice key, struct slice value, void *arg),
                     void *arg, struct err *err)
{
    (void) err;
    map_rows_each(((struct text_map *) impl)->rows, fn, arg);
    return 0;
}

const struct map_type map_type_texthash = {.name = "texthash",
                                           .flags = MAP_FLAG_FIXED | MAP_FLAG_LOCAL,
                                           .open = text_open,
                                           .close = text_close,
                                           .lookup = text_lookup,
                                           .is_stale = text_is_stale,
                                           .each = text_each};
