/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_base_poller.c - lib/base/poller.h: each event once, to one thread; time-outs, wakes, and descriptor
 * numbers that are closed and come back.
 */
#include "test_base.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/poller.h"

static struct poller *new_poller(void)
{
    struct err err = ERR_INIT;
    struct poller *p = poller_new(&err);

    if (p == NULL)
        fail_msg("%s", err.text);
    return p;
}

static void new_pair(int pair[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
}

static struct mono_time in_ms(int64_t ms)
{
    return mono_after_ms(mono_now(), ms);
}

/* The next item must be this one, with these events. */
static void check_next(const char *name, struct poller *p, const void *wanted,
                       unsigned wanted_events)
{
    unsigned events = 0;
    void *arg = poller_next(p, &events);

    if (arg != wanted)
        fail_msg("%s: another item came", name);
    check_int(name, events, wanted_events);
}

static void test_ready(void **state)
{
    struct poller *p = new_poller();
    int x;
    struct poller_item *item = poller_item_new(p, &x);
    int pair[2];
    char c;

    (void) state;
    new_pair(pair);
    assert_int_equal(fd_write_all(pair[1], "a", 1), 0);
    for (int i = 0; i < 3; i++) {
        poller_arm(item, pair[0], POLLER_READ, MONO_NEVER);
        check_next("what is there already", p, &x, POLLER_READ);
    }
    poller_arm(item, pair[0], POLLER_WRITE, in_ms(60000));
    check_next("write", p, &x, POLLER_WRITE);
    poller_arm(item, pair[0], POLLER_READ | POLLER_WRITE, in_ms(60000));
    check_next("both", p, &x, POLLER_READ | POLLER_WRITE);
    assert_int_equal(fd_read_some(pair[0], &c, 1), 1);
    poller_arm(item, pair[0], POLLER_READ, in_ms(10));
    check_next("the longer deadlines are forgotten", p, &x, POLLER_TIMEOUT);
    fd_close(&pair[1]);
    poller_arm(item, pair[0], POLLER_READ, MONO_NEVER);
    check_next("hangup", p, &x, POLLER_READ | POLLER_HANGUP);
    poller_item_free(&item);
    assert_null(item);
    fd_close(&pair[0]);
    poller_free(&p);
    assert_null(p);
}

static void test_timeouts(void **state)
{
    static const int64_t rows[] = {250, 0, 450, -1000, 120};
    static const size_t order[] = {1, 3, 4, 0, 2}; /* 1 and 3 in any order */
    struct poller *p = new_poller();
    struct poller_item *items[ARRAY_LEN(rows)];
    int args[ARRAY_LEN(rows)];
    struct mono_time start = mono_now();

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        items[i] = poller_item_new(p, &args[i]);
        poller_arm(items[i], -1, 0, mono_after_ms(start, rows[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        unsigned events;
        const int *arg = poller_next(p, &events);
        size_t which = (size_t) (arg - args);
        int64_t ms = mono_diff_ms(mono_now(), start);

        check_int("event", events, POLLER_TIMEOUT);
        if (i >= 2)
            check_int("order", (long long) which, (long long) order[i]);
        /* never early; late by a tick, and by what a busy machine adds */
        if (ms < rows[which] || ms > rows[which] + 3000)
            fail_msg("deadline of %lld ms: came after %lld", (long long) rows[which],
                     (long long) ms);
    }
    /* the timer stopped when nothing was left, and starts again */
    for (int i = 0; i < 2; i++) {
        start = mono_now();
        poller_arm(items[0], -1, 0, mono_after_ms(start, 150));
        check_next("again", p, &args[0], POLLER_TIMEOUT);
        assert_true(mono_diff_ms(mono_now(), start) >= 150);
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        poller_item_free(&items[i]);
    poller_free(&p);
}

static void test_wake(void **state)
{
    struct poller *p = new_poller();
    int x;
    int y;
    struct poller_item *a = poller_item_new(p, &x);
    struct poller_item *b = poller_item_new(p, &y);
    int pair[2];

    (void) state;
    new_pair(pair);
    poller_arm(a, pair[0], POLLER_READ, in_ms(60000));
    poller_wake(a);
    check_next("parked", p, &x, POLLER_WOKEN);
    /* what happens on the descriptor now is not lost, nor reported before the next arm */
    assert_int_equal(fd_write_all(pair[1], "a", 1), 0);
    poller_arm(b, -1, 0, in_ms(120));
    check_next("not armed", p, &y, POLLER_TIMEOUT);
    poller_arm(a, pair[0], POLLER_READ, MONO_NEVER);
    check_next("armed", p, &x, POLLER_READ);
    poller_wake(a);
    poller_wake(a);
    poller_arm(a, pair[0], POLLER_WRITE, MONO_NEVER);
    check_next("an early wake is kept", p, &x, POLLER_WOKEN);
    poller_arm(a, pair[0], POLLER_WRITE, MONO_NEVER);
    check_next("once", p, &x, POLLER_WRITE);
    poller_arm(a, -1, 0, MONO_NEVER);
    poller_wake_all(p); /* a is parked, b is not */
    check_next("all: parked", p, &x, POLLER_WOKEN);
    poller_arm(b, -1, 0, MONO_NEVER);
    check_next("all: early", p, &y, POLLER_WOKEN);
    poller_item_free(&a);
    poller_item_free(&b);
    fd_close(&pair[0]);
    fd_close(&pair[1]);
    poller_free(&p);
}

static void test_other_descriptor(void **state)
{
    struct poller *p = new_poller();
    int x;
    struct poller_item *item = poller_item_new(p, &x);
    int first[2];
    int second[2];

    (void) state;
    new_pair(first);
    new_pair(second);
    for (int i = 0; i < 3; i++) {
        poller_arm(item, first[0], POLLER_WRITE, MONO_NEVER);
        check_next("first", p, &x, POLLER_WRITE);
        poller_arm(item, second[0], POLLER_WRITE, MONO_NEVER);
        check_next("second", p, &x, POLLER_WRITE);
    }
    /* the first has something to read now, but is not waited for */
    assert_int_equal(fd_write_all(first[1], "a", 1), 0);
    poller_arm(item, second[0], POLLER_READ, in_ms(10));
    check_next("only the one that was armed", p, &x, POLLER_TIMEOUT);
    poller_arm(item, first[0], POLLER_READ, in_ms(60000));
    poller_wake(item);
    check_next("woken", p, &x, POLLER_WOKEN);
    poller_forget_fd(item);
    poller_arm(item, -1, 0, in_ms(10));
    check_next("no descriptor", p, &x, POLLER_TIMEOUT);
    poller_item_free(&item);
    for (int i = 0; i < 2; i++) {
        fd_close(&first[i]);
        fd_close(&second[i]);
    }
    poller_free(&p);
}

/* Registered once: what happens meanwhile is not lost, and what was not read is reported again unless one says that there is nothing. */
static void test_stays(void **state)
{
    const unsigned stays = POLLER_READ | POLLER_STAYS;
    const unsigned drained = stays | POLLER_DRAINED;
    struct poller *p = new_poller();
    int x;
    struct poller_item *item = poller_item_new(p, &x);
    int pair[2];
    int other[2];
    char c;

    (void) state;
    new_pair(pair);
    new_pair(other);
    assert_int_equal(fd_write_all(pair[1], "ab", 2), 0);
    poller_arm(item, pair[0], drained, MONO_NEVER); /* never before: it is looked at all the same */
    check_next("what is there already", p, &x, POLLER_READ);
    assert_int_equal(fd_read_some(pair[0], &c, 1), 1);
    poller_arm(item, pair[0], stays, MONO_NEVER);
    check_next("what was left", p, &x, POLLER_READ);
    assert_int_equal(fd_read_some(pair[0], &c, 1), 1);
    poller_arm(item, pair[0], drained, in_ms(10));
    check_next("nothing", p, &x, POLLER_TIMEOUT);
    assert_int_equal(fd_write_all(pair[1], "c", 1), 0);
    poller_arm(item, pair[0], drained, in_ms(60000));
    check_next("came while it was not parked", p, &x, POLLER_READ);
    assert_int_equal(fd_read_some(pair[0], &c, 1), 1);
    /* it comes while the item waits for another descriptor, or for nothing */
    poller_arm(item, other[0], POLLER_READ, in_ms(10));
    assert_int_equal(fd_write_all(pair[1], "d", 1), 0);
    check_next("another", p, &x, POLLER_TIMEOUT);
    poller_arm(item, -1, 0, in_ms(10));
    check_next("none", p, &x, POLLER_TIMEOUT);
    poller_arm(item, pair[0], drained, in_ms(60000));
    check_next("not forgotten", p, &x, POLLER_READ);
    assert_int_equal(fd_read_some(pair[0], &c, 1), 1);
    poller_arm(item, pair[0], drained, in_ms(10));
    check_next("once", p, &x, POLLER_TIMEOUT);
    /* other events than before */
    poller_arm(item, pair[0], POLLER_WRITE, in_ms(60000));
    check_next("write", p, &x, POLLER_WRITE);
    poller_arm(item, pair[0], drained, in_ms(10));
    check_next("read again", p, &x, POLLER_TIMEOUT);
    fd_close(&pair[1]);
    poller_arm(item, pair[0], drained, in_ms(60000));
    check_next("the end", p, &x, POLLER_READ | POLLER_HANGUP);
    /* forgotten, then another connection of the same number */
    poller_forget_fd(item);
    fd_close(&pair[0]);
    new_pair(pair);
    assert_int_equal(fd_write_all(pair[1], "e", 1), 0);
    poller_arm(item, pair[0], drained, in_ms(60000));
    check_next("the next one", p, &x, POLLER_READ);
    poller_item_free(&item);
    fd_close(&pair[0]);
    fd_close(&pair[1]);
    fd_close(&other[0]);
    fd_close(&other[1]);
    poller_free(&p);
}

static void test_number_comes_back(void **state)
{
    struct poller *p = new_poller();
    int x;
    int y;
    struct poller_item *a = poller_item_new(p, &x);
    struct poller_item *b = poller_item_new(p, &y);
    int pair[2];
    int number;

    (void) state;
    new_pair(pair);
    number = pair[0];
    poller_arm(a, number, POLLER_WRITE, MONO_NEVER);
    check_next("a", p, &x, POLLER_WRITE);
    /* closed without a word, and opened again by the same session */
    fd_close(&pair[0]);
    fd_close(&pair[1]);
    new_pair(pair);
    check_int("the number came back", pair[0], number);
    poller_arm(a, number, POLLER_WRITE, MONO_NEVER);
    check_next("the same item", p, &x, POLLER_WRITE);
    /* now another's */
    fd_close(&pair[0]);
    fd_close(&pair[1]);
    new_pair(pair);
    check_int("the number came back", pair[0], number);
    poller_arm(b, number, POLLER_READ, MONO_NEVER);
    poller_arm(a, -1, 0, in_ms(10)); /* must leave b's registration alone */
    check_next("a", p, &x, POLLER_TIMEOUT);
    poller_forget_fd(a);
    poller_item_free(&a);
    assert_int_equal(fd_write_all(pair[1], "a", 1), 0);
    check_next("b", p, &y, POLLER_READ);
    poller_item_free(&b);
    /* a slot that comes back does not get its earlier item's events */
    a = poller_item_new(p, &x);
    b = poller_item_new(p, &y);
    poller_arm(a, -1, 0, in_ms(10));
    check_next("new item", p, &x, POLLER_TIMEOUT);
    poller_item_free(&a);
    poller_item_free(&b);
    fd_close(&pair[0]);
    fd_close(&pair[1]);
    poller_free(&p);
}

static void test_unwatchable(void **state)
{
    struct poller *p = new_poller();
    int x;
    struct poller_item *item = poller_item_new(p, &x);
    int fd = memfd_create("file", MFD_CLOEXEC);
    int number = fd;

    (void) state;
    poller_arm(item, fd, POLLER_READ, MONO_NEVER); /* epoll takes no regular files */
    check_next("a file", p, &x, POLLER_HANGUP);
    fd_close(&fd);
    poller_arm(item, number, POLLER_READ, MONO_NEVER);
    check_next("closed", p, &x, POLLER_HANGUP);
    poller_arm(item, 1000000, POLLER_READ, MONO_NEVER);
    check_next("never was open", p, &x, POLLER_HANGUP);
    poller_item_free(&item);
    poller_free(&p);
}

#define ITEMS   200
#define THREADS 4
#define ROUNDS  20000

/* Sessions that echo one byte; a talker for each. Each item may be with one thread only. */
struct session {
    struct hall *hall;
    struct poller_item *item;
    int pair[2];
    atomic_int owners;
    unsigned work; /* by whoever owns it, without a lock: the sanitizer watches */
};
struct hall {
    struct poller *poller;
    struct session sessions[ITEMS];
    atomic_int rounds;
    atomic_int timeouts, wakes;
};

static void *work(void *arg)
{
    struct hall *h = arg;
    struct session *s;
    unsigned events;
    unsigned seed = (unsigned) (uintptr_t) &seed;

    while ((s = poller_next(h->poller, &events)) != NULL) {
        char c;
        int round;

        check_int("alone", atomic_fetch_add(&s->owners, 1), 0);
        s->work++;
        if ((events & POLLER_READ) != 0)
            assert_int_equal(fd_read_some(s->pair[0], &c, 1), 1);
        if ((events & POLLER_TIMEOUT) != 0) {
            check_int("time-out and readiness exclude each other", events, POLLER_TIMEOUT);
            atomic_fetch_add(&h->timeouts, 1);
        }
        if ((events & POLLER_WOKEN) != 0)
            atomic_fetch_add(&h->wakes, 1);
        round = atomic_fetch_add(&h->rounds, 1);
        seed = seed * 1103515245U + 12345;
        /* somebody else's turn: mostly by a byte, at times by a wake */
        struct session *other = &h->sessions[(seed >> 16) % ITEMS];
        if (round % 16 == 0)
            poller_wake(other->item);
        else if (fd_write_all(other->pair[1], "x", 1) == -1)
            fail_msg("write");
        if (round % 50 == 0) {
            /* its descriptor changes; what lay unread in the old one counts as lost */
            poller_forget_fd(s->item);
            atomic_fetch_sub(&s->owners, 1);
            poller_arm(s->item, -1, 0, in_ms(20));
        } else {
            atomic_fetch_sub(&s->owners, 1);
            poller_arm(s->item, s->pair[0], POLLER_READ, in_ms(30));
        }
        if (round == ROUNDS)
            poller_stop(h->poller);
    }
    return NULL;
}

static void test_many_threads(void **state)
{
    struct hall *h = xcalloc(1, sizeof(*h));
    pthread_t threads[THREADS];
    unsigned long sum = 0;

    (void) state;
    h->poller = new_poller();
    for (size_t i = 0; i < ITEMS; i++) {
        struct session *s = &h->sessions[i];

        s->hall = h;
        new_pair(s->pair);
        s->item = poller_item_new(h->poller, s);
    }
    for (size_t i = 0; i < ITEMS; i++)
        poller_arm(h->sessions[i].item, h->sessions[i].pair[0], POLLER_READ, in_ms(30));
    assert_int_equal(fd_write_all(h->sessions[0].pair[1], "x", 1), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, h), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(atomic_load(&h->rounds) > ROUNDS);
    assert_true(atomic_load(&h->wakes) > 0);
    assert_true(atomic_load(&h->timeouts) > 0);
    for (size_t i = 0; i < ITEMS; i++) {
        sum += h->sessions[i].work;
        poller_item_free(&h->sessions[i].item);
        fd_close(&h->sessions[i].pair[0]);
        fd_close(&h->sessions[i].pair[1]);
    }
    check_int("each hand-out counted", (long long) sum, atomic_load(&h->rounds));
    poller_free(&h->poller);
    free(h);
}

/* Sessions that come and go, as with short connections: numbers and slots come back all the time. */
static void *come_and_go(void *arg)
{
    struct poller *p = arg;
    struct session *s;
    unsigned events;

    while ((s = poller_next(p, &events)) != NULL) {
        char c;
        int round = atomic_fetch_add(&s->hall->rounds, 1);

        check_int("readiness", events & POLLER_READ, POLLER_READ);
        assert_int_equal(fd_read_some(s->pair[0], &c, 1), 1);
        /* first the descriptor, then the item: the number may be another session's in between. The thread
         * sanitizer takes that for a race, so there the order is the documented one. */
#if defined(__SANITIZE_THREAD__)
        poller_forget_fd(s->item);
#endif
        fd_close(&s->pair[0]);
        fd_close(&s->pair[1]);
        poller_item_free(&s->item);
        if (round >= ROUNDS) {
            if (round == ROUNDS)
                poller_stop(p);
            continue;
        }
        new_pair(s->pair);
        s->item = poller_item_new(p, s);
        assert_int_equal(fd_write_all(s->pair[1], "x", 1), 0);
        poller_arm(s->item, s->pair[0], POLLER_READ, in_ms(60000));
    }
    return NULL;
}

static void test_come_and_go(void **state)
{
    struct hall *h = xcalloc(1, sizeof(*h));
    pthread_t threads[THREADS];

    (void) state;
    h->poller = new_poller();
    for (size_t i = 0; i < 8; i++) {
        struct session *s = &h->sessions[i];

        s->hall = h;
        new_pair(s->pair);
        s->item = poller_item_new(h->poller, s);
        assert_int_equal(fd_write_all(s->pair[1], "x", 1), 0);
        poller_arm(s->item, s->pair[0], POLLER_READ, in_ms(60000));
    }
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, h->poller), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(atomic_load(&h->rounds) > ROUNDS);
    for (size_t i = 0; i < 8; i++) {
        if (h->sessions[i].item == NULL)
            continue;
        poller_item_free(&h->sessions[i].item);
        fd_close(&h->sessions[i].pair[0]);
        fd_close(&h->sessions[i].pair[1]);
    }
    poller_free(&h->poller);
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ready),       cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_wake),        cmocka_unit_test(test_other_descriptor),
        cmocka_unit_test(test_stays),       cmocka_unit_test(test_number_comes_back),
        cmocka_unit_test(test_unwatchable), cmocka_unit_test(test_many_threads),
        cmocka_unit_test(test_come_and_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
