/* SPDX-License-Identifier: Apache-2.0 */
/* worker_loop.c - everything on one event loop that never blocks: for qmgr, pickup. */
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "master/worker_int.h"

#define ACCEPTS_A_TURN 16 /* so that others have their turn */

struct loop_listener {
    struct worker *w;
    struct loop_io *io;
    int index;
};

struct loop_state {
    struct worker *w;
    struct loop_io *status;
    struct loop_timer *watchdog, *tend;
    struct loop_listener listeners[WORKER_LISTENERS_MAX];
    bool drained;
};

static void on_client(void *arg, unsigned events)
{
    struct loop_listener *l = arg;
    struct worker *w = l->w;
    struct worker_client client;

    (void) events;
    for (int i = 0; i < ACCEPTS_A_TURN && !atomic_load(&w->draining); i++) {
        if (worker_accept(w, l->index, &client) != 1)
            return;
        w->service->accepted(w, w->loop, &client);
    }
}

/* No more clients; master or another worker has them. */
static void stop_listening(struct loop_state *s)
{
    for (int i = 0; i < s->w->nlisten; i++) {
        if (s->listeners[i].io == NULL)
            continue;
        loop_io_free(&s->listeners[i].io);
        (void) close(WORKER_FD_LISTEN + i);
    }
}

static void check_drain(struct loop_state *s)
{
    struct worker *w = s->w;

    if (!atomic_load(&w->draining) || s->drained)
        return;
    s->drained = true;
    stop_listening(s);
    worker_tell(w);
    if (w->service->drain != NULL)
        w->service->drain(w);
    else
        loop_stop(w->loop);
}

static void on_master(void *arg, unsigned events)
{
    struct loop_state *s = arg;

    worker_hear(s->w);
    /* the end of master's socket would be reported again and again */
    if ((events & LOOP_HANGUP) != 0 && atomic_load(&s->w->stopping))
        loop_io_free(&s->status);
    check_drain(s);
}

/* SIGALRM ends a loop that turns no more; master logs the signal. */
static void on_watchdog(void *arg)
{
    struct loop_state *s = arg;
    int64_t limit_s = s->w->p.daemon_timeout_s;

    (void) alarm((unsigned) limit_s);
    loop_timer_set(s->watchdog, limit_s * 1000 / 4);
}

/* A table that this process may not open again: another process is to take its place. */
static void on_tend(void *arg)
{
    struct loop_state *s = arg;

    if (map_env_tend(worker_maps_in_force(s->w))) {
        atomic_store(&s->w->draining, true);
        check_drain(s);
    } else {
        loop_timer_set(s->tend, TEND_MS);
    }
}

int worker_run_loop(struct worker *w)
{
    struct loop_state s = {.w = w};

    s.status = loop_io_new(w->loop, WORKER_FD_STATUS, LOOP_READ, on_master, &s);
    s.watchdog = loop_timer_new(w->loop, on_watchdog, &s);
    on_watchdog(&s);
    s.tend = loop_timer_new(w->loop, on_tend, &s);
    if (map_env_wants_tending(worker_maps_in_force(w)))
        on_tend(&s);
    for (int i = 0; i < w->nlisten; i++) {
        s.listeners[i].w = w;
        s.listeners[i].index = i;
        s.listeners[i].io =
            loop_io_new(w->loop, WORKER_FD_LISTEN + i, LOOP_READ, on_client, &s.listeners[i]);
    }
    worker_tell(w);
    loop_run(w->loop);
    (void) alarm(0);
    stop_listening(&s);
    loop_timer_free(&s.watchdog);
    loop_timer_free(&s.tend);
    loop_io_free(&s.status);
    return 0;
}
