/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_lock.c - lib/base/lock.h: exclusion, waiting, and (in debug builds) the order of ranks. */
#include "test_base.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/lock.h"

struct shared {
    struct lock lock;
    pthread_cond_t cond;
    long count;
};

static void *add(void *arg)
{
    struct shared *s = arg;

    for (int i = 0; i < 20000; i++) {
        lock_take(&s->lock);
        s->count++;
        lock_release(&s->lock);
    }
    lock_take(&s->lock);
    pthread_cond_signal(&s->cond);
    lock_release(&s->lock);
    return NULL;
}

static void test_exclusion_and_wait(void **state)
{
    struct shared s = {.count = 0};
    pthread_t threads[4];

    (void) state;
    lock_init(&s.lock, LOCK_WORKER);
    pthread_cond_init(&s.cond, NULL);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add, &s), 0);
    lock_take(&s.lock);
    while (s.count < 80000)
        lock_wait(&s.lock, &s.cond);
    check_int("count", s.count, 80000);
    lock_release(&s.lock);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    pthread_cond_destroy(&s.cond);
    lock_fini(&s.lock);
}

static void up(struct lock *low, struct lock *high)
{
    lock_take(low);
    lock_take(high);
    lock_release(low); /* not the last one taken: allowed */
    lock_release(high);
    lock_take(low);
    lock_release(low);
}

static void down(struct lock *low, struct lock *high)
{
    lock_take(high);
    lock_take(low);
}

static void same(struct lock *low, struct lock *high)
{
    struct lock second;

    (void) high;
    lock_init(&second, LOCK_WORKER);
    lock_take(low);
    lock_take(&second);
}

static void not_held(struct lock *low, struct lock *high)
{
    lock_take(low);
    lock_release(high);
}

static int status_of(void (*fn)(struct lock *low, struct lock *high))
{
    int status = -1;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct lock low;
        struct lock high;
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

        signal(SIGABRT, SIG_DFL);
        if (null == -1 || dup2(null, STDERR_FILENO) == -1)
            _exit(99);
        lock_init(&low, LOCK_WORKER);
        lock_init(&high, LOCK_LOG);
        fn(&low, &high);
        _exit(0);
    }
    while (waitpid(pid, &status, 0) == -1)
        assert_int_equal(errno, EINTR);
    return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

static void test_order(void **state)
{
    (void) state;
    check_int("upwards", status_of(up), 0);
#ifndef NDEBUG
    check_int("downwards", status_of(down), SIGABRT);
    check_int("two of one rank", status_of(same), SIGABRT);
    check_int("released, not held", status_of(not_held), SIGABRT);
#else
    (void) down;
    (void) same;
    (void) not_held;
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exclusion_and_wait),
        cmocka_unit_test(test_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
