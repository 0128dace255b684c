/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record_io.c - preloaded into the daemons: an ordered log of all that they change in the queue's store and in mailboxes, for crash_power.py.
 *
 * RECORD_ROOT is the queue directory, RECORD_MAIL where mailboxes are (on the same file system), RECORD_LOG the log, outside of both. What is
 * logged: calls on files below the directories of `stores` and below RECORD_MAIL. A path begins with the store's name or with RECORD_MAIL's last.
 * A change and its record are made under one lock (flock of a descriptor of the thread's own), so that the log has the order in which
 * changes took place, across processes. A sync is two records, before and after: it covers what was logged before the first, and
 * nobody may have relied upon it before the second. A sync that fails has no second one.
 *
 * Record: struct record, path (and, for a rename, a line feed and the new path), data. Files are known by their inode; a record CREATE begins a new
 * life of that number.
 */
#undef _FORTIFY_SOURCE /* its inline open() would stand in the way of ours */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum op {
    OP_CREATE = 1,
    OP_WRITE = 2,
    OP_TRUNCATE = 3, /* allocation too: offset is the new size, length 1 if it only grows */
    OP_SYNC_BEGIN = 4,
    OP_SYNC_END = 5, /* offset: the token of its begin */
    OP_RENAME = 6,
    OP_UNLINK = 7,
    OP_MKDIR = 8,
    OP_SYNC_DIR_BEGIN = 9,
    OP_SYNC_DIR_END = 10,
    OP_SYNC_FS_BEGIN = 11, /* of all that is logged */
    OP_SYNC_FS_END = 12,
};

struct record {
    uint32_t op;
    uint32_t path_bytes;
    uint64_t inode;
    uint64_t offset;
    uint64_t length;
    int64_t time_ns; /* wall clock */
};

#define FDS 65536

static const char *const stores[] = {"journal", "large", "deferred", "hold", "corrupt"};
static const char *root;
static size_t root_len;
static const char *mail;
static size_t mail_len;
static size_t mail_name; /* where the last name of it begins */
static dev_t device;
static int log_fd = -1;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t tracked[FDS]; /* inode of what was opened under this number, 0: not ours */
static uint64_t tokens;

static void *real(const char *name)
{
    void *p = dlsym(RTLD_NEXT, name);

    if (p == NULL)
        abort();
    return p;
}

/* A test that records nothing would pass: so whatever goes wrong here ends the daemon. */
static void die(const char *what)
{
    dprintf(2, "record_io: %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("RECORD_LOG");
    struct stat st;

    root = getenv("RECORD_ROOT");
    mail = getenv("RECORD_MAIL");
    if (path == NULL || root == NULL || mail == NULL)
        return;
    root_len = strlen(root);
    mail_len = strlen(mail);
    mail_name = (size_t) (strrchr(mail, '/') - mail) + 1;
    if (stat(root, &st) == -1)
        die(root);
    device = st.st_dev;
    if (stat(mail, &st) == -1 || st.st_dev != device)
        die(mail);
    log_fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (log_fd == -1)
        die(path);
    tokens = (uint64_t) getpid() << 32;
}

/* The path as it is logged if it is of the store or of a mailbox, else NULL. */
static const char *inside(const char *path)
{
    if (log_fd == -1)
        return NULL;
    if (strncmp(path, mail, mail_len) == 0 && (path[mail_len] == '/' || path[mail_len] == '\0'))
        return path + mail_name;
    if (strncmp(path, root, root_len) == 0 && path[root_len] == '/')
        path += root_len + 1;
    else if (path[0] == '/')
        return NULL;
    while (path[0] == '.' && path[1] == '/')
        path += 2;
    for (size_t i = 0; i < sizeof(stores) / sizeof(stores[0]); i++) {
        size_t n = strlen(stores[i]);

        if (strncmp(path, stores[i], n) == 0 && (path[n] == '/' || path[n] == '\0'))
            return path;
    }
    return NULL;
}

/* Daemons fork rarely and not while they work: a descriptor's flock and a mutex make one lock of processes and threads. */
static void take(void)
{
    pthread_mutex_lock(&mutex);
    while (flock(log_fd, LOCK_EX) == -1)
        if (errno != EINTR)
            die("lock");
}

static void release(void)
{
    int saved = errno;

    (void) flock(log_fd, LOCK_UN);
    pthread_mutex_unlock(&mutex);
    errno = saved;
}

static void put_all(const void *data, size_t len)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = write(log_fd, p, len);

        if (n == -1 && errno == EINTR)
            continue;
        if (n <= 0)
            die("write");
        p += n;
        len -= (size_t) n;
    }
}

