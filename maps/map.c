/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.c - tables by name: opening, reloading, asking; lists of tables.
 *
 * A table's implementation is counted: a lookup holds a reference, so that a reload (looked for at most once a second) swaps
 * in the new one while old lookups finish. What cannot be opened answers "try again", and is tried again.
 */
#include "maps/map_int.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/htable.h"
#include "base/log.h"
#include "base/mtime.h"
#include "maps/map_servers.h"

#define RECHECK_MS 1000

struct impl {
    atomic_uint refs;
    const struct map_type *type;
    void *state;
};

struct map {
    char *name;
    char *path; /* what follows "type:" */
    const struct map_type *type;
    unsigned flags;
    struct map_env *env;
    struct lock lock;
    struct impl *impl GUARDED_BY(lock); /* NULL: could not be opened */
    struct mono_time checked GUARDED_BY(lock);
    struct err why GUARDED_BY(lock);
    bool complained GUARDED_BY(lock);
    bool opening GUARDED_BY(lock); /* a thread looks whether it has changed */
};

struct map_env {
    struct config *cfg;
    struct lock lock;
    struct htable *maps GUARDED_BY(lock); /* name -> struct map * */
    struct lock proxy_lock;
    struct map_servers *proxy GUARDED_BY(proxy_lock); /* NULL: not yet needed */
    enum map_proxy who;                               /* answers for proxy: */
    int64_t slow_ms; /* lookups that take longer are logged; 0: none */
};

/* Sorted by name, one row each, so that an added type touches its own row. */
/* clang-format off */
static const struct map_type *const types[] = {
    &map_type_btree,
    &map_type_cidr,
    &map_type_fail,
    &map_type_hash,
    &map_type_inline,
    &map_type_memcache,
    &map_type_pcre,
    &map_type_proxy,
    &map_type_regexp,
    &map_type_socketmap,
    &map_type_static,
    &map_type_tcp,
    &map_type_texthash,
    &map_type_unix,
};
/* clang-format on */

static _Thread_local bool strict;

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

struct map_env *map_env_new(const struct config *cfg)
{
    struct map_env *env = xcalloc(1, sizeof(*env));

    env->cfg = config_ref((struct config *) (uintptr_t) cfg);
    lock_init(&env->lock, LOCK_MAP_SET);
    lock_init(&env->proxy_lock, LOCK_MAP_PROXY);
    env->maps = htable_new(false);
    env->slow_ms = map_slow_lookup_ms(cfg);
    return env;
}

static void impl_unref(struct impl *i)
{
    if (i == NULL || atomic_fetch_sub(&i->refs, 1) > 1)
        return;
    i->type->close(i->state);
    free(i);
}

static void map_free(void *p)
{
    struct map *m = p;

    impl_unref(m->impl);
    lock_fini(&m->lock);
    free(m->name);
    free(m->path);
    free(m);
}

void map_env_free(struct map_env **env)
{
    if (*env == NULL)
        return;
    htable_free(&(*env)->maps, map_free);
    map_servers_free(&(*env)->proxy);
    config_unref(&(*env)->cfg);
    lock_fini(&(*env)->lock);
    lock_fini(&(*env)->proxy_lock);
    free(*env);
    *env = NULL;
}

void map_env_set_proxy(struct map_env *env, enum map_proxy who)
{
    env->who = who;
}

enum map_proxy map_env_proxy(const struct map_env *env)
{
    return env->who;
}

struct map_servers *map_env_proxy_servers(struct map_env *env, struct err *err)
{
    struct map_servers *servers;

    lock_take(&env->proxy_lock);
    if (env->proxy == NULL)
        env->proxy = map_proxy_servers_new(env, err);
    servers = env->proxy;
    lock_release(&env->proxy_lock);
    return servers;
}

const struct config *map_env_config(const struct map_env *env)
{
    return env->cfg;
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
    const struct map_type *type = colon < 1 ? NULL : find_type(slice_sub(spec, 0, (size_t) colon));
    char *path;
    unsigned flags;

    if (type == NULL)
        return 0;
    path = slice_dup(slice_sub(spec, (size_t) colon + 1, spec.len));
    flags = flags_of(type, path);
    free(path);
    return flags;
}

