/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faults.c - preloaded into the daemons: what a machine may do to them while they run, as faults.py says in FAULTS_FILE, which all share.
 *
 *   read_only    a directory: nothing below it can be changed (EROFS), by open descriptors neither; what was written can be synced
 *   unreadable   part of a path: reading pages first..last of such files fails (EIO)
 *   offset_us    how far the wall clock is off
 *   hanging      part of a path: whoever has such a file, or the file system of one, written (fsync, fdatasync, syncfs) waits until this is over
 *
 * Calls made inside the C library are not seen: opendir() needs none of it, syslog's stamps stay right.
 */
#undef _FORTIFY_SOURCE /* its inline open() would stand in the way of ours */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT     __attribute__((visibility("default")))
#define REAL(name) ((__typeof__(&(name))) dlsym(RTLD_NEXT, #name))
#define PAGE       4096

/* As faults.py writes it. */
struct faults {
    char read_only[1024];
    char unreadable[1024];
    uint64_t first, last; /* pages */
    int64_t offset_us;
    char hanging[1024];
};

static const volatile struct faults *faults;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULTS_FILE");
    int fd = path == NULL ? -1 : REAL(open64)(path, O_RDONLY | O_CLOEXEC);
    void *map =
        fd == -1 ? MAP_FAILED : mmap(NULL, sizeof(struct faults), PROT_READ, MAP_SHARED, fd, 0);

    /* a test without its faults would pass */
    if (map == MAP_FAILED) {
        dprintf(STDERR_FILENO, "faults: FAULTS_FILE: %s\n", strerror(errno));
        abort();
    }
    (void) close(fd);
    faults = map;
}

static void text(const volatile char *from, char out[1024])
{
    for (size_t i = 0; i < 1024; i++)
        out[i] = from[i];
    out[1023] = '\0';
}

static bool begins(const char *path, const char *root)
{
    size_t n = strlen(root);

    return strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* May this not be changed? */
static bool is_read_only(const char *path)
{
    char root[1024];
    char full[PATH_MAX * 2];
    int saved = errno;

    if (faults == NULL || faults->read_only[0] == '\0')
        return false;
    text(faults->read_only, root);
    if (path[0] != '/') {
        char cwd[PATH_MAX];

        if (getcwd(cwd, sizeof(cwd)) == NULL)
            abort();
        snprintf(full, sizeof(full), "%s/%s", cwd, path);
        path = full;
    }
    errno = saved;
    return begins(path, root);
}

static bool path_of(int fd, char out[PATH_MAX])
{
    char link[64];
    int saved = errno;
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, out, PATH_MAX - 1);
    errno = saved;
    if (n <= 0)
        return false;
    out[n] = '\0';
    return true;
}

static bool fd_is_read_only(int fd)
{
    char path[PATH_MAX];
    struct stat st;

    return faults != NULL && faults->read_only[0] != '\0' && fstat(fd, &st) == 0 &&
           S_ISREG(st.st_mode) && path_of(fd, path) && is_read_only(path);
}

static bool fd_is_unreadable(int fd, uint64_t offset, size_t len)
{
    char part[1024];
    char path[PATH_MAX];

    if (faults == NULL || faults->unreadable[0] == '\0')
        return false;
    text(faults->unreadable, part);
    return offset / PAGE <= faults->last && (offset + len + PAGE - 1) / PAGE > faults->first &&
           path_of(fd, path) && strstr(path, part) != NULL;
}

static int deny(void)
{
    errno = EROFS;
    return -1;
}

/* --- a file system that became read-only ---------------------------------------------------------- */

static int open_either(const char *path, int flags, mode_t mode)
{
    struct stat st;

    if ((flags & (O_ACCMODE | O_CREAT | O_TRUNC)) != O_RDONLY && is_read_only(path)) {
        bool is_new = stat(path, &st) == -1;

        /* a FIFO or socket is no matter of the file system's */
        if (is_new ? (flags & O_CREAT) != 0 : S_ISREG(st.st_mode))
            return deny();
    }
    return REAL(open64)(path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...)
{
    va_list ap;
    mode_t mode;

    va_start(ap, flags);
    mode = (flags & O_CREAT) != 0 ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return open_either(path, flags, mode);
}
EXPORT int open(const char *path, int flags, ...) __attribute__((alias("open64")));

/* What open() becomes in a fortified program that gives no mode. */
int __open_2(const char *path, int flags);       /* NOLINT(bugprone-reserved-identifier): glibc's */
EXPORT int __open_2(const char *path, int flags) /* NOLINT(bugprone-reserved-identifier): name */
{
    return open_either(path, flags, 0);
}
int __open64_2(const char *path, int flags); /* NOLINT(bugprone-reserved-identifier): glibc's */
EXPORT int __open64_2(const char *path, int flags) /* NOLINT(bugprone-reserved-identifier): name */
{
    return open_either(path, flags, 0);
}

EXPORT ssize_t write(int fd, const void *data, size_t len)
{
    return fd_is_read_only(fd) ? deny() : REAL(write)(fd, data, len);
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int count)
{
    return fd_is_read_only(fd) ? deny() : REAL(writev)(fd, iov, count);
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset)
{
    return fd_is_read_only(fd) ? deny() : REAL(pwrite64)(fd, data, len, offset);
}
EXPORT ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
    __attribute__((alias("pwrite64")));

EXPORT ssize_t pwritev64(int fd, const struct iovec *iov, int count, off64_t offset)
{
    return fd_is_read_only(fd) ? deny() : REAL(pwritev64)(fd, iov, count, offset);
}
EXPORT ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
    __attribute__((alias("pwritev64")));

EXPORT int ftruncate64(int fd, off64_t size)
{
    return fd_is_read_only(fd) ? deny() : REAL(ftruncate64)(fd, size);
}
EXPORT int ftruncate(int fd, off_t size) __attribute__((alias("ftruncate64")));

EXPORT int fallocate64(int fd, int mode, off64_t offset, off64_t len)
{
    return fd_is_read_only(fd) ? deny() : REAL(fallocate64)(fd, mode, offset, len);
}
EXPORT int fallocate(int fd, int mode, off_t offset, off_t len)
    __attribute__((alias("fallocate64")));

EXPORT int fchown(int fd, uid_t uid, gid_t gid)
{
    return fd_is_read_only(fd) ? deny() : REAL(fchown)(fd, uid, gid);
}

EXPORT int fchmod(int fd, mode_t mode)
{
    return fd_is_read_only(fd) ? deny() : REAL(fchmod)(fd, mode);
}

EXPORT int unlink(const char *path)
{
    struct stat st;

    return is_read_only(path) && lstat(path, &st) == 0 ? deny() : REAL(unlink)(path);
}

EXPORT int rename(const char *from, const char *to)
{
    return is_read_only(from) || is_read_only(to) ? deny() : REAL(rename)(from, to);
}

EXPORT int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    return is_read_only(from) || is_read_only(to)
               ? deny()
               : REAL(renameat2)(from_dir, from, to_dir, to, flags);
}

