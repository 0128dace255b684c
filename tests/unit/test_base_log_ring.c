/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_log_ring.c - lib/base/log_ring.h: lines between processes, writers that die, memory that lies. */
#include "test_base.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/log_ring.h"

struct test {
    int fd, wake_fd;
    struct log_ring *writer, *reader;
    struct buf got; /* lines, each with a newline */
    size_t count;
    struct mono_time last;
    size_t disorder;
};

static struct test make(void)
{
    struct err err = ERR_INIT;
    struct test t = {.got = BUF_INIT(SIZE_MAX)};

    t.fd = log_ring_create(&err);
    t.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(t.fd >= 0 && t.wake_fd >= 0);
    t.writer = log_ring_map(t.fd, t.wake_fd, &err);
    t.reader = log_ring_map(t.fd, t.wake_fd, &err);
    assert_non_null(t.writer);
    assert_non_null(t.reader);
    return t;
}

static void end(struct test *t)
{
    log_ring_unmap(&t->writer);
    log_ring_unmap(&t->reader);
    fd_close(&t->fd);
    fd_close(&t->wake_fd);
    buf_fini(&t->got);
}

static void note(struct mono_time put, struct slice line, void *arg)
{
    struct test *t = arg;

    t->disorder += put.us < t->last.us;
    t->last = put;
    t->count++;
    buf_put_slice(&t->got, line);
    buf_putc(&t->got, '\n');
}

static const char *take(struct test *t)
{
    buf_reset(&t->got);
    t->count = 0;
    if (!log_ring_take(t->reader, MONO_NEVER, note, t))
        return "damaged";
    return buf_cstr(&t->got);
}

static bool is_woken(struct test *t)
{
    uint64_t n;

    return read(t->wake_fd, &n, sizeof(n)) == (ssize_t) sizeof(n);
}

static void test_lines(void **state)
{
    struct test t = make();
    struct mono_time between;

    (void) state;
    check_str("nothing", take(&t), "");
    check_int("first", log_ring_put(t.writer, SLICE_LIT("one")), true);
    check_int("it slept from the start", is_woken(&t), true);
    check_int("second", log_ring_put(t.writer, SLICE_LIT("two, longer")), true);
    check_int("woken once", is_woken(&t), false);
    check_str("both", take(&t), "one\ntwo, longer\n");
    check_str("once", take(&t), "");
    check_int("nothing is there", log_ring_sleep(t.reader), true);
    check_int("third", log_ring_put(t.writer, SLICE_LIT("three")), true);
    check_int("woken", is_woken(&t), true);
    check_int("something is there", log_ring_sleep(t.reader), false);
    between = mono_now();
    while (mono_now().us == between.us)
        continue;
    check_int("fourth", log_ring_put(t.writer, SLICE_LIT("four")), true);
    buf_reset(&t.got);
    check_int("until", log_ring_take(t.reader, between, note, &t), true);
    check_str("until then", buf_cstr(&t.got), "three\n");
    check_str("the rest", take(&t), "four\n");
    check_int("empty", log_ring_put(t.writer, SLICE_EMPTY), false);
    end(&t);
}

/* Lines of all lengths, round and round; up to the last byte, and one more. */
static void test_room(void **state)
{
    struct test t = make();
    char text[LOG_RING_LINE_MAX + 1];
    size_t put = 0;
    size_t bytes = 0;

    (void) state;
    memset(text, 'x', sizeof(text));
    check_int("too long", log_ring_put(t.writer, slice_of(text, sizeof(text))), false);
    for (size_t len = 1; len <= LOG_RING_LINE_MAX; len += 7) {
        check_int("put", log_ring_put(t.writer, slice_of(text, len)), true);
        take(&t);
        check_int("lines", (long long) t.count, 1);
        check_int("its length", (long long) t.got.len, (long long) len + 1);
    }
    while (log_ring_put(t.writer, slice_of(text, 100))) {
        put++;
        bytes += 16 + 104;
    }
    check_int("full", bytes <= LOG_RING_BYTES && bytes + 120 > LOG_RING_BYTES, true);
    take(&t);
    check_int("all of them", (long long) t.count, (long long) put);
    check_int("room again", log_ring_put(t.writer, slice_of(text, 100)), true);
    log_ring_close(t.writer);
    check_int("closed", log_ring_put(t.writer, slice_of(text, 100)), false);
    take(&t);
    check_int("what was there", (long long) t.count, 1);
    end(&t);
}

