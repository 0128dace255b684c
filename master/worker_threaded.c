/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_threaded.c - many clients in one process: those that wait are parked in the poller; a thread takes whichever has
 * something to do, works on it, and parks it again.
 *
 * Listeners and master's socket are items of the same poller. A listener is not armed while the worker is full. Threads are
 * started when the last idle one gets work.
 */
#include "master/worker_int.h"

#include <poll.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/log.h"

#define STACK_BYTES (512 * 1024) /* of address space; what is touched counts */

enum item_kind { ITEM_STATUS, ITEM_LISTENER, ITEM_SESSION };

struct worker_session {
    enum item_kind kind;
    struct worker *worker;
    struct poller_item *item;
    int fd;     /* client or listener */
    void *user; /* the service's session */
    int wait_fd;
    unsigned wait_events;
    struct mono_time deadline;
};

void worker_wait_for(struct worker_session *s, int fd, unsigned events, struct mono_time deadline)
{
    s->wait_fd = fd;
    s->wait_events = events;
    s->deadline = deadline;
}

void worker_wake(struct worker_session *s)
{
    poller_wake(s->item);
}

static void arm_listener(struct worker_session *l)
{
    poller_arm(l->item, l->fd, POLLER_READ, MONO_NEVER);
}

static void arm_status(struct worker_session *s)
{
    struct worker *w = s->worker;

    poller_arm(s->item, chan_fd(w->status), POLLER_READ,
               mono_after_ms(mono_now(), w->p.max_idle_s * 1000));
}

/* The last client has gone from a worker that leaves: the threads may go. */
static void check_end(struct worker *w)
{
    bool stop;

    lock_take(&w->lock);
    stop = atomic_load(&w->draining) && atomic_load(&w->sessions) == 0 && !w->stopping;
    w->stopping |= stop;
    lock_release(&w->lock);
    if (stop)
        poller_stop(w->poller);
}

void worker_leave(struct worker *w)
{
    if (w->loop != NULL) {
        loop_stop(w->loop);
        return;
    }
    if (atomic_exchange(&w->draining, true))
        return;
    worker_tell(w, 0, true);
    if (w->poller != NULL) {
        poller_wake_all(w->poller);
        check_end(w);
    }
}

static void close_session(struct worker_session *s)
{
    struct worker *w = s->worker;
    bool was_full;
    bool use_up;

    if (s->user != NULL)
        w->service->session_close(s->user);
    poller_forget_fd(s->item);
    poller_item_free(&s->item);
    fd_close(&s->fd);
    free(s);
    lock_take(&w->lock);
    was_full = w->full;
    w->full = false;
    if (atomic_fetch_sub(&w->sessions, 1) == 1)
        w->idle_since = mono_now();
    w->served++;
    use_up = w->served >= (uint64_t) (w->p.max_use * w->capacity);
    if (was_full && !atomic_load(&w->draining))
        worker_tell(w, 1, true);
    lock_release(&w->lock);
    if (was_full && !atomic_load(&w->draining))
        for (int i = 0; i < w->nlisten; i++)
            poller_wake(w->listen_items[i]); /* armed again by whoever gets it */
    if (use_up)
        worker_leave(w);
    check_end(w);
}

static void work(struct worker_session *s, unsigned events)
{
    enum worker_verdict v;

    do
        v = s->worker->service->session_work(s->user, events);
    while (v == WORKER_AGAIN && (events = 0) == 0);
    if (v == WORKER_CLOSE)
        close_session(s);
    else
        poller_arm(s->item, s->wait_fd, s->wait_events, s->deadline);
}

/* Takes one client, lets others take the next, and works on it. */
static void take_client(struct worker_session *l)
{
    struct worker *w = l->worker;
    struct worker_client client;
    struct worker_session *s;
    bool full;
    int got;

    if (atomic_load(&w->draining))
        return; /* not armed again: master listens on */
    lock_take(&w->lock);
    full = atomic_load(&w->sessions) >= w->capacity;
    if (!full)
        atomic_fetch_add(&w->sessions, 1);
    if (full && !w->full) {
        w->full = true;
        worker_tell(w, 0, true);
    }
    lock_release(&w->lock);
    if (full) {
        poller_arm(l->item, -1, 0, MONO_NEVER); /* until a client leaves and wakes it */
        return;
    }
    got = worker_accept(w, l->fd, &client);
    if (got == 1 && atomic_load(&w->sessions) >= w->capacity) {
        lock_take(&w->lock);
        if (!w->full && atomic_load(&w->sessions) >= w->capacity) {
            w->full = true;
            worker_tell(w, 0, true);
        }
        full = w->full;
        lock_release(&w->lock);
    }
    if (!full) {
        if (got == -1)
            (void) poll(NULL, 0, 50); /* out of descriptors or memory: not in a tight loop */
        arm_listener(l);
    } else {
        poller_arm(l->item, -1, 0, MONO_NEVER);
    }
    if (got != 1) {
        atomic_fetch_sub(&w->sessions, 1);
        return;
    }
    s = xcalloc(1, sizeof(*s));
    s->kind = ITEM_SESSION;
    s->worker = w;
    s->fd = s->wait_fd = client.fd;
    s->item = poller_item_new(w->poller, s);
    s->user = w->service->session_open(w, s, &client);
    if (s->user == NULL)
        close_session(s);
    else
        work(s, 0);
}

