/* SPDX-License-Identifier: Apache-2.0 */
/* file.c - see file.h. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int fd_write_all(int fd, const void *data, size_t len)
{
    struct iovec iov = {(void *) (uintptr_t) data, len};

    return fd_writev_all(fd, &iov, 1);
}

/* Drops n written bytes from the front of iov. */
static void advance(struct iovec **iov, int *count, size_t n)
{
    while (*count > 0 && n >= (*iov)->iov_len) {
        n -= (*iov)->iov_len;
        (*iov)++;
        (*count)--;
    }
    if (n > 0 && *count > 0) {
        (*iov)->iov_base = (char *) (*iov)->iov_base + n;
        (*iov)->iov_len -= n;
    }
}

/* A write of something that wrote nothing would be tried for ever. */
static bool made_progress(ssize_t n)
{
    if (n == 0)
        errno = EIO;
    return n > 0;
}

int fd_writev_all(int fd, struct iovec *iov, int count)
{
    advance(&iov, &count, 0);
    while (count > 0) {
        ssize_t n = writev(fd, iov, count < IOV_MAX ? count : IOV_MAX);

        if (n == -1 && errno == EINTR)
            continue;
        if (!made_progress(n))
            return -1;
        advance(&iov, &count, (size_t) n);
    }
    return 0;
}

int fd_pwritev_all(int fd, struct iovec *iov, int count, off_t offset)
{
    advance(&iov, &count, 0);
    while (count > 0) {
        ssize_t n = pwritev(fd, iov, count < IOV_MAX ? count : IOV_MAX, offset);

        if (n == -1 && errno == EINTR)
            continue;
        if (!made_progress(n))
            return -1;
        offset += n;
        advance(&iov, &count, (size_t) n);
    }
    return 0;
}

int fd_pwrite_all(int fd, const void *data, size_t len, off_t offset)
{
    struct iovec iov = {(void *) (uintptr_t) data, len};

    return fd_pwritev_all(fd, &iov, 1, offset);
}

ssize_t fd_pread_all(int fd, void *data, size_t len, off_t offset)
{
    size_t got = 0;

    while (got < len) {
        ssize_t n = pread(fd, (char *) data + got, len - got, offset + (off_t) got);

        if (n == -1) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        if (n == 0)
            break;
        got += (size_t) n;
    }
    return (ssize_t) got;
}

ssize_t fd_read_some(int fd, void *data, size_t len)
{
    ssize_t n;

    do
        n = read(fd, data, len);
    while (n == -1 && errno == EINTR);
    return n;
}

void fd_fill_standard(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) == -1 && /* the lowest free number is this one */
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDWR) != fd)
            _exit(1); /* there is no place to say why */
}

void fd_close(int *fd)
{
    int saved = errno;

    if (*fd != -1)
        (void) close(*fd);
    *fd = -1;
    errno = saved;
}

static int set_flag(int fd, int get, int set, int flag, bool on)
{
    int flags = fcntl(fd, get);
    int wanted = on ? flags | flag : flags & ~flag;

    if (flags == -1)
        return -1;
    return wanted == flags ? 0 : fcntl(fd, set, wanted) == -1 ? -1 : 0;
}

int fd_set_nonblocking(int fd, bool on)
{
    return set_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, on);
}

int fd_set_cloexec(int fd, bool on)
{
    return set_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on);
}

int fd_read_all(int fd, const char *path, struct buf *out, struct err *err)
{
    for (;;) {
        char *room = buf_reserve(out, 65536);
        char piece[4096];
        ssize_t n;

        /* near the limit small pieces tell whether the file fits */
        n = fd_read_some(fd, room != NULL ? room : piece, room != NULL ? 65536 : sizeof(piece));
        if (n == -1)
            return err_sys(err, "read %s", path);
        if (room == NULL) {
            out->failed = false;
            buf_put(out, piece, (size_t) n);
            if (!buf_ok(out))
                return err_input(err, "%s: larger than %zu bytes", path, out->limit);
        } else {
            buf_advance(out, (size_t) n);
        }
        if (n == 0)
            return 0;
    }
}

