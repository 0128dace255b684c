/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_put.c - one message on its way into the journal.
 *
 * Content is gathered in memory until it reaches large_bytes; from there on it goes to large/NUMBER, which is locked
 * (io->lock) from its creation until the record that names it has been written, and synced with its name before that.
 * A large file that is not locked and that no record names belongs to nobody: recovery removes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/blocking.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "base/metrics.h"
#include "qmgr/store_writer_int.h"

#define LARGE_TRIES 16
#define EARLY_BYTES (2U << 20) /* of a large file: the disk begins with them while more comes in */

struct store_put {
    struct store_writer *w;
    struct buf content; /* while small */
    uint64_t bytes;
    int large_fd; /* -1: small */
    uint64_t large;
    uint64_t begun; /* bytes of it that the disk was told to begin with */
    uint32_t content_crc;
    struct err err; /* the first failure: everything after it fails alike */
};

struct store_put *store_put_begin(struct store_writer *w)
{
    struct store_put *p = xcalloc(1, sizeof(*p));

    p->w = w;
    p->content = BUF_INIT(SIZE_MAX);
    p->large_fd = -1;
    p->err = ERR_INIT;
    if (store_writer_check_space(w, &p->err) == -1)
        return p;
    lock_take(&w->lock);
    if (w->current == NULL && mono_diff_ms(w->prepare_retry, mono_now()) <= 0)
        store_writer_want_segment(w, 0); /* while the content comes in */
    lock_release(&w->lock);
    return p;
}

static int fail(struct store_put *p, struct err *err)
{
    if (err != NULL)
        *err = p->err;
    return -1;
}

static int open_large(struct store_put *p)
{
    const struct io_ops *io = p->w->io;
    struct buf path = BUF_INIT(SIZE_MAX);
    int fd = -1;

    for (int i = 0; i < LARGE_TRIES && fd == -1; i++) {
        p->large = (uint64_t) metrics_unique_us();
        fd = io->open(io->ctx, store_path_large(&path, p->w->directory, p->large),
                      O_RDWR | O_CREAT | O_EXCL, STORE_FILE_MODE);
        if (fd == -1 && errno != EEXIST)
            break;
        if (fd != -1 && io->lock(io->ctx, fd) == -1) {
            /* recovery looks at it just now, and leaves it: take another */
            (void) io->unlink(io->ctx, buf_cstr(&path));
            io->close(io->ctx, fd);
            fd = -1;
            errno = EEXIST;
        }
    }
    if (fd == -1)
        store_err_sys(&p->err, "create", "a large message file");
    p->large_fd = fd;
    buf_fini(&path);
    return fd == -1 ? -1 : 0;
}

static int write_large(struct store_put *p, struct slice s)
{
    struct iovec iov = {(void *) (uintptr_t) s.ptr, s.len};

    if (s.len == 0)
        return 0;
    if (p->w->io->pwritev(p->w->io->ctx, p->large_fd, &iov, 1, p->bytes) == -1)
        return store_err_sys(&p->err, "write", "large message file");
    p->content_crc = crc32c(p->content_crc, s.ptr, s.len);
    p->bytes += s.len;
    if (p->bytes - p->begun >= EARLY_BYTES) {
        blocking_begin(); /* when the device's queue is full it waits */
        p->w->io->begin_sync(p->w->io->ctx, p->large_fd, p->begun, p->bytes - p->begun);
        blocking_end();
        p->begun = p->bytes;
    }
    return 0;
}

int store_put_write(struct store_put *p, struct slice content, struct err *err)
{
    if (p->err.kind != ERR_NONE)
        return fail(p, err);
    if (p->large_fd == -1) {
        struct slice gathered;

        if (content.len < (size_t) p->w->opt.large_bytes &&
            p->content.len < (size_t) p->w->opt.large_bytes - content.len) {
            buf_put_slice(&p->content, content);
            p->bytes += content.len;
            return 0;
        }
        if (open_large(p) == -1)
            return fail(p, err);
        gathered = buf_view(&p->content);
        p->bytes = 0;
        if (write_large(p, gathered) == -1)
            return fail(p, err);
        buf_fini(&p->content);
    }
    if (write_large(p, content) == -1 ||
        (p->bytes % (16U << 20) < content.len && store_writer_check_space(p->w, &p->err) == -1))
        return fail(p, err);
    return 0;
}

