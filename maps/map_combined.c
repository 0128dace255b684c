/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_combined.c - tables made of tables: unionmap:{t1:n1, t2:n2} puts all answers together, pipemap:{...} asks each with the
 * answer of the one before, debug:type:name logs what is asked. And randmap:{v1, v2}, one of some values.
 */
#include "maps/map_int.h"

#include <stdlib.h>
#include <sys/random.h>

#include "base/log.h"

static void combined_close(void *impl)
{
    struct vec *parts = impl; /* struct map *, the env's */

    vec_fini(parts);
    free(parts);
}

static int open_parts(const char *type, const char *path, struct map_env *env, void **impl,
                      struct err *err)
{
    struct vec *parts = xcalloc(1, sizeof(*parts));
    struct slice rest;
    struct slice spec;

    if (map_in_braces(slice_str(path), &rest) == 0) {
        while (slice_token_braces(&rest, ", \t\r\n", &spec)) {
            struct map *part;

            if ((map_open_is_strict() && map_check(env, spec, err) == -1) ||
                map_open(env, spec, &part, err) == -1) {
                combined_close(parts);
                return -1;
            }
            vec_push(parts, part);
        }
    }
    if (parts->len == 0) {
        combined_close(parts);
        return err_input(err, "bad syntax: \"%s:%s\"; need \"%s:{type:name...}\"", type, path,
                         type);
    }
    *impl = parts;
    return 0;
}

/* LOCAL if all are; keys are exact if all have exact ones. first: what the first one is. */
static unsigned flags_of_parts(const char *path, unsigned *first)
{
    unsigned all = MAP_FLAG_LOCAL | MAP_FLAG_FIXED;
    unsigned any = 0;
    struct slice rest = SLICE_EMPTY;
    struct slice spec;

    *first = 0;
    if (map_in_braces(slice_str(path), &rest) == -1)
        return 0;
    for (bool begun = false; slice_token_braces(&rest, ", \t\r\n", &spec); begun = true) {
        unsigned flags = map_spec_flags(spec);

        if (!begun)
            *first = flags;
        all &= flags;
        any |= flags & MAP_FLAG_PATTERN;
    }
    return any != 0 ? (all & ~(unsigned) MAP_FLAG_FIXED) | any : all;
}

static unsigned union_flags(const char *path)
{
    unsigned first;

    return flags_of_parts(path, &first);
}

/* The first table gets the keys. */
static unsigned pipe_flags(const char *path)
{
    unsigned first;
    unsigned all = flags_of_parts(path, &first);

    return (all & MAP_FLAG_LOCAL) | (first & (MAP_FLAG_FIXED | MAP_FLAG_PATTERN));
}

static int union_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    return open_parts("unionmap", path, env, impl, err);
}

static enum map_result union_lookup(void *impl, struct slice key, struct buf *value,
                                    struct err *err)
{
    const struct vec *parts = impl;
    struct buf all = BUF_INIT(MAP_VALUE_MAX);
    enum map_result result = MAP_NOTFOUND;

    for (size_t i = 0; i < parts->len; i++) {
        size_t before = all.len;
        enum map_result res;

        if (result == MAP_FOUND)
            buf_putc(&all, ',');
        res = map_lookup(parts->items[i], key, &all, err);
        if (res == MAP_RETRY) {
            buf_fini(&all);
            return MAP_RETRY;
        }
        if (res == MAP_FOUND)
            result = MAP_FOUND;
        else
            buf_truncate(&all, before);
    }
    buf_put_slice(value, buf_view(&all));
    buf_fini(&all);
    return result;
}

static int pipe_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    return open_parts("pipemap", path, env, impl, err);
}

static enum map_result pipe_lookup(void *impl, struct slice key, struct buf *value, struct err *err)
{
    const struct vec *parts = impl;
    struct buf at[2] = {BUF_INIT(MAP_VALUE_MAX), BUF_INIT(MAP_VALUE_MAX)};
    enum map_result res = MAP_FOUND;

