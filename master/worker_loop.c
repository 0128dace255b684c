/* SPDX-License-Identifier: Apache-2.0 */
/* worker_loop.c - everything on one event loop that never blocks: for qmgr, pickup. */
#include "master/worker_int.h"

#include <stdlib.h>

#include "base/log.h"

struct listener {
    struct worker *w;
    struct loop_io *io;
    int fd;
};

static void on_client(void *arg, unsigned events)
{
    struct listener *l = arg;
    struct worker_client client;

    (void) events;
    /* a few at a time, so that others have their turn */
    for (int i = 0; i < 16 && worker_accept(l->w, l->fd, &client) == 1; i++)
        l->w->service->accepted(l->w, l->w->loop, &client);
}

static void on_master(void *arg, unsigned events)
{
    struct worker *w = arg;
    bool was_draining = atomic_load(&w->draining);

    (void) events;
    if (!worker_hear(w) && was_draining)
        loop_stop(w->loop); /* master has gone while we were leaving */
    if (!atomic_load(&w->draining) || was_draining)
        return;
    if (w->service->drain != NULL)
        w->service->drain(w);
    else
        loop_stop(w->loop);
}

int worker_run_loop(struct worker *w)
{
    struct listener *listeners = xcalloc((size_t) w->nlisten, sizeof(*listeners));
    struct loop_io *status = loop_io_new(w->loop, chan_fd(w->status), LOOP_READ, on_master, w);

    for (int i = 0; i < w->nlisten; i++) {
        listeners[i].w = w;
        listeners[i].fd = WORKER_FD_LISTEN + i;
        listeners[i].io =
            loop_io_new(w->loop, listeners[i].fd, LOOP_READ, on_client, &listeners[i]);
    }
    worker_tell(w, 1, true);
    loop_run(w->loop);
    loop_io_free(&status);
    for (int i = 0; i < w->nlisten; i++)
        loop_io_free(&listeners[i].io);
    free(listeners);
    return 0;
}
