/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crew.c - see crew.h.
 *
 * Invariants. (1) While work is there and fewer than `limit` are at work, somebody leads, was called, or is at work and will come
 * back; if all of the latter are stuck, the deputy notices. (2) The deputy is asleep for good only while somebody leads, who
 * wakes it at the end of that, so that it looks again DEPUTY_MS later.
 */
#include "base/crew.h"

#include <errno.h>

#include "base/blocking.h"

#define DEPUTY_MS 10
#define MUCH_LEFT 4 /* pieces of work; fewer are done sooner than another thread is awake */

struct crew_seat {
    pthread_cond_t cond;
    bool called;
    struct crew_seat *next;
};

/* What the calling thread is in the crew that gave it work last: its own, no other thread sees it. */
static _Thread_local struct {
    struct crew *crew; /* NULL: has no work */
    uint64_t epoch; /* in which it counts as at work; another than the crew's: it does not count */
    unsigned depth; /* of blocking_begin() */
    bool has_blocked;
} self;

void crew_init(struct crew *c, enum lock_rank rank, unsigned limit)
{
    *c = (struct crew){.limit = limit > 0 ? limit : 1, .epoch = 1};
    lock_init(&c->lock, rank);
}

void crew_fini(struct crew *c)
{
    if (self.crew == c)
        self.crew = NULL;
    lock_fini(&c->lock);
}

static void count_out_locked(struct crew *c) REQUIRES(c->lock)
{
    if (self.epoch == c->epoch)
        c->at_work--;
    self.epoch = 0;
    c->moves++;
}

static void count_in_locked(struct crew *c) REQUIRES(c->lock)
{
    self.epoch = c->epoch;
    c->at_work++;
    c->moves++;
}

void crew_return_locked(struct crew *c)
{
    if (self.crew == c)
        count_out_locked(c);
    self.crew = NULL;
}

bool crew_may_work_locked(const struct crew *c)
{
    return c->at_work < c->limit;
}

bool crew_may_lead_locked(const struct crew *c)
{
    return !c->has_leader && c->at_work < c->limit;
}

static void wake_locked(struct crew *c, struct crew_seat *seat) REQUIRES(c->lock)
{
    struct crew_seat **at = &c->seats;

    while (*at != seat)
        at = &(*at)->next;
    *at = seat->next;
    if (c->deputy == seat) {
        c->deputy = NULL;
        c->deputy_sleeps = false;
    }
    seat->called = true;
    c->called++;
    pthread_cond_signal(&seat->cond);
}

void crew_call_all_locked(struct crew *c)
{
    while (c->seats != NULL)
        wake_locked(c, c->seats);
}

void crew_offer_locked(struct crew *c)
{
    if (c->seats != NULL && c->called == 0 && !c->has_leader && c->at_work < c->limit)
        wake_locked(c, c->seats);
}

void crew_begin_locked(struct crew *c, size_t left)
{
    self.crew = c;
    self.depth = 0;
    self.has_blocked = false;
    count_in_locked(c);
    if (left >= MUCH_LEFT)
        crew_offer_locked(c);
}

void crew_lead_locked(struct crew *c)
{
    c->has_leader = true;
}

void crew_led_locked(struct crew *c)
{
    c->has_leader = false;
    if (c->deputy_sleeps) {
        c->deputy_sleeps = false;
        pthread_cond_signal(&c->deputy->cond);
    }
}

/* The deputy's sleep. True: nothing went on for a while although there may be work, so it goes and looks. */
static bool watch_locked(struct crew *c, struct crew_seat *seat) REQUIRES(c->lock)
{
    uint64_t moves = c->moves;

    if (c->has_leader) {
        c->deputy_sleeps = true;
        lock_wait(&c->lock, &seat->cond);
        /* another one may be the deputy by now */
        if (c->deputy == seat)
            c->deputy_sleeps = false;
        return false;
    }
    if (lock_wait_until(&c->lock, &seat->cond, mono_after_ms(mono_now(), DEPUTY_MS)) ||
        seat->called || c->has_leader || c->moves != moves)
        return false;
    if (c->at_work >= c->limit) {
        c->epoch++;
        c->at_work = 0;
    }
    return true;
}

void crew_sleep_locked(struct crew *c)
{
    struct crew_seat seat = {.next = c->seats};

    pthread_cond_init(&seat.cond, NULL);
    c->seats = &seat;
    while (!seat.called) {
        if (c->deputy == NULL)
            c->deputy = &seat;
        if (c->deputy != &seat)
            lock_wait(&c->lock, &seat.cond);
        else if (watch_locked(c, &seat))
            wake_locked(c, &seat);
    }
    c->called--;
    /* the others need a deputy */
    if (c->deputy == NULL && c->seats != NULL)
        pthread_cond_signal(&c->seats->cond);
    pthread_cond_destroy(&seat.cond);
}

bool crew_has_blocked(void)
{
    return self.has_blocked;
}

void blocking_begin(void)
{
    struct crew *c = self.crew;
    int saved = errno;

    if (c == NULL || self.depth++ > 0)
        return;
    self.has_blocked = true;
    lock_take(&c->lock);
    count_out_locked(c);
    crew_offer_locked(c);
    lock_release(&c->lock);
    errno = saved;
}

void blocking_end(void)
{
    struct crew *c = self.crew;
    int saved = errno;

    if (c == NULL || --self.depth > 0)
        return;
    lock_take(&c->lock);
    count_in_locked(c);
    lock_release(&c->lock);
    errno = saved;
}
