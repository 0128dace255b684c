/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_writer.c - a process's open segment: append, group commit, moving on to the next segment.
 *
 * Three parties. Appending threads copy records into the segment and queue an entry each. The committer takes all that is queued,
 * syncs the segment once, says so (committed), and calls each entry's done. The preparer makes the next segment
 * when three quarters of the current one are used, so that nobody waits for a file to be filled with zeros.
 *
 * Invariants: (1) done(0) comes after fdatasync returned 0 for the segment, called after the record was written; (2) the
 * queue's order is the order in the segment; (3) after a failed write or sync the segment is given up: everything queued for it fails, it is cut
 * back to what was durable, so that what was reported as failed is not found by recovery; (4) a segment is closed, and
 * with that unlocked, when it is neither current nor named by a queued entry.
 *
 * Locking: w->lock guards everything marked so. It is held while a record is copied to the page cache (that keeps
 * order and offsets simple and takes microseconds), never while anything is synced or made.
 */
#include "qmgr/store_writer_int.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mtime.h"

#define THREAD_STACK     (256U << 10)
#define PREPARE_RETRY_MS 1000
#define SPACE_CHECK_MS   1000

static void segment_unref(struct store_writer *w, struct wsegment *seg, unsigned count)
    REQUIRES(w->lock)
{
    seg->refs -= count;
    if (seg->refs > 0)
        return;
    w->io->close(w->io->ctx, seg->file.fd);
    free(seg);
}

static void push(struct store_writer *w, struct entry *e) REQUIRES(w->lock)
{
    e->next = NULL;
    *w->queue_tail = e;
    w->queue_tail = &e->next;
    pthread_cond_signal(&w->work);
}

/* Invariant 3. The entries behind are failed by the committer, which sees seg->failed. */
static void give_up(struct store_writer *w, struct wsegment *seg) REQUIRES(w->lock)
{
    if (seg->failed)
        return;
    seg->failed = true;
    if (w->io->truncate(w->io->ctx, seg->file.fd, seg->durable) == -1)
        log_warning(
            "journal segment %016llX: cannot cut it back after a failure; a message that was refused may be "
            "delivered",
            (unsigned long long) seg->file.number);
    if (w->current == seg) {
        w->current = NULL;
        segment_unref(w, seg, 1);
    }
}

/* Writes the seal and lets go of the current segment; the committer announces the end. */
static void seal_current(struct store_writer *w) REQUIRES(w->lock)
{
    struct wsegment *seg = w->current;
    unsigned char raw[JOURNAL_RECORD_BYTES];
    struct iovec iov = {raw, sizeof(raw)};
    struct journal_record r = {.type = JOURNAL_SEAL,
                               .epoch = seg->file.epoch,
                               .offset = seg->tail,
                               .length = JOURNAL_RECORD_BYTES};
    struct entry *e;

    journal_record_put(&r, raw);
    /* Without its seal the segment is known as finished when its lock is gone. */
    if (w->io->pwritev(w->io->ctx, seg->file.fd, &iov, 1, seg->tail) == 0)
        seg->tail += JOURNAL_RECORD_BYTES;
    else if (w->io->truncate(w->io->ctx, seg->file.fd, seg->tail) == -1)
        log_warning("journal segment %016llX: cannot end it",
                    (unsigned long long) seg->file.number);
    e = xcalloc(1, sizeof(*e));
    e->seg = seg; /* takes over current's reference */
    e->end = seg->tail;
    e->large_fd = -1;
    w->current = NULL;
    push(w, e);
}

static void *preparer(void *arg)
{
    struct store_writer *w = arg;

    lock_take(&w->lock);
    while (!w->closing) {
        struct wsegment *seg;
        uint64_t bytes;
        int ret;

        if (!w->want_next) {
            lock_wait(&w->lock, &w->prepare);
            continue;
        }
        bytes = w->want_bytes;
        lock_release(&w->lock);
        seg = xcalloc(1, sizeof(*seg));
        ret = store_segment_acquire(w->io, w->opt.queue_directory, bytes, &seg->file,
                                    &w->prepare_err_new);
        lock_take(&w->lock);
        w->want_next = false;
        w->want_bytes = (uint64_t) w->opt.segment_bytes;
        w->prepare_count++;
        if (ret == 0) {
            seg->tail = seg->durable = JOURNAL_SEGMENT_START;
            seg->refs = 1;
            w->next = seg;
        } else {
            free(seg);
            w->prepare_err = w->prepare_err_new;
            w->prepare_retry = mono_after_ms(mono_now(), PREPARE_RETRY_MS);
        }
        pthread_cond_broadcast(&w->prepared);
    }
    lock_release(&w->lock);
    return NULL;
}

static void start_thread(pthread_t *t, void *(*fn)(void *), void *arg)
{
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK);
    if (pthread_create(t, &attr, fn, arg) != 0)
        panic("cannot start a thread of the queue's writer");
    pthread_attr_destroy(&attr);
}

