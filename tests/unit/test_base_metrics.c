/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_metrics.c - lib/base/metrics.h: one region, many processes. */
#include "test_base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/metrics.h"
#include "base/mtime.h"

#define PROCESSES 6
#define NUMBERS   2000

struct seen {
    int count;
    int64_t sum;
    const char *name;
};

static void see(const char *name, int64_t value, void *arg)
{
    struct seen *s = arg;

    if (strcmp(name, s->name) != 0)
        return;
    s->count++;
    s->sum += value;
}

static void test_private(void **state)
{
    _Atomic int64_t *a = metrics_counter("a");
    struct seen s = {.name = "a"};
    char longest[METRICS_NAME_MAX + 10];
    int64_t last;

    (void) state;
    assert_ptr_equal(metrics_counter("a"), a);
    assert_ptr_not_equal(metrics_counter("b"), a);
    metrics_add(a, 5);
    metrics_add(a, -2);
    metrics_each(see, &s);
    check_int("one of the name", s.count, 1);
    check_int("value", s.sum, 3);
    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    assert_ptr_equal(metrics_counter(longest), metrics_counter(longest));
    last = metrics_unique_us();
    for (int i = 0; i < 100000; i++) {
        int64_t next = metrics_unique_us();

        assert_true(next > last);
        last = next;
    }
}

static void test_raise(void **state)
{
    int64_t future = wall_now().us + 3600 * (int64_t) 1000000;

    (void) state;
    metrics_unique_raise(future);
    check_int("greater", metrics_unique_us(), future + 1);
    metrics_unique_raise(future - 50);
    check_int("never back", metrics_unique_us(), future + 2);
}

/* A child: registers counters in its own order, counts, takes numbers. */
static void child(int fd, int self, int64_t *numbers)
{
    char name[32];

    if (metrics_attach(fd, NULL) == -1)
        _exit(97);
    fd_close(&fd);
    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof(name), "counter %d", (i * 7 + self) % 50);
        metrics_add(metrics_counter(name), 1);
    }
    for (int i = 0; i < NUMBERS; i++)
        numbers[i] = metrics_unique_us();
    _exit(0);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *) a;
    int64_t y = *(const int64_t *) b;

    return x < y ? -1 : x > y;
}

static void test_shared(void **state)
{
    size_t bytes = sizeof(int64_t) * PROCESSES * NUMBERS;
    int64_t *numbers = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct err err = ERR_INIT;
    int fd = metrics_create(&err);
    pid_t pids[PROCESSES];

    (void) state;
    assert_true(fd >= 0 && numbers != MAP_FAILED);
    check_int("inherited", fcntl(fd, F_GETFD), 0);
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0)
            child(fd, i, numbers + (size_t) i * NUMBERS);
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = -1;

        while (waitpid(pids[i], &status, 0) == -1)
            assert_int_equal(errno, EINTR);
        check_int("child", status, 0);
    }
    check_int("attach", metrics_attach(fd, &err), 0);
    fd_close(&fd);
    for (int i = 0; i < 50; i++) {
        char name[32];
        struct seen s = {.name = name};

        snprintf(name, sizeof(name), "counter %d", i);
        metrics_each(see, &s);
        check_int(name, s.count, 1);
        check_int(name, s.sum, PROCESSES);
    }
    qsort(numbers, PROCESSES * NUMBERS, sizeof(*numbers), by_value);
    for (size_t i = 1; i < (size_t) PROCESSES * NUMBERS; i++)
        check_int("no number twice", numbers[i] > numbers[i - 1], true);
    munmap(numbers, bytes);
}

static void test_full(void **state)
{
    _Atomic int64_t *scratch;

    (void) state;
    for (int i = 0; i < METRICS_SLOTS; i++) {
        char name[32];

        snprintf(name, sizeof(name), "filler %d", i);
        metrics_add(metrics_counter(name), 1);
    }
    scratch = metrics_counter("one too many");
    assert_non_null(scratch);
    metrics_add(scratch, 1);
    assert_ptr_equal(metrics_counter("another"), scratch);
    assert_ptr_not_equal(metrics_counter("filler 3"), scratch);
}

static void test_foreign_region(void **state)
{
    int fd = memfd_create("foreign", MFD_CLOEXEC);
    struct err err = ERR_INIT;

    (void) state;
    check_int("too small", metrics_attach(fd, &err), -1);
    check_int("grow", ftruncate(fd, 1 << 20), 0);
    check_int("no magic", metrics_attach(fd, &err), -1);
    check_int("bad input", err.kind, ERR_BAD_INPUT);
    fd_close(&fd);
    check_int("bad descriptor", metrics_attach(-1, &err), -1);
    check_str("the old region is in use", metrics_counter("a") != NULL ? "yes" : "no", "yes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_private),        cmocka_unit_test(test_raise),
        cmocka_unit_test(test_shared),         cmocka_unit_test(test_full),
        cmocka_unit_test(test_foreign_region),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
