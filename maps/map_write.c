/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_write.c - tables that a process writes (caches), and listing tables.
 *
 * Invariants: a writable table's impl is there from its opening to its end, but for the moment in which a damaged file is
 * replaced; write_lock is held around every call of its type, so that impl may be replaced.
 */
#include "maps/map_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

#define WRITABLE    "writable "
#define DEATHS_MOST 3

/* Renames the damaged file of m, so that the next opening begins a new one. */
static int set_aside(const struct map *m, const struct err *damage, struct err *err)
{
    struct buf file = BUF_INIT(4096);
    struct buf aside = BUF_INIT(4096);
    int ret = 0;

    buf_printf(&file, "%s%s", m->path, m->writer->suffix);
    buf_printf(&aside, "%s.corrupt", buf_cstr(&file));
    if (rename(buf_cstr(&file), buf_cstr(&aside)) == -1 && errno != ENOENT)
        ret = err_sys(err, "rename %s to %s", buf_cstr(&file), buf_cstr(&aside));
    else
        log_warning("table %s: %s -- kept as %s, a new one is begun", m->name, damage->text,
                    buf_cstr(&aside));
    buf_fini(&file);
    buf_fini(&aside);
    return ret;
}

/* The first opening in this process: what did the last one's end leave? Only a damaged file ends several in a row. */
static int look_back(struct map *m, struct err *err)
{
    struct buf file = BUF_INIT(4096);
    struct err damage = ERR_INIT;
    int deaths = 0;
    int ret = 0;

    buf_printf(&file, "%s%s", m->path, m->writer->suffix);
    if (map_used_begin(buf_cstr(&file), &m->used_fd, &deaths, err) == -1)
        ret = -1;
    else if (deaths >= DEATHS_MOST)
        (void) err_permanent(&damage, "%d processes in a row died with it open", deaths);
    else if (deaths > 0 && access(buf_cstr(&file), F_OK) == 0 &&
             !map_used_is_sound(m->type, m->path, buf_cstr(&file), m->env))
        (void) err_permanent(&damage, "a process died with it open, and it cannot be read");
    if (damage.text[0] != '\0')
        ret = set_aside(m, &damage, err);
    if (ret == -1)
        map_used_end(&m->used_fd);
    buf_fini(&file);
    return ret;
}

static int open_impl(struct map *m, struct err *err)
{
    struct err why = ERR_INIT;
    void *state = NULL;
    struct impl *i;

    if (m->used_fd == -1 && m->writer->suffix != NULL && look_back(m, err) == -1)
        return err_prefix(err, "table %s: ", m->name);
    if (m->writer->open(m->path, m->env, &state, &why) == -1) {
        if (why.kind == ERR_PERMANENT && m->writer->suffix != NULL) {
            if (set_aside(m, &why, err) == -1)
                return -1;
            if (m->writer->open(m->path, m->env, &state, err) == -1)
                return err_prefix(err, "table %s: ", m->name);
        } else {
            return err_set(err, why.kind, why.dsn, "table %s: %s", m->name, why.text);
        }
    }
    i = impl_new(m->type, state);
    lock_take(&m->lock);
    m->impl = i;
    lock_release(&m->lock);
    return 0;
}

/* The impl, which stays while write_lock is held; opened if an earlier replacement failed. */
static struct impl *hold_locked(struct map *m, struct err *err) REQUIRES(m->write_lock)
{
    struct impl *i;

    lock_take(&m->lock);
    i = m->impl;
    lock_release(&m->lock);
    if (i != NULL || open_impl(m, err) == -1)
        return i;
    lock_take(&m->lock);
    i = m->impl;
    lock_release(&m->lock);
    return i;
}

/* After a call that failed: when the file is damaged, begins a new one. True: the call may be done again. */
static bool replaced_locked(struct map *m, struct err *err) REQUIRES(m->write_lock)
{
    struct err damage = *err;
    struct impl *old;

    if (damage.kind != ERR_PERMANENT || m->writer->suffix == NULL)
        return false;
    lock_take(&m->lock);
    old = m->impl;
    m->impl = NULL;
    lock_release(&m->lock);
    impl_unref(old);
    return set_aside(m, &damage, err) == 0 && open_impl(m, err) == 0;
}

int map_open_writable(struct map_env *env, struct slice spec, struct map **out, struct err *err)
{
    struct slice real = slice_trim(spec, NULL);
    const struct map_type *type;
    struct buf name = BUF_INIT(8192);
    struct slice path;
    struct map *m;

    if (map_parse_name(map_env_config(env), real, &type, &path, err) == -1)
        return -1;
    if (type->writer == NULL)
        return err_input(err, "table %.*s: a table of this type cannot be written",
                         SLICE_FMT(real));
    buf_puts(&name, WRITABLE);
    buf_put_slice(&name, real);
    m = map_env_find(env, buf_view(&name));
    if (m == NULL) {
        m = map_new(env, real, type, path);
        m->writer = type->writer;
        if (open_impl(m, err) == -1) {
            map_free(m);
            buf_fini(&name);
            return -1;
        }
        m = map_env_enter(env, buf_view(&name), m);
    }
    buf_fini(&name);
    *out = m;
    return 0;
}