/* With the lock held. */
static void put(enum op op, uint64_t inode, uint64_t offset, uint64_t length, const char *path,
                const char *to)
{
    char names[2 * PATH_MAX];
    int n = path == NULL ? 0
            : to == NULL ? snprintf(names, sizeof(names), "%s", path)
                         : snprintf(names, sizeof(names), "%s%c%s", path, '\n', to);
    struct timespec now;
    struct record r = {op, (uint32_t) n, inode, offset, length, 0};

    (void) clock_gettime(CLOCK_REALTIME, &now);
    r.time_ns = (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
    put_all(&r, sizeof(r));
    put_all(names, (size_t) n);
}

/* With the lock held: the first `left` bytes. */
static void put_write(uint64_t inode, off_t offset, const struct iovec *iov, int count, size_t left)
{
    put(OP_WRITE, inode, (uint64_t) offset, left, NULL, NULL);
    for (int i = 0; i < count && left > 0; i++) {
        size_t part = iov[i].iov_len < left ? iov[i].iov_len : left;

        put_all(iov[i].iov_base, part);
        left -= part;
    }
}

static uint64_t inode_of(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

/* The inode of a descriptor that is ours, else 0. */
static uint64_t ours(int fd)
{
    uint64_t inode = fd >= 0 && fd < FDS ? __atomic_load_n(&tracked[fd], __ATOMIC_RELAXED) : 0;

    return inode != 0 && inode == inode_of(fd) ? inode : 0;
}

static int open_either(const char *path, int flags, mode_t mode)
{
    int (*next)(const char *, int, ...) = (int (*)(const char *, int, ...)) real("open64");
    const char *name = inside(path);
    struct stat st;
    bool is_new;
    int fd;

    if (name == NULL)
        return next(path, flags, mode);
    take();
    is_new = (flags & O_CREAT) != 0 && stat(path, &st) == -1;
    fd = next(path, flags, mode);
    if (fd >= FDS)
        die("too many descriptors");
    if (fd != -1) {
        uint64_t inode = inode_of(fd);

        __atomic_store_n(&tracked[fd], inode, __ATOMIC_RELAXED);
        if (is_new)
            put(OP_CREATE, inode, 0, 0, name, NULL);
        else if ((flags & O_TRUNC) != 0)
            put(OP_TRUNCATE, inode, 0, 0, NULL, NULL);
    }
    release();
    return fd;
}

int open64(const char *path, int flags, ...)
{
    va_list ap;
    mode_t mode;

    va_start(ap, flags);
    mode = (flags & O_CREAT) != 0 ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return open_either(path, flags, mode);
}
int open(const char *path, int flags, ...) __attribute__((alias("open64")));

/* What open() becomes in a fortified program that gives no mode. */
int __open_2(const char *path, int flags); /* NOLINT(bugprone-reserved-identifier): glibc's name */
int __open_2(const char *path, int flags)
{
    return open_either(path, flags, 0);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int count, off64_t offset)
{
    ssize_t (*next)(int, const struct iovec *, int, off64_t) =
        (ssize_t(*)(int, const struct iovec *, int, off64_t)) real("pwritev64");
    uint64_t inode = ours(fd);
    ssize_t n;

    if (inode == 0)
        return next(fd, iov, count, offset);
    take();
    n = next(fd, iov, count, offset);
    if (n > 0)
        put_write(inode, offset, iov, count, (size_t) n);
    release();
    return n;
}
ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
    __attribute__((alias("pwritev64")));

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset)
{
    struct iovec iov = {(void *) (uintptr_t) data, len};

    return pwritev64(fd, &iov, 1, offset);
}
ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
    __attribute__((alias("pwrite64")));

/* A file that is written from where it stands: content for a mailbox. */
ssize_t writev(int fd, const struct iovec *iov, int count)
{
    ssize_t (*next)(int, const struct iovec *, int) =
        (ssize_t(*)(int, const struct iovec *, int)) real("writev");
    uint64_t inode = log_fd == -1 ? 0 : ours(fd);
    ssize_t n;

    if (inode == 0)
        return next(fd, iov, count);
    take();
    n = next(fd, iov, count);
    if (n > 0) {
        off_t end = lseek(fd, 0, SEEK_CUR); /* O_APPEND moves it, too */

        if (end < n)
            die("where was written");
        put_write(inode, end - n, iov, count, (size_t) n);
    }
    release();
    return n;
}

int ftruncate64(int fd, off64_t size)
{
    int (*next)(int, off64_t) = (int (*)(int, off64_t)) real("ftruncate64");
    uint64_t inode = ours(fd);
    int ret;

    if (inode == 0)
        return next(fd, size);
    take();
    ret = next(fd, size);
    if (ret == 0)
        put(OP_TRUNCATE, inode, (uint64_t) size, 0, NULL, NULL);
    release();
    return ret;
}
int ftruncate(int fd, off_t size) __attribute__((alias("ftruncate64")));

int fallocate64(int fd, int mode, off64_t offset, off64_t len)
{
    int (*next)(int, int, off64_t, off64_t) =
        (int (*)(int, int, off64_t, off64_t)) real("fallocate64");
    uint64_t inode = ours(fd);
    int ret;

    if (inode == 0)
        return next(fd, mode, offset, len);
    if (mode != 0)
        die("fallocate with a mode that crash_power.py does not know");
    take();
    ret = next(fd, mode, offset, len);
    if (ret == 0)
        put(OP_TRUNCATE, inode, (uint64_t) (offset + len), 1, NULL, NULL);
    release();
    return ret;
}
int fallocate(int fd, int mode, off_t offset, off_t len) __attribute__((alias("fallocate64")));

static int sync_either(int fd, const char *name)
{
    int (*next)(int) = (int (*)(int)) real(name);
    uint64_t inode = ours(fd);
    struct stat st;
    bool is_dir;
    uint64_t token;
    int ret;

    if (inode == 0)
        return next(fd);
    is_dir = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    take();
    token = ++tokens;
    put(is_dir ? OP_SYNC_DIR_BEGIN : OP_SYNC_BEGIN, inode, token, 0, NULL, NULL);
    release();
    ret = next(fd);
    if (ret == 0) {
        take();
        put(is_dir ? OP_SYNC_DIR_END : OP_SYNC_END, inode, token, 0, NULL, NULL);
        release();
    }
    return ret;
}

int fdatasync(int fd)
{
    return sync_either(fd, "fdatasync");
}

int fsync(int fd)
{
    return sync_either(fd, "fsync");
}

int syncfs(int fd)
{
    int (*next)(int) = (int (*)(int)) real("syncfs");
    struct stat st;
    uint64_t token;
    int ret;

    if (log_fd == -1 || fstat(fd, &st) == -1 || st.st_dev != device)
        return next(fd);
    take();
    token = ++tokens;
    put(OP_SYNC_FS_BEGIN, 0, token, 0, NULL, NULL);
    release();
    ret = next(fd);
    if (ret == 0) {
        take();
        put(OP_SYNC_FS_END, 0, token, 0, NULL, NULL);
        release();
    }
    return ret;
}

static int rename_either(const char *from, const char *to, unsigned flags)
{
    int (*next)(int, const char *, int, const char *, unsigned) =
        (int (*)(int, const char *, int, const char *, unsigned)) real("renameat2");
    const char *a = inside(from);
    const char *b = inside(to);
    int ret;

    if (a == NULL && b == NULL)
        return next(AT_FDCWD, from, AT_FDCWD, to, flags);
    if (a == NULL || b == NULL)
        die("rename into or out of the store");
    take();
    ret = next(AT_FDCWD, from, AT_FDCWD, to, flags);
    if (ret == 0)
        put(OP_RENAME, 0, 0, 0, a, b);
    release();
    return ret;
}

int rename(const char *from, const char *to)
{
    return rename_either(from, to, 0);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    if (from_dir != AT_FDCWD || to_dir != AT_FDCWD)
        die("renameat2 relative to a descriptor");
    return rename_either(from, to, flags);
}

int unlink(const char *path)
{
    int (*next)(const char *) = (int (*)(const char *)) real("unlink");
    const char *name = inside(path);
    int ret;

    if (name == NULL)
        return next(path);
    take();
    ret = next(path);
    if (ret == 0)
        put(OP_UNLINK, 0, 0, 0, name, NULL);
    release();
    return ret;
}

int mkdir(const char *path, mode_t mode)
{
    int (*next)(const char *, mode_t) = (int (*)(const char *, mode_t)) real("mkdir");
    const char *name = inside(path);
    int ret;

    if (name == NULL)
        return next(path, mode);
    take();
    ret = next(path, mode);
    if (ret == 0) {
        struct stat st;

        put(OP_MKDIR, stat(path, &st) == 0 ? st.st_ino : 0, 0, 0, name, NULL);
    }
    release();
    return ret;
}