void store_writer_want_segment(struct store_writer *w, uint64_t bytes)
{
    if (w->next != NULL || w->closing)
        return;
    if (!w->preparer_started) {
        start_thread(&w->preparer, preparer, w);
        w->preparer_started = true;
    }
    if (bytes > w->want_bytes)
        w->want_bytes = bytes;
    w->want_next = true;
    pthread_cond_signal(&w->prepare);
}

static bool fits(const struct wsegment *seg, uint64_t length)
{
    return seg->file.bytes - seg->tail >= length + JOURNAL_RECORD_BYTES; /* and a seal */
}

/* Makes w->current a segment with room for length bytes; waits for the preparer when there is none. */
static int make_room(struct store_writer *w, uint64_t length, struct err *err) REQUIRES(w->lock)
{
    for (;;) {
        uint64_t count;

        if (w->current != NULL && fits(w->current, length)) {
            if (w->current->tail > w->current->file.bytes / 4 * 3)
                store_writer_want_segment(w, 0);
            return 0;
        }
        if (w->next != NULL) {
            if (w->current != NULL)
                seal_current(w);
            w->current = w->next;
            w->next = NULL;
            continue;
        }
        if (!w->want_next && mono_diff_ms(w->prepare_retry, mono_now()) > 0) {
            if (err != NULL)
                *err = w->prepare_err;
            return -1;
        }
        count = w->prepare_count;
        store_writer_want_segment(
            w, (JOURNAL_SEGMENT_START + length + JOURNAL_RECORD_BYTES + 4095) & ~4095ULL);
        while (count == w->prepare_count && !w->closing)
            lock_wait(&w->lock, &w->prepared);
        if (w->closing)
            return err_temporary(err, "the queue is being closed");
    }
}

int store_writer_append(struct store_writer *w, struct journal_record *r, struct iovec *iov,
                        int count, struct entry *e, struct err *err)
{
    unsigned char raw[JOURNAL_RECORD_BYTES];
    struct wsegment *seg;
    int ret = -1;

    lock_take(&w->lock);
    if (make_room(w, r->length, err) == -1)
        goto done;
    seg = w->current;
    r->epoch = seg->file.epoch;
    r->offset = seg->tail;
    journal_record_put(r, raw);
    iov[0] = (struct iovec){raw, sizeof(raw)};
    if (w->io->pwritev(w->io->ctx, seg->file.fd, iov, count, seg->tail) == -1) {
        store_err_sys(err, "write", "journal segment");
        /* what was queued before may still become durable: only the tail is given up */
        seal_current(w);
        goto done;
    }
    seg->tail += r->length;
    seg->refs++;
    e->seg = seg;
    e->end = seg->tail;
    push(w, e);
    ret = 0;
done:
    lock_release(&w->lock);
    return ret;
}

void store_writer_queue_failure(struct store_writer *w, struct entry *e)
{
    lock_take(&w->lock);
    push(w, e);
    lock_release(&w->lock);
}

/* Syncs what the entries of one segment, first..end (exclusive), ask for. */
static void commit_segment(struct store_writer *w, struct entry *first, const struct entry *end)
{
    struct wsegment *seg = first->seg;
    uint64_t upto = 0;
    struct err err = ERR_INIT;
    unsigned count = 0;
    bool failed;

    for (const struct entry *e = first; e != end; e = e->next)
        upto = e->end;
    lock_take(&w->lock);
    failed = seg->failed;
    lock_release(&w->lock);
    if (failed) {
        err_temporary(&err, "the journal segment could not be synced");
    } else if (w->io->fdatasync(w->io->ctx, seg->file.fd) == -1) {
        store_err_sys(&err, "sync", "journal segment");
        log_warning("%s", err.text);
        failed = true;
        lock_take(&w->lock);
        give_up(w, seg);
        lock_release(&w->lock);
    }
    if (!failed) {
        lock_take(&w->lock);
        seg->durable = upto;
        w->durable_source = seg->file.number;
        w->durable_end = upto;
        lock_release(&w->lock);
        w->committed(w->committed_arg, seg->file.number, upto);
    }
    while (first != end) {
        struct entry *e = first;

        first = e->next;
        store_entry_finish(w, e, failed ? -1 : 0, failed ? &err : NULL);
        count++;
    }
    lock_take(&w->lock);
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): each entry had a reference until now */
    segment_unref(w, seg, count);
    lock_release(&w->lock);
}

static void *committer(void *arg)
{
    struct store_writer *w = arg;

    lock_take(&w->lock);
    for (;;) {
        struct entry *list = w->queue;

        if (list == NULL) {
            if (w->closing)
                break;
            lock_wait(&w->lock, &w->work);
            continue;
        }
        w->queue = NULL;
        w->queue_tail = &w->queue;
        lock_release(&w->lock);
        while (list != NULL) {
            struct entry *end = list->next;

            if (list->seg == NULL) {
                store_entry_finish(w, list, -1, list->err);
                list = end;
                continue;
            }
            while (end != NULL && end->seg == list->seg)
                end = end->next;
            commit_segment(w, list, end);
            list = end;
        }
        lock_take(&w->lock);
    }
    lock_release(&w->lock);
    return NULL;
}

