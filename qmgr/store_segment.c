/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_segment.c - how segment files come into use and go out of it.
 *
 * A segment in use is journal/NUMBER, a finished one journal/free/NUMBER, one that is being made journal/free/NUMBER.new. Whoever
 * writes one holds io->lock() on it for as long as he lives; so "has its writer gone?" is a question to the kernel.
 *
 * Into use (writers): open a free one, lock it, look that the name still means this file (another may have been quicker),
 * give it a new epoch, synced, rename it into journal/ under a new number, sync journal/. The new epoch is for the owner's sake,
 * who may still have the file open under its former number: what he knows as that shall stay empty.
 * A new one is locked, written, synced before it gets its name. Nothing is acknowledged before the name is durable.
 *
 * Out of use (owner, when every message of it is finished or lives in a file): (1) new epoch into the head, synced;
 * (2) rename to journal/free/; (3) remove the companion. A crash
 *   before (1) is durable: segment and companion fit together; completion records that were not durable cost a duplicate;
 *   after (1): the segment has no valid record, the companion's epoch is not the head's, so it counts for nothing; the next
 *              recovery recycles an empty segment;
 *   after (2): the companion of a segment that does not exist is removed at recovery; if its number should come again, the
 *              epoch differs.
 * Removing the companion first, or renaming before (1), would bring finished messages back under a new name.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/metrics.h"
#include "base/mtime.h"
#include "qmgr/store_int.h"

#define ZEROS_BYTES   (256U << 10)
#define ACQUIRE_TRIES 16
#define SWEEP_AGE_US  (60 * 1000000LL)

struct names {
    struct vec list; /* char * */
};

static void collect_name(void *arg, const char *name)
{
    struct names *n = arg;

    vec_push(&n->list, xstrdup(name));
}

static int list_free(const struct io_ops *io, const char *queue_directory, struct names *out)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    int ret;

    out->list = VEC_INIT;
    ret = io->list(io->ctx, store_path(&path, queue_directory, "journal/free"), collect_name, out);
    buf_fini(&path);
    return ret;
}

static void names_fini(struct names *n)
{
    vec_clear(&n->list, free);
    vec_fini(&n->list);
}

/* Moves the locked file at `from` into journal/ under a number that nobody has. */
static int move_into_use(const struct io_ops *io, const char *queue_directory, const char *from,
                         uint64_t *number, struct err *err)
{
    struct buf to = BUF_INIT(SIZE_MAX);
    int ret = -1;

    for (int i = 0; i < ACQUIRE_TRIES; i++) {
        *number = (uint64_t) metrics_unique_us();
        if (io->rename(io->ctx, from, store_path_segment(&to, queue_directory, *number), false) ==
            0) {
            if (io->sync_dir(io->ctx, store_path(&to, queue_directory, "journal")) == -1) {
                store_err_sys(err, "sync", buf_cstr(&to));
                /* the name may be lost: not used, but given back */
                (void) io->unlink(io->ctx, store_path_segment(&to, queue_directory, *number));
                goto done;
            }
            ret = 0;
            goto done;
        }
        if (errno != EEXIST)
            break;
    }
    store_err_sys(err, "rename", from);
done:
    buf_fini(&to);
    return ret;
}

/* The prepared file, locked as *fd, becomes a segment in use, and out's. On a -1 it is the caller's still. */
static int begin_use(const struct io_ops *io, const char *queue_directory, const char *path,
                     const struct journal_head *head, int *fd, struct store_segment_file *out,
                     struct err *err)
{
    if (move_into_use(io, queue_directory, path, &out->number, err) == -1)
        return -1;
    out->fd = *fd;
    out->epoch = head->epoch;
    out->bytes = head->bytes;
    *fd = -1;
    return 0;
}

