/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slow_flush.c - a module for LD_PRELOAD that makes each flush take as long as on a slow device.
 *
 * The device works on one flush at a time; each takes SLOW_FLUSH_MS. A request that arrives while one
 * runs has to wait for the next, which it shares with all others that arrive before that begins. All
 * processes with the same SLOW_FLUSH_FILE share the device: the file holds, as one 64-bit number, the
 * end of the last flush that was asked for (CLOCK_MONOTONIC, microseconds). No lock: a process that is
 * killed leaves nothing behind, and its flush takes its time all the same.
 *
 * The real call is made first and its result is returned. What waits: fsync, fdatasync, syncfs, sync,
 * msync with MS_SYNC, sync_file_range that waits for its writes, pwritev2 with RWF_SYNC or RWF_DSYNC, and
 * writes to a descriptor opened with O_SYNC or O_DSYNC. What does not: duplicates of such a descriptor
 * under another number, io_uring, programs linked statically, calls made inside the C library.
 *
 * Without SLOW_FLUSH_MS nothing waits. A setting that cannot be used ends the program: a measurement
 * on a device other than the one asked for is worse than none.
 */
#undef _FORTIFY_SOURCE /* its inline open() and write() would stand in the way of ours */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
/* The next definition of a function of the same name: the C library's. */
#define REAL(name) ((__typeof__(&(name))) dlsym(RTLD_NEXT, #name))

#define FLUSH_MS_MAX 60000
#define FD_MARKS     65536 /* higher descriptors are asked for their flags at every write */

static int64_t flush_us;
static _Atomic int64_t *device_end; /* NULL: nothing waits */
static _Atomic uint8_t fd_marks[FD_MARKS];

static void refuse(const char *what)
{
    dprintf(STDERR_FILENO, "slow_flush: %s\n", what);
    _exit(1);
}

static int64_t now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

__attribute__((constructor)) static void slow_flush_init(void)
{
    const char *ms = getenv("SLOW_FLUSH_MS");
    const char *path = getenv("SLOW_FLUSH_FILE");
    char *end = NULL;

    if (ms == NULL)
        return;
    errno = 0;
    long value = strtol(ms, &end, 10);
    if (errno != 0 || end == ms || *end != '\0' || value < 1 || value > FLUSH_MS_MAX)
        refuse("SLOW_FLUSH_MS: want a number of milliseconds, 1 to 60000");
    if (path == NULL || path[0] != '/')
        refuse("SLOW_FLUSH_FILE: want the absolute name of a file");
    int fd = REAL(open)(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd == -1)
        refuse("SLOW_FLUSH_FILE: cannot open it");
    (void) fchmod(fd, 0666); /* daemons of other users share it; only the first one may do this */
    if (ftruncate(fd, sizeof(*device_end)) == -1)
        refuse("SLOW_FLUSH_FILE: cannot set its size");
    void *map = mmap(NULL, sizeof(*device_end), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        refuse("SLOW_FLUSH_FILE: cannot map it");
    REAL(close)(fd);
    flush_us = value * 1000;
    device_end = map;
}

/* The end of the flush that serves a request made at `now`; books that flush if nobody has. */
static int64_t device_book(int64_t now)
{
    int64_t last = atomic_load(device_end);

    for (;;) {
        int64_t end = last;
        if (now >= last)
            end = now + flush_us; /* idle: it begins at once */
        else if (now >= last - flush_us)
            end = last + flush_us; /* the last one runs: the one after it */
        if (end == last)           /* booked and not begun: shared */
            return end;
        if (atomic_compare_exchange_weak(device_end, &last, end))
            return end;
    }
}

/* After the real call: waits for the end of the flush that a request at `asked` got. */
static void device_wait(int64_t end)
{
    int saved = errno;
    struct timespec ts = {.tv_sec = end / 1000000, .tv_nsec = end % 1000000 * 1000};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        ;
    errno = saved;
}

/* The flush is booked before the real call, when the request reaches the device. */
#define WITH_FLUSH(type, wanted, call)                                                             \
    do {                                                                                           \
        bool waits = device_end != NULL && (wanted);                                               \
        int64_t end = waits ? device_book(now_us()) : 0;                                           \
        type ret = (call);                                                                         \
        if (waits)                                                                                 \
            device_wait(end);                                                                      \
        return ret;                                                                                \
    } while (0)

EXPORT int fsync(int fd)
{
    WITH_FLUSH(int, true, REAL(fsync)(fd));
}

EXPORT int fdatasync(int fd)
{
    WITH_FLUSH(int, true, REAL(fdatasync)(fd));
}

EXPORT int syncfs(int fd)
{
    WITH_FLUSH(int, true, REAL(syncfs)(fd));
}

EXPORT void sync(void)
{
    int64_t end = device_end != NULL ? device_book(now_us()) : 0;

    REAL(sync)();
    if (device_end != NULL)
        device_wait(end);
}

EXPORT int msync(void *addr, size_t len, int flags)
{
    WITH_FLUSH(int, (flags & MS_SYNC) != 0, REAL(msync)(addr, len, flags));
}

EXPORT int sync_file_range(int fd, off64_t offset, off64_t count, unsigned flags)
{
    WITH_FLUSH(int, (flags & SYNC_FILE_RANGE_WAIT_AFTER) != 0,
               REAL(sync_file_range)(fd, offset, count, flags));
}

/* A mark says only "ask for the flags": the number may have come to mean another file. */
static void fd_opened(int fd, int flags)
{
    if (fd >= 0 && fd < FD_MARKS)
        atomic_store(&fd_marks[fd], (flags & O_DSYNC) != 0); /* O_SYNC contains O_DSYNC */
}

static bool fd_is_sync(int fd)
{
    if (device_end == NULL || fd < 0 || (fd < FD_MARKS && !atomic_load(&fd_marks[fd])))
        return false;
    int saved = errno;
    int flags = fcntl(fd, F_GETFL);
    errno = saved;
    return flags != -1 && (flags & O_DSYNC) != 0;
}

/* open() and its kin differ in what stands before the flags only. */
#define OPEN_BODY(call)                                                                            \
    mode_t mode = 0;                                                                               \
    if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) {                              \
        va_list ap;                                                                                \
        va_start(ap, flags);                                                                       \
        mode = va_arg(ap, mode_t);                                                                 \
        va_end(ap);                                                                                \
    }                                                                                              \
    int fd = (call);                                                                               \
    fd_opened(fd, flags);                                                                          \
    return fd

