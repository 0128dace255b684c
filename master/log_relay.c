/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_relay.c - see log_relay.h.
 *
 * Order: a round takes what was put until it began, from all rings, and sorts it by time. What a line led to elsewhere
 * (a delivery's line, then "removed" by the queue manager) is later, so it comes after it, in this round or the next.
 *
 * After rounds without a line the thread sleeps until a writer wakes it. It alone reads rings and talks to the syslog daemon, without
 * the lock; the lock is for the list.
 *
 * master forks, and some of these children go on in its code. What the thread held at that moment (of the C library's locks, too,
 * which may be more than those it cares for in fork()) would be held in the child for ever. So fork() waits until the thread sleeps or
 * sends: else it has fork_lock.
 */
#include "master/log_relay.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/vec.h"

#define PAUSE_MS    5
#define IDLE_ROUNDS 10 /* before it sleeps */

struct log_source {
    struct log_ring *ring;
    bool ended GUARDED_BY(relay->lock);
    bool is_last_round; /* thread: it had ended before this round began */
    bool is_damaged;    /* thread: that was told */
    struct log_relay *relay;
};

struct line {
    struct mono_time put;
    size_t number; /* within its round */
    size_t at, len;
};

static struct lock fork_lock = {PTHREAD_MUTEX_INITIALIZER, LOCK_LOG_FORK};

struct log_relay {
    sem_t begun; /* the thread has fork_lock */
    struct lock lock;
    struct vec sources GUARDED_BY(lock);
    bool stopping GUARDED_BY(lock);
    pthread_t thread;
    int wake_fd;
    /* the thread's: a round */
    struct vec taken;
    struct buf text;
    struct line *lines;
    struct slice *sorted;
    size_t count, cap;
};

static void note(struct mono_time put, struct slice line, void *arg)
{
    struct log_relay *r = arg;

    if (r->count == r->cap) {
        r->cap = r->cap == 0 ? 256 : 2 * r->cap;
        r->lines = xrealloc(r->lines, r->cap * sizeof(*r->lines));
        r->sorted = xrealloc(r->sorted, r->cap * sizeof(*r->sorted));
    }
    r->lines[r->count] = (struct line){put, r->count, r->text.len, line.len};
    r->count++;
    buf_put_slice(&r->text, line);
}

static int by_time(const void *a, const void *b)
{
    const struct line *x = a;
    const struct line *y = b;

    if (x->put.us != y->put.us)
        return x->put.us < y->put.us ? -1 : 1;
    return x->number < y->number ? -1 : 1;
}

/* Gives up the sources whose last lines were taken. */
static void sweep(struct log_relay *r)
{
    size_t kept = 0;

    lock_take(&r->lock);
    for (size_t i = 0; i < r->sources.len; i++) {
        struct log_source *s = r->sources.items[i];

        if (s->is_last_round) {
            log_ring_unmap(&s->ring);
            free(s);
        } else {
            r->sources.items[kept++] = s;
        }
    }
    r->sources.len = kept;
    lock_release(&r->lock);
}

/* How many lines there were. */
static size_t pass_on(struct log_relay *r) REQUIRES(fork_lock)
{
    struct mono_time until;
    bool any_ended = false;

    r->count = 0;
    buf_reset(&r->text);
    r->taken.len = 0;
    lock_take(&r->lock);
    for (size_t i = 0; i < r->sources.len; i++) {
        struct log_source *s = r->sources.items[i];

        s->is_last_round = s->ended;
        any_ended |= s->ended;
        vec_push(&r->taken, s);
    }
    lock_release(&r->lock);
    until = mono_now(); /* a source that comes later has no line that is older */
    for (size_t i = 0; i < r->taken.len; i++) {
        struct log_source *s = r->taken.items[i];

        if (!log_ring_take(s->ring, s->is_last_round ? MONO_NEVER : until, note, r) &&
            !s->is_damaged) {
            s->is_damaged = true;
            log_warning("log lines of a worker were lost: it has written past them");
        }
    }
    if (r->count > 0) {
        qsort(r->lines, r->count, sizeof(*r->lines), by_time);
        for (size_t i = 0; i < r->count; i++)
            r->sorted[i] = slice_of(r->text.ptr + r->lines[i].at, r->lines[i].len);
        /* a syslog daemon that hangs holds up the lines, and nothing else */
        lock_release(&fork_lock);
        log_pass_on(r->sorted, r->count);
        lock_take(&fork_lock);
    }
    if (any_ended)
        sweep(r);
    return r->count;
}

/* Until a line comes, or an order. */
static void wait_for_lines(struct log_relay *r) REQUIRES(fork_lock)
{
    uint64_t count;
    bool nothing = true;

    lock_take(&r->lock);
    for (size_t i = 0; i < r->sources.len; i++) {
        struct log_source *s = r->sources.items[i];

        nothing &= log_ring_sleep(s->ring) && !s->ended;
    }
    nothing &= !r->stopping;
    lock_release(&r->lock);
    if (!nothing)
        return;
    lock_release(&fork_lock);
    while (poll(&(struct pollfd){.fd = r->wake_fd, .events = POLLIN}, 1, -1) == -1)
        if (errno != EINTR)
            panic("log relay: poll (errno %d)", errno);
    lock_take(&fork_lock);
    if (read(r->wake_fd, &count, sizeof(count)) == -1 && errno != EAGAIN)
        panic("log relay: eventfd (errno %d)", errno);
}

static bool is_stopping(struct log_relay *r)
{
    bool stopping;

    lock_take(&r->lock);
    stopping = r->stopping;
    lock_release(&r->lock);
    return stopping;
}

static void *run(void *arg)
{
    struct log_relay *r = arg;
    int idle = IDLE_ROUNDS;

    lock_take(&fork_lock);
    (void) sem_post(&r->begun);
    while (!is_stopping(r)) {
        if (idle >= IDLE_ROUNDS) {
            wait_for_lines(r);
            idle = 0;
        }
        lock_release(&fork_lock);
        (void) nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
        lock_take(&fork_lock);
        idle = pass_on(r) == 0 ? idle + 1 : 0;
    }
    (void) pass_on(r);
    lock_release(&fork_lock);
    return NULL;
}

static void before_fork(void) ACQUIRES(fork_lock)
{
    lock_take(&fork_lock);
}

static void after_fork(void) RELEASES(fork_lock)
{
    lock_release(&fork_lock);
}

static int fork_code;

static void tie_to_fork(void)
{
    fork_code = pthread_atfork(before_fork, after_fork, after_fork);
}

struct log_relay *log_relay_start(struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct log_relay *r = xcalloc(1, sizeof(*r));
    int code;

    (void) sem_init(&r->begun, 0, 0);
    lock_init(&r->lock, LOCK_LOG_RELAY);
    buf_init(&r->text, SIZE_MAX);
    r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->wake_fd == -1) {
        err_sys(err, "eventfd");
        goto fail;
    }
    (void) pthread_once(&once, tie_to_fork);
    code = fork_code != 0 ? fork_code : pthread_create(&r->thread, NULL, run, r);
    if (code == 0) {
        /* what a thread does before its first line may not be cut off by a fork either */
        while (sem_wait(&r->begun) == -1 && errno == EINTR)
            ;
        return r;
    }
    err_temporary(err, "a thread cannot be started: errno %d", code);
fail:
    fd_close(&r->wake_fd);
    lock_fini(&r->lock);
    (void) sem_destroy(&r->begun);
    free(r);
    return NULL;
}