/* 0: taken; 1: not this one. */
static int take_free(const struct io_ops *io, const char *queue_directory, uint64_t free_number,
                     uint64_t bytes, struct store_segment_file *out, struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    unsigned char raw[JOURNAL_HEAD_BYTES];
    struct iovec iov = {raw, sizeof(raw)};
    struct journal_head head;
    struct io_stat here, there;
    int ret = 1;
    int fd = io->open(io->ctx, store_path_free(&path, queue_directory, free_number), O_RDWR, 0);

    if (fd == -1)
        goto done;
    if (io->lock(io->ctx, fd) == -1 || io->stat_fd(io->ctx, fd, &here) == -1 ||
        io->stat_path(io->ctx, buf_cstr(&path), &there) == -1 || here.inode != there.inode ||
        here.bytes != bytes)
        goto done;
    if (io->pread(io->ctx, fd, raw, sizeof(raw), 0) != (ssize_t) sizeof(raw) ||
        !journal_head_get(raw, sizeof(raw), JOURNAL_SEGMENT, &head) || head.bytes != bytes) {
        (void) io->unlink(io->ctx, buf_cstr(&path)); /* of no use to anyone */
        goto done;
    }
    head = (struct journal_head){JOURNAL_SEGMENT, journal_new_epoch(), 0, bytes};
    journal_head_put(&head, raw);
    if (io->pwritev(io->ctx, fd, &iov, 1, 0) == -1 || io->fdatasync(io->ctx, fd) == -1) {
        store_err_sys(err, "prepare", buf_cstr(&path));
        ret = -1;
        goto done;
    }
    ret = begin_use(io, queue_directory, buf_cstr(&path), &head, &fd, out, err);
done:
    if (fd != -1)
        io->close(io->ctx, fd);
    buf_fini(&path);
    return ret;
}

static int write_zeros(const struct io_ops *io, int fd, uint64_t from, uint64_t to)
{
    void *zeros = xcalloc(1, ZEROS_BYTES);
    int ret = 0;

    while (ret == 0 && from < to) {
        struct iovec iov = {zeros, to - from < ZEROS_BYTES ? (size_t) (to - from) : ZEROS_BYTES};
        uint64_t n = iov.iov_len;

        ret = io->pwritev(io->ctx, fd, &iov, 1, from);
        from += n;
    }
    free(zeros);
    return ret;
}

static int make_new(const struct io_ops *io, const char *queue_directory, uint64_t bytes,
                    struct store_segment_file *out, struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    unsigned char raw[JOURNAL_HEAD_BYTES];
    struct iovec iov = {raw, sizeof(raw)};
    struct journal_head head = {JOURNAL_SEGMENT, journal_new_epoch(), 0, bytes};
    int ret = -1;
    int fd;

    head.number = (uint64_t) metrics_unique_us();
    (void) store_path_free(&path, queue_directory, head.number);
    buf_puts(&path, ".new");
    fd = io->open(io->ctx, buf_cstr(&path), O_RDWR | O_CREAT | O_EXCL, STORE_FILE_MODE);
    if (fd == -1) {
        store_err_sys(err, "create", "a journal segment");
        goto done;
    }
    journal_head_put(&head, raw);
    if (io->lock(io->ctx, fd) == -1 || io->allocate(io->ctx, fd, bytes) == -1 ||
        write_zeros(io, fd, JOURNAL_HEAD_BYTES, bytes) == -1 ||
        io->pwritev(io->ctx, fd, &iov, 1, 0) == -1 || io->fdatasync(io->ctx, fd) == -1) {
        store_err_sys(err, "prepare", "a journal segment");
        (void) io->unlink(io->ctx, buf_cstr(&path));
        goto done;
    }
    ret = begin_use(io, queue_directory, buf_cstr(&path), &head, &fd, out, err);
    if (ret == -1)
        (void) io->unlink(io->ctx, buf_cstr(&path));
done:
    if (fd != -1)
        io->close(io->ctx, fd);
    buf_fini(&path);
    return ret;
}

int store_segment_acquire(const struct io_ops *io, const char *queue_directory, uint64_t bytes,
                          struct store_segment_file *out, struct err *err)
{
    struct names names;
    int ret = 1;

