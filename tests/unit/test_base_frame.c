/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_frame.c - lib/base/frame.h over socket pairs: both sides, and a raw peer that sends anything. */
#include "test_base.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/frame.h"
#include "base/mtime.h"

struct ends {
    struct chan *a, *b;
};

static struct ends new_ends(void)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    return (struct ends){chan_new(pair[0]), chan_new(pair[1])};
}

static void free_ends(struct ends *e)
{
    chan_free(&e->a);
    chan_free(&e->b);
}

static void test_round_trip(void **state)
{
    static const size_t sizes[] = {0, 1, 7, 8, 9, 4096, 65528, 65536, 65537};
    struct ends e = new_ends();
    struct err err = ERR_INIT;
    struct frame f;
    char *data = xmalloc(65537);

    (void) state;
    memset(data, 'p', 65537);
    check_int("nothing yet", chan_get(e.b, &f, &err), CHAN_AGAIN);
    check_int("nothing to flush", chan_flush(e.a, &err), CHAN_OK);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        chan_put(e.a, (uint16_t) (i * 7000), slice_of(data, sizes[i]), -1);
        check_int("output", chan_has_output(e.a), true);
        check_int("output bytes", (long long) chan_output_len(e.a), (long long) sizes[i] + 8);
        check_int("flush", chan_flush_wait(e.a, 1000, &err), CHAN_OK);
        check_int("no output", chan_has_output(e.a), false);
        check_int("get", chan_get(e.b, &f, &err), CHAN_OK);
        check_int("type", f.type, (uint16_t) (i * 7000));
        check_int("fd", f.fd, -1);
        check_int("length", (long long) f.payload.len, (long long) sizes[i]);
        assert_true(slice_eq(f.payload, slice_of(data, sizes[i])));
        chan_trim(e.a);
        chan_trim(e.b);
    }
    free(data);
    free_ends(&e);
}

static void test_many_in_one_read(void **state)
{
    struct ends e = new_ends();
    struct err err = ERR_INIT;
    struct frame f;

    (void) state;
    for (int i = 0; i < 100; i++) {
        buf_printf(chan_put_begin(e.a, (uint16_t) i), "frame %d", i);
        chan_put_end(e.a);
    }
    check_int("flush", chan_flush(e.a, &err), CHAN_OK);
    check_int("not read yet", chan_has_frame(e.b), false);
    for (int i = 0; i < 100; i++) {
        char wanted[32];

        snprintf(wanted, sizeof(wanted), "frame %d", i);
        check_int("get", chan_get(e.b, &f, &err), CHAN_OK);
        check_int("type", f.type, i);
        check_slice("payload", f.payload, wanted);
        check_int("buffered", chan_has_frame(e.b), i < 99);
        chan_trim(e.b); /* keeps what is not empty */
    }
    check_int("no more", chan_get_wait(e.b, &f, 0, &err), CHAN_AGAIN);
    check_int("no more, after a while", chan_get_wait(e.b, &f, 20, &err), CHAN_AGAIN);
    chan_free(&e.a);
    check_int("end", chan_get_wait(e.b, &f, 1000, &err), CHAN_EOF);
    free_ends(&e);
}

static int new_file(const char *text)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
    return fd;
}

static void check_file(int fd, const char *wanted)
{
    char text[100] = "";

    assert_true(fd_pread_all(fd, text, sizeof(text) - 1, 0) >= 0);
    check_str("descriptor's content", text, wanted);
    check_int("close-on-exec", fcntl(fd, F_GETFD), FD_CLOEXEC);
}

static void test_descriptors(void **state)
{
    struct ends e = new_ends();
    struct err err = ERR_INIT;
    struct frame f;

    (void) state;
    /* plain frames in between: each descriptor must meet its own frame */
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 30; i++) {
            char text[32];
            int fd = -1;

            snprintf(text, sizeof(text), "%d.%d", round, i);
            if (i % 3 != 1)
                fd = new_file(text);
            chan_put(e.a, (uint16_t) i, slice_str(text), fd);
            fd_close(&fd);
        }
        check_int("flush", chan_flush(e.a, &err), CHAN_OK);
        for (int i = 0; i < 30; i++) {
            char wanted[32];

            snprintf(wanted, sizeof(wanted), "%d.%d", round, i);
            check_int(err.text, chan_get(e.b, &f, &err), CHAN_OK);
            check_slice("payload", f.payload, wanted);
            check_int("has one", f.fd != -1, i % 3 != 1);
            if (f.fd != -1)
                check_file(f.fd, wanted);
            fd_close(&f.fd);
        }
    }
    free_ends(&e);
}

