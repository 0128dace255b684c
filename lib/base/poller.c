/* SPDX-License-Identifier: Apache-2.0 */
/*
 * poller.c - see poller.h. With loop.c, the only user of epoll.
 *
 * Threads wait in epoll_wait themselves, one at a time (crew.h); what it brings goes to the ready list. Each descriptor is
 * armed for one event (EPOLLONESHOT).
 *
 * Invariants, all under the one lock, the crew's:
 * (1) An event names its descriptor and the number of the epoll_ctl call that asked for it: one that comes late, of a
 *     descriptor that was closed or is another item's by now, is recognised and dropped.
 * (2) An item leaves the parked state once for each arm; whoever changes it has the item.
 * (3) A descriptor number has one owner, the item that armed it last. An item whose descriptor was closed and whose
 *     number came back in another session cannot touch that one's registration.
 * (4) A descriptor with POLLER_STAYS is registered for edges: each change is reported once, and remembered while its item is not
 *     parked for it. So nothing is missed between a read that found the end and the arm after it.
 * epoll_ctl is called with the lock held: it does not block, and (3) would not hold otherwise.
 *
 * Time-outs: a wheel of 100 ms ticks, turned by whoever gets the event of a timer descriptor, which runs only while
 * something is on the wheel.
 */
#include "base/poller.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/crew.h"
#include "base/file.h"
#include "base/lock.h"
#include "base/log.h"

#define TICK_MS 100
#define WHEEL   1024             /* ticks in one turn; later deadlines go round again */
#define EVENTS  64               /* taken from the kernel at once */
#define WAKE_ID UINT64_MAX       /* the event of the event descriptor */
#define TICK_ID (UINT64_MAX - 1) /* the timer's */

struct poller_item {
    struct poller *poller;
    void *arg;
    TAILQ_ENTRY(poller_item) all GUARDED_BY(poller->crew.lock);
    bool parked GUARDED_BY(poller->crew.lock);
    bool woken GUARDED_BY(poller->crew.lock); /* wake came while it was not parked */
    int fd GUARDED_BY(poller->crew.lock);     /* what it is parked for, or -1 */
    int last_watch GUARDED_BY(
        poller->crew.lock); /* the descriptors that it owns, linked by number; -1: none */
    uint64_t due_tick;
    struct poller_item *next, *prev; /* in its wheel slot, or in the ready list (next only) */
    bool on_wheel;
    unsigned ready_events;
};

/* A descriptor. */
struct watch {
    struct poller_item *owner; /* NULL: nobody's */
    int next;                  /* of the same owner */
    uint32_t call;             /* invariant (1) */
    unsigned asked;            /* POLLER_ bits, if it is registered for edges; else 0 */
    unsigned pending;          /* what happened while its owner was not parked for it */
};

struct poller {
    int epfd;
    int eventfd;
    int timerfd;
    TAILQ_HEAD(, poller_item) items;
    struct watch *watches; /* by descriptor */
    size_t nwatches;
    uint32_t calls; /* of epoll_ctl */
    struct poller_item *wheel[WHEEL];
    uint64_t tick; /* the last one that was turned */
    size_t timed;  /* items on the wheel */
    struct poller_item *ready, **ready_tail;
    size_t nready;
    struct crew crew; /* with the lock of it all */
    bool poked;       /* the event descriptor has been written to, for the leader */
    bool ticking;     /* the timer runs */
    bool stopping;
};

static uint64_t tick_of(struct mono_time t)
{
    return t.us > 0 ? (uint64_t) (t.us / 1000 / TICK_MS) : 0;
}

/* Threads at work at once. Two where there is one processor, so that a long piece of work does not stop all others. */
static unsigned work_limit(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 2;

    return n > 2 ? (unsigned) n : 2;
}

struct poller *poller_new(struct err *err)
{
    struct poller *p = xcalloc(1, sizeof(*p));
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = WAKE_ID};
    struct epoll_event tick = {.events = EPOLLIN | EPOLLET, .data.u64 = TICK_ID};

    p->epfd = epoll_create1(EPOLL_CLOEXEC);
    p->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
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
    crew_init(&p->crew, LOCK_POLLER, work_limit());
    TAILQ_INIT(&p->items);
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
    crew_fini(&p->crew);
    free(p->watches);
    free(p);
    *poller = NULL;
}

struct poller_item *poller_item_new(struct poller *p, void *arg)
{
    struct poller_item *item = xcalloc(1, sizeof(*item));

    item->poller = p;
    item->arg = arg;
    item->fd = item->last_watch = -1;
    lock_take(&p->crew.lock);
    TAILQ_INSERT_TAIL(&p->items, item, all);
    lock_release(&p->crew.lock);
    return item;
}

static void unlink_timer_locked(struct poller *p, struct poller_item *item) REQUIRES(p->crew.lock)
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