    if (list_free(io, queue_directory, &names) == -1) {
        names_fini(&names);
        return store_err_sys(err, "list", "journal/free");
    }
    for (size_t i = 0; i < names.list.len && ret == 1; i++) {
        uint64_t number;

        if (store_parse_number(slice_str(names.list.items[i]), &number))
            ret = take_free(io, queue_directory, number, bytes, out, err);
    }
    names_fini(&names);
    return ret == 1 ? make_new(io, queue_directory, bytes, out, err) : ret;
}

static size_t count_free(const struct io_ops *io, const char *queue_directory)
{
    struct names names;
    size_t n = STORE_FREE_SEGMENTS;

    if (list_free(io, queue_directory, &names) == 0)
        n = names.list.len;
    names_fini(&names);
    return n;
}

int store_segment_recycle(const struct io_ops *io, const char *queue_directory, int fd,
                          uint64_t number, uint64_t standard_bytes, struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    struct buf to = BUF_INIT(SIZE_MAX);
    unsigned char raw[JOURNAL_HEAD_BYTES];
    struct iovec iov = {raw, sizeof(raw)};
    struct journal_head head = {JOURNAL_SEGMENT, journal_new_epoch(), number, standard_bytes};
    struct io_stat st;
    struct io_stat named = {0};
    int ret = -1;

    if (io->lock(io->ctx, fd) == -1) {
        ret = errno == EWOULDBLOCK ? 1 : store_err_sys(err, "lock", "segment");
        goto done;
    }
    /* Under the lock, so that nobody renames it meanwhile. */
    (void) store_path_segment(&path, queue_directory, number);
    if (io->stat_fd(io->ctx, fd, &st) == -1 ||
        (io->stat_path(io->ctx, buf_cstr(&path), &named) == -1 && errno != ENOENT)) {
        store_err_sys(err, "stat", buf_cstr(&path));
        goto unlock;
    }
    if (st.inode != named.inode) {
        ret = 0; /* its writer gave it back unused */
        goto unlock;
    }
    head.bytes = st.bytes;
    journal_head_put(&head, raw);
    if (io->pwritev(io->ctx, fd, &iov, 1, 0) == -1 || io->fdatasync(io->ctx, fd) == -1) {
        store_err_sys(err, "recycle", buf_cstr(&path));
        goto unlock;
    }
    if (st.bytes == standard_bytes && count_free(io, queue_directory) < STORE_FREE_SEGMENTS)
        ret = io->rename(io->ctx, buf_cstr(&path), store_path_free(&to, queue_directory, number),
                         true);
    else
        ret = io->unlink(io->ctx, buf_cstr(&path));
    if (ret == -1) {
        store_err_sys(err, "recycle", buf_cstr(&path));
        goto unlock;
    }
    /* one that stays is harmless: it is removed at the next recovery */
    if (io->unlink(io->ctx, store_path_companion(&path, queue_directory, number)) == -1 &&
        errno != ENOENT)
        log_warning("cannot remove %s", buf_cstr(&path));
unlock:
    (void) io->unlock(io->ctx, fd); /* closing it does the same */
done:
    buf_fini(&path);
    buf_fini(&to);
    return ret;
}

void store_segment_sweep_free(const struct io_ops *io, const char *queue_directory)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    struct names names;

    if (list_free(io, queue_directory, &names) == -1)
        goto done;
    for (size_t i = 0; i < names.list.len; i++) {
        const char *name = names.list.items[i];
        struct io_stat st;
        uint64_t number;
        int fd;

        if (store_parse_number(slice_str(name), &number))
            continue;
        buf_reset(&path);
        buf_printf(&path, "%s/journal/free/%s", queue_directory, name);
        fd = io->open(io->ctx, buf_cstr(&path), O_RDWR, 0);
        if (fd == -1)
            continue;
        /* an empty one may just have been made, and not be locked yet */
        if (io->lock(io->ctx, fd) == 0 && io->stat_fd(io->ctx, fd, &st) == 0 &&
            (st.bytes > 0 || wall_now().us - st.mtime_us > SWEEP_AGE_US))
            (void) io->unlink(io->ctx, buf_cstr(&path));
        io->close(io->ctx, fd);
    }
done:
    names_fini(&names);
    buf_fini(&path);
}