static int open_descriptors(void)
{
    int n = 0;

    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) != -1;
    return n;
}

static void test_descriptors_do_not_leak(void **state)
{
    int before = open_descriptors();
    struct ends e = new_ends();
    struct err err = ERR_INIT;
    struct frame f;
    int fd = new_file("x");

    (void) state;
    for (int i = 0; i < 10; i++)
        chan_put(e.a, 1, SLICE_LIT("x"), fd); /* received, never asked for */
    check_int("flush", chan_flush(e.a, &err), CHAN_OK);
    check_int("get", chan_get(e.b, &f, &err), CHAN_OK);
    fd_close(&f.fd);
    chan_put(e.a, 1, SLICE_LIT("x"), fd); /* never sent */
    fd_close(&fd);
    free_ends(&e);
    check_int("open descriptors", open_descriptors(), before);
}

static void test_too_many_descriptors(void **state)
{
    struct ends e = new_ends();
    struct err err = ERR_INIT;

    (void) state;
    for (int i = 0; i < 64; i++)
        chan_put(e.a, 1, SLICE_EMPTY, chan_fd(e.a));
    chan_put(e.a, 1, SLICE_EMPTY, chan_fd(e.a));
    check_int("one too many", chan_flush(e.a, &err), CHAN_ERROR);
    free_ends(&e);
    e = new_ends();
    chan_put(e.a, 1, SLICE_EMPTY, 99999);
    check_int("bad descriptor", chan_flush(e.a, &err), CHAN_ERROR);
    check_contains("says why", err.text, "duplicated");
    free_ends(&e);
}

/* What a raw peer writes, and what a reader must make of it. */
static void test_bad_frames(void **state)
{
    static const struct {
        const char *name;
        const char *bytes;
        size_t len;
        enum chan_result wanted;
        enum err_kind kind;
    } rows[] = {
        {"nothing", "", 0, CHAN_EOF, ERR_NONE},
        {"half a head", "\0\0\0", 3, CHAN_ERROR, ERR_TEMPORARY},
        {"head without payload", "\5\0\0\0\1\0\0\0ab", 10, CHAN_ERROR, ERR_TEMPORARY},
        {"empty frame", "\0\0\0\0\1\0\0\0", 8, CHAN_OK, ERR_NONE},
        {"unknown flags", "\0\0\0\0\1\0\xfe\xff", 8, CHAN_OK, ERR_NONE},
        {"one over the limit", "\1\0\20\0\1\0\0\0", 8, CHAN_ERROR, ERR_BAD_INPUT},
        {"the longest length", "\xff\xff\xff\xff\1\0\0\0", 8, CHAN_ERROR, ERR_BAD_INPUT},
        {"a descriptor that is not there", "\0\0\0\0\1\0\1\0", 8, CHAN_ERROR, ERR_BAD_INPUT},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ends e = new_ends();
        struct err err = ERR_INIT;
        struct frame f;

        assert_int_equal(fd_write_all(chan_fd(e.a), rows[i].bytes, rows[i].len), 0);
        shutdown(chan_fd(e.a), SHUT_WR);
        check_int(rows[i].name, chan_get_wait(e.b, &f, 1000, &err), rows[i].wanted);
        check_int(rows[i].name, err.kind, rows[i].kind);
        free_ends(&e);
    }
}

static void test_byte_by_byte(void **state)
{
    static const char bytes[] = "\3\0\0\0\7\1\0\0abc\0\0\0\0\x02\0\0\0";
    struct ends e = new_ends();
    struct err err = ERR_INIT;
    struct frame f;

    (void) state;
    for (size_t i = 0; i < sizeof(bytes) - 1; i++) {
        assert_int_equal(fd_write_all(chan_fd(e.a), bytes + i, 1), 0);
        check_int("complete", chan_get(e.b, &f, &err),
                  i == 10 || i == sizeof(bytes) - 2 ? CHAN_OK : CHAN_AGAIN);
        if (i == 10) {
            check_int("type", f.type, 0x107);
            check_slice("payload", f.payload, "abc");
        }
    }
    free_ends(&e);
}

static void send_descriptors(int to, const char *data, size_t len, int count)
{
    char control[CMSG_SPACE(sizeof(int) * 64)] = {0};
    struct iovec iov = {(void *) (uintptr_t) data, len};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = CMSG_SPACE(sizeof(int) * (size_t) count)};
    struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);

    cm->cmsg_level = SOL_SOCKET;
    cm->cmsg_type = SCM_RIGHTS;
    cm->cmsg_len = CMSG_LEN(sizeof(int) * (size_t) count);
    for (int i = 0; i < count; i++)
        memcpy(CMSG_DATA(cm) + (size_t) i * sizeof(int), &to, sizeof(int));
    assert_int_equal(sendmsg(to, &msg, 0), len);
}

