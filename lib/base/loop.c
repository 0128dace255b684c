/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.c - see loop.h. With poller.c, the only user of epoll.
 *
 * What is freed during a turn is marked dead and released at its end. Timers: a binary heap.
 */
#include "base/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/file.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/vec.h"

#define EVENTS_A_TURN 128

struct loop_io {
    struct loop *loop;
    int fd;
    unsigned events;
    uint64_t born; /* turn in which it was made: its callback waits for the next */
    loop_io_fn fn;
    void *arg;
    bool dead;
};

struct loop_timer {
    struct loop *loop;
    struct mono_time when;
    size_t at; /* index in the heap plus 1; 0: not set */
    loop_fn fn;
    void *arg;
};

struct posted {
    struct posted *next;
    loop_fn fn;
    void *arg;
};

struct loop {
    int epfd;
    int eventfd;
    bool stopping;
    uint64_t turn;
    struct mono_time now;
    int64_t longest_us;
    struct vec timers; /* heap of struct loop_timer * */
    struct vec dead;   /* struct loop_io * to free at the end of the turn */
    struct posted *deferred, **deferred_tail;
    struct lock lock;
    struct posted *posted GUARDED_BY(lock);
    struct posted **posted_tail GUARDED_BY(lock);
};

struct loop *loop_new(void)
{
    struct loop *l = xcalloc(1, sizeof(*l));
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};

    l->epfd = epoll_create1(EPOLL_CLOEXEC);
    l->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->epfd == -1 || l->eventfd == -1 ||
        epoll_ctl(l->epfd, EPOLL_CTL_ADD, l->eventfd, &ev) == -1)
        fatal("event loop: cannot be set up");
    lock_init(&l->lock, LOCK_LOOP_POST);
    l->posted_tail = &l->posted;
    l->deferred_tail = &l->deferred;
    l->now = mono_now();
    return l;
}

static void free_list(struct posted *p)
{
    while (p != NULL) {
        struct posted *next = p->next;

        free(p);
        p = next;
    }
}

void loop_free(struct loop **loop)
{
    struct loop *l = *loop;

    if (l == NULL)
        return;
    vec_clear(&l->dead, free);
    vec_fini(&l->dead);
    vec_fini(&l->timers);
    lock_take(&l->lock);
    free_list(l->posted);
    lock_release(&l->lock);
    free_list(l->deferred);
    lock_fini(&l->lock);
    fd_close(&l->epfd);
    fd_close(&l->eventfd);
    free(l);
    *loop = NULL;
}

struct mono_time loop_now(const struct loop *l)
{
    return l->now;
}

int64_t loop_longest_us(struct loop *l)
{
    int64_t us = l->longest_us;

    l->longest_us = 0;
    return us;
}

static void end_turn(struct loop *l)
{
    int64_t us = mono_diff_us(mono_now(), l->now);

    if (us > l->longest_us)
        l->longest_us = us;
    vec_clear(&l->dead, free);
}

void loop_stop(struct loop *l)
{
    l->stopping = true;
}

/* --- descriptors --------------------------------------------------------------------------------- */

static uint32_t to_epoll(unsigned events)
{
    return ((events & LOOP_READ) != 0 ? (uint32_t) EPOLLIN | EPOLLRDHUP : 0) |
           ((events & LOOP_WRITE) != 0 ? (uint32_t) EPOLLOUT : 0);
}

struct loop_io *loop_io_new(struct loop *l, int fd, unsigned events, loop_io_fn fn, void *arg)
{
    struct loop_io *io = xcalloc(1, sizeof(*io));
    struct epoll_event ev = {.events = to_epoll(events), .data.ptr = io};

    io->loop = l;
    io->fd = fd;
    io->events = events;
    io->born = l->turn;
    io->fn = fn;
    io->arg = arg;
    if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) == -1)
        panic("event loop: descriptor %d cannot be watched (errno %d)", fd, errno);
    return io;
}

void loop_io_set(struct loop_io *io, unsigned events)
{
    struct epoll_event ev = {.events = to_epoll(events), .data.ptr = io};

    if (io->dead || io->events == events)
        return;
    io->events = events;
    if (epoll_ctl(io->loop->epfd, EPOLL_CTL_MOD, io->fd, &ev) == -1)
        panic("event loop: descriptor %d cannot be changed (errno %d)", io->fd, errno);
}

void loop_io_free(struct loop_io **io)
{
    if (*io == NULL)
        return;
    if (!(*io)->dead) {
        (*io)->dead = true;
        (void) epoll_ctl((*io)->loop->epfd, EPOLL_CTL_DEL, (*io)->fd, NULL);
        vec_push(&(*io)->loop->dead, *io);
    }
    *io = NULL;
}

/* --- timers: a heap by time ------------------------------------------------------------------------ */

static void heap_place(struct loop *l, size_t i, struct loop_timer *t)
{
    l->timers.items[i] = t;
    t->at = i + 1;
}

static bool heap_before(const struct loop *l, size_t a, size_t b)
{
    return ((const struct loop_timer *) l->timers.items[a])->when.us <
           ((const struct loop_timer *) l->timers.items[b])->when.us;
}

