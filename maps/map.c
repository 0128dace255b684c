/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.c - tables by name: opening, reloading, asking; lists of tables.
 *
 * A table's implementation is counted: a lookup holds a reference, so that a reload (map_reopen.c) swaps in the new one while old
 * lookups finish. What cannot be opened answers "try again", and is tried again.
 *
 * No lock is held while a table is opened: a table made of others opens those meanwhile.
 */
#include "maps/map_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/htable.h"
#include "base/log.h"
#include "base/mtime.h"
#include "maps/map_plugin.h"
#include "maps/map_servers.h"

#define RECHECK_MS                                                                                 \
    250 /* new content is to serve within a second, and a file is left alone for a moment: file_stamp_differs() */

/* Sorted by name, one row each, so that an added type touches its own row. */
/* clang-format off */
static const struct map_type *const types[] = {
    &map_type_btree,
#if PR_HAVE_CDB
    &map_type_cdb,
#endif
    &map_type_cidr,
    &map_type_debug,
    &map_type_environ,
    &map_type_fail,
    &map_type_hash,
    &map_type_inline,
    &map_type_internal,
#if PR_HAVE_LMDB
    &map_type_lmdb,
#endif
    &map_type_memcache,
    &map_type_pcre,
    &map_type_pipemap,
    &map_type_proxy,
    &map_type_randmap,
    &map_type_redis,
    &map_type_regexp,
    &map_type_socketmap,
    &map_type_static,
    &map_type_tcp,
    &map_type_texthash,
    &map_type_unionmap,
    &map_type_unix,
};
/* clang-format on */

static _Thread_local bool strict;
static _Thread_local bool plain; /* what is opened now is to have no substitution */

bool map_open_is_plain(void)
{
    return plain;
}

bool map_open_is_strict(void)
{
    return strict;
}

void map_type_each(void (*fn)(const struct map_type *t, void *arg), void *arg)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        fn(types[i], arg);
}

static const struct map_type *find_type(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (slice_eq_str(name, types[i]->name))
            return types[i];
    return NULL;
}

