/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_watch.c - tables of a process that may not open their files again.
 *
 * Daemons open their tables as root, give up its rights, and may then be in a chroot. A file that only root reads (a table of
 * passwords), or one outside the chroot, they cannot open a second time when it has changed: another process has to take their
 * place. Tables that were opened after that moment are as everywhere.
 *
 * In a chroot no path says whether a file has changed. A descriptor of the file (O_PATH: it reads nothing, and leads nowhere) does: a
 * file that is written to, replaced or renamed gets another time of its last change of state. One of a directory would be a way
 * out of the chroot.
 */
#include "maps/map_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "maps/map_build.h"

/* A table that was never there is looked for by processes of at least this age, so that they do not come and go. */
#define MISSED_AGE_MS 2000

/* False: what the table consists of is no file. */
static bool file_of(const struct map *m, struct buf *out)
{
    if (m->type->is_stale == NULL || m->writer != NULL)
        return false;
    buf_puts(out, m->path);
    if (m->type->builder != NULL)
        buf_puts(out, m->type->builder->suffix);
    return m->path[0] == '/' || access(buf_cstr(out), F_OK) == 0;
}

static bool has_changed(const struct map *m)
{
    struct stat st;

    return fstat(m->watch_fd, &st) == -1 || st.st_nlink == 0 ||
           st.st_ctim.tv_sec != m->watched.tv_sec || st.st_ctim.tv_nsec != m->watched.tv_nsec;
}

/* First the descriptor, then a look whether the table is to be opened anew: what changes between the two is seen later. */
static void watch(struct map *m)
{
    struct buf file = BUF_INIT(8192);
    struct stat st;

    if (file_of(m, &file)) {
        m->watch_fd = open(buf_cstr(&file), O_PATH | O_CLOEXEC);
        if (m->watch_fd != -1 && fstat(m->watch_fd, &st) == 0)
            m->watched = st.st_ctim;
        lock_take(&m->lock);
        m->checked = (struct mono_time){0}; /* what has changed until now is looked at now */
        lock_release(&m->lock);
        impl_unref(map_current(m, NULL));
    }
    buf_fini(&file);
}

struct list {
    struct vec maps; /* struct map *, which live as long as the env */
};

static bool add(struct slice key, void *value, void *arg)
{
    struct list *l = arg;

    (void) key;
    vec_push(&l->maps, value);
    return true;
}

static void list_maps(struct map_env *env, struct list *l)
{
    lock_take(&env->lock);
    htable_each(env->maps, add, l);
    lock_release(&env->lock);
}

void map_env_shut_in(struct map_env *env, bool in_chroot)
{
    struct list l = {VEC_INIT};

    list_maps(env, &l);
    for (size_t i = 0; i < l.maps.len; i++) {
        struct map *m = l.maps.items[i];

        m->is_early = true;
        if (in_chroot)
            watch(m);
    }
    vec_fini(&l.maps);
    env->in_chroot = in_chroot;
    env->shut_in = mono_now();
    env->is_shut_in = true;
}

bool map_may_look(const struct map *m)
{
    return !m->env->in_chroot || !m->is_early;
}

bool map_watch_refused(struct map *m)
{
    struct buf file = BUF_INIT(8192);
    bool refused = m->env->is_shut_in && m->is_early && file_of(m, &file) &&
                   euidaccess(buf_cstr(&file), R_OK) == -1 && errno == EACCES;

    if (refused)
        map_outgrow(m);
    buf_fini(&file);
    return refused;
}

void map_watch_missed(struct map *m)
{
    if (m->is_early && m->env->is_shut_in && m->type->is_stale != NULL &&
        mono_diff_ms(mono_now(), m->env->shut_in) > MISSED_AGE_MS)
        map_outgrow(m);
}

void map_outgrow(struct map *m)
{
    if (!atomic_exchange(&m->env->is_outgrown, true))
        log_info(
            "table %s: there is a file that this process may not open: another one takes its place",
            m->name);
}

bool map_env_wants_tending(const struct map_env *env)
{
    return env->is_shut_in || env->reopener != NULL;
}

bool map_env_tend(struct map_env *env)
{
    struct list l = {VEC_INIT};

    if (!map_env_wants_tending(env) || atomic_load(&env->is_outgrown))
        return atomic_load(&env->is_outgrown);
    list_maps(env, &l);
    for (size_t i = 0; i < l.maps.len; i++) {
        struct map *m = l.maps.items[i];

        if (map_may_look(m)) {
            if (m->type->is_stale != NULL && m->writer == NULL)
                impl_unref(map_current(m, NULL)); /* looks at its file, and says if it may not */
        } else if (m->watch_fd != -1 && has_changed(m)) {
            map_outgrow(m);
        }
    }
    vec_fini(&l.maps);
    return atomic_load(&env->is_outgrown);
}