static void test_flood_of_descriptors(void **state)
{
    int before = open_descriptors();
    struct ends e = new_ends();
    struct err err = ERR_INIT;
    struct frame f;
    enum chan_result res = CHAN_AGAIN;

    (void) state;
    /* descriptors that no frame speaks of: bounded, and closed at the end */
    for (int i = 0; i < 20 && res == CHAN_AGAIN; i++) {
        send_descriptors(chan_fd(e.a), "\0\0\20\0\1\0\0\0", i == 0 ? 8 : 4, 8);
        res = chan_get(e.b, &f, &err);
    }
    check_int("ended", res, CHAN_ERROR);
    assert_true(open_descriptors() <= before + 2 + 40);
    free_ends(&e);
    check_int("open descriptors", open_descriptors(), before);
    e = new_ends();
    send_descriptors(chan_fd(e.a), "\0\0\0\0\1\0\1\0", 8, 60);
    check_int("more than fit in one message", chan_get(e.b, &f, &err), CHAN_ERROR);
    free_ends(&e);
    check_int("open descriptors", open_descriptors(), before);
}

static void *reader(void *arg)
{
    struct chan *c = arg;
    struct err err = ERR_INIT;
    struct frame f;
    static int count;
    char last = 0;

    while (chan_get_wait(c, &f, 5000, &err) == CHAN_OK) {
        if (f.payload.len != FRAME_PAYLOAD_MAX || f.payload.ptr[FRAME_PAYLOAD_MAX - 1] != last++)
            break;
        count++;
    }
    return &count;
}

static void test_largest(void **state)
{
    struct ends e = new_ends();
    struct err err = ERR_INIT;
    pthread_t thread;
    char *data = xcalloc(1, FRAME_PAYLOAD_MAX + 1);
    void *count;

    (void) state;
    for (int i = 0; i < 5; i++) {
        data[FRAME_PAYLOAD_MAX - 1] = (char) i;
        chan_put(e.a, 1, slice_of(data, FRAME_PAYLOAD_MAX), -1);
    }
    check_int("more than a socket takes", chan_flush(e.a, &err), CHAN_AGAIN);
    check_int("nobody reads", chan_flush_wait(e.a, 20, &err), CHAN_AGAIN);
    check_int("thread", pthread_create(&thread, NULL, reader, e.b), 0);
    check_int("flushed", chan_flush_wait(e.a, 5000, &err), CHAN_OK);
    chan_free(&e.a);
    pthread_join(thread, &count);
    check_int("arrived", *(int *) count, 5);
    free_ends(&e);
    e = new_ends();
    chan_put(e.a, 1, slice_of(data, FRAME_PAYLOAD_MAX + 1), -1);
    check_int("over the limit", chan_flush(e.a, &err), CHAN_ERROR);
    free(data);
    free_ends(&e);
}

/* Frames that are sent from where they lie, behind those that were put; of all lengths at which reading changes. */
static void test_send_wait(void **state)
{
    static const size_t sizes[] = {0,      1,      65527,  65528,  65529,
                                   131063, 131064, 131065, 200000, FRAME_PAYLOAD_MAX};
    struct err err = ERR_INIT;
    char *data = xcalloc(1, FRAME_PAYLOAD_MAX + 1);

    (void) state;
    for (size_t i = 0; i < FRAME_PAYLOAD_MAX; i++)
        data[i] = (char) (i * 7 + i / 251);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct ends e = new_ends();
        pid_t child;
        struct frame f;
        int status;

        child = fork();
        if (child == 0) {
            bool good = true;

            for (int round = 0; round < 3; round++) {
                chan_put(e.a, 1, SLICE_LIT("before"), round == 1 ? 0 : -1);
                good =
                    good && chan_send_wait(e.a, 2, slice_of(data, sizes[i]), 5000, &err) == CHAN_OK;
            }
            _exit(good ? 0 : 1);
        }
        for (int round = 0; round < 3; round++) {
            check_int("put", chan_get_wait(e.b, &f, 5000, &err), CHAN_OK);
            if (!slice_eq_str(f.payload, "before") || (f.fd != -1) != (round == 1))
                fail_msg("size %zu: the frame in front is not what was put", sizes[i]);
            fd_close(&f.fd);
            check_int("sent", chan_get_wait(e.b, &f, 5000, &err), CHAN_OK);
            if (f.type != 2 || !slice_eq(f.payload, slice_of(data, sizes[i])))
                fail_msg("size %zu: the frame is not what was sent", sizes[i]);
            chan_trim(e.b);
        }
        check_int("child", waitpid(child, &status, 0) == child && status == 0, 1);
        free_ends(&e);
    }
    struct ends e = new_ends();
    check_int("nobody reads", chan_send_wait(e.a, 1, slice_of(data, FRAME_PAYLOAD_MAX), 20, &err),
              CHAN_AGAIN);
    check_int("what was begun is broken", chan_send_wait(e.a, 1, SLICE_LIT("x"), 20, &err),
              CHAN_ERROR);
    free_ends(&e);
    e = new_ends();
    check_int("over the limit",
              chan_send_wait(e.a, 1, slice_of(data, FRAME_PAYLOAD_MAX + 1), 20, &err), CHAN_ERROR);
    free_ends(&e);
    free(data);
}