static struct impl *impl_open(struct map *m, struct err *err)
{
    struct impl *i;
    void *state;

    if (m->type->open(m->path, m->env, &state, err) == -1) {
        err_prefix(err, "table %s: ", m->name);
        return NULL;
    }
    i = xcalloc(1, sizeof(*i));
    atomic_init(&i->refs, 1);
    i->type = m->type;
    i->state = state;
    return i;
}

static struct slice without_proxy(struct slice spec)
{
    while (slice_starts_with(spec, SLICE_LIT("proxy:")))
        spec = slice_sub(spec, 6, spec.len);
    return spec;
}

int map_open(struct map_env *env, struct slice spec, struct map **out, struct err *err)
{
    struct slice real = slice_trim(spec, NULL);
    ptrdiff_t colon = slice_find(real, ':');
    const struct map_type *type;
    struct map *m;

    if (env->who == MAP_PROXY_NEVER) {
        real = without_proxy(real);
        colon = slice_find(real, ':');
    }
    if (colon < 1)
        return err_input(err, "\"%.*s\" is not a table: wants type:name", SLICE_FMT(spec));
    type = find_type(slice_sub(real, 0, (size_t) colon));
    if (type == NULL)
        return err_input(err, "unsupported dictionary type: %.*s", (int) colon, real.ptr);
    lock_take(&env->lock);
    m = htable_get(env->maps, real);
    lock_release(&env->lock);
    if (m == NULL) {
        struct map *there;

        m = xcalloc(1, sizeof(*m));
        m->name = slice_dup(real);
        m->path = slice_dup(slice_sub(real, (size_t) colon + 1, real.len));
        m->type = type;
        m->flags = flags_of(type, m->path);
        m->env = env;
        lock_init(&m->lock, LOCK_MAP_STATE);
        m->checked = mono_now();
        m->impl = impl_open(m, &m->why); /* without a lock: it may open other tables */
        lock_take(&env->lock);
        there = htable_get(env->maps, real);
        if (there == NULL)
            htable_put(env->maps, real, m);
        lock_release(&env->lock);
        if (there != NULL) { /* another thread was faster */
            map_free(m);
            m = there;
        }
    }
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

int map_check(struct map_env *env, struct slice spec, struct err *err)
{
    struct map *m;
    struct impl *i = NULL;

    /* from the first opening on: what is an error here is not a warning in the log before */
    strict = true;
    if (map_open(env, without_proxy(slice_trim(spec, NULL)), &m, err) == 0)
        i = impl_open(m, err);
    strict = false;
    if (i == NULL)
        return -1;
    impl_unref(i);
    return 0;
}

/* Opens the table anew when it has changed, or could not be opened before; by the thread that set m->opening. No lock is held
 * meanwhile: a table may need others, and the old one goes on serving. */
static void refresh(struct map *m, struct impl *used)
{
    struct err why = ERR_INIT;
    struct impl *fresh = NULL;
    struct impl *old = NULL;
    bool stale = used == NULL || m->type->is_stale(used->state, m->path);

    if (stale)
        fresh = impl_open(m, &why);
    lock_take(&m->lock);
    m->opening = false;
    if (fresh != NULL) {
        old = m->impl;
        m->impl = fresh;
        m->complained = false;
    } else if (stale && m->impl != NULL && !m->complained) {
        log_warning("%s -- the old table goes on", why.text);
        m->complained = true;
    } else if (stale) {
        m->why = why;
    }
    lock_release(&m->lock);
    impl_unref(old);
}

static struct impl *current_locked(struct map *m, struct err *err) REQUIRES(m->lock)
{
    if (m->impl != NULL)
        atomic_fetch_add(&m->impl->refs, 1);
    else if (err != NULL)
        *err = m->why;
    return m->impl;
}

/* The current implementation, with a reference; NULL: none, err tells. */
static struct impl *current(struct map *m, struct err *err)
{
    struct mono_time now = mono_now();
    struct impl *i;
    bool look;

    lock_take(&m->lock);
    look = m->type->is_stale != NULL && !m->opening && mono_diff_ms(now, m->checked) >= RECHECK_MS;
    if (look) {
        m->checked = now;
        m->opening = true;
    }
    i = current_locked(m, err);
    lock_release(&m->lock);
    if (!look)
        return i;
    refresh(m, i);
    impl_unref(i);
    lock_take(&m->lock);
    i = current_locked(m, err);
    lock_release(&m->lock);
    return i;
}

#define SHOWN_KEY 100

/* Types that answer from memory are not timed: it would cost as much as the lookup. */
static enum map_result timed_lookup(const struct map *m, void *state, struct slice key,
                                    struct buf *value, struct err *err)
{
    struct mono_time begun;
    enum map_result res;
    int64_t took_ms;

    if (m->env->slow_ms == 0 || (m->flags & MAP_FLAG_LOCAL) != 0)
        return m->type->lookup(state, key, value, err);
    begun = mono_now();
    res = m->type->lookup(state, key, value, err);
    took_ms = mono_diff_ms(mono_now(), begun);
    if (took_ms >= m->env->slow_ms)
        log_warning("table %s: slow lookup: %.3f s for \"%.*s\"", m->name, (double) took_ms / 1000,
                    (int) (key.len < SHOWN_KEY ? key.len : SHOWN_KEY), key.ptr);
    return res;
}

enum map_result map_lookup(struct map *m, struct slice key, struct buf *value, struct err *err)
{
    char space[1024];
    char *heap = NULL;
    struct impl *i;
    enum map_result res;

    if (key.len == 0 || key.len > MAP_KEY_MAX)
        return MAP_NOTFOUND;
    i = current(m, err);
    if (i == NULL)
        return MAP_RETRY;
    if ((m->flags & MAP_FLAG_FIXED) != 0 && !m->type->keeps_key_case) {
        char *p = key.len <= sizeof(space) ? space : (heap = xmalloc(key.len));

        for (size_t k = 0; k < key.len; k++)
            p[k] = (char) ascii_lower((unsigned char) key.ptr[k]);
        key.ptr = p;
    }
    res = timed_lookup(m, i->state, key, value, err);
    if (res == MAP_RETRY)
        err_prefix(err, "table %s: ", m->name);
    free(heap);
    impl_unref(i);
    return res;
}

/* --- lists ------------------------------------------------------------------------------------------- */

struct map_list {
    struct vec maps;
};

int map_list_open(struct map_env *env, const char *value, struct map_list **out, struct err *err)
{
    struct map_list *l = xcalloc(1, sizeof(*l));
    struct slice rest = slice_str(value);
    struct slice spec;

    while (slice_token_braces(&rest, ", \t\r\n", &spec)) {
        struct map *m;

        if (map_open(env, spec, &m, err) == -1) {
            map_list_free(&l);
            return -1;
        }
        vec_push(&l->maps, m);
    }
    *out = l;
    return 0;
}

void map_list_free(struct map_list **l)
{
    if (*l == NULL)
        return;
    vec_fini(&(*l)->maps);
    free(*l);
    *l = NULL;
}

bool map_list_is_empty(const struct map_list *l)
{
    return l == NULL || l->maps.len == 0;
}

unsigned map_list_flags(const struct map_list *l)
{
    unsigned flags = MAP_FLAG_LOCAL | MAP_FLAG_FIXED | MAP_FLAG_PATTERN;

    for (size_t i = 0; l != NULL && i < l->maps.len; i++)
        flags &= map_flags(l->maps.items[i]);
    return flags;
}

enum map_result map_list_lookup(struct map_list *l, struct slice key, unsigned only,
                                struct buf *value, const struct map **hit, struct err *err)
{
    for (size_t i = 0; l != NULL && i < l->maps.len; i++) {
        struct map *m = l->maps.items[i];
        enum map_result res;

        if (only != 0 && (map_flags(m) & only) == 0)
            continue;
        res = map_lookup(m, key, value, err);
        if (res == MAP_NOTFOUND)
            continue;
        if (hit != NULL)
            *hit = m;
        return res;
    }
    return MAP_NOTFOUND;
}
