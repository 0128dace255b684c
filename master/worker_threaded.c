/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_threaded.c - many clients in one process: those that wait are parked in the poller; a thread takes whichever has
 * something to do, works on it, and parks it again.
 *
 * Listeners and master's socket are items of the same poller. An item belongs to the poller while it is armed, else to the
 * thread that got it; a listener that is paused (the worker is full) belongs to whoever clears `paused` under the lock.
 * Threads are started when the last idle one gets work, up to worker_threads.
 *
 * Linger: where the work for a client makes its thread wait for others (a delivery), another thread has taken over the poller
 * meanwhile, and a client that goes on within milliseconds keeps the thread that it has. Only while another thread is idle, for
 * whoever else has input, and only with clients with whom it pays.
 *
 * Drain: `draining` is set, then every item is woken. The thread that gets a listener closes it: a service that is gone
 * from master.cf must not keep its port. Sessions see POLLER_WOKEN. When the last session has gone, the poller is stopped.
 * Stop: besides, input of clients is shut down when their item is woken, so that sessions that wait for them end.
 */
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/blocking.h"
#include "base/crew.h"
#include "base/file.h"
#include "base/log.h"
#include "master/worker_int.h"

#define STACK_BYTES                                                                                \
    ((size_t) 512 * 1024)    /* of address space; regexec() and getaddrinfo() want more than most */
#define ACCEPT_PAUSE_MS 50   /* out of descriptors or memory: not in a tight loop */
#define WATCH_PERIOD_MS 1000 /* how often stuck threads are looked for, at most */
#define AGAIN_IN_A_ROW  8
#define LINGER_MS       20 /* a thread stays with a client that may go on at once */
#define LINGER_MAX      24 /* threads that do so */
#define LINGER_PAUSE    16 /* turns without, after one that was in vain */

enum item_kind { ITEM_STATUS, ITEM_LISTENER, ITEM_SESSION };

struct worker_session {
    enum item_kind kind;
    struct worker *worker;
    struct poller_item *item;
    int fd;               /* client */
    int index;            /* of a listener */
    bool paused;          /* listener: GUARDED_BY(worker->lock) */
    bool shut;            /* session: its client's input is shut down */
    uint8_t linger_pause; /* session: turns until lingering is tried again */
    void *user;           /* the service's session */
    int wait_fd;
    unsigned wait_events;
    struct mono_time deadline;
};

/* One for each thread that may be. */
struct worker_thread {
    struct worker *worker;
    _Atomic int64_t since_us; /* monotonic: at work since then; 0: idle */
};

struct worker_threads {
    int running GUARDED_BY(worker->lock);
    int started GUARDED_BY(worker->lock);
    atomic_int idle, lingering;
    pthread_cond_t left;
    bool stuck_reported;
    struct worker_thread each[]; /* worker_threads of them */
};

static _Thread_local struct worker_thread *this_thread;

void worker_goes_on(void)
{
    if (this_thread != NULL)
        atomic_store_explicit(&this_thread->since_us, mono_now().us, memory_order_relaxed);
}

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
    poller_arm(l->item, WORKER_FD_LISTEN + l->index, POLLER_READ, MONO_NEVER);
}

static void close_listener(struct worker_session *l)
{
    poller_forget_fd(l->item);
    (void) close(WORKER_FD_LISTEN + l->index);
}

/* The paused listeners are the caller's: bits of a set. */
static uint64_t take_paused_locked(struct worker *w) REQUIRES(w->lock)
{
    uint64_t set = 0;

    for (int i = 0; i < w->nlisten; i++) {
        if (w->listeners[i].paused)
            set |= UINT64_C(1) << i;
        w->listeners[i].paused = false;
    }
    return set;
}

static void resume(struct worker *w, uint64_t set)
{
    for (int i = 0; i < w->nlisten; i++) {
        if ((set >> i & 1) == 0)
            continue;
        if (atomic_load(&w->draining))
            close_listener(&w->listeners[i]);
        else
            arm_listener(&w->listeners[i]);
    }
}

/* The last client has gone from a worker that leaves: the threads may go. */
static void check_end(struct worker *w)
{
    bool end;

    lock_take(&w->lock);
    end = atomic_load(&w->draining) && w->sessions == 0 && !w->ended;
    w->ended |= end;
    lock_release(&w->lock);
    if (end)
        poller_stop(w->poller);
}

