/* SPDX-License-Identifier: Apache-2.0 */
/* lock.c - see lock.h. Debug builds check that locks are taken in the order of their ranks. */
#include "base/lock.h"

#include <errno.h>

#include "base/log.h"

/* the bodies of the lock calls themselves: clang cannot see that the mutex within is the capability */
#if defined(__clang__)
#define UNCHECKED __attribute__((no_thread_safety_analysis))
#else
#define UNCHECKED
#endif

#ifndef NDEBUG
#define HELD_MAX 16
static _Thread_local enum lock_rank held[HELD_MAX];
static _Thread_local int nheld;

static void note_taken(const struct lock *l)
{
    if (nheld > 0 && held[nheld - 1] >= l->rank)
        panic("lock of rank %d taken while %d is held", (int) l->rank, (int) held[nheld - 1]);
    if (nheld == HELD_MAX)
        panic("too many locks held");
    held[nheld++] = l->rank;
}

static void note_released(const struct lock *l)
{
    int i = nheld;

    while (i > 0 && held[i - 1] != l->rank)
        i--;
    if (i == 0)
        panic("lock of rank %d released, but not held", (int) l->rank);
    for (; i < nheld; i++)
        held[i - 1] = held[i];
    nheld--;
}
#else
static void note_taken(const struct lock *l)
{
    (void) l;
}
static void note_released(const struct lock *l)
{
    (void) l;
}
#endif

void lock_init(struct lock *l, enum lock_rank rank)
{
    pthread_mutexattr_t attr;

    /* what is done under a lock is short: to try again for a moment is cheaper than to sleep */
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&l->mutex, &attr);
    pthread_mutexattr_destroy(&attr);
    l->rank = rank;
}

void lock_fini(struct lock *l)
{
    pthread_mutex_destroy(&l->mutex);
}

void lock_take(struct lock *l) UNCHECKED
{
    note_taken(l);
    pthread_mutex_lock(&l->mutex);
}

void lock_release(struct lock *l) UNCHECKED
{
    note_released(l);
    pthread_mutex_unlock(&l->mutex);
}

void lock_wait(struct lock *l, pthread_cond_t *cond)
{
    pthread_cond_wait(cond, &l->mutex);
}

bool lock_wait_until(struct lock *l, pthread_cond_t *cond, struct mono_time deadline)
{
    struct timespec ts = {deadline.us / 1000000, deadline.us % 1000000 * 1000};

    if (deadline.us == MONO_NEVER.us)
        return pthread_cond_wait(cond, &l->mutex) == 0;
    return pthread_cond_clockwait(cond, &l->mutex, CLOCK_MONOTONIC, &ts) != ETIMEDOUT;
}