    for (size_t i = 0; res == MAP_FOUND && i < parts->len; i++) {
        struct buf *answer = &at[i % 2];

        buf_reset(answer);
        res = map_lookup(parts->items[i], key, answer, err);
        key = buf_view(answer);
    }
    if (res == MAP_FOUND)
        buf_put_slice(value, key);
    buf_fini(&at[0]);
    buf_fini(&at[1]);
    return res;
}

/* --- debug ------------------------------------------------------------------------------------------- */

static int debug_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    struct map *m;

    if (map_open_is_strict() && map_check(env, slice_str(path), err) == -1)
        return -1;
    if (map_open(env, slice_str(path), &m, err) == -1)
        return -1;
    *impl = m;
    return 0;
}

static void debug_close(void *impl)
{
    (void) impl; /* the table is the env's */
}

static unsigned debug_flags(const char *path)
{
    return map_spec_flags(slice_str(path));
}

static enum map_result debug_lookup(void *impl, struct slice key, struct buf *value,
                                    struct err *err)
{
    struct map *m = impl;
    struct err why = ERR_INIT;
    size_t before = value->len;
    enum map_result res = map_lookup(m, key, value, &why);

    switch (res) {
    case MAP_FOUND:
        log_info("%s lookup: \"%.*s\" = \"%.*s\"", map_name(m), SLICE_FMT(key),
                 SLICE_FMT(slice_sub(buf_view(value), before, value->len)));
        break;
    case MAP_NOTFOUND:
        log_info("%s lookup: \"%.*s\" = not found", map_name(m), SLICE_FMT(key));
        break;
    case MAP_RETRY:
        log_info("%s lookup: \"%.*s\" = error: %s", map_name(m), SLICE_FMT(key), why.text);
        if (err != NULL)
            *err = why;
        break;
    }
    return res;
}

static int debug_each(void *impl, bool (*fn)(struct slice key, struct slice value, void *arg),
                      void *arg, struct err *err)
{
    log_info("%s listed", map_name(impl));
    return map_each(impl, fn, arg, err);
}

/* --- randmap ----------------------------------------------------------------------------------------- */

static void rand_close(void *impl)
{
    struct vec *values = impl; /* heap strings */

    vec_clear(values, free);
    vec_fini(values);
    free(values);
}

static int rand_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    struct vec *values = xcalloc(1, sizeof(*values));
    struct slice rest;
    struct slice one;

    (void) env;
    if (map_in_braces(slice_str(path), &rest) == 0)
        while (slice_token_braces(&rest, ", \t\r\n", &one))
            vec_push(values, slice_dup(one));
    if (values->len == 0) {
        rand_close(values);
        return err_input(err, "bad syntax: \"randmap:%s\"; need \"randmap:{value...}\"", path);
    }
    *impl = values;
    return 0;
}

static enum map_result rand_lookup(void *impl, struct slice key, struct buf *value, struct err *err)
{
    const struct vec *values = impl;
    uint64_t n;

    (void) key;
    if (getrandom(&n, sizeof(n), 0) != (ssize_t) sizeof(n)) {
        err_sys(err, "getrandom");
        return MAP_RETRY;
    }
    buf_puts(value, values->items[n % values->len]);
    return MAP_FOUND;
}

const struct map_type map_type_unionmap = {.name = "unionmap",
                                           .open = union_open,
                                           .close = combined_close,
                                           .lookup = union_lookup,
                                           .flags_of = union_flags,
                                           .any_key = true};
const struct map_type map_type_pipemap = {.name = "pipemap",
                                          .open = pipe_open,
                                          .close = combined_close,
                                          .lookup = pipe_lookup,
                                          .flags_of = pipe_flags,
                                          .any_key = true};
const struct map_type map_type_debug = {.name = "debug",
                                        .open = debug_open,
                                        .close = debug_close,
                                        .lookup = debug_lookup,
                                        .each = debug_each,
                                        .flags_of = debug_flags,
                                        .any_key = true};
const struct map_type map_type_randmap = {.name = "randmap",
                                          .flags = MAP_FLAG_FIXED | MAP_FLAG_LOCAL,
                                          .open = rand_open,
                                          .close = rand_close,
                                          .lookup = rand_lookup,
                                          .any_key = true};