static struct worker_session *open_session(struct worker *w, const struct worker_client *client);

/* Sockets that are given up: with the last copy the kernel would cut off those who wait there to be accepted. */
static void take_pending(struct worker *w, int listener)
{
    struct worker_client client;
    struct worker_session *s;

    while (worker_accept(w, listener, &client) == 1) {
        lock_take(&w->lock);
        w->sessions++;
        lock_release(&w->lock);
        s = open_session(w, &client);
        if (s == NULL)
            continue;
        poller_wake(s->item); /* for the next thread that is free */
        poller_arm(s->item, -1, 0, MONO_NEVER);
    }
}

void worker_threads_drain(struct worker *w)
{
    uint64_t paused;
    bool first;

    lock_take(&w->lock);
    first = !w->drain_begun;
    w->drain_begun = true;
    lock_release(&w->lock);
    if (first && w->service->drain != NULL)
        w->service->drain(w);
    for (int i = 0; i < w->nlisten && first && atomic_load(&w->serve_pending); i++)
        take_pending(w, i);
    lock_take(&w->lock);
    worker_tell_locked(w);
    paused = take_paused_locked(w);
    lock_release(&w->lock);
    resume(w, paused);
    poller_wake_all(w->poller);
    check_end(w);
}

/* A client's place is free again. served: it had been served. */
static void release_place(struct worker *w, bool served)
{
    uint64_t paused = 0;
    bool used_up;

    lock_take(&w->lock);
    w->sessions--;
    w->served += served;
    if (w->sessions == 0)
        w->idle_since = mono_now();
    used_up = w->served >= (uint64_t) (w->p.max_use * w->capacity);
    if (atomic_load(&w->draining) || (w->told_full && !used_up))
        worker_tell_locked(w);
    if (!used_up)
        paused = take_paused_locked(w);
    lock_release(&w->lock);
    resume(w, paused);
    if (used_up)
        worker_leave(w);
    check_end(w);
}

static void close_session(struct worker_session *s)
{
    struct worker *w = s->worker;

    if (s->user != NULL)
        w->service->session_close(s->user);
    poller_item_free(&s->item);
    fd_close(&s->fd);
    free(s);
    release_place(w, true);
}

/* NULL: the service does not want this client. Its place is taken already. */
static struct worker_session *open_session(struct worker *w, const struct worker_client *client)
{
    struct worker_session *s = xcalloc(1, sizeof(*s));

    s->kind = ITEM_SESSION;
    s->worker = w;
    s->fd = s->wait_fd = client->fd;
    s->wait_events = POLLER_READ;
    s->deadline = MONO_NEVER;
    s->item = poller_item_new(w->poller, s);
    s->user = w->service->session_open(w, s, client);
    if (s->user != NULL)
        return s;
    close_session(s);
    return NULL;
}

/* Waits a moment for what the session waits for. A wake that comes meanwhile is not lost: the next arm finds it. */
static bool linger(struct worker_session *s, unsigned *events)
{
    struct worker_threads *t = s->worker->threads;
    struct pollfd p = {.fd = s->wait_fd, .events = POLLIN | POLLRDHUP};
    int n = 0;

    if (!crew_has_blocked() || s->wait_fd == -1 || s->wait_events != POLLER_READ ||
        atomic_load(&s->worker->draining) || atomic_load(&t->idle) <= 0)
        return false;
    if (s->linger_pause > 0) {
        s->linger_pause--;
        return false;
    }
    if (atomic_fetch_add(&t->lingering, 1) < LINGER_MAX) {
        blocking_begin();
        n = poll(&p, 1, LINGER_MS);
        blocking_end();
    }
    atomic_fetch_sub(&t->lingering, 1);
    if (n <= 0) {
        s->linger_pause = LINGER_PAUSE;
        return false;
    }
    *events = ((p.revents & POLLIN) != 0 ? POLLER_READ : 0U) |
              ((p.revents & ~POLLIN) != 0 ? POLLER_HANGUP : 0U);
    return true;
}

/* One turn: the service works until the session waits for something that is not there yet. */
static enum worker_verdict turn(struct worker_session *s, unsigned events)
{
    struct worker *w = s->worker;
    enum worker_verdict v;
    int rounds = 0;

    do {
        v = w->service->session_work(s->user, events);
        events = 0;
    } while (v == WORKER_AGAIN && ++rounds < AGAIN_IN_A_ROW);
    return v;
}