EXPORT int link(const char *from, const char *to)
{
    return is_read_only(to) ? deny() : REAL(link)(from, to);
}

EXPORT int mkdir(const char *path, mode_t mode)
{
    struct stat st;

    return is_read_only(path) && stat(path, &st) == -1 ? deny() : REAL(mkdir)(path, mode);
}

EXPORT int statvfs64(const char *path, struct statvfs64 *out)
{
    int ret = REAL(statvfs64)(path, out);

    if (ret == 0 && is_read_only(path))
        out->f_flag |= ST_RDONLY;
    return ret;
}
EXPORT int statvfs(const char *path, struct statvfs *out)
{
    int ret = REAL(statvfs)(path, out);

    if (ret == 0 && is_read_only(path))
        out->f_flag |= ST_RDONLY;
    return ret;
}

/* --- pages that cannot be read -------------------------------------------------------------------- */

static ssize_t fail_read(void)
{
    errno = EIO;
    return -1;
}

EXPORT ssize_t pread64(int fd, void *data, size_t len, off64_t offset)
{
    return fd_is_unreadable(fd, (uint64_t) offset, len) ? fail_read()
                                                        : REAL(pread64)(fd, data, len, offset);
}
EXPORT ssize_t pread(int fd, void *data, size_t len, off_t offset)
    __attribute__((alias("pread64")));

EXPORT ssize_t read(int fd, void *data, size_t len)
{
    off_t at = faults == NULL || faults->unreadable[0] == '\0' ? -1 : lseek(fd, 0, SEEK_CUR);

    return at != -1 && fd_is_unreadable(fd, (uint64_t) at, len) ? fail_read()
                                                                : REAL(read)(fd, data, len);
}

EXPORT ssize_t sendfile64(int out, int in, off64_t *offset, size_t len)
{
    off_t at = offset != NULL ? *offset : lseek(in, 0, SEEK_CUR);

    return fd_is_unreadable(in, (uint64_t) at, len) ? fail_read()
                                                    : REAL(sendfile64)(out, in, offset, len);
}
EXPORT ssize_t sendfile(int out, int in, off_t *offset, size_t len)
    __attribute__((alias("sendfile64")));

/* --- a disk that does not answer ------------------------------------------------------------------ */

static bool is_hanging(int fd)
{
    char part[1024];
    char path[PATH_MAX];

    if (faults == NULL || faults->hanging[0] == '\0')
        return false;
    text(faults->hanging, part);
    return path_of(fd, path) && strstr(path, part) != NULL;
}

static void wait_for_disk(int fd)
{
    while (is_hanging(fd))
        (void) usleep(20000);
}

EXPORT int fsync(int fd)
{
    wait_for_disk(fd);
    return REAL(fsync)(fd);
}

EXPORT int fdatasync(int fd)
{
    wait_for_disk(fd);
    return REAL(fdatasync)(fd);
}

EXPORT int syncfs(int fd)
{
    wait_for_disk(fd);
    return REAL(syncfs)(fd);
}

/* --- a clock that was set ------------------------------------------------------------------------- */

EXPORT int clock_gettime(clockid_t clock, struct timespec *out)
{
    int ret = REAL(clock_gettime)(clock, out);

    if (ret == 0 && faults != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t us = (int64_t) out->tv_sec * 1000000 + out->tv_nsec / 1000 + faults->offset_us;

        out->tv_sec = us / 1000000;
        out->tv_nsec = us % 1000000 * 1000;
    }
    return ret;
}

EXPORT int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now;

    (void) zone;
    if (clock_gettime(CLOCK_REALTIME, &now) == -1)
        return -1;
    *out = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}

EXPORT time_t time(time_t *out)
{
    struct timespec now;

    if (clock_gettime(CLOCK_REALTIME, &now) == -1)
        return -1;
    if (out != NULL)
        *out = now.tv_sec;
    return now.tv_sec;
}