/* Takes the descriptor out of its owner's list. */
static void disown_locked(struct poller *p, int fd) REQUIRES(p->crew.lock)
{
    struct watch *w = &p->watches[fd];
    int *at = &w->owner->last_watch;

    while (*at != fd)
        at = &p->watches[*at].next;
    *at = w->next;
    w->owner = NULL;
    w->asked = w->pending = 0;
}

void poller_forget_fd(struct poller_item *item)
{
    struct poller *p = item->poller;

    lock_take(&p->crew.lock);
    while (item->last_watch != -1) {
        int fd = item->last_watch;

        disown_locked(p, fd);
        (void) epoll_ctl(p->epfd, EPOLL_CTL_DEL, fd,
                         NULL); /* fails if it is closed: just as well */
    }
    lock_release(&p->crew.lock);
}

void poller_item_free(struct poller_item **item)
{
    struct poller *p;

    if (*item == NULL)
        return;
    p = (*item)->poller;
    lock_take(&p->crew.lock);
    /* they are closed soon, which takes them out of the set; until then their events are nobody's */
    while ((*item)->last_watch != -1)
        disown_locked(p, (*item)->last_watch);
    TAILQ_REMOVE(&p->items, *item, all);
    lock_release(&p->crew.lock);
    free(*item);
    *item = NULL;
}

/* Whoever leads comes back from epoll_wait. */
static void poke_locked(struct poller *p) REQUIRES(p->crew.lock)
{
    uint64_t one = 1;

    if (p->poked)
        return;
    p->poked = true;
    if (write(p->eventfd, &one, sizeof(one)) == -1 && errno != EAGAIN)
        panic("poller: cannot be woken");
}

/* The item leaves the parked state with these events. */
static void make_ready_locked(struct poller *p, struct poller_item *item, unsigned events)
    REQUIRES(p->crew.lock)
{
    unlink_timer_locked(p, item);
    item->parked = false;
    item->ready_events = events;
    item->next = NULL;
    *p->ready_tail = item;
    p->ready_tail = &item->next;
    p->nready++;
    if (p->crew.has_leader)
        poke_locked(p);
    else if (p->crew.at_work == 0)
        crew_offer_locked(&p->crew);
}

static void run_timer_locked(struct poller *p, bool on) REQUIRES(p->crew.lock)
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
                               struct mono_time deadline) REQUIRES(p->crew.lock)
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

static struct watch *watch_of_locked(struct poller *p, int fd) REQUIRES(p->crew.lock)
{
    if ((size_t) fd >= p->nwatches) {
        size_t n = (size_t) fd < 512 ? 1024 : 2 * (size_t) fd;

        p->watches = xrealloc(p->watches, n * sizeof(*p->watches));
        for (size_t i = p->nwatches; i < n; i++)
            p->watches[i] = (struct watch){.next = -1};
        p->nwatches = n;
    }
    return &p->watches[fd];
}

/* 0, or -1 with errno: the descriptor is the item's, and in the epoll set. */
static int watch_locked(struct poller *p, struct poller_item *item, int fd, unsigned events)
    REQUIRES(p->crew.lock)
{
    struct watch *w = watch_of_locked(p, fd);
    struct epoll_event ev = {.data.u64 = (uint64_t) (uint32_t) fd << 32 | ++p->calls};
    /* another one's: most likely it was handed over, and is in the set */
    int op = w->owner != NULL ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

    ev.events = EPOLLRDHUP | ((events & POLLER_STAYS) != 0 ? EPOLLET : EPOLLONESHOT);
    if ((events & POLLER_READ) != 0)
        ev.events |= EPOLLIN;
    if ((events & POLLER_WRITE) != 0)
        ev.events |= EPOLLOUT;
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
    if (w->owner != item) {
        if (w->owner != NULL)
            disown_locked(p, fd);
        w->owner = item;
        w->next = item->last_watch;
        item->last_watch = fd;
    }
    w->call = p->calls;
    w->asked = (events & POLLER_STAYS) != 0 ? events & (POLLER_READ | POLLER_WRITE) : 0;
    w->pending = 0;
    return 0;
}

/* The descriptor need not be asked for again: invariant (4). */
static bool is_watched_locked(const struct poller *p, const struct poller_item *item, int fd,
                              unsigned events) REQUIRES(p->crew.lock)
{
    return (events & POLLER_DRAINED) != 0 && (size_t) fd < p->nwatches &&
           p->watches[fd].owner == item && p->watches[fd].asked != 0 &&
           p->watches[fd].asked == (events & (POLLER_READ | POLLER_WRITE));
}

