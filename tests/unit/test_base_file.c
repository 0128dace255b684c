/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_file.c - lib/base/file.h in a temporary directory. */
#include "test_base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static char dir[] = "/tmp/test_base_file.XXXXXX";

static int enter_dir(void **state)
{
    (void) state;
    return mkdtemp(dir) != NULL && chdir(dir) == 0 ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void) state;
    return chdir("/") == 0 && rmdir(dir) == 0 ? 0 : -1;
}

static void check_content(const char *path, const char *wanted)
{
    struct buf b = BUF_INIT(1 << 20);
    struct err err = ERR_INIT;

    check_int(path, file_read(path, &b, &err), 0);
    check_str(path, buf_cstr(&b), wanted);
    buf_fini(&b);
}

static void test_replace(void **state)
{
    struct err err = ERR_INIT;
    struct stat st;

    (void) state;
    check_int("new", file_replace("f", SLICE_LIT("one"), 0640, &err), 0);
    check_content("f", "one");
    check_int("stat", stat("f", &st), 0);
    check_int("mode of a new one", st.st_mode & 07777, 0640);
    check_int("chmod", chmod("f", 0604), 0);
    check_int("again", file_replace("f", SLICE_LIT("two"), 0640, &err), 0);
    check_content("f", "two");
    check_int("stat", stat("f", &st), 0);
    check_int("mode of the old one", st.st_mode & 07777, 0604);
    check_int("empty", file_replace("f", SLICE_EMPTY, 0640, &err), 0);
    check_content("f", "");
    check_int("no such directory", file_replace("no/f", SLICE_LIT("x"), 0640, &err), -1);
    check_contains("says why", err.text, "No such file or directory");
    /* a directory in the way: the temporary file does not stay behind */
    check_int("mkdir", mkdir("d", 0755), 0);
    check_int("over a directory", file_replace("d", SLICE_LIT("x"), 0640, &err), -1);
    check_int("rmdir", rmdir("d"), 0);
    check_int("unlink", unlink("f"), 0); /* remove_dir() fails if anything else is left */
}

static void test_replace_owner(void **state)
{
    struct err err = ERR_INIT;
    struct stat st;

    (void) state;
    if (geteuid() != 0)
        skip();
    check_int("new", file_replace("f", SLICE_LIT("one"), 0600, &err), 0);
    check_int("chown", chown("f", 12345, 23456), 0);
    check_int("again", file_replace("f", SLICE_LIT("two"), 0600, &err), 0);
    check_int("stat", stat("f", &st), 0);
    check_int("uid", st.st_uid, 12345);
    check_int("gid", st.st_gid, 23456);
    check_int("unlink", unlink("f"), 0);
}

static void test_read_limit(void **state)
{
    static const size_t sizes[] = {0, 1, 4095, 4096, 65535, 65536, 65537, 200000};
    struct err err = ERR_INIT;
    char *data = xcalloc(1, 200000);

    (void) state;
    memset(data, 'x', 200000);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct buf exact = BUF_INIT(sizes[i]);
        struct buf less = BUF_INIT(sizes[i] > 0 ? sizes[i] - 1 : 0);

        check_int("write", file_replace("f", slice_of(data, sizes[i]), 0600, &err), 0);
        check_int("fits", file_read("f", &exact, &err), 0);
        check_int("whole", (long long) exact.len, (long long) sizes[i]);
        check_int("one too long", file_read("f", &less, &err), sizes[i] > 0 ? -1 : 0);
        if (sizes[i] > 0)
            check_int("kind", err.kind, ERR_BAD_INPUT);
        buf_fini(&exact);
        buf_fini(&less);
    }
    free(data);
    check_int("unlink", unlink("f"), 0);
    check_int("absent", file_read("f", &BUF_INIT(10), &err), -1);
    check_int("kind", err.kind, ERR_TEMPORARY);
}

