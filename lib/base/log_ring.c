/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_ring.c - see log_ring.h.
 *
 * Records, 8-aligned, go round in `data`: time put (8 bytes), length (8), text. head and tail count bytes for ever. A record is
 * complete before head passes it, so that a writer that dies in the middle leaves no part of a line. Writers take turns by
 * a mutex in the memory itself, as processes may share it; it is robust, since its holder may be killed.
 *
 * Invariants: (1) times do not go back within a ring: they are taken under the mutex; (2) the reader goes by a tail of its own,
 * and copies a record's head once before it believes it: the memory may change at any time.
 */
#include "base/log_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "base/file.h"

#define MAGIC       0x31524c4dU /* "MLR1" */
#define RECORD_HEAD 16

struct shared {
    uint32_t magic;
    uint32_t bytes;
    _Atomic uint64_t head;
    _Atomic uint64_t tail;
    _Atomic uint32_t asleep; /* the reader waits for wake_fd */
    _Atomic uint32_t closed;
    pthread_mutex_t lock; /* a leaf: nothing else is taken under it */
    char data[LOG_RING_BYTES];
};

struct log_ring {
    struct shared *shared;
    uint64_t tail; /* the reader's */
    int wake_fd;
};

static int init(int fd, struct err *err)
{
    struct shared *s;
    pthread_mutexattr_t attr;

    if (ftruncate(fd, sizeof(*s)) == -1 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1)
        return err_sys(err, "ring of log lines");
    s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (s == MAP_FAILED)
        return err_sys(err, "map a ring of log lines");
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&s->lock, &attr);
    pthread_mutexattr_destroy(&attr);
    s->magic = MAGIC;
    s->bytes = LOG_RING_BYTES;
    s->asleep = 1;
    munmap(s, sizeof(*s));
    return 0;
}

int log_ring_create(struct err *err)
{
    int fd = memfd_create("log", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd == -1)
        return err_sys(err, "memfd_create");
    if (init(fd, err) == -1)
        fd_close(&fd);
    return fd;
}

struct log_ring *log_ring_map(int fd, int wake_fd, struct err *err)
{
    struct log_ring *ring;
    struct shared *s;
    struct stat st;

    if (fstat(fd, &st) == -1) {
        err_sys(err, "ring of log lines");
        return NULL;
    }
    if (!S_ISREG(st.st_mode) || st.st_size != (off_t) sizeof(*s)) {
        err_input(err, "not a ring of log lines");
        return NULL;
    }
    s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (s == MAP_FAILED) {
        err_sys(err, "map a ring of log lines");
        return NULL;
    }
    if (s->magic != MAGIC || s->bytes != LOG_RING_BYTES) {
        munmap(s, sizeof(*s));
        err_input(err, "not a ring of log lines");
        return NULL;
    }
    ring = xcalloc(1, sizeof(*ring));
    ring->shared = s;
    ring->wake_fd = wake_fd;
    return ring;
}

void log_ring_unmap(struct log_ring **ring)
{
    if (*ring == NULL)
        return;
    munmap((*ring)->shared, sizeof(*(*ring)->shared));
    free(*ring);
    *ring = NULL;
}

/* False: no writer will ever get it again. */
static bool lock(struct shared *s)
{
    int code = pthread_mutex_lock(&s->lock);

    /* what its last holder was doing is not published: nothing is to be mended */
    if (code == EOWNERDEAD)
        code = pthread_mutex_consistent(&s->lock);
    return code == 0;
}

static void copy_in(struct shared *s, uint64_t at, const void *from, size_t len)
{
    size_t pos = (size_t) (at % LOG_RING_BYTES);
    size_t n = len < LOG_RING_BYTES - pos ? len : LOG_RING_BYTES - pos;

    memcpy(s->data + pos, from, n);
    memcpy(s->data, (const char *) from + n, len - n);
}

static void copy_out(const struct shared *s, uint64_t at, void *to, size_t len)
{
    size_t pos = (size_t) (at % LOG_RING_BYTES);
    size_t n = len < LOG_RING_BYTES - pos ? len : LOG_RING_BYTES - pos;

    memcpy(to, s->data + pos, n);
    memcpy((char *) to + n, s->data, len - n);
}

static size_t record_bytes(size_t len)
{
    return RECORD_HEAD + ((len + 7) & ~(size_t) 7);
}

bool log_ring_put(struct log_ring *ring, struct slice line)
{
    struct shared *s = ring->shared;
    uint64_t one = 1;
    uint64_t head;
    int saved = errno;
    bool ok;

    if (line.len == 0 || line.len > LOG_RING_LINE_MAX || !lock(s))
        return false;
    head = atomic_load_explicit(&s->head, memory_order_relaxed);
    ok = atomic_load_explicit(&s->closed, memory_order_relaxed) == 0 &&
         head - atomic_load_explicit(&s->tail, memory_order_acquire) + record_bytes(line.len) <=
             LOG_RING_BYTES;
    if (ok) {
        int64_t record[2] = {mono_now().us, (int64_t) line.len};

        copy_in(s, head, record, RECORD_HEAD);
        copy_in(s, head + RECORD_HEAD, line.ptr, line.len);
        atomic_store(&s->head, head + record_bytes(line.len));
    }
    (void) pthread_mutex_unlock(&s->lock);
    /* either this sees that the reader sleeps, or the reader's last look sees the line */
    if (ok && atomic_load(&s->asleep) != 0 && atomic_exchange(&s->asleep, 0) != 0 &&
        write(ring->wake_fd, &one, sizeof(one)) == -1 && errno != EAGAIN)
        ok = false; /* it may be taken all the same: twice is better than not at all */
    errno = saved;
    return ok;
}

void log_ring_close(struct log_ring *ring)
{
    if (!lock(ring->shared))
        return;
    atomic_store(&ring->shared->closed, 1);
    (void) pthread_mutex_unlock(&ring->shared->lock);
    ring->tail = atomic_load(&ring->shared->tail);
}

bool log_ring_take(struct log_ring *ring, struct mono_time until,
                   void (*line)(struct mono_time put, struct slice line, void *arg), void *arg)
{
    struct shared *s = ring->shared;
    uint64_t head = atomic_load(&s->head);
    bool sound = head - ring->tail <= LOG_RING_BYTES;

    while (sound && ring->tail != head) {
        char text[LOG_RING_LINE_MAX];
        int64_t record[2];

        sound = head - ring->tail >= RECORD_HEAD;
        if (!sound)
            break;
        copy_out(s, ring->tail, record, RECORD_HEAD);
        sound = record[1] > 0 && record[1] <= LOG_RING_LINE_MAX &&
                record_bytes((size_t) record[1]) <= head - ring->tail;
        if (!sound || record[0] > until.us)
            break;
        copy_out(s, ring->tail + RECORD_HEAD, text, (size_t) record[1]);
        line((struct mono_time){record[0]}, slice_of(text, (size_t) record[1]), arg);
        ring->tail += record_bytes((size_t) record[1]);
    }
    if (!sound)
        ring->tail = head;
    atomic_store_explicit(&s->tail, ring->tail, memory_order_release);
    return sound;
}

bool log_ring_sleep(struct log_ring *ring)
{
    atomic_store(&ring->shared->asleep, 1);
    return atomic_load(&ring->shared->head) == ring->tail;
}