static void test_peer_gone(void **state)
{
    struct ends e = new_ends();
    struct err err = ERR_INIT;
    struct frame f;

    (void) state;
    chan_free(&e.b);
    chan_put(e.a, 1, SLICE_LIT("x"), -1);
    check_int("no SIGPIPE", chan_flush(e.a, &err), CHAN_ERROR);
    check_int("end", chan_get(e.a, &f, &err), CHAN_EOF);
    free_ends(&e);
}

static void test_take_fd(void **state)
{
    struct ends e = new_ends();
    int fd = chan_take_fd(e.a);

    (void) state;
    check_int("none is left", chan_fd(e.a), -1);
    chan_free(&e.a);
    check_int("it is open", fcntl(fd, F_GETFD), FD_CLOEXEC);
    check_int("non-blocking", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0, true);
    fd_close(&fd);
    free_ends(&e);
}

static void test_unix_sockets(void **state)
{
    char dir[] = "/tmp/test_base_frame.XXXXXX";
    char path[100];
    char longest[200];
    struct err err = ERR_INIT;
    struct stat st;
    struct mono_time start;
    int clients[3] = {-1, -1, -1};
    int fd;
    int peer;
    uid_t uid = 4711;

    (void) state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    check_int("absent", unix_connect(path, 100, &err), -1);
    check_int("temporary", err.kind, ERR_TEMPORARY);
    fd = unix_listen(path, 0620, 0, &err);
    assert_true(fd >= 0);
    check_int("stat", stat(path, &st), 0);
    check_int("mode", st.st_mode & 07777, 0620);
    check_int("flags", fcntl(fd, F_GETFD), FD_CLOEXEC);
    fd_close(&fd);
    check_int("nobody listens", unix_connect(path, 100, &err), -1);
    check_int("temporary", err.kind, ERR_TEMPORARY);
    fd = unix_listen(path, 0600, 0, &err); /* the old socket file is replaced */
    assert_true(fd >= 0);
    clients[0] = unix_connect(path, 1000, &err);
    assert_true(clients[0] >= 0);
    peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(peer >= 0);
    check_int("uid", unix_peer_uid(peer, &uid), 0);
    check_int("uid", uid, geteuid());
    /* a listener that does not accept: the wait ends */
    start = mono_now();
    for (size_t i = 1; i < ARRAY_LEN(clients); i++)
        clients[i] = unix_connect(path, 50, &err);
    check_int("queue is full", clients[2], -1);
    check_int("temporary", err.kind, ERR_TEMPORARY);
    assert_in_range(mono_diff_ms(mono_now(), start), 45, 5000);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++)
        fd_close(&clients[i]);
    fd_close(&peer);
    fd_close(&fd);
    memset(longest, 'x', sizeof(longest));
    longest[108] = '\0';
    check_int("path of 108", unix_connect(longest, 0, &err), -1);
    check_int("kind", err.kind, ERR_BAD_INPUT);
    check_int("path of 108", unix_listen(longest, 0600, 1, &err), -1);
    longest[107] = '\0';
    check_int("path of 107", unix_connect(longest, 0, &err), -1);
    check_int("is only not there", err.kind, ERR_TEMPORARY);
    check_int("not a socket", unix_peer_uid(-1, &uid), -1);
    check_int("clean up", unlink(path) | rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_many_in_one_read),
        cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_descriptors_do_not_leak),
        cmocka_unit_test(test_too_many_descriptors),
        cmocka_unit_test(test_bad_frames),
        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_flood_of_descriptors),
        cmocka_unit_test(test_largest),
        cmocka_unit_test(test_send_wait),
        cmocka_unit_test(test_peer_gone),
        cmocka_unit_test(test_take_fd),
        cmocka_unit_test(test_unix_sockets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
