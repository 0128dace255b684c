/* SPDX-License-Identifier: Apache-2.0 */
/*
 * poller.c - see poller.h. With loop.c, the only user of epoll.
 *
 * Threads wait in epoll_wait themselves; each descriptor is armed for one event (EPOLLONESHOT).
 *
 * Invariants, all under the one lock:
 * (1) An event names its slot and the slot's generation, which each arm raises: one that comes late (the item was
 *     woken, timed out, armed anew or freed meanwhile) is recognised and dropped.
 * (2) An item leaves the parked state once for each arm; whoever changes it has the item.
 * (3) A descriptor number has one owner, the item that armed it last. An item whose descriptor was closed and whose
 *     number came back in another session cannot touch that one's registration.
 * epoll_ctl is called with the lock held: it does not block, and (3) would not hold otherwise.
 *
 * Time-outs: a wheel of 100 ms ticks, turned by whoever gets the event of a timer descriptor, which runs only while
 * something is on the wheel.
 */
#include "base/poller.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/file.h"
#include "base/lock.h"
#include "base/log.h"

#define TICK_MS 100
#define WHEEL   1024             /* ticks in one turn; later deadlines go round again */
#define WAKE_ID UINT64_MAX       /* the event of the event descriptor */
#define TICK_ID (UINT64_MAX - 1) /* the timer's */

struct poller_item {
    struct poller *poller;
    void *arg;
    uint32_t slot;
    bool parked GUARDED_BY(poller->lock);
    bool woken GUARDED_BY(poller->lock);        /* wake came while it was not parked */
    int registered_fd GUARDED_BY(poller->lock); /* in the epoll set, or -1 */
    uint64_t due_tick;
    struct poller_item *next, *prev; /* in its wheel slot, or in the ready list (next only) */
    bool on_wheel;
    unsigned ready_events;
};

struct slot {
    struct poller_item *item; /* NULL: free */
    uint32_t generation;
};

struct poller {
    int epfd;
    int eventfd;
    int timerfd;
    struct lock lock;
    struct slot *slots;
    uint32_t nslots;
    uint32_t *free_slots;
    uint32_t nfree;
    struct poller_item **owners; /* by descriptor: invariant (3) */
    size_t nowners;
    struct poller_item *wheel[WHEEL];
    uint64_t tick; /* the last one that was turned */
    size_t timed;  /* items on the wheel */
    struct poller_item *ready, **ready_tail;
    bool ticking; /* the timer runs */
    bool stopping;
};

static uint64_t tick_of(struct mono_time t)
{
    return t.us > 0 ? (uint64_t) (t.us / 1000 / TICK_MS) : 0;
}

struct poller *poller_new(struct err *err)
{
    struct poller *p = xcalloc(1, sizeof(*p));
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = WAKE_ID};
    struct epoll_event tick = {.events = EPOLLIN | EPOLLET, .data.u64 = TICK_ID};

    p->epfd = epoll_create1(EPOLL_CLOEXEC);
    p->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    p->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (p->epfd == -1 || p->eventfd == -1 || p->timerfd == -1 ||
        epoll_ctl(p->epfd, EPOLL_CTL_ADD, p->eventfd, &ev) == -1 ||
        epoll_ctl(p->epfd, EPOLL_CTL_ADD, p->timerfd, &tick) == -1) {
        err_sys(err, "poller");
        fd_close(&p->epfd);
        fd_close(&p->eventfd);
        fd_close(&p->timerfd);
        free(p);
        return NULL;
    }
    lock_init(&p->lock, LOCK_POLLER);
    p->ready_tail = &p->ready;
    p->tick = tick_of(mono_now());
    return p;
}

void poller_free(struct poller **poller)
{
    struct poller *p = *poller;

    if (p == NULL)
        return;
    fd_close(&p->epfd);
    fd_close(&p->eventfd);
    fd_close(&p->timerfd);
    lock_fini(&p->lock);
    free(p->slots);
    free(p->free_slots);
    free(p->owners);
    free(p);
    *poller = NULL;
}

struct poller_item *poller_item_new(struct poller *p, void *arg)
{
    struct poller_item *item = xcalloc(1, sizeof(*item));

    item->poller = p;
    item->arg = arg;
    item->registered_fd = -1;
    lock_take(&p->lock);
    if (p->nfree == 0) {
        uint32_t n = p->nslots == 0 ? 64 : p->nslots * 2;

        p->slots = xrealloc(p->slots, n * sizeof(*p->slots));
        p->free_slots = xrealloc(p->free_slots, n * sizeof(*p->free_slots));
        for (uint32_t i = n; i-- > p->nslots;) {
            p->slots[i] = (struct slot){NULL, 0};
            p->free_slots[p->nfree++] = i;
        }
        p->nslots = n;
    }
    item->slot = p->free_slots[--p->nfree];
    p->slots[item->slot].item = item;
    lock_release(&p->lock);
    return item;
}

