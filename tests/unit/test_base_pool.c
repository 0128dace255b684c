/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_pool.c - lib/base/pool.h. */
#include "test_base.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/pool.h"

static atomic_int done;
static atomic_int running;
static atomic_int most;
static pthread_barrier_t together;

static void count(void *arg)
{
    int now = atomic_fetch_add(&running, 1) + 1;
    int seen = atomic_load(&most);

    while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now))
        continue;
    assert_non_null(arg);
    atomic_fetch_add(&done, 1);
    atomic_fetch_sub(&running, 1);
}

static void test_all_run(void **state)
{
    struct pool *p = pool_new("test", 4, 0);
    int x;

    (void) state;
    atomic_store(&done, 0);
    atomic_store(&most, 0);
    for (int i = 0; i < 10000; i++)
        pool_run(p, count, &x);
    pool_free(&p);
    assert_null(p);
    check_int("run", atomic_load(&done), 10000);
    assert_in_range(atomic_load(&most), 1, 4);
    pool_free(&p);
}

static void meet(void *arg)
{
    (void) arg;
    pthread_barrier_wait(&together);
}

static void test_as_many_threads_as_needed(void **state)
{
    struct pool *p = pool_new("a name that is too long", 8, 64 << 10);

    (void) state;
    /* eight jobs that wait for each other: none may queue behind another */
    pthread_barrier_init(&together, NULL, 9);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 8; i++)
            pool_run(p, meet, NULL);
        pthread_barrier_wait(&together);
    }
    check_int("queue is empty", (long long) pool_queued(p), 0);
    pool_free(&p);
    pthread_barrier_destroy(&together);
}

static void test_queued(void **state)
{
    struct pool *p = pool_new("one", 1, 0);
    int x;

    (void) state;
    atomic_store(&done, 0);
    pthread_barrier_init(&together, NULL, 2);
    pool_run(p, meet, NULL);
    for (int i = 0; i < 5; i++)
        pool_run(p, count, &x);
    assert_in_range(pool_queued(p), 5, 6);
    pthread_barrier_wait(&together);
    pool_free(&p);
    pthread_barrier_destroy(&together);
    check_int("what was queued is run", atomic_load(&done), 5);
}

struct chain {
    struct pool *pool;
    int left;
};

static void queue_next(void *arg)
{
    struct chain *c = arg;

    atomic_fetch_add(&done, 1);
    if (--c->left > 0)
        pool_run(c->pool, queue_next, c);
}

static void test_jobs_that_queue_jobs(void **state)
{
    struct pool *p = pool_new("chain", 3, 0);
    struct chain c = {p, 1000};

    (void) state;
    atomic_store(&done, 0);
    pool_run(p, queue_next, &c);
    pool_free(&p);
    check_int("all of the chain", atomic_load(&done), 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_run),
        cmocka_unit_test(test_as_many_threads_as_needed),
        cmocka_unit_test(test_queued),
        cmocka_unit_test(test_jobs_that_queue_jobs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