static void test_vectors(void **state)
{
    enum { PIECES = IOV_MAX + 500 };
    struct iovec iov[PIECES];
    char text[2 * PIECES];
    char back[2 * PIECES];
    int fd = open("f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    (void) state;
    for (size_t i = 0; i < PIECES; i++) {
        text[2 * i] = (char) ('a' + i % 26);
        text[2 * i + 1] = (char) ('A' + i % 26);
        iov[i] = (struct iovec){text + 2 * i, i % 7 == 3 ? 0 : 2};
    }
    check_int("more pieces than one call takes", fd_pwritev_all(fd, iov, PIECES, 5), 0);
    check_int("size", lseek(fd, 0, SEEK_END), 5 + 2 * (PIECES - PIECES / 7 - (PIECES % 7 > 3)));
    check_int("truncate", ftruncate(fd, 0), 0);
    check_int("seek", lseek(fd, 0, SEEK_SET), 0);
    for (size_t i = 0; i < PIECES; i++)
        iov[i] = (struct iovec){text + 2 * i, 2};
    check_int("writev", fd_writev_all(fd, iov, PIECES), 0);
    check_int("pread", fd_pread_all(fd, back, sizeof(back), 0), sizeof(back));
    assert_memory_equal(back, text, sizeof(back));
    check_int("short at the end", fd_pread_all(fd, back, 100, (off_t) sizeof(text) - 40), 40);
    check_int("pwrite", fd_pwrite_all(fd, "XYZ", 3, 1), 0);
    check_int("pread", fd_pread_all(fd, back, 5, 0), 5);
    assert_memory_equal(back, "aXYZc", 5);
    check_int("nothing", fd_writev_all(fd, iov, 0), 0);
    check_int("no bytes", fd_write_all(fd, NULL, 0), 0);
    fd_close(&fd);
    check_int("closed", fd, -1);
    fd_close(&fd);
    check_int("unlink", unlink("f"), 0);
    check_int("bad descriptor", fd_write_all(-1, "x", 1), -1);
    check_int("errno", errno, EBADF);
    fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    check_int("full", fd_write_all(fd, "x", 1), -1);
    check_int("errno", errno, ENOSPC);
    fd_close(&fd);
}

static void *drain(void *arg)
{
    const int *fd = arg;
    static char piece[30011];
    static size_t total;
    ssize_t n;

    while ((n = fd_read_some(*fd, piece, sizeof(piece))) > 0)
        total += (size_t) n;
    return &total;
}

static void test_short_writes(void **state)
{
    int pair[2];
    pthread_t thread;
    size_t len = 5 << 20;
    char *data = xcalloc(1, len);
    void *total;

    (void) state;
    check_int("socketpair", socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    check_int("thread", pthread_create(&thread, NULL, drain, &pair[1]), 0);
    check_int("all of it", fd_write_all(pair[0], data, len), 0);
    fd_close(&pair[0]);
    pthread_join(thread, &total);
    check_int("arrived", (long long) *(size_t *) total, (long long) len);
    fd_close(&pair[1]);
    free(data);
}

static void test_flags(void **state)
{
    int fd = open("/dev/null", O_RDONLY);

    (void) state;
    check_int("on", fd_set_nonblocking(fd, true), 0);
    check_int("is on", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0, true);
    check_int("off", fd_set_nonblocking(fd, false), 0);
    check_int("is off", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0, false);
    check_int("on", fd_set_cloexec(fd, true), 0);
    check_int("on again", fd_set_cloexec(fd, true), 0);
    check_int("is on", fcntl(fd, F_GETFD), FD_CLOEXEC);
    check_int("off", fd_set_cloexec(fd, false), 0);
    check_int("is off", fcntl(fd, F_GETFD), 0);
    fd_close(&fd);
    check_int("bad descriptor", fd_set_nonblocking(-1, true), -1);
    check_int("bad descriptor", fd_set_cloexec(-1, true), -1);
}

static void test_dirs(void **state)
{
    struct err err = ERR_INIT;
    struct stat st;

    (void) state;
    check_int("deep", dir_make("a/b//c/", 0750, &err), 0);
    check_int("is there", stat("a/b/c", &st), 0);
    check_int("again", dir_make("a/b/c", 0700, &err), 0);
    check_int("left as it was", stat("a/b/c", &st), 0);
    check_int("mode", st.st_mode & 0777, 0750);
    check_int("absolute", dir_make(dir, 0700, &err), 0);
    check_int("root", dir_make("/", 0700, &err), 0);
    check_int("empty", dir_make("", 0700, &err), -1);
    check_int("sync", dir_sync("a/b", &err), 0);
    check_int("sync of nothing", dir_sync("a/x", &err), -1);
    check_contains("names it", err.text, "a/x");
    check_int("sync of a bad descriptor", dir_sync_fd(-1, &err), -1);
    check_int("file", file_replace("a/f", SLICE_EMPTY, 0600, &err), 0);
    check_int("a file on the way", dir_make("a/f/x", 0700, &err), -1);
    check_int("a file at the end", dir_make("a/f", 0700, &err), -1);
    check_int("clean up", unlink("a/f") | rmdir("a/b/c") | rmdir("a/b") | rmdir("a"), 0);
}

static void test_paths(void **state)
{
    static const struct {
        const char *dir, *name, *wanted;
    } rows[] = {
        {"/a", "b", "/a/b"}, {"/a/", "b", "/a/b"}, {"/", "b", "/b"},
        {"/a", "/b", "/b"},  {"", "b", "b"},       {"a", "b/c", "a/b/c"},
    };
    struct buf b = BUF_INIT(PATH_MAX);
    struct buf small = BUF_INIT(2);
    struct err err = ERR_INIT;

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        buf_reset(&b);
        path_join(&b, rows[i].dir, rows[i].name);
        check_str(rows[i].dir, buf_cstr(&b), rows[i].wanted);
    }
    buf_reset(&b);
    check_int("self", path_of_self(&b, &err), 0);
    buf_puts(&b, "/");
    buf_puts(&b, program_invocation_short_name);
    check_int("the program is there", access(buf_cstr(&b), X_OK), 0);
    check_int("no room", path_of_self(&small, &err), -1);
    buf_fini(&b);
    buf_fini(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replace),      cmocka_unit_test(test_replace_owner),
        cmocka_unit_test(test_read_limit),   cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_short_writes), cmocka_unit_test(test_flags),
        cmocka_unit_test(test_dirs),         cmocka_unit_test(test_paths),
    };

    return cmocka_run_group_tests(tests, enter_dir, remove_dir);
}