/* Several processes write, and are killed wherever they are: what they put is whole, and the others go on. */
static void test_killed(void **state)
{
    struct test t = make();
    char line[200];

    (void) state;
    memset(line, 'y', sizeof(line));
    for (int round = 0; round < 40; round++) {
        pid_t pids[2];
        int status;

        for (int i = 0; i < 2; i++) {
            pids[i] = fork();
            assert_true(pids[i] >= 0);
            if (pids[i] == 0)
                for (size_t n = 0;; n++)
                    if (!log_ring_put(t.writer, slice_of(line, 1 + n % sizeof(line))))
                        (void) usleep(10);
        }
        for (int k = 0; k < 20 + round; k++) {
            const char *got = take(&t);

            if (got[strspn(got, "y\n")] != '\0')
                fail_msg("round %d: not a line that was put: %.100s", round, got);
            (void) usleep(50);
        }
        for (int i = 0; i < 2; i++) {
            kill(pids[i], SIGKILL);
            assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        }
        take(&t);
        check_int("after they were killed", log_ring_put(t.writer, SLICE_LIT("still")), true);
        check_str("still", take(&t), "still\n");
    }
    check_int("times that went back", (long long) t.disorder, 0);
    end(&t);
}

/* Whatever a writer writes over the memory costs lines, and no more. */
static void test_damage(void **state)
{
    (void) state;
    srandom(1);
    for (int round = 0; round < 300; round++) {
        struct test t = make();
        struct stat st;
        unsigned char *bytes;
        size_t size;

        assert_int_equal(fstat(t.fd, &st), 0);
        size = (size_t) st.st_size;
        bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, t.fd, 0);
        assert_true(bytes != MAP_FAILED);
        for (int i = 0; i < 20; i++)
            check_int("put", log_ring_put(t.writer, SLICE_LIT("a line of the log")), true);
        /* the heads of the region and of its first records, without the mutex */
        for (int i = 0; i < 8; i++) {
            size_t at = (size_t) random() % 2 == 0
                            ? 8 + (size_t) random() % 16
                            : size - LOG_RING_BYTES + (size_t) random() % 800;

            bytes[at] = (unsigned char) random();
        }
        (void) take(&t);
        if (t.got.len > LOG_RING_BYTES * 2)
            fail_msg("more than there can be");
        munmap(bytes, size);
        end(&t);
    }
}

static void test_not_a_ring(void **state)
{
    struct err err = ERR_INIT;
    int zero = memfd_create("zero", MFD_CLOEXEC);
    int ring = log_ring_create(&err);
    struct stat st;

    (void) state;
    assert_true(zero >= 0 && ring >= 0);
    assert_null(log_ring_map(zero, -1, &err));
    assert_int_equal(fstat(ring, &st), 0);
    assert_int_equal(ftruncate(zero, st.st_size), 0);
    assert_null(log_ring_map(zero, -1, &err));
    assert_null(log_ring_map(-1, -1, &err));
    /* the reader would get SIGBUS */
    check_int("it cannot shrink", ftruncate(ring, 0), -1);
    check_int("why", errno, EPERM);
    fd_close(&zero);
    fd_close(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),      cmocka_unit_test(test_room),
        cmocka_unit_test(test_killed),     cmocka_unit_test(test_damage),
        cmocka_unit_test(test_not_a_ring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
