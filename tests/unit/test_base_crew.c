/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_base_crew.c - lib/base/crew.h, blocking.h, as threads of a poller see them: few at work at once, and nobody waits for those that wait.
 */
#include "test_base.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/blocking.h"
#include "base/crew.h"
#include "base/poller.h"

#define THREADS_MAX 80
#define SPARE       12 /* threads more than may be at work */
#define ITEMS       64

enum kind { SHORT, SAYS_SO, SILENT };

struct piece {
    struct poller_item *item;
    enum kind kind;
};

struct hall {
    struct poller *poller;
    struct piece pieces[ITEMS];
    size_t count;
    atomic_int at_work, most, done, blocked;
    atomic_bool go_on; /* for those that wait */
};

static void nap(void)
{
    struct timespec ts = {.tv_nsec = 1000000};

    (void) nanosleep(&ts, NULL);
}

static void wait_to_go_on(struct hall *h)
{
    atomic_fetch_add(&h->blocked, 1);
    while (!atomic_load(&h->go_on))
        nap();
}

static void *work(void *arg)
{
    struct hall *h = arg;
    struct piece *p;
    unsigned events;

    while ((p = poller_next(h->poller, &events)) != NULL) {
        int now = atomic_fetch_add(&h->at_work, 1) + 1;
        int most = atomic_load(&h->most);

        while (now > most && !atomic_compare_exchange_weak(&h->most, &most, now))
            ;
        if (crew_has_blocked())
            fail_msg("new work, and it has waited already");
        switch (p->kind) {
        case SHORT:
            nap();
            break;
        case SAYS_SO:
            atomic_fetch_sub(&h->at_work, 1);
            blocking_begin();
            blocking_begin(); /* within another one: no more than the outer one says */
            blocking_end();
            wait_to_go_on(h);
            blocking_end();
            atomic_fetch_add(&h->at_work, 1);
            if (!crew_has_blocked())
                fail_msg("it waited, and that is not known");
            break;
        case SILENT:
            wait_to_go_on(h);
            break;
        }
        atomic_fetch_sub(&h->at_work, 1);
        atomic_fetch_add(&h->done, 1);
    }
    return NULL;
}

static void until(const char *what, const atomic_int *value, int wanted)
{
    struct mono_time deadline = mono_after_ms(mono_now(), 60000);

    while (atomic_load(value) < wanted) {
        if (mono_diff_us(deadline, mono_now()) <= 0)
            fail_msg("%s: %d, wanted %d", what, atomic_load(value), wanted);
        nap();
    }
}

/* All items become ready while the threads are there; `waiting` of them are of a kind that waits. */
static void run(enum kind kind, size_t waiting)
{
    struct hall *h = xcalloc(1, sizeof(*h));
    struct err err = ERR_INIT;
    pthread_t threads[THREADS_MAX];
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    int limit = processors > 2 ? (int) processors : 2;
    int nthreads = limit + SPARE < THREADS_MAX ? limit + SPARE : THREADS_MAX;

    h->poller = poller_new(&err);
    assert_non_null(h->poller);
    for (int i = 0; i < nthreads; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, h), 0);
    for (size_t i = 0; i < ITEMS; i++) {
        h->pieces[i].kind = i < waiting ? kind : SHORT;
        h->pieces[i].item = poller_item_new(h->poller, &h->pieces[i]);
    }
    for (size_t i = 0; i < ITEMS; i++) {
        poller_wake(h->pieces[i].item);
        poller_arm(h->pieces[i].item, -1, 0, MONO_NEVER);
    }
    until("waiting", &h->blocked, (int) waiting);
    until("done by others", &h->done, ITEMS - (int) waiting);
    /* nor does work that comes later wait for them */
    atomic_store(&h->done, 0);
    poller_wake(h->pieces[ITEMS - 1].item);
    poller_arm(h->pieces[ITEMS - 1].item, -1, 0, MONO_NEVER);
    until("later", &h->done, 1);
    atomic_store(&h->go_on, true);
    until("all", &h->done, 1 + (int) waiting);
    /* on a machine that is busy with other things, some are taken for stuck */
    if (kind != SILENT && atomic_load(&h->most) > limit + (int) waiting + SPARE / 2)
        fail_msg("%d at work at once, of %d", atomic_load(&h->most), limit);
    poller_stop(h->poller);
    for (int i = 0; i < nthreads; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < ITEMS; i++)
        poller_item_free(&h->pieces[i].item);
    poller_free(&h->poller);
    free(h);
}

static void test_no_more_than_processors(void **state)
{
    (void) state;
    run(SHORT, 0);
}

static void test_those_that_say_so(void **state)
{
    (void) state;
    run(SAYS_SO, 1);
    run(SAYS_SO, SPARE - 1);
}

static void test_those_that_do_not(void **state)
{
    (void) state;
    run(SILENT, 1);
    run(SILENT, SPARE - 1);
}

static void test_without_a_crew(void **state)
{
    (void) state;
    blocking_begin();
    blocking_end();
    assert_false(crew_has_blocked());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_more_than_processors),
        cmocka_unit_test(test_those_that_say_so),
        cmocka_unit_test(test_those_that_do_not),
        cmocka_unit_test(test_without_a_crew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