static void unlink_timer_locked(struct poller *p, struct poller_item *item) REQUIRES(p->lock)
{
    if (!item->on_wheel)
        return;
    if (item->prev != NULL)
        item->prev->next = item->next;
    else
        p->wheel[item->due_tick % WHEEL] = item->next;
    if (item->next != NULL)
        item->next->prev = item->prev;
    item->next = item->prev = NULL;
    item->on_wheel = false;
    p->timed--;
}

static void forget_fd_locked(struct poller *p, struct poller_item *item) REQUIRES(p->lock)
{
    int fd = item->registered_fd;

    if (fd == -1)
        return;
    item->registered_fd = -1;
    if (p->owners[fd] != item)
        return;
    p->owners[fd] = NULL;
    (void) epoll_ctl(p->epfd, EPOLL_CTL_DEL, fd, NULL); /* fails if it is closed: just as well */
}

void poller_forget_fd(struct poller_item *item)
{
    struct poller *p = item->poller;

    lock_take(&p->lock);
    forget_fd_locked(p, item);
    lock_release(&p->lock);
}

void poller_item_free(struct poller_item **item)
{
    struct poller *p;

    if (*item == NULL)
        return;
    p = (*item)->poller;
    lock_take(&p->lock);
    forget_fd_locked(p, *item);
    p->slots[(*item)->slot].item = NULL;
    p->slots[(*item)->slot].generation++;
    p->free_slots[p->nfree++] = (*item)->slot;
    lock_release(&p->lock);
    free(*item);
    *item = NULL;
}

static void poke(struct poller *p)
{
    uint64_t one = 1;

    if (write(p->eventfd, &one, sizeof(one)) == -1 && errno != EAGAIN)
        panic("poller: cannot be woken");
}

/* The item leaves the parked state with these events. */
static void make_ready_locked(struct poller *p, struct poller_item *item, unsigned events)
    REQUIRES(p->lock)
{
    unlink_timer_locked(p, item);
    item->parked = false;
    item->ready_events = events;
    item->next = NULL;
    *p->ready_tail = item;
    p->ready_tail = &item->next;
    poke(p);
}

static void run_timer_locked(struct poller *p, bool on) REQUIRES(p->lock)
{
    const long ns = on ? TICK_MS * 1000000L : 0;
    struct itimerspec spec = {.it_interval.tv_nsec = ns, .it_value.tv_nsec = ns};

    if (timerfd_settime(p->timerfd, 0, &spec, NULL) == -1)
        panic("poller: timer (errno %d)", errno);
    if (on && !p->ticking)
        p->tick = tick_of(mono_now());
    p->ticking = on;
}

static void start_timer_locked(struct poller *p, struct poller_item *item,
                               struct mono_time deadline) REQUIRES(p->lock)
{
    if (!p->ticking)
        run_timer_locked(p, true);
    /* never early: the tick after the one the deadline lies in */
    item->due_tick = tick_of(deadline) + 1;
    if (item->due_tick <= p->tick)
        item->due_tick = p->tick + 1;
    item->prev = NULL;
    item->next = p->wheel[item->due_tick % WHEEL];
    if (item->next != NULL)
        item->next->prev = item;
    p->wheel[item->due_tick % WHEEL] = item;
    item->on_wheel = true;
    p->timed++;
}

/* 0, or -1 with errno: the item's descriptor is in the epoll set, for one event of this generation. */
static int watch_locked(struct poller *p, struct poller_item *item, int fd, unsigned events)
    REQUIRES(p->lock)
{
    struct epoll_event ev = {
        .events = EPOLLONESHOT | EPOLLRDHUP,
        .data.u64 = (uint64_t) item->slot << 32 | p->slots[item->slot].generation,
    };
    int op = EPOLL_CTL_MOD;

    if ((events & POLLER_READ) != 0)
        ev.events |= EPOLLIN;
    if ((events & POLLER_WRITE) != 0)
        ev.events |= EPOLLOUT;
    if (item->registered_fd != fd) {
        forget_fd_locked(p, item);
        op = EPOLL_CTL_ADD;
    }
    if ((size_t) fd >= p->nowners) {
        size_t n = (size_t) fd < 512 ? 1024 : 2 * (size_t) fd;

        p->owners = xrealloc(p->owners, n * sizeof(struct poller_item *));
        for (size_t i = p->nowners; i < n; i++)
            p->owners[i] = NULL;
        p->nowners = n;
    }
    /* ENOENT: the number was closed and opened again; EEXIST: the set still has it from an earlier owner */
    if (epoll_ctl(p->epfd, op, fd, &ev) == -1) {
        if (errno == ENOENT && op == EPOLL_CTL_MOD)
            op = EPOLL_CTL_ADD;
        else if (errno == EEXIST && op == EPOLL_CTL_ADD)
            op = EPOLL_CTL_MOD;
        else
            return -1;
        if (epoll_ctl(p->epfd, op, fd, &ev) == -1)
            return -1;
    }
    p->owners[fd] = item;
    item->registered_fd = fd;
    return 0;
}

