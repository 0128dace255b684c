/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.h - files, with EINTR and short transfers handled, and durability spelled out.
 */
#ifndef PR_FILE_H
#define PR_FILE_H

#include <sys/types.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/err.h"

/* All of it, or -1 with errno. */
NODISCARD int fd_write_all(int fd, const void *data, size_t len);
NODISCARD int fd_writev_all(int fd, struct iovec *iov, int count); /* iov is used up */
NODISCARD int fd_pwrite_all(int fd, const void *data, size_t len, off_t offset);
NODISCARD int fd_pwritev_all(int fd, struct iovec *iov, int count,
                             off_t offset); /* iov is used up */
/* Bytes read (fewer than len only at the end of the file), or -1. */
NODISCARD ssize_t fd_pread_all(int fd, void *data, size_t len, off_t offset);
NODISCARD ssize_t fd_read_some(int fd, void *data, size_t len); /* EINTR handled */
void fd_close(
    int *fd); /* -1 is nothing; becomes -1; for descriptors whose close error does not matter */
/*
 * For a program that was started with standard input, output or errors closed: the next file or socket that it opens would be taken for
 * them. What is missing becomes /dev/null, which as input cannot be read (EBADF): there was none, not an empty one.
 */
void fd_fill_standard(void);
NODISCARD int fd_set_nonblocking(int fd, bool on);
NODISCARD int fd_set_cloexec(int fd, bool on);

/* Appends what is left of the file fd to out, which limits its size; path is for err. */
NODISCARD int fd_read_all(int fd, const char *path, struct buf *out, struct err *err);
/* Appends the file to out, which limits its size. */
NODISCARD int file_read(const char *path, struct buf *out, struct err *err);
/*
 * Replaces path by data so that a reader, or a crash at any moment, finds the old or the new content:
 * temporary file beside it, mode and owner of the old one (else mode), fdatasync, rename, directory sync.
 */
NODISCARD int file_replace(const char *path, struct slice data, mode_t mode, struct err *err);
/* A created, renamed or removed name counts only after this. */
NODISCARD int dir_sync(const char *dir, struct err *err);
NODISCARD int dir_sync_fd(int dirfd, struct err *err);
/* mkdir -p; existing directories are left as they are. */
NODISCARD int dir_make(const char *path, mode_t mode, struct err *err);
/* "dir/name" into out; an absolute name stays as it is. */
void path_join(struct buf *out, const char *dir, const char *name);
/* The directory of the running executable; 0 or -1. */
NODISCARD int path_of_self(struct buf *out, struct err *err);

#endif