enum map_result map_lookup_writable(struct map *m, struct slice key, struct buf *value,
                                    struct err *err)
{
    struct err why = ERR_INIT;
    enum map_result res = MAP_RETRY;
    size_t before = value->len;
    struct impl *i;

    lock_take(&m->write_lock);
    i = hold_locked(m, &why);
    if (i != NULL) {
        res = map_ask(m, i, key, value, &why);
        if (res == MAP_RETRY && replaced_locked(m, &why)) {
            buf_truncate(value, before);
            res = MAP_NOTFOUND; /* of a table that was begun anew */
        }
    }
    lock_release(&m->write_lock);
    if (res == MAP_RETRY && err != NULL)
        *err = why;
    map_metrics_count(&m->metrics, m->name, res);
    return res;
}

static struct slice folded(const struct map *m, struct slice key, struct buf *space)
{
    map_fold((m->flags & MAP_FLAG_FIXED) != 0 && !m->type->keeps_key_case ? map_env_folding(m->env)
                                                                          : MAP_FOLD_NONE,
             key, space);
    return buf_view(space);
}

int map_update(struct map *m, struct slice key, struct slice value, struct err *err)
{
    struct buf space = BUF_INIT((size_t) MAP_KEY_MAX * 2);
    struct err why = ERR_INIT;
    struct impl *i;
    int ret = -1;

    if (m->writer == NULL || key.len == 0 || key.len > MAP_KEY_MAX)
        return err_input(err, "table %s: cannot put a row with a key of %zu bytes", m->name,
                         key.len);
    key = folded(m, key, &space);
    lock_take(&m->write_lock);
    i = hold_locked(m, &why);
    if (i != NULL) {
        ret = m->writer->update(i->state, key, value, &why);
        if (ret == -1 && replaced_locked(m, &why)) {
            i = hold_locked(m, &why);
            if (i != NULL)
                ret = m->writer->update(i->state, key, value, &why);
        }
    }
    lock_release(&m->write_lock);
    buf_fini(&space);
    return ret == 0 ? 0 : err_set(err, why.kind, why.dsn, "table %s: %s", m->name, why.text);
}

enum map_result map_delete(struct map *m, struct slice key, struct err *err)
{
    struct buf space = BUF_INIT((size_t) MAP_KEY_MAX * 2);
    struct err why = ERR_INIT;
    enum map_result res = MAP_RETRY;
    struct impl *i;

    if (m->writer == NULL) {
        err_input(err, "table %s: not opened for writing", m->name);
        return MAP_RETRY;
    }
    if (key.len == 0 || key.len > MAP_KEY_MAX)
        return MAP_NOTFOUND;
    key = folded(m, key, &space);
    lock_take(&m->write_lock);
    i = hold_locked(m, &why);
    if (i != NULL) {
        res = m->writer->remove(i->state, key, &why);
        if (res == MAP_RETRY && replaced_locked(m, &why))
            res = MAP_NOTFOUND;
    }
    lock_release(&m->write_lock);
    buf_fini(&space);
    if (res == MAP_RETRY)
        err_set(err, why.kind, why.dsn, "table %s: %s", m->name, why.text);
    return res;
}

int map_sync(struct map *m, struct err *err)
{
    struct err why = ERR_INIT;
    struct impl *i;
    int ret = 0;

    if (m->writer == NULL || m->writer->sync == NULL)
        return 0;
    lock_take(&m->write_lock);
    i = hold_locked(m, &why);
    if (i == NULL || m->writer->sync(i->state, &why) == -1)
        ret = err_set(err, why.kind, why.dsn, "table %s: %s", m->name, why.text);
    lock_release(&m->write_lock);
    return ret;
}

int map_each(struct map *m, bool (*fn)(struct slice key, struct slice value, void *arg), void *arg,
             struct err *err)
{
    struct err why = ERR_INIT;
    struct impl *i;
    int ret = -1;

    if (m->type->each == NULL)
        return err_input(err, "table %s: sequence operation is not supported", m->name);
    lock_take(&m->write_lock);
    i = map_current(m, &why);
    if (i != NULL)
        ret = m->type->each(i->state, fn, arg, &why);
    impl_unref(i);
    lock_release(&m->write_lock);
    return ret == 0 ? 0 : err_set(err, why.kind, why.dsn, "table %s: %s", m->name, why.text);
}