void poller_arm(struct poller_item *item, int fd, unsigned events, struct mono_time deadline)
{
    struct poller *p = item->poller;
    int why = 0;

    lock_take(&p->lock);
    p->slots[item->slot].generation++;
    item->parked = true;
    if (item->woken) {
        item->woken = false;
        make_ready_locked(p, item, POLLER_WOKEN);
    } else if (fd != -1 && watch_locked(p, item, fd, events) == -1) {
        why = errno;
        make_ready_locked(p, item, POLLER_HANGUP);
    } else {
        if (fd == -1)
            forget_fd_locked(p, item);
        if (deadline.us != INT64_MAX)
            start_timer_locked(p, item, deadline);
    }
    lock_release(&p->lock);
    /* the item may be another thread's by now */
    if (why != 0)
        log_warning("poller: descriptor %d cannot be watched (errno %d)", fd, why);
}

void poller_wake(struct poller_item *item)
{
    struct poller *p = item->poller;

    lock_take(&p->lock);
    if (item->parked)
        make_ready_locked(p, item, POLLER_WOKEN);
    else
        item->woken = true;
    lock_release(&p->lock);
}

void poller_wake_all(struct poller *p)
{
    lock_take(&p->lock);
    for (uint32_t i = 0; i < p->nslots; i++) {
        struct poller_item *item = p->slots[i].item;

        if (item == NULL)
            continue;
        if (item->parked)
            make_ready_locked(p, item, POLLER_WOKEN);
        else
            item->woken = true;
    }
    lock_release(&p->lock);
}

void poller_stop(struct poller *p)
{
    lock_take(&p->lock);
    p->stopping = true;
    lock_release(&p->lock);
    poke(p);
}

/* Turns the wheel up to now. */
static void turn_locked(struct poller *p) REQUIRES(p->lock)
{
    uint64_t now = tick_of(mono_now());

    if (now > p->tick + WHEEL)
        p->tick = now - WHEEL;
    while (p->tick < now) {
        struct poller_item *item;

        p->tick++;
        item = p->wheel[p->tick % WHEEL];
        while (item != NULL) {
            struct poller_item *next = item->next;

            if (item->due_tick <= p->tick)
                make_ready_locked(p, item, POLLER_TIMEOUT);
            item = next;
        }
    }
}

static void *take_ready_locked(struct poller *p, unsigned *events) REQUIRES(p->lock)
{
    struct poller_item *item = p->ready;

    if (item == NULL)
        return NULL;
    p->ready = item->next;
    if (p->ready == NULL)
        p->ready_tail = &p->ready;
    item->next = NULL;
    *events = item->ready_events;
    return item->arg;
}

void *poller_next(struct poller *p, unsigned *events)
{
    void *arg = NULL;

    lock_take(&p->lock);
    while (!p->stopping) {
        struct epoll_event ev;
        struct poller_item *item;
        uint32_t slot;
        int n;

        arg = take_ready_locked(p, events);
        if (arg != NULL)
            break;
        lock_release(&p->lock);
        n = epoll_wait(p->epfd, &ev, 1, -1);
        if (n == -1 && errno != EINTR)
            panic("poller: epoll_wait (errno %d)", errno);
        lock_take(&p->lock);
        if (n != 1)
            continue;
        if (ev.data.u64 == WAKE_ID) {
            uint64_t count;

            if (!p->stopping && read(p->eventfd, &count, sizeof(count)) == -1 && errno != EAGAIN)
                panic("poller: eventfd (errno %d)", errno);
            continue;
        }
        if (ev.data.u64 == TICK_ID) {
            uint64_t ticks;

            /* without this read the timer would not go on */
            if (read(p->timerfd, &ticks, sizeof(ticks)) == -1 && errno != EAGAIN)
                panic("poller: timer (errno %d)", errno);
            turn_locked(p);
            if (p->timed == 0 && p->ticking)
                run_timer_locked(p, false);
            continue;
        }
        slot = (uint32_t) (ev.data.u64 >> 32);
        item = slot < p->nslots ? p->slots[slot].item : NULL;
        if (item == NULL || !item->parked || p->slots[slot].generation != (uint32_t) ev.data.u64)
            continue;
        unlink_timer_locked(p, item);
        item->parked = false;
        *events = 0;
        if ((ev.events & EPOLLIN) != 0)
            *events |= POLLER_READ;
        if ((ev.events & EPOLLOUT) != 0)
            *events |= POLLER_WRITE;
        if ((ev.events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0)
            *events |= POLLER_HANGUP;
        arg = item->arg;
        break;
    }
    lock_release(&p->lock);
    return arg;
}