int store_writer_open_io(const struct store_options *opt, const struct io_ops *io,
                         store_committed_fn fn, void *arg, struct store_writer **out,
                         struct err *err)
{
    struct store_writer *w;
    struct buf path = BUF_INIT(SIZE_MAX);
    struct io_stat st;

    if (io->stat_path(io->ctx, store_path(&path, opt->queue_directory, "journal/free"), &st) ==
        -1) {
        store_err_sys(err, "open the queue", buf_cstr(&path));
        buf_fini(&path);
        return -1;
    }
    buf_fini(&path);
    w = xcalloc(1, sizeof(*w));
    w->opt = *opt;
    w->directory = xstrdup(opt->queue_directory);
    w->opt.queue_directory = w->directory;
    w->io = io;
    w->committed = fn;
    w->committed_arg = arg;
    w->want_bytes = (uint64_t) opt->segment_bytes;
    w->queue_tail = &w->queue;
    lock_init(&w->lock, LOCK_JOURNAL_APPEND);
    pthread_cond_init(&w->work, NULL);
    pthread_cond_init(&w->prepare, NULL);
    pthread_cond_init(&w->prepared, NULL);
    start_thread(&w->committer, committer, w);
    *out = w;
    return 0;
}

int store_writer_open(const struct store_options *opt, store_committed_fn fn, void *arg,
                      struct store_writer **out, struct err *err)
{
    return store_writer_open_io(opt, &io_posix, fn, arg, out, err);
}

static void writer_stop(struct store_writer *w)
{
    lock_take(&w->lock);
    w->closing = true;
    pthread_cond_broadcast(&w->work);
    pthread_cond_broadcast(&w->prepare);
    pthread_cond_broadcast(&w->prepared);
    lock_release(&w->lock);
    if (w->preparer_started)
        pthread_join(w->preparer, NULL);
    pthread_join(w->committer, NULL);
}

static void writer_free(struct store_writer *w)
{
    lock_take(&w->lock);
    if (w->current != NULL)
        segment_unref(w, w->current, 1);
    if (w->next != NULL)
        segment_unref(w, w->next, 1);
    lock_release(&w->lock);
    pthread_cond_destroy(&w->work);
    pthread_cond_destroy(&w->prepare);
    pthread_cond_destroy(&w->prepared);
    lock_fini(&w->lock);
    free(w->directory);
    free(w);
}

void store_writer_close(struct store_writer **wp)
{
    struct store_writer *w = *wp;
    struct buf from = BUF_INIT(SIZE_MAX);
    struct buf to = BUF_INIT(SIZE_MAX);

    *wp = NULL;
    if (w == NULL)
        return;
    lock_take(&w->lock);
    if (w->current != NULL)
        seal_current(w);
    lock_release(&w->lock);
    writer_stop(w);
    if (w->next != NULL) {
        /* never used: others may have it. Left where it is, the owner would recycle it. */
        const char *path = store_path_segment(&from, w->directory, w->next->file.number);

        if (w->io->rename(w->io->ctx, path,
                          store_path_free(&to, w->directory, w->next->file.number), true) == -1)
            log_warning("cannot give back the unused %s", path);
    }
    buf_fini(&from);
    buf_fini(&to);
    writer_free(w);
}

void store_writer_abandon(struct store_writer **wp)
{
    struct store_writer *w = *wp;

    *wp = NULL;
    if (w == NULL)
        return;
    writer_stop(w);
    writer_free(w);
}

void store_writer_position(struct store_writer *w, uint64_t *source, uint64_t *end)
{
    lock_take(&w->lock);
    *source = w->durable_source;
    *end = w->durable_end;
    lock_release(&w->lock);
}

int store_writer_check_space(struct store_writer *w, struct err *err)
{
    uint64_t free_bytes;
    bool due, full;

    lock_take(&w->lock);
    due = mono_diff_ms(w->space_checked, mono_now()) <= 0;
    if (due)
        w->space_checked = mono_after_ms(mono_now(), SPACE_CHECK_MS);
    full = w->space_full;
    lock_release(&w->lock);
    if (due && w->opt.min_free_bytes > 0) {
        if (w->io->free_bytes(w->io->ctx, w->directory, &free_bytes) == -1)
            return store_err_sys(err, "look for free space in", w->directory);
        full = free_bytes < (uint64_t) w->opt.min_free_bytes;
        lock_take(&w->lock);
        w->space_full = full;
        lock_release(&w->lock);
    }
    if (full)
        return err_set(err, ERR_TEMPORARY, "4.3.1", "Insufficient system storage");
    return 0;
}
