/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_mailbox_sync.c - which directories are synced so that the name of a mailbox is durable: what is synced, and what cannot be opened, is this
 * program's own matter.
 */
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "local/mailbox_int.h"

static struct {
    char top[PATH_MAX]; /* all of the test lies here; "/" is another file system, so to say */
    struct buf synced;  /* names below top, each with a space behind it; "*": the file system */
    const char *shut;   /* the last name of a directory that may not be read */
    const char *broken; /* ... that cannot be synced */
} disk;

static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    int mode;

    va_start(ap, flags);
    mode = (flags & O_CREAT) != 0 ? va_arg(ap, int) : 0;
    va_end(ap);
    if (disk.shut != NULL && strcmp(last_name(path), disk.shut) == 0) {
        errno = EACCES;
        return -1;
    }
    return (int) syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int fsync(int fd)
{
    char link[64];
    char path[PATH_MAX] = "";

    (void) snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    assert_true(readlink(link, path, sizeof(path) - 1) > 0);
    if (disk.broken != NULL && strcmp(last_name(path), disk.broken) == 0) {
        errno = EIO;
        return -1;
    }
    buf_printf(&disk.synced, "%s ", last_name(path));
    return 0;
}

int syncfs(int fd)
{
    assert_true(fcntl(fd, F_GETFD) != -1);
    buf_puts(&disk.synced, "* ");
    return 0;
}

int stat(const char *restrict path, struct stat *restrict out)
{
    long ret = syscall(SYS_newfstatat, AT_FDCWD, path, out, 0);
    char real[PATH_MAX];

    if (ret == 0 && realpath(path, real) != NULL && strncmp(real, disk.top, strlen(disk.top)) != 0)
        out->st_dev++;
    return (int) ret;
}

static int begin(void **state)
{
    struct err err = ERR_INIT;
    char template[] = "/tmp/mailbox_sync.XXXXXX";

    (void) state;
    disk.synced = BUF_INIT(SIZE_MAX);
    if (mkdtemp(template) == NULL || realpath(template, disk.top) == NULL || chdir(disk.top) == -1)
        return -1;
    return dir_make("base/dom/user", 0700, &err);
}

static int end(void **state)
{
    (void) state;
    buf_fini(&disk.synced);
    return unlink("base/box") == -1 || rmdir("base/dom/user") == -1 || rmdir("base/dom") == -1 ||
                   rmdir("base") == -1 || chdir("/") == -1 || rmdir(disk.top) == -1
               ? -1
               : 0;
}

static void forget(void)
{
    buf_reset(&disk.synced);
    disk.shut = disk.broken = NULL;
}

static void check_synced(const char *wanted)
{
    const char *top = last_name(disk.top);
    struct buf expect = BUF_INIT(SIZE_MAX);

    for (const char *p = wanted; *p != '\0'; p++) {
        if (*p == '^')
            buf_puts(&expect, top);
        else
            buf_putc(&expect, *p);
    }
    assert_string_equal(buf_cstr(&disk.synced), buf_cstr(&expect));
    buf_fini(&expect);
}

static void test_directories(void **state)
{
    static const struct {
        const char *path, *shut, *synced;
    } cases[] = {
        {"%s/base/dom/user/", NULL, "user dom base ^ "},
        {"%s/base//dom/user", NULL, "user dom base ^ "},
        {"%s/base/dom/user", "base", "user dom * ^ "},
        {"base/dom/user/", NULL, "user dom base "},
        {"base", NULL, "base "},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = ERR_INIT;
        char path[PATH_MAX * 2];

        forget();
        disk.shut = cases[i].shut;
        (void) snprintf(path, sizeof(path), "%s%s", cases[i].path[0] == '%' ? disk.top : "",
                        cases[i].path + (cases[i].path[0] == '%' ? 2 : 0));
        assert_int_equal(mailbox_sync_directories(path, &err), 0);
        check_synced(cases[i].synced);
    }
}

static void test_directories_that_fail(void **state)
{
    struct err err = ERR_INIT;

    (void) state;
    forget();
    disk.broken = "dom";
    assert_int_equal(mailbox_sync_directories("base/dom/user", &err), -1);
    assert_non_null(strstr(err.text, "base/dom"));
    check_synced("user ");
    forget();
    assert_int_equal(mailbox_sync_directories("base/nobody", &err), -1);
    check_synced("");
}

static void test_name(void **state)
{
    struct err err = ERR_INIT;
    int fd = open("base/box", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    (void) state;
    assert_true(fd != -1);
    forget();
    assert_int_equal(mailbox_sync_name("base/box", fd, &err), 0);
    check_synced("base ");
    forget();
    assert_int_equal(mailbox_sync_name("box", fd, &err), 0); /* the working directory */
    check_synced("^ ");
    forget();
    disk.shut = "base"; /* as a spool directory may be */
    assert_int_equal(mailbox_sync_name("base/box", fd, &err), 0);
    check_synced("* ");
    forget();
    disk.broken = "base";
    assert_int_equal(mailbox_sync_name("base/box", fd, &err), -1);
    forget();
    assert_int_equal(mailbox_sync_name("nowhere/box", fd, &err), -1);
    fd_close(&fd);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_directories),
        cmocka_unit_test(test_directories_that_fail),
        cmocka_unit_test(test_name),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