static void hear(struct worker_session *s, unsigned events)
{
    struct worker *w = s->worker;
    bool was_draining = atomic_load(&w->draining);
    bool idle;

    if ((events & (POLLER_READ | POLLER_HANGUP)) != 0) {
        bool master_lives = worker_hear(w);

        if (atomic_load(&w->draining) && !was_draining) {
            for (int i = 0; i < w->nlisten; i++)
                poller_wake(w->listen_items[i]);
            if (w->service->drain != NULL)
                w->service->drain(w);
            poller_wake_all(w->poller);
            check_end(w);
        }
        if (!master_lives)
            return; /* drained like any other; nothing more will come from there */
    }
    lock_take(&w->lock);
    idle = atomic_load(&w->sessions) == 0 &&
           mono_diff_ms(mono_now(), w->idle_since) >= w->p.max_idle_s * 1000;
    lock_release(&w->lock);
    if (idle)
        worker_leave(w);
    arm_status(s);
}

static void *run(void *arg);

static void start_thread_locked(struct worker *w)
{
    pthread_attr_t attr;
    pthread_t thread;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attr, run, w) == 0) {
        w->threads_running++;
        atomic_fetch_add(&w->threads_idle, 1);
    } else if (w->threads_running == 0) {
        fatal("no thread can be started");
    }
    pthread_attr_destroy(&attr);
}

static void *run(void *arg)
{
    struct worker *w = arg;
    struct worker_session *s;
    unsigned events;

    while ((s = poller_next(w->poller, &events)) != NULL) {
        if (atomic_fetch_sub(&w->threads_idle, 1) == 1) {
            lock_take(&w->lock);
            if (w->threads_running < w->p.threads)
                start_thread_locked(w);
            lock_release(&w->lock);
        }
        switch (s->kind) {
        case ITEM_STATUS:
            hear(s, events);
            break;
        case ITEM_LISTENER:
            take_client(s);
            break;
        case ITEM_SESSION:
            work(s, events);
            break;
        }
        atomic_fetch_add(&w->threads_idle, 1);
    }
    lock_take(&w->lock);
    w->threads_running--;
    pthread_cond_signal(&w->thread_left);
    lock_release(&w->lock);
    return NULL;
}

static struct worker_session *item(struct worker *w, enum item_kind kind, int fd)
{
    struct worker_session *s = xcalloc(1, sizeof(*s));

    s->kind = kind;
    s->worker = w;
    s->fd = fd;
    s->item = poller_item_new(w->poller, s);
    return s;
}

int worker_run_threaded(struct worker *w)
{
    struct err err = ERR_INIT;
    struct worker_session *status;
    struct worker_session **listeners = xcalloc((size_t) w->nlisten, sizeof(*listeners));

    w->poller = poller_new(&err);
    if (w->poller == NULL)
        fatal("%s", err.text);
    pthread_cond_init(&w->thread_left, NULL);
    w->idle_since = mono_now();
    w->listen_items = xcalloc((size_t) w->nlisten, sizeof(struct poller_item *));
    status = item(w, ITEM_STATUS, -1);
    for (int i = 0; i < w->nlisten; i++) {
        listeners[i] = item(w, ITEM_LISTENER, WORKER_FD_LISTEN + i);
        w->listen_items[i] = listeners[i]->item;
    }
    worker_tell(w, 1, true);
    arm_status(status);
    for (int i = 0; i < w->nlisten; i++)
        arm_listener(listeners[i]);
    lock_take(&w->lock);
    start_thread_locked(w);
    while (w->threads_running > 0)
        lock_wait(&w->lock, &w->thread_left);
    lock_release(&w->lock);
    free(listeners);
    return 0;
}