static void push_name(const char *name, void *arg)
{
    vec_push(arg, (void *) (uintptr_t) name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

void map_type_names_each(const struct config *cfg, void (*fn)(const char *name, void *arg),
                         void *arg)
{
    struct vec all = VEC_INIT;

    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        push_name(types[i]->name, &all);
    map_plugin_each(cfg, push_name, &all);
    vec_sort(&all, by_name);
    for (size_t i = 0; i < all.len; i++)
        fn(all.items[i], arg);
    vec_fini(&all);
}

void impl_unref(struct impl *i)
{
    if (i == NULL || atomic_fetch_sub(&i->refs, 1) > 1)
        return;
    i->type->close(i->state);
    free(i);
}

void map_free(void *p)
{
    struct map *m = p;

    impl_unref(m->impl);
    map_used_end(&m->used_fd);
    fd_close(&m->watch_fd);
    lock_fini(&m->lock);
    lock_fini(&m->write_lock);
    free(m->name);
    free(m->path);
    free(m);
}

const char *map_name(const struct map *m)
{
    return m->name;
}

unsigned map_flags(const struct map *m)
{
    return m->flags;
}

static unsigned flags_of(const struct map_type *type, const char *path)
{
    return type->flags_of != NULL ? type->flags_of(path) : type->flags;
}

unsigned map_spec_flags(struct slice spec)
{
    ptrdiff_t colon = slice_find(spec, ':');
    struct slice name = slice_sub(spec, 0, colon < 1 ? 0 : (size_t) colon);
    const struct map_type *type = find_type(name);
    char *path;
    unsigned flags;

    if (type == NULL)
        return map_plugin_is_name(name) ? MAP_FLAG_FIXED : 0; /* without loading it */
    path = slice_dup(slice_sub(spec, (size_t) colon + 1, spec.len));
    flags = flags_of(type, path);
    free(path);
    return flags;
}

struct impl *impl_new(const struct map_type *type, void *state)
{
    struct impl *i = xcalloc(1, sizeof(*i));

    atomic_init(&i->refs, 1);
    i->type = type;
    i->state = state;
    i->since = wall_now();
    return i;
}

struct impl *impl_open(const struct map *m, struct err *err)
{
    bool before = plain; /* a table made of others opens those */
    void *state;
    int res;

    plain = m->is_plain;
    res = m->type->open(m->path, m->env, &state, err);
    plain = before;
    if (res == -1) {
        err_prefix(err, "table %s: ", m->name);
        return NULL;
    }
    return impl_new(m->type, state);
}

static struct slice without_proxy(struct slice spec)
{
    while (slice_starts_with(spec, SLICE_LIT("proxy:")))
        spec = slice_sub(spec, 6, spec.len);
    return spec;
}

int map_parse_name(const struct config *cfg, struct slice spec, const struct map_type **type,
                   struct slice *path, struct err *err)
{
    ptrdiff_t colon = slice_find(spec, ':');

    if (colon < 1 || (size_t) colon + 1 == spec.len)
        return err_input(err, "open dictionary: expecting \"type:name\" form instead of \"%.*s\"",
                         SLICE_FMT(spec));
    *type = find_type(slice_sub(spec, 0, (size_t) colon));
    if (*type == NULL)
        *type = map_plugin_load(cfg, slice_sub(spec, 0, (size_t) colon), err);
    if (*type == NULL)
        return -1;
    *path = slice_sub(spec, (size_t) colon + 1, spec.len);
    return 0;
}

struct map *map_new(struct map_env *env, struct slice name, const struct map_type *type,
                    struct slice path)
{
    struct map *m = xcalloc(1, sizeof(*m));

    m->name = slice_dup(name);
    m->path = slice_dup(path);
    m->type = type;
    m->flags = flags_of(type, m->path);
    m->env = env;
    lock_init(&m->lock, LOCK_MAP_STATE);
    lock_init(&m->write_lock, LOCK_MAP_WRITE);
    m->checked = mono_now();
    m->watch_fd = -1;
    m->used_fd = -1;
    return m;
}

int map_open(struct map_env *env, struct slice spec, struct map **out, struct err *err)
{
    struct slice real = slice_trim(spec, NULL);
    struct buf known_as = BUF_INIT(SIZE_MAX); /* with and without substitution are two tables */
    const struct map_type *type;
    struct slice path;
    struct map *m;

    if (env->who == MAP_PROXY_NEVER)
        real = without_proxy(real);
    if (map_parse_name(env->cfg, real, &type, &path, err) == -1)
        return -1;
    buf_puts(&known_as, plain ? "plain " : "");
    buf_put_slice(&known_as, real);
    m = map_env_find(env, buf_view(&known_as));
    if (m == NULL) {
        m = map_new(env, real, type, path);
        m->is_plain = plain;
        m->impl = impl_open(m, &m->why); /* without a lock: it may open other tables */
        m = map_env_enter(env, buf_view(&known_as), m);
    }
    buf_fini(&known_as);
    /* types without a file cannot get better by themselves */
    lock_take(&m->lock);
    bool broken = m->impl == NULL && m->type->is_stale == NULL;
    if (broken && err != NULL)
        *err = m->why;
    lock_release(&m->lock);
    if (broken)
        return -1;
    *out = m;
    return 0;
}

int map_open_plain(struct map_env *env, struct slice spec, struct map **out, struct err *err)
{
    bool before = plain;
    int res;

    plain = true;
    res = map_open(env, spec, out, err);
    plain = before;
    return res;
}

struct map *map_opened(struct map_env *env, struct slice spec)
{
    struct slice real = slice_trim(spec, NULL);

    return map_env_find(env, env->who == MAP_PROXY_NEVER ? without_proxy(real) : real);
}

struct wall_time map_loaded(struct map *m)
{
    struct wall_time since = {0};

    lock_take(&m->lock);
    if (m->impl != NULL)
        since = m->impl->since;
    lock_release(&m->lock);
    return since;
}

int map_check(struct map_env *env, struct slice spec, struct err *err)
{
    struct slice real = without_proxy(slice_trim(spec, NULL));
    const struct map_type *type;
    struct slice path;
    struct map *m;
    struct impl *i;
    bool before = strict; /* a table made of others checks those */

    if (map_parse_name(env->cfg, real, &type, &path, err) == -1)
        return -1;
    /* beside those of env: what is an error here is a warning there, and the table's other rows serve */
    m = map_new(env, real, type, path);
    m->is_plain = plain;
    strict = true;
    i = impl_open(m, err);
    strict = before;
    impl_unref(i);
    map_free(m);
    return i != NULL ? 0 : -1;
}

static struct impl *current_locked(struct map *m, struct err *err) REQUIRES(m->lock)
{
    if (m->impl != NULL)
        atomic_fetch_add(&m->impl->refs, 1);
    else if (err != NULL)
        *err = m->why;
    return m->impl;
}

struct impl *map_current(struct map *m, struct err *err)
{
    struct mono_time now = mono_now();
    struct impl *i;
    bool look;

    lock_take(&m->lock);
    look = m->type->is_stale != NULL && m->writer == NULL && !m->opening && map_may_look(m) &&
           mono_diff_ms(now, m->checked) >= RECHECK_MS;
    if (look) {
        m->checked = now;
        m->opening = true;
    }
    i = current_locked(m, err);
    lock_release(&m->lock);
    if (!look || !map_reopen(m, i))
        return i;
    impl_unref(i);
    lock_take(&m->lock);
    i = current_locked(m, err);
    lock_release(&m->lock);
    return i;
}

#define SHOWN_KEY 100

static enum map_result timed_lookup(struct map *m, void *state, struct slice key, struct buf *value,
                                    struct err *err)
{
    bool local = (m->flags & MAP_FLAG_LOCAL) != 0;
    struct mono_time begun;
    enum map_result res;
    int64_t took_us;

    if (!map_metrics_wants_time(&m->metrics, local))
        return m->type->lookup(state, key, value, err);
    begun = mono_now();
    res = m->type->lookup(state, key, value, err);
    took_us = mono_diff_us(mono_now(), begun);
    map_metrics_time(&m->metrics, m->name, local, took_us);
    if (!local && m->env->slow_ms != 0 && took_us / 1000 >= m->env->slow_ms)
        log_warning("table %s: slow lookup: %.3f s for \"%.*s\"", m->name,
                    (double) took_us / 1000000, (int) (key.len < SHOWN_KEY ? key.len : SHOWN_KEY),
                    key.ptr);
    return res;
}

static bool folds(const struct map *m)
{
    return m->env->folding != MAP_FOLD_NONE && (m->flags & MAP_FLAG_FIXED) != 0 &&
           !m->type->keeps_key_case;
}

static enum map_result lookup_folded(struct map *m, void *state, struct slice key,
                                     struct buf *value, struct err *err)
{
    char space[1024];
    struct buf folded;
    enum map_result res;

    if (key.len <= sizeof(space) && slice_is_ascii(key)) {
        for (size_t k = 0; k < key.len; k++)
            space[k] = (char) ascii_lower((unsigned char) key.ptr[k]);
        return timed_lookup(m, state, slice_of(space, key.len), value, err);
    }
    folded = BUF_INIT((size_t) MAP_KEY_MAX * 2);
    map_fold(m->env->folding, key, &folded);
    res = timed_lookup(m, state, buf_view(&folded), value, err);
    buf_fini(&folded);
    return res;
}

enum map_result map_ask(struct map *m, struct impl *i, struct slice key, struct buf *value,
                        struct err *err)
{
    if (folds(m))
        return lookup_folded(m, i->state, key, value, err);
    return timed_lookup(m, i->state, key, value, err);
}

enum map_result map_lookup(struct map *m, struct slice key, struct buf *value, struct err *err)
{
    struct impl *i;
    enum map_result res = MAP_RETRY;

    if (key.len > MAP_KEY_MAX)
        return MAP_NOTFOUND;
    if (key.len == 0 && !m->type->any_key && (m->flags & MAP_FLAG_PATTERN) == 0)
        return MAP_NOTFOUND;
    if (m->writer != NULL)
        return map_lookup_writable(m, key, value, err);
    i = map_current(m, err);
    if (i == NULL)
        map_watch_missed(m);
    if (i != NULL) {
        res = map_ask(m, i, key, value, err);
        if (res == MAP_RETRY)
            err_prefix(err, "table %s: ", m->name);
    }
    if (res == MAP_RETRY && err != NULL)
        err->kind = ERR_TEMPORARY; /* a damaged file may be mended */
    map_metrics_count(&m->metrics, m->name, res);
    impl_unref(i);
    return res;
}