void poller_arm(struct poller_item *item, int fd, unsigned events, struct mono_time deadline)
{
    struct poller *p = item->poller;
    int why = 0;

    lock_take(&p->crew.lock);
    item->parked = true;
    item->fd = fd;
    if (item->woken) {
        item->woken = false;
        make_ready_locked(p, item, POLLER_WOKEN);
    } else if (fd != -1 && is_watched_locked(p, item, fd, events)) {
        struct watch *w = &p->watches[fd];

        if (w->pending != 0) {
            make_ready_locked(p, item, w->pending);
            w->pending = 0;
        }
    } else if (fd != -1 && watch_locked(p, item, fd, events) == -1) {
        why = errno;
        make_ready_locked(p, item, POLLER_HANGUP);
    }
    if (item->parked && deadline.us != INT64_MAX)
        start_timer_locked(p, item, deadline);
    lock_release(&p->crew.lock);
    /* the item may be another thread's by now */
    if (why != 0)
        log_warning("poller: descriptor %d cannot be watched (errno %d)", fd, why);
}

void poller_wake(struct poller_item *item)
{
    struct poller *p = item->poller;

    lock_take(&p->crew.lock);
    if (item->parked)
        make_ready_locked(p, item, POLLER_WOKEN);
    else
        item->woken = true;
    lock_release(&p->crew.lock);
}

void poller_wake_all(struct poller *p)
{
    lock_take(&p->crew.lock);
    struct poller_item *item;

    TAILQ_FOREACH(item, &p->items, all)
    {
        if (item->parked)
            make_ready_locked(p, item, POLLER_WOKEN);
        else
            item->woken = true;
    }
    lock_release(&p->crew.lock);
}

void poller_stop(struct poller *p)
{
    lock_take(&p->crew.lock);
    p->stopping = true;
    poke_locked(p);
    crew_call_all_locked(&p->crew);
    lock_release(&p->crew.lock);
}

/* Turns the wheel up to now. */
static void turn_locked(struct poller *p) REQUIRES(p->crew.lock)
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

static struct poller_item *take_ready_locked(struct poller *p) REQUIRES(p->crew.lock)
{
    struct poller_item *item = p->ready;

    p->ready = item->next;
    if (p->ready == NULL)
        p->ready_tail = &p->ready;
    p->nready--;
    item->next = NULL;
    return item;
}

static void note_event_locked(struct poller *p, const struct epoll_event *ev) REQUIRES(p->crew.lock)
{
    size_t fd = (size_t) (ev->data.u64 >> 32);
    struct watch *w;
    uint64_t count;
    unsigned events = 0;

    if (ev->data.u64 == WAKE_ID) {
        /* at the end it stays readable, for every thread */
        if (!p->stopping && read(p->eventfd, &count, sizeof(count)) == -1 && errno != EAGAIN)
            panic("poller: eventfd (errno %d)", errno);
        p->poked = p->stopping;
        return;
    }
    if (ev->data.u64 == TICK_ID) {
        /* without this read the timer would not go on */
        if (read(p->timerfd, &count, sizeof(count)) == -1 && errno != EAGAIN)
            panic("poller: timer (errno %d)", errno);
        turn_locked(p);
        if (p->timed == 0 && p->ticking)
            run_timer_locked(p, false);
        return;
    }
    w = fd < p->nwatches ? &p->watches[fd] : NULL;
    if (w == NULL || w->owner == NULL || w->call != (uint32_t) ev->data.u64)
        return;
    if ((ev->events & EPOLLIN) != 0)
        events |= POLLER_READ;
    if ((ev->events & EPOLLOUT) != 0)
        events |= POLLER_WRITE;
    if ((ev->events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0)
        events |= POLLER_HANGUP;
    if (w->owner->parked && w->owner->fd == (int) fd)
        make_ready_locked(p, w->owner, events);
    else
        w->pending |= events;
}

/* Waits for events, as the only thread that does. */
static void lead_locked(struct poller *p) REQUIRES(p->crew.lock)
{
    struct epoll_event ev[EVENTS];
    int n;

    crew_lead_locked(&p->crew);
    lock_release(&p->crew.lock);
    n = epoll_wait(p->epfd, ev, EVENTS, -1);
    if (n == -1 && errno != EINTR)
        panic("poller: epoll_wait (errno %d)", errno);
    lock_take(&p->crew.lock);
    crew_led_locked(&p->crew);
    p->crew.called++; /* this thread itself is up: nobody else is wanted for what it brings */
    for (int i = 0; i < n; i++)
        note_event_locked(p, &ev[i]);
    p->crew.called--;
}

void *poller_next(struct poller *p, unsigned *events)
{
    void *arg = NULL;

    lock_take(&p->crew.lock);
    crew_return_locked(&p->crew);
    while (!p->stopping) {
        if (p->ready != NULL && crew_may_work_locked(&p->crew)) {
            struct poller_item *item = take_ready_locked(p);

            *events = item->ready_events;
            arg = item->arg;
            crew_begin_locked(&p->crew, p->nready);
            break;
        }
        if (p->ready == NULL && crew_may_lead_locked(&p->crew))
            lead_locked(p);
        else
            crew_sleep_locked(&p->crew);
    }
    lock_release(&p->crew.lock);
    return arg;
}
