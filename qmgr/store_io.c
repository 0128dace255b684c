/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_io.c - the store's system calls on a real file system.
 */
#include "qmgr/store_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"

/* The owner and group of the directory that path is in. */
static int owner_of_parent(const char *path, struct stat *st)
{
    const char *slash = strrchr(path, '/');
    char *dir;
    int ret;

    if (slash == NULL || slash == path)
        return stat(slash == NULL ? "." : "/", st);
    dir = xstrndup(path, (size_t) (slash - path));
    ret = stat(dir, st);
    free(dir);
    return ret;
}

static int posix_open(void *ctx, const char *path, int flags, mode_t mode)
{
    struct stat st, parent;
    int fd;

    (void) ctx;
    do
        fd = open(path, flags | O_CLOEXEC, mode);
    while (fd == -1 && errno == EINTR);
    if (fd == -1 || (flags & O_CREAT) == 0 || geteuid() != 0)
        return fd;
    /* a queue command that root runs: the daemons must be able to read what it makes */
    if (fstat(fd, &st) == -1 || owner_of_parent(path, &parent) == -1 ||
        (st.st_uid != parent.st_uid && fchown(fd, parent.st_uid, parent.st_gid) == -1)) {
        int saved = errno;

        fd_close(&fd);
        errno = saved;
    }
    return fd;
}

static void posix_close(void *ctx, int fd)
{
    (void) ctx;
    fd_close(&fd);
}

static ssize_t posix_pread(void *ctx, int fd, void *data, size_t len, uint64_t offset)
{
    (void) ctx;
    return fd_pread_all(fd, data, len, (off_t) offset);
}

static int posix_pwritev(void *ctx, int fd, struct iovec *iov, int count, uint64_t offset)
{
    (void) ctx;
    return fd_pwritev_all(fd, iov, count, (off_t) offset);
}

/* Not repeated on EINTR: whether the bytes are on disk is not known then, which counts as failure. */
static int posix_fdatasync(void *ctx, int fd)
{
    (void) ctx;
    return fdatasync(fd);
}

static void posix_begin_sync(void *ctx, int fd, uint64_t offset, uint64_t len)
{
    (void) ctx;
    (void) sync_file_range(fd, (off_t) offset, (off_t) len, SYNC_FILE_RANGE_WRITE);
}

static int posix_sync_dir(void *ctx, const char *path)
{
    int fd = posix_open(ctx, path, O_RDONLY | O_DIRECTORY, 0);
    int ret;
    int saved;

    if (fd == -1)
        return -1;
    ret = fsync(fd);
    saved = errno;
    fd_close(&fd);
    errno = saved;
    return ret;
}

static int posix_truncate(void *ctx, int fd, uint64_t bytes)
{
    (void) ctx;
    return ftruncate(fd, (off_t) bytes);
}

static int posix_allocate(void *ctx, int fd, uint64_t bytes)
{
    int ret;

    (void) ctx;
    do
        ret = fallocate(fd, 0, 0, (off_t) bytes);
    while (ret == -1 && errno == EINTR);
    return ret == -1 && errno == EOPNOTSUPP ? 0 : ret;
}

static void fill_stat(const struct stat *from, struct io_stat *st)
{
    st->inode = from->st_ino;
    st->bytes = (uint64_t) from->st_size;
    st->mtime_us = (int64_t) from->st_mtim.tv_sec * 1000000 + from->st_mtim.tv_nsec / 1000;
}

static int posix_stat_fd(void *ctx, int fd, struct io_stat *st)
{
    struct stat s;

    (void) ctx;
    if (fstat(fd, &s) == -1)
        return -1;
    fill_stat(&s, st);
    return 0;
}

static int posix_stat_path(void *ctx, const char *path, struct io_stat *st)
{
    struct stat s;

    (void) ctx;
    if (stat(path, &s) == -1)
        return -1;
    fill_stat(&s, st);
    return 0;
}

static int posix_rename(void *ctx, const char *from, const char *to, bool replace)
{
    (void) ctx;
    if (replace)
        return rename(from, to);
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    /* a file system without RENAME_NOREPLACE: link(2) does not replace either */
    if (link(from, to) == -1)
        return -1;
    return unlink(from);
}

static int posix_unlink(void *ctx, const char *path)
{
    (void) ctx;
    return unlink(path);
}

static int posix_mkdir(void *ctx, const char *path, mode_t mode)
{
    struct stat parent;

    (void) ctx;
    if (mkdir(path, mode) == -1)
        return -1;
    if (geteuid() != 0)
        return 0;
    if (owner_of_parent(path, &parent) == -1)
        return -1;
    return parent.st_uid == 0 ? 0 : chown(path, parent.st_uid, parent.st_gid);
}

static int posix_lock(void *ctx, int fd)
{
    (void) ctx;
    return flock(fd, LOCK_EX | LOCK_NB);
}

static int posix_unlock(void *ctx, int fd)
{
    (void) ctx;
    return flock(fd, LOCK_UN);
}

static int posix_list(void *ctx, const char *path, void (*fn)(void *arg, const char *name),
                      void *arg)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    int saved;

    (void) ctx;
    if (dir == NULL)
        return -1;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody else has this stream */
    while (errno = 0, (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            fn(arg, entry->d_name);
    }
    saved = errno;
    closedir(dir);
    errno = saved;
    return saved == 0 ? 0 : -1;
}

static int posix_free_bytes(void *ctx, const char *path, uint64_t *bytes)
{
    struct statvfs s;

    (void) ctx;
    if (statvfs(path, &s) == -1)
        return -1;
    *bytes = (uint64_t) s.f_bavail * s.f_frsize;
    return 0;
}

const struct io_ops io_posix = {
    .ctx = NULL,
    .open = posix_open,
    .close = posix_close,
    .pread = posix_pread,
    .pwritev = posix_pwritev,
    .fdatasync = posix_fdatasync,
    .begin_sync = posix_begin_sync,
    .sync_dir = posix_sync_dir,
    .truncate = posix_truncate,
    .allocate = posix_allocate,
    .stat_fd = posix_stat_fd,
    .stat_path = posix_stat_path,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .mkdir = posix_mkdir,
    .lock = posix_lock,
    .unlock = posix_unlock,
    .list = posix_list,
    .free_bytes = posix_free_bytes,
};
