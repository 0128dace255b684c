/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_io.h - every system call that the queue store makes, as a table: tests put a table in its place
 * that fails, tears, reorders and cuts the power. Internal to the store and its tests.
 *
 * Unless said otherwise: 0 (or the value), or -1 with errno. EINTR and short transfers are the table's
 * business. Threads may call at the same time.
 */
#ifndef PR_QMGR_STORE_IO_H
#define PR_QMGR_STORE_IO_H

#include <sys/types.h>
#include <sys/uio.h>

#include "qmgr/store.h"

struct io_stat {
    uint64_t inode;
    uint64_t bytes;
    int64_t mtime_us;
};

struct io_ops {
    void *ctx; /* first argument of each call */
    /* flags as open(2), O_CLOEXEC is added. */
    int (*open)(void *ctx, const char *path, int flags, mode_t mode);
    void (*close)(void *ctx, int fd);
    /* All len bytes unless the file ends before. */
    ssize_t (*pread)(void *ctx, int fd, void *data, size_t len, uint64_t offset);
    /* All of it; iov is used up. */
    int (*pwritev)(void *ctx, int fd, struct iovec *iov, int count, uint64_t offset);
    int (*fdatasync)(void *ctx, int fd);
    /* A hint: these bytes will be synced soon, so the disk may begin. Promises nothing. */
    void (*begin_sync)(void *ctx, int fd, uint64_t offset, uint64_t len);
    int (*sync_dir)(void *ctx, const char *path);
    int (*truncate)(void *ctx, int fd, uint64_t bytes);
    int (*allocate)(void *ctx, int fd, uint64_t bytes); /* fallocate(2); EOPNOTSUPP is 0 */
    int (*stat_fd)(void *ctx, int fd, struct io_stat *st);
    int (*stat_path)(void *ctx, const char *path, struct io_stat *st);
    int (*rename)(void *ctx, const char *from, const char *to, bool replace);
    int (*unlink)(void *ctx, const char *path);
    int (*mkdir)(void *ctx, const char *path, mode_t mode);
    /* Exclusive flock(2) of the open file, without waiting; gone when the file is closed, or at unlock. */
    int (*lock)(void *ctx, int fd);
    int (*unlock)(void *ctx, int fd);
    /* Calls fn with each name but . and .. */
    int (*list)(void *ctx, const char *path, void (*fn)(void *arg, const char *name), void *arg);
    int (*free_bytes)(void *ctx, const char *path, uint64_t *bytes);
};

extern const struct io_ops io_posix;

/* store.h's calls on another table. io outlives what is opened on it. */
NODISCARD int store_writer_open_io(const struct store_options *opt, const struct io_ops *io,
                                   store_committed_fn fn, void *arg, struct store_writer **out,
                                   struct err *err);
NODISCARD int store_open_io(const struct store_options *opt, const struct io_ops *io,
                            const struct store_events *ev, void *arg, bool readonly,
                            struct store **out, struct err *err);
/* Drops everything without writing: what a killed process leaves. For tests. */
void store_abandon(struct store **s);
void store_writer_abandon(struct store_writer **w);

#endif
