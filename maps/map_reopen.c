/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_reopen.c - tables whose files have changed are opened anew, while the old ones serve.
 *
 * A table of 10,000 expressions takes a tenth of a second to open, one of a million rows more: a daemon's sessions and loop are not to
 * wait for it. So after map_env_open_aside() a thread does it that is there only as long as there is something to open: one for the
 * tables of an env, whatever changes at once. Which table that is, stat() tells, and who asks the table does that himself. Without
 * it (commands), or where no thread can be had, who asks opens it too, and has the new content at once.
 *
 * A table that could not be opened before has nothing that could serve: who asks opens it, and need not be told "try again".
 */
#include "maps/map_int.h"

#include <stdlib.h>

#include "base/log.h"

struct map_reopener {
    struct lock lock;
    struct vec due GUARDED_BY(lock); /* struct map *, with `opening` set */
    pthread_t thread GUARDED_BY(lock);
    bool is_started GUARDED_BY(lock); /* thread is to be joined */
    bool is_at_work GUARDED_BY(lock); /* thread will look at `due` once more */
    bool is_ending GUARDED_BY(lock);
};

struct map_reopener *map_reopener_new(void)
{
    struct map_reopener *r = xcalloc(1, sizeof(*r));

    lock_init(&r->lock, LOCK_MAP_REOPEN);
    return r;
}

void map_reopener_free(struct map_reopener **reopener)
{
    struct map_reopener *r = *reopener;
    pthread_t thread;
    bool is_started;

    if (r == NULL)
        return;
    lock_take(&r->lock);
    r->is_ending = true;
    thread = r->thread;
    is_started = r->is_started;
    lock_release(&r->lock);
    if (is_started)
        (void) pthread_join(thread, NULL);
    vec_fini(&r->due);
    lock_fini(&r->lock);
    free(r);
    *reopener = NULL;
}

static void open_anew(struct map *m)
{
    struct err why = ERR_INIT;
    struct impl *fresh = impl_open(m, &why); /* no lock is held: a table may need others */
    bool refused = fresh == NULL && map_watch_refused(m);
    struct impl *old = NULL;

    lock_take(&m->lock);
    m->opening = false;
    if (fresh != NULL) {
        old = m->impl;
        m->impl = fresh;
        m->complained = false;
    } else if (m->impl != NULL && !m->complained && !refused) {
        log_warning("%s -- the old table goes on", why.text);
        m->complained = true;
    } else {
        m->why = why;
    }
    lock_release(&m->lock);
    impl_unref(old);
}

static void *run(void *arg)
{
    struct map_reopener *r = arg;

    lock_take(&r->lock);
    while (r->due.len > 0 && !r->is_ending) {
        struct map *m = r->due.items[0];

        vec_remove(&r->due, 0);
        lock_release(&r->lock);
        open_anew(m);
        lock_take(&r->lock);
    }
    r->is_at_work = false;
    lock_release(&r->lock);
    return NULL;
}

/* False: there is nobody who could. */
static bool leave_to(struct map_reopener *r, struct map *m)
{
    bool is_left = true;

    lock_take(&r->lock);
    vec_push(&r->due, m);
    if (!r->is_at_work) {
        if (r->is_started) /* it has said that it ends */
            (void) pthread_join(r->thread, NULL);
        r->is_started = r->is_at_work = pthread_create(&r->thread, NULL, run, r) == 0;
        if (!r->is_started) {
            (void) vec_pop(&r->due);
            is_left = false;
        }
    }
    lock_release(&r->lock);
    return is_left;
}

bool map_reopen(struct map *m, struct impl *used)
{
    if (used != NULL && !m->type->is_stale(used->state, m->path)) {
        lock_take(&m->lock);
        m->opening = false;
        lock_release(&m->lock);
        return false;
    }
    if (used != NULL && m->env->reopener != NULL && leave_to(m->env->reopener, m))
        return false;
    open_anew(m);
    return true;
}
