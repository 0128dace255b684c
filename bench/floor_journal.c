/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor_journal.c - see floor_journal.h.
 *
 * A record's place is taken under the lock, its bytes are written without it, and it gets its turn after that:
 * whoever flushes covers every record that had its turn when the flush began.
 */
#include "floor_journal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/lock.h"

enum { ZERO_BYTES = 1 << 20 };

struct floor_journal {
    int fd;
    size_t bytes;
    struct lock lock;
    pthread_cond_t flushed;
    size_t at GUARDED_BY(lock);                                  /* where the next record goes */
    uint64_t written GUARDED_BY(lock), durable GUARDED_BY(lock); /* turns */
    bool flushing GUARDED_BY(lock), broken GUARDED_BY(lock);
};

int floor_journal_open(const char *path, size_t bytes, struct floor_journal **out, struct err *err)
{
    struct floor_journal *j = xcalloc(1, sizeof(*j));
    char *zeros = xcalloc(1, ZERO_BYTES);
    int ret = -1;

    j->bytes = bytes;
    j->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (j->fd == -1) {
        err_sys(err, "open %s", path);
        goto done;
    }
    for (size_t at = 0; at < bytes;
         at += ZERO_BYTES) /* written, so that a flush has data alone to write */
        if (fd_pwrite_all(j->fd, zeros, ZERO_BYTES, (off_t) at) == -1) {
            err_sys(err, "write %s", path);
            goto done;
        }
    if (fsync(j->fd) == -1) {
        err_sys(err, "fsync %s", path);
        goto done;
    }
    lock_init(&j->lock, LOCK_BENCH);
    pthread_cond_init(&j->flushed, NULL);
    *out = j;
    j = NULL;
    ret = 0;
done:
    if (j != NULL)
        fd_close(&j->fd);
    free(j);
    free(zeros);
    return ret;
}

int floor_journal_commit(struct floor_journal *j, struct slice record)
{
    uint64_t turn;
    size_t at;
    int ret;

    if (record.len > j->bytes)
        return -1;
    lock_take(&j->lock);
    if (record.len > j->bytes - j->at)
        j->at = 0;
    at = j->at;
    j->at += record.len;
    lock_release(&j->lock);

    ret = fd_pwrite_all(j->fd, record.ptr, record.len, (off_t) at);

    lock_take(&j->lock);
    j->broken = j->broken || ret == -1;
    turn = ++j->written;
    while (j->durable < turn && !j->broken) {
        uint64_t upto = j->written;

        if (j->flushing) {
            lock_wait(&j->lock, &j->flushed);
            continue;
        }
        j->flushing = true;
        lock_release(&j->lock);
        ret = fdatasync(j->fd);
        lock_take(&j->lock);
        j->flushing = false;
        j->broken = j->broken || ret == -1;
        if (!j->broken)
            j->durable = upto;
        pthread_cond_broadcast(&j->flushed);
    }
    ret = j->durable >= turn ? 0 : -1;
    lock_release(&j->lock);
    return ret;
}