EXPORT int open(const char *path, int flags, ...)
{
    OPEN_BODY(REAL(open)(path, flags, mode));
}

EXPORT int open64(const char *path, int flags, ...)
{
    OPEN_BODY(REAL(open64)(path, flags, mode));
}

EXPORT int openat(int dir, const char *path, int flags, ...)
{
    OPEN_BODY(REAL(openat)(dir, path, flags, mode));
}

EXPORT int openat64(int dir, const char *path, int flags, ...)
{
    OPEN_BODY(REAL(openat64)(dir, path, flags, mode));
}

EXPORT ssize_t write(int fd, const void *data, size_t len)
{
    WITH_FLUSH(ssize_t, fd_is_sync(fd), REAL(write)(fd, data, len));
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int count)
{
    WITH_FLUSH(ssize_t, fd_is_sync(fd), REAL(writev)(fd, iov, count));
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
    WITH_FLUSH(ssize_t, fd_is_sync(fd), REAL(pwrite)(fd, data, len, at));
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at)
{
    WITH_FLUSH(ssize_t, fd_is_sync(fd), REAL(pwrite64)(fd, data, len, at));
}

EXPORT ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t at)
{
    WITH_FLUSH(ssize_t, fd_is_sync(fd), REAL(pwritev)(fd, iov, count, at));
}

EXPORT ssize_t pwritev64(int fd, const struct iovec *iov, int count, off64_t at)
{
    WITH_FLUSH(ssize_t, fd_is_sync(fd), REAL(pwritev64)(fd, iov, count, at));
}

EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t at, int flags)
{
    WITH_FLUSH(ssize_t, (flags & (RWF_SYNC | RWF_DSYNC)) != 0 || fd_is_sync(fd),
               REAL(pwritev2)(fd, iov, count, at, flags));
}

/* What programs built with _FORTIFY_SOURCE call when the flags are no constant. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);

EXPORT int __open_2(const char *path, int flags)
{
    int fd = REAL(__open_2)(path, flags);

    fd_opened(fd, flags);
    return fd;
}

EXPORT int __open64_2(const char *path, int flags)
{
    int fd = REAL(__open64_2)(path, flags);

    fd_opened(fd, flags);
    return fd;
}