uint64_t store_put_bytes(const struct store_put *p)
{
    return p->bytes;
}

static int sync_large(struct store_put *p)
{
    const struct io_ops *io = p->w->io;
    struct buf path = BUF_INIT(SIZE_MAX);
    int ret = -1;

    blocking_begin(); /* much has to be written: others may work meanwhile */
    if (io->fdatasync(io->ctx, p->large_fd) == -1)
        store_err_sys(&p->err, "sync", "large message file");
    else if (io->sync_dir(io->ctx, store_path(&path, p->w->directory, "large")) == -1)
        store_err_sys(&p->err, "sync", buf_cstr(&path));
    else
        ret = 0;
    blocking_end();
    buf_fini(&path);
    return ret;
}

static void drop_large(struct store_writer *w, int fd, uint64_t number)
{
    struct buf path = BUF_INIT(SIZE_MAX);

    if (fd == -1)
        return;
    if (w->io->unlink(w->io->ctx, store_path_large(&path, w->directory, number)) == -1)
        log_warning("cannot remove %s of a message that was not accepted", buf_cstr(&path));
    w->io->close(w->io->ctx, fd);
    buf_fini(&path);
}

static int append(struct store_put *p, struct slice meta, struct entry *e)
{
    static const char pad[8];
    struct slice content = p->large_fd == -1 ? buf_view(&p->content) : SLICE_EMPTY;
    size_t meta_pad = (size_t) journal_align(meta.len) - meta.len;
    size_t content_pad = (size_t) journal_align(content.len) - content.len;
    struct iovec iov[5] = {
        {NULL, 0}, /* the record's head */
        {(void *) (uintptr_t) meta.ptr, meta.len},
        {(void *) (uintptr_t) pad, meta_pad},
        {(void *) (uintptr_t) content.ptr, content.len},
        {(void *) (uintptr_t) pad, content_pad},
    };
    struct journal_record r = {
        .type = JOURNAL_MESSAGE,
        .length = JOURNAL_RECORD_BYTES + meta.len + meta_pad + content.len + content_pad,
        .content_bytes = p->bytes,
        .large = p->large_fd == -1 ? 0 : p->large,
        .meta_bytes = (uint32_t) meta.len,
        .content_crc = p->content_crc,
    };

    for (size_t i = 1; i < ARRAY_LEN(iov); i++)
        r.payload_crc = crc32c(r.payload_crc, iov[i].iov_base, iov[i].iov_len);
    return store_writer_append(p->w, &r, iov, ARRAY_LEN(iov), e, &p->err);
}

void store_put_commit(struct store_put **pp, const struct mail_envelope *env,
                      const struct mail_rcpt *rcpts, size_t nrcpts, store_done_fn done, void *arg)
{
    struct store_put *p = *pp;
    struct store_writer *w = p->w;
    struct buf meta = BUF_INIT(SIZE_MAX);
    struct entry *e = xcalloc(1, sizeof(*e));

    *pp = NULL;
    e->done = done;
    e->arg = arg;
    e->large_fd = p->large_fd;
    e->large = p->large;
    if (p->err.kind == ERR_NONE && !queue_id_valid(env->queue_id))
        err_permanent(&p->err, "bad queue id");
    if (p->err.kind != ERR_NONE || store_writer_check_space(w, &p->err) == -1 ||
        journal_meta_put(env, rcpts, nrcpts, &meta, &p->err) == -1 ||
        (p->large_fd != -1 && sync_large(p) == -1) || append(p, buf_view(&meta), e) == -1) {
        e->err = xmalloc(sizeof(*e->err));
        *e->err = p->err;
        store_writer_queue_failure(w, e);
    }
    buf_fini(&meta);
    buf_fini(&p->content);
    free(p);
}

void store_entry_finish(struct store_writer *w, struct entry *e, int result, const struct err *err)
{
    if (result == -1)
        drop_large(w, e->large_fd, e->large);
    else if (e->large_fd != -1)
        w->io->close(w->io->ctx, e->large_fd);
    if (e->done != NULL)
        e->done(e->arg, result, err);
    free(e->err);
    free(e);
}

void store_put_abort(struct store_put **pp)
{
    struct store_put *p = *pp;

    *pp = NULL;
    if (p == NULL)
        return;
    drop_large(p->w, p->large_fd, p->large);
    buf_fini(&p->content);
    free(p);
}