int file_read(const char *path, struct buf *out, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int ret;

    if (fd == -1)
        return err_sys(err, "open %s", path);
    ret = fd_read_all(fd, path, out, err);
    fd_close(&fd);
    return ret;
}

int dir_sync_fd(int dirfd, struct err *err)
{
    return fsync(dirfd) == -1 ? err_sys(err, "fsync of a directory") : 0;
}

int dir_sync(const char *dir, struct err *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int ret;

    if (fd == -1)
        return err_sys(err, "open directory %s", dir);
    ret = dir_sync_fd(fd, err);
    if (ret == -1)
        err_prefix(err, "%s: ", dir);
    fd_close(&fd);
    return ret;
}

int file_replace(const char *path, struct slice data, mode_t mode, struct err *err)
{
    struct buf temporary = BUF_INIT(4096 + 32);
    struct buf dir = BUF_INIT(4096);
    ptrdiff_t slash = slice_rfind(slice_str(path), '/');
    struct stat st;
    bool exists = stat(path, &st) == 0;
    bool made = false;
    int fd = -1;
    int ret = -1;

    buf_printf(&temporary, "%s.XXXXXX", path);
    if (slash > 0)
        buf_put(&dir, path, (size_t) slash);
    else
        buf_puts(&dir, slash == 0 ? "/" : ".");
    if (!buf_ok(&temporary) || !buf_ok(&dir)) {
        err_input(err, "path is too long");
        goto done;
    }
    (void) buf_cstr(&temporary);
    fd = mkostemp(temporary.ptr, O_CLOEXEC);
    if (fd == -1) {
        err_sys(err, "create %s", temporary.ptr);
        goto done;
    }
    made = true;
    if (exists && (st.st_uid != geteuid() || st.st_gid != getegid()) &&
        fchown(fd, st.st_uid, st.st_gid) == -1) {
        err_sys(err, "chown %s", temporary.ptr);
        goto done;
    }
    if (fchmod(fd, exists ? st.st_mode & 07777 : mode) == -1) {
        err_sys(err, "chmod %s", temporary.ptr);
        goto done;
    }
    if (fd_write_all(fd, data.ptr, data.len) == -1 || fdatasync(fd) == -1) {
        err_sys(err, "write %s", temporary.ptr);
        goto done;
    }
    if (rename(temporary.ptr, path) == -1) {
        err_sys(err, "rename %s to %s", temporary.ptr, path);
        goto done;
    }
    made = false;
    ret = dir_sync(buf_cstr(&dir), err);
done:
    fd_close(&fd);
    if (made)
        (void) unlink(temporary.ptr);
    buf_fini(&temporary);
    buf_fini(&dir);
    return ret;
}

int dir_make(const char *path, mode_t mode, struct err *err)
{
    char *copy;
    struct stat st;
    int ret = 0;

    if (path[0] == '\0')
        return err_input(err, "mkdir: the path is empty");
    copy = xstrdup(path);
    for (char *p = copy + 1; ret == 0; p++) {
        char c = *p;

        if (c != '/' && c != '\0')
            continue;
        *p = '\0';
        if (mkdir(copy, mode) == -1 && errno != EEXIST)
            ret = err_sys(err, "mkdir %s", copy);
        *p = c;
        if (c == '\0')
            break;
    }
    free(copy);
    if (ret == 0 && stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
        ret = err_input(err, "mkdir %s: it is there, but no directory", path);
    return ret;
}

void path_join(struct buf *out, const char *dir, const char *name)
{
    if (name[0] != '/' && dir[0] != '\0') {
        buf_puts(out, dir);
        if (dir[strlen(dir) - 1] != '/')
            buf_putc(out, '/');
    }
    buf_puts(out, name);
}

int path_of_self(struct buf *out, struct err *err)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path));
    ptrdiff_t slash;

    if (n == -1)
        return err_sys(err, "readlink /proc/self/exe");
    slash = slice_rfind(slice_of(path, (size_t) n), '/');
    if ((size_t) n == sizeof(path) || slash == -1)
        return err_temporary(err, "the path of the executable is too long");
    buf_put(out, path, slash > 0 ? (size_t) slash : 1);
    return buf_ok(out) ? 0 : err_temporary(err, "the path of the executable is too long");
}