static void heap_swap(struct loop *l, size_t a, size_t b)
{
    struct loop_timer *t = l->timers.items[a];

    heap_place(l, a, l->timers.items[b]);
    heap_place(l, b, t);
}

static void heap_fix(struct loop *l, size_t i)
{
    while (i > 0 && heap_before(l, i, (i - 1) / 2)) {
        heap_swap(l, i, (i - 1) / 2);
        i = (i - 1) / 2;
    }
    for (;;) {
        size_t least = i;

        if (2 * i + 1 < l->timers.len && heap_before(l, 2 * i + 1, least))
            least = 2 * i + 1;
        if (2 * i + 2 < l->timers.len && heap_before(l, 2 * i + 2, least))
            least = 2 * i + 2;
        if (least == i)
            return;
        heap_swap(l, i, least);
        i = least;
    }
}

struct loop_timer *loop_timer_new(struct loop *l, loop_fn fn, void *arg)
{
    struct loop_timer *t = xcalloc(1, sizeof(*t));

    t->loop = l;
    t->fn = fn;
    t->arg = arg;
    return t;
}

void loop_timer_set(struct loop_timer *t, int64_t after_ms)
{
    t->when = mono_after_ms(mono_now(), after_ms);
    if (t->at == 0) {
        vec_push(&t->loop->timers, t);
        t->at = t->loop->timers.len;
    }
    heap_fix(t->loop, t->at - 1);
}

void loop_timer_cancel(struct loop_timer *t)
{
    struct loop *l = t->loop;
    size_t i = t->at - 1;
    struct loop_timer *last;

    if (t->at == 0)
        return;
    t->at = 0;
    last = vec_pop(&l->timers);
    if (last != t) {
        heap_place(l, i, last);
        heap_fix(l, i);
    }
}

void loop_timer_free(struct loop_timer **t)
{
    if (*t == NULL)
        return;
    loop_timer_cancel(*t);
    free(*t);
    *t = NULL;
}

static void run_timers(struct loop *l)
{
    struct mono_time limit = l->now; /* a timer set for now by a callback waits for the next turn */

    for (size_t budget = l->timers.len; budget > 0 && l->timers.len > 0; budget--) {
        struct loop_timer *t = l->timers.items[0];

        if (t->when.us > limit.us)
            return;
        loop_timer_cancel(t);
        t->fn(t->arg);
    }
}

/* --- posted work ------------------------------------------------------------------------------------ */

void loop_post(struct loop *l, loop_fn fn, void *arg)
{
    struct posted *p = xcalloc(1, sizeof(*p));
    uint64_t one = 1;
    bool first;

    p->fn = fn;
    p->arg = arg;
    lock_take(&l->lock);
    first = l->posted == NULL;
    *l->posted_tail = p;
    l->posted_tail = &p->next;
    lock_release(&l->lock);
    if (first && write(l->eventfd, &one, sizeof(one)) == -1 && errno != EAGAIN)
        panic("event loop: cannot be woken");
}

void loop_defer(struct loop *l, loop_fn fn, void *arg)
{
    struct posted *p = xcalloc(1, sizeof(*p));

    p->fn = fn;
    p->arg = arg;
    *l->deferred_tail = p;
    l->deferred_tail = &p->next;
}

static void run_list(struct posted *p)
{
    while (p != NULL) {
        struct posted *next = p->next;

        p->fn(p->arg);
        free(p);
        p = next;
    }
}

static void run_posted(struct loop *l)
{
    struct posted *list;
    uint64_t count;

    if (read(l->eventfd, &count, sizeof(count)) == -1 && errno != EAGAIN)
        panic("event loop: eventfd");
    lock_take(&l->lock);
    list = l->posted;
    l->posted = NULL;
    l->posted_tail = &l->posted;
    lock_release(&l->lock);
    run_list(list);
}

static void run_deferred(struct loop *l)
{
    struct posted *list = l->deferred;

    l->deferred = NULL;
    l->deferred_tail = &l->deferred;
    run_list(list);
}

void loop_run(struct loop *l)
{
    struct epoll_event events[EVENTS_A_TURN];

    l->stopping = false;
    while (!l->stopping) {
        int timeout = -1;
        int n;

        if (l->deferred != NULL)
            timeout = 0;
        else if (l->timers.len > 0)
            timeout = mono_poll_ms(((struct loop_timer *) l->timers.items[0])->when);
        n = epoll_wait(l->epfd, events, EVENTS_A_TURN, timeout);
        if (n == -1 && errno != EINTR)
            panic("event loop: epoll_wait (errno %d)", errno);
        l->now = mono_now();
        l->turn++;
        for (int i = 0; i < n; i++) {
            struct loop_io *io = events[i].data.ptr;
            unsigned what = 0;

            if (io == NULL) {
                run_posted(l);
                continue;
            }
            if (io->dead || io->born == l->turn)
                continue;
            if ((events[i].events & EPOLLIN) != 0)
                what |= LOOP_READ;
            if ((events[i].events & EPOLLOUT) != 0)
                what |= LOOP_WRITE;
            if ((events[i].events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0)
                what |= LOOP_HANGUP;
            io->fn(io->arg, what);
        }
        run_timers(l);
        run_deferred(l);
        end_turn(l);
    }
}