int log_relay_wake_fd(const struct log_relay *relay)
{
    return relay->wake_fd;
}

struct log_source *log_relay_add(struct log_relay *relay, int *fd, struct err *err)
{
    struct log_source *s;
    struct log_ring *ring;
    int ring_fd = log_ring_create(err);

    if (ring_fd == -1)
        return NULL;
    ring = log_ring_map(ring_fd, relay->wake_fd, err);
    if (ring == NULL) {
        fd_close(&ring_fd);
        return NULL;
    }
    s = xcalloc(1, sizeof(*s));
    s->ring = ring;
    s->relay = relay;
    lock_take(&relay->lock);
    vec_push(&relay->sources, s);
    lock_release(&relay->lock);
    *fd = ring_fd;
    return s;
}

static void wake(struct log_relay *r)
{
    uint64_t one = 1;

    if (write(r->wake_fd, &one, sizeof(one)) == -1 && errno != EAGAIN)
        panic("log relay: it cannot be woken (errno %d)", errno);
}

void log_relay_end(struct log_relay *relay, struct log_source **source)
{
    if (*source == NULL)
        return;
    lock_take(&relay->lock);
    (*source)->ended = true;
    lock_release(&relay->lock);
    wake(relay);
    *source = NULL; /* the thread's */
}

void log_relay_stop(struct log_relay **relay)
{
    struct log_relay *r = *relay;

    if (r == NULL)
        return;
    lock_take(&r->lock);
    r->stopping = true;
    lock_release(&r->lock);
    wake(r);
    (void) pthread_join(r->thread, NULL);
    for (size_t i = 0; i < r->sources.len; i++) {
        struct log_source *s = r->sources.items[i];

        log_ring_unmap(&s->ring);
        free(s);
    }
    vec_fini(&r->sources);
    vec_fini(&r->taken);
    buf_fini(&r->text);
    free(r->lines);
    free(r->sorted);
    fd_close(&r->wake_fd);
    lock_fini(&r->lock);
    (void) sem_destroy(&r->begun);
    free(r);
    *relay = NULL;
}
