/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_inline.c - inline:{ key=value, {key = text with spaces or commas} }: a table in main.cf itself; and internal:NAME, one in
 * the memory of the process that writes it.
 */
#include "maps/map_int.h"

#include <stdlib.h>

#include "base/htable.h"

struct memory_map {
    struct htable *rows; /* key -> heap string */
};

static void memory_close(void *impl)
{
    struct memory_map *m = impl;

    htable_free(&m->rows, free);
    free(m);
}

static struct memory_map *memory_new(void)
{
    struct memory_map *m = xcalloc(1, sizeof(*m));

    m->rows = htable_new(false);
    return m;
}

static enum map_result memory_lookup(void *impl, struct slice key, struct buf *value,
                                     struct err *err)
{
    (void) err;
    return map_rows_lookup(((struct memory_map *) impl)->rows, key, value);
}

static int memory_each(void *impl, bool (*fn)(struct slice key, struct slice value, void *arg),
                       void *arg, struct err *err)
{
    (void) err;
    map_rows_each(((struct memory_map *) impl)->rows, fn, arg);
    return 0;
}

/* --- inline ------------------------------------------------------------------------------------------ */

/* "key=value", or "{ key = value }" with white space that does not count around its parts */
static int split_element(struct slice element, struct slice *key, struct slice *value,
                         struct err *err)
{
    bool braced = element.ptr[0] == '{';
    struct slice inside = element;
    ptrdiff_t eq;

    if (braced) {
        if (element.ptr[element.len - 1] != '}')
            return err_input(err, "syntax error after '}' in \"%.*s\"", SLICE_FMT(element));
        inside = slice_trim(slice_sub(element, 1, element.len - 1), LINES_SPACE);
    }
    eq = slice_find(inside, '=');
    if (eq == -1)
        return err_input(err, "missing '=' after the key in \"%.*s\"", SLICE_FMT(element));
    *key = slice_trim(slice_sub(inside, 0, (size_t) eq), LINES_SPACE);
    *value = slice_trim(slice_sub(inside, (size_t) eq + 1, inside.len), LINES_SPACE);
    if (braced && key->len == 0)
        return err_input(err, "no key in \"%.*s\"", SLICE_FMT(element));
    return 0;
}

static int inline_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    struct memory_map *m = memory_new();
    struct slice rest;
    struct slice element;

    if (map_in_braces(slice_str(path), &rest) == -1) {
        err_input(err, "bad syntax: \"inline:%s\"; need \"inline:{name=value...}\"", path);
        goto fail;
    }
    while (slice_token_braces(&rest, ", \t\r\n", &element)) {
        struct buf folded = BUF_INIT(SIZE_MAX);
        struct slice key;
        struct slice value;

        if (split_element(element, &key, &value, err) == -1) {
            err_prefix(err, "bad syntax: \"inline:%s\": ", path);
            goto fail;
        }
        map_fold(map_env_folding(env), key, &folded);
        free(htable_put(m->rows, buf_view(&folded), slice_dup(value)));
        buf_fini(&folded);
    }
    if (htable_len(m->rows) == 0) {
        err_input(err, "bad syntax: \"inline:%s\"; need \"inline:{name=value...}\"", path);
        goto fail;
    }
    *impl = m;
    return 0;
fail:
    memory_close(m);
    return -1;
}

/* --- internal ---------------------------------------------------------------------------------------- */

static int internal_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    (void) path;
    (void) env;
    (void) err;
    *impl = memory_new();
    return 0;
}

static int internal_update(void *impl, struct slice key, struct slice value, struct err *err)
{
    (void) err;
    free(htable_put(((struct memory_map *) impl)->rows, key, slice_dup(value)));
    return 0;
}

static enum map_result internal_remove(void *impl, struct slice key, struct err *err)
{
    char *old = htable_remove(((struct memory_map *) impl)->rows, key);

    (void) err;
    free(old);
    return old != NULL ? MAP_FOUND : MAP_NOTFOUND;
}

static const struct map_writer_type internal_writer = {
    .open = internal_open, .update = internal_update, .remove = internal_remove};

const struct map_type map_type_inline = {.name = "inline",
                                         .flags = MAP_FLAG_FIXED | MAP_FLAG_LOCAL,
                                         .open = inline_open,
                                         .close = memory_close,
                                         .lookup = memory_lookup,
                                         .each = memory_each};
const struct map_type map_type_internal = {.name = "internal",
                                           .flags = MAP_FLAG_FIXED | MAP_FLAG_LOCAL,
                                           .open = internal_open,
                                           .close = memory_close,
                                           .lookup = memory_lookup,
                                           .each = memory_each,
                                           .writer = &internal_writer};