static void work(struct worker_session *s, unsigned events, struct worker_thread *me)
{
    struct worker *w = s->worker;
    enum worker_verdict v;

    if ((events & POLLER_WOKEN) != 0 && !s->shut && atomic_load(&w->stopping)) {
        s->shut = true;
        (void) shutdown(s->fd, SHUT_RD); /* fails if the client has gone: just as well */
    }
    for (;;) {
        v = turn(s, events);
        if (v != WORKER_WAIT || !linger(s, &events))
            break;
        /* a turn has begun, for the watchdog */
        atomic_store_explicit(&me->since_us, mono_now().us, memory_order_relaxed);
    }
    if (v == WORKER_CLOSE) {
        close_session(s);
        return;
    }
    if (v == WORKER_AGAIN) {
        poller_wake(s->item); /* goes to the end of the queue of those that are ready */
        poller_arm(s->item, -1, 0, MONO_NEVER);
        return;
    }
    poller_arm(s->item, s->wait_fd, s->wait_events, s->deadline);
}

/*
 * Whether the listener is to be left alone: the worker is full. reserve: else a place is taken, unless the worker drains; it
 * must not end between this and the accept, which would cut the client off.
 */
static bool pause_if_full(struct worker_session *l, bool reserve, bool *draining)
{
    struct worker *w = l->worker;
    bool full;

    lock_take(&w->lock);
    *draining = atomic_load(&w->draining);
    full = !*draining && w->sessions >= w->capacity;
    if (full) {
        l->paused = true;
        if (!w->told_full)
            worker_tell_locked(w);
    } else if (reserve && !*draining) {
        w->sessions++;
    }
    lock_release(&w->lock);
    return full;
}

/* Takes one client, lets others take the next, and works on it. */
static void take_client(struct worker_session *l, struct worker_thread *me)
{
    struct worker *w = l->worker;
    struct worker_client client;
    struct worker_session *s;
    bool draining;
    int got;

    if (pause_if_full(l, true, &draining))
        return;
    if (draining) {
        close_listener(l);
        return;
    }
    got = worker_accept(w, l->index, &client);
    if (got == -1)
        (void) poll(NULL, 0, ACCEPT_PAUSE_MS);
    if (!pause_if_full(l, false, &draining))
        arm_listener(l); /* if the worker drains by now, it was woken and comes back to be closed */
    if (got != 1) {
        release_place(w, false);
        return;
    }
    s = open_session(w, &client);
    if (s != NULL)
        work(s, 0, me);
}

/*
 * Watchdog. A thread that is at work on one client for longer than daemon_timeout is stuck. The worker takes no more
 * clients, and ends when only stuck threads are left: the others' clients are not cut off.
 */
static void watch_threads(struct worker *w)
{
    int64_t limit_us = mono_now().us - w->p.daemon_timeout_s * 1000000;
    struct worker_threads *t = w->threads;
    int stuck = 0;
    int started;
    bool only_stuck;

    lock_take(&w->lock);
    started = t->started;
    lock_release(&w->lock);
    for (int i = 0; i < started; i++) {
        int64_t since_us = atomic_load(&t->each[i].since_us);

        stuck += since_us != 0 && since_us < limit_us;
    }
    if (stuck == 0)
        return;
    if (!t->stuck_reported)
        log_warning("watchdog: %d of %d threads are at work on one client for more than %d s",
                    stuck, started, (int) w->p.daemon_timeout_s);
    t->stuck_reported = true;
    worker_leave(w);
    lock_take(&w->lock);
    only_stuck = w->sessions <= stuck;
    lock_release(&w->lock);
    if (only_stuck) {
        log_warning("watchdog timeout: service %s, process %d ends", w->name, (int) getpid());
        _exit(1);
    }
}

static void arm_status(struct worker_session *s)
{
    struct worker *w = s->worker;
    int64_t wait_ms = w->p.max_idle_s * 1000;

    if (wait_ms > w->p.daemon_timeout_s * 500)
        wait_ms = w->p.daemon_timeout_s * 500;
    if (wait_ms < WATCH_PERIOD_MS)
        wait_ms = WATCH_PERIOD_MS;
    if (map_env_wants_tending(w->maps) && !atomic_load(&w->draining))
        wait_ms = TEND_MS;
    /* without master nothing is to be heard; only the watchdog goes on */
    poller_arm(s->item, atomic_load(&w->stopping) ? -1 : WORKER_FD_STATUS, POLLER_READ,
               mono_after_ms(mono_now(), wait_ms));
}

