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
    struct vec due GUARDED_BY(lock);  /* struct map *, with `opening` set */
    bool is_at_work GUARDED_BY(lock); /* there is a thread that will look at `due` once more */
    bool is_ending GUARDED_BY(lock);
    pthread_cond_t left; /* is_at_work became false */
};

struct map_reopener *map_reopener_new(void)
{
    struct map_reopener *r = xcalloc(1, sizeof(*r));

    lock_init(&r->lock, LOCK_MAP_REOPEN);
    pthread_cond_init(&r->left, NULL);
    return r;
}

void map_reopener_free(struct map_reopener **reopener)
{
    struct map_reopener *r = *reopener;

    if (r == NULL)
        return;
    lock_take(&r->lock);
    r->is_ending = true;
    while (r->is_at_work)
        lock_wait(&r->lock, &r->left);
    lock_release(&r->lock);
    vec_fini(&r->due);
    pthread_cond_destroy(&r->left);
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
    pthread_cond_signal(&r->left); /* with the lock: who is told frees r */
    lock_release(&r->lock);
    return NULL;
}

/* Nobody joins it: a process may end without map_reopener_free(). */
static bool start_thread(struct map_reopener *r)
{
    pthread_attr_t attr;
    pthread_t thread;
    bool is_started;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    is_started = pthread_create(&thread, &attr, run, r) == 0;
    pthread_attr_destroy(&attr);
    return is_started;
}

/* False: there is nobody who could. */
static bool leave_to(struct map_reopener *r, struct map *m)
{
    bool is_left;

    lock_take(&r->lock);
    vec_push(&r->due, m);
    if (!r->is_at_work)
        r->is_at_work = start_thread(r);
    is_left = r->is_at_work;
    if (!is_left)
        (void) vec_pop(&r->due);
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