static void hear(struct worker_session *s, unsigned events)
{
    struct worker *w = s->worker;
    uint64_t paused = 0;
    bool idle;

    if ((events & (POLLER_READ | POLLER_HANGUP)) != 0) {
        worker_hear(w);
        if (atomic_load(&w->draining))
            worker_threads_drain(w);
        /* it may have more clients now */
        lock_take(&w->lock);
        if (w->sessions < w->capacity)
            paused = take_paused_locked(w);
        lock_release(&w->lock);
        resume(w, paused);
    }
    watch_threads(w);
    lock_take(&w->lock);
    idle = w->sessions == 0 && mono_diff_ms(mono_now(), w->idle_since) >= w->p.max_idle_s * 1000;
    lock_release(&w->lock);
    if (idle || (!atomic_load(&w->draining) && map_env_tend(w->maps)))
        worker_leave(w);
    arm_status(s);
}

static void *run(void *arg);

static void start_thread_locked(struct worker *w) REQUIRES(w->lock)
{
    struct worker_threads *t = w->threads;
    pthread_attr_t attr;
    pthread_t thread;
    int code;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    t->each[t->started].worker = w;
    /* before it runs: it may get work, and be no longer idle, at once */
    atomic_fetch_add(&t->idle, 1);
    code = pthread_create(&thread, &attr, run, &t->each[t->started]);
    if (code == 0) {
        t->started++;
        t->running++;
    } else {
        atomic_fetch_sub(&t->idle, 1);
        if (t->started == 0)
            fatal("no thread can be started: errno %d", code);
    }
    pthread_attr_destroy(&attr);
}

static void *run(void *arg)
{
    struct worker_thread *me = arg;
    struct worker *w = me->worker;
    struct worker_threads *t = w->threads;
    struct worker_session *s;
    unsigned events;

    this_thread = me;
    while ((s = poller_next(w->poller, &events)) != NULL) {
        atomic_store_explicit(&me->since_us, mono_now().us, memory_order_relaxed);
        /* the last idle one: another must be there for those that come in meanwhile */
        if (atomic_fetch_sub(&t->idle, 1) == 1) {
            lock_take(&w->lock);
            if (t->started < w->p.threads)
                start_thread_locked(w);
            lock_release(&w->lock);
        }
        switch (s->kind) {
        case ITEM_STATUS:
            hear(s, events);
            break;
        case ITEM_LISTENER:
            take_client(s, me);
            break;
        case ITEM_SESSION:
            work(s, events, me);
            break;
        }
        atomic_fetch_add(&t->idle, 1);
        atomic_store_explicit(&me->since_us, 0, memory_order_relaxed);
    }
    lock_take(&w->lock);
    t->running--;
    pthread_cond_signal(&t->left);
    lock_release(&w->lock);
    return NULL;
}

int worker_run_threaded(struct worker *w)
{
    struct err err = ERR_INIT;
    struct worker_threads *t =
        xcalloc(1, sizeof(*t) + (size_t) w->p.threads * sizeof(struct worker_thread));
    struct worker_session *status = xcalloc(1, sizeof(*status));

    w->poller = poller_new(&err);
    if (w->poller == NULL)
        fatal("%s", err.text);
    pthread_cond_init(&t->left, NULL);
    w->threads = t;
    w->idle_since = mono_now();
    w->listeners = xcalloc((size_t) w->nlisten, sizeof(*w->listeners));
    status->kind = ITEM_STATUS;
    status->worker = w;
    status->item = poller_item_new(w->poller, status);
    for (int i = 0; i < w->nlisten; i++) {
        struct worker_session *l = &w->listeners[i];

        l->kind = ITEM_LISTENER;
        l->worker = w;
        l->index = i;
        l->item = poller_item_new(w->poller, l);
    }
    worker_tell(w);
    arm_status(status);
    for (int i = 0; i < w->nlisten; i++)
        arm_listener(&w->listeners[i]);
    lock_take(&w->lock);
    start_thread_locked(w);
    while (t->running > 0)
        lock_wait(&w->lock, &t->left);
    lock_release(&w->lock);
    return 0;
}
