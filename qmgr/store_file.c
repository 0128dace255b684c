/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_file.c - messages with a file of their own: making one from a journal record.
 *
 * The file is written as ID.tmp, synced, renamed; when its directory has been synced too, the note that releases the
 * journal copy may be written. A crash before the rename leaves a .tmp that recovery removes, a crash after it two
 * copies of one message: the file counts, the journal copy is noted as removed by the next recovery.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "qmgr/store_owner_int.h"

int store_file_head(const struct io_ops *io, int fd, uint64_t *epoch, struct journal_record *r,
                    struct err *err)
{
    unsigned char raw[JOURNAL_FILE_START + JOURNAL_RECORD_BYTES];
    struct journal_head head;
    ssize_t n = io->pread(io->ctx, fd, raw, sizeof(raw), 0);

    if (n < 0)
        return store_err_read(err, "message file");
    if (!journal_head_get(raw, (size_t) n, JOURNAL_FILE, &head) || n < (ssize_t) sizeof(raw) ||
        !journal_record_get(raw + JOURNAL_FILE_START, JOURNAL_RECORD_BYTES, head.epoch,
                            JOURNAL_FILE_START, r) ||
        r->type != JOURNAL_MESSAGE)
        return err_permanent(err, "the head of the message file is damaged");
    *epoch = head.epoch;
    return 0;
}

/* Copies the checked payload behind a new head. */
static int write_file(const struct io_ops *io, int fd, struct promotion *p, const char *path)
{
    unsigned char head[JOURNAL_FILE_START + JOURNAL_RECORD_BYTES] = {0};
    struct journal_head h = {JOURNAL_FILE, p->epoch, 0, 0};
    struct journal_record r = p->record;
    struct buf payload = BUF_INIT(SIZE_MAX);
    size_t len = (size_t) p->record.length - JOURNAL_RECORD_BYTES;
    struct iovec iov[3];
    int ret = -1;

    if (len > 0) {
        ssize_t got = io->pread(io->ctx, p->seg->fd, buf_reserve(&payload, len), len,
                                p->record.offset + JOURNAL_RECORD_BYTES);

        if (got < 0 && errno != EIO) {
            store_err_sys(&p->err, "read", "journal segment");
            goto done;
        }
        if (got != (ssize_t) len || !journal_payload_ok(&p->record, payload.ptr)) {
            err_permanent(&p->err, "the message's record is damaged");
            p->result = 1;
            goto done;
        }
    }
    r.epoch = p->epoch;
    r.offset = JOURNAL_FILE_START;
    journal_head_put(&h, head);
    journal_record_put(&r, head + JOURNAL_FILE_START);
    iov[0] = (struct iovec){head, sizeof(head)};
    iov[1] = (struct iovec){payload.ptr, len};
    iov[2] = (struct iovec){p->notes.ptr, p->notes.len};
    if (io->pwritev(io->ctx, fd, iov, 3, 0) == -1 || io->fdatasync(io->ctx, fd) == -1) {
        store_err_sys(&p->err, "write", path);
        goto done;
    }
    p->file_end = JOURNAL_FILE_START + r.length + p->notes.len;
    ret = 0;
done:
    buf_fini(&payload);
    return ret;
}

void store_file_make(const struct io_ops *io, const char *directory, enum store_queue q,
                     struct promotion *p)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    struct buf tmp = BUF_INIT(SIZE_MAX);
    struct slice id = slice_str(p->id);
    int fd = -1;

    p->result = -1;
    (void) store_path_message(&tmp, directory, q, id);
    buf_puts(&tmp, ".tmp");
    fd = io->open(io->ctx, buf_cstr(&tmp), O_RDWR | O_CREAT | O_TRUNC, STORE_FILE_MODE);
    if (fd == -1 && errno == ENOENT && q == STORE_DEFERRED) {
        /* the first in this sub-directory */
        if (io->mkdir(io->ctx, store_path_dir(&path, directory, q, id), STORE_DIR_MODE) == -1 &&
            errno != EEXIST) {
            store_err_sys(&p->err, "create", buf_cstr(&path));
            goto done;
        }
        if (io->sync_dir(io->ctx, store_path(&path, directory, "deferred")) == -1) {
            store_err_sys(&p->err, "sync", buf_cstr(&path));
            goto done;
        }
        fd = io->open(io->ctx, buf_cstr(&tmp), O_RDWR | O_CREAT | O_TRUNC, STORE_FILE_MODE);
    }
    if (fd == -1) {
        store_err_sys(&p->err, "create", buf_cstr(&tmp));
        goto done;
    }
    if (write_file(io, fd, p, buf_cstr(&tmp)) == -1) {
        (void) io->unlink(io->ctx, buf_cstr(&tmp));
        goto done;
    }
    if (io->rename(io->ctx, buf_cstr(&tmp), store_path_message(&path, directory, q, id), true) ==
        -1) {
        store_err_sys(&p->err, "rename", buf_cstr(&tmp));
        (void) io->unlink(io->ctx, buf_cstr(&tmp));
        goto done;
    }
    p->result = 0;
done:
    if (fd != -1)
        io->close(io->ctx, fd);
    buf_fini(&path);
    buf_fini(&tmp);
}

static void copy_note(const struct journal_note *n, void *arg)
{
    struct promotion *p = arg;
    struct journal_note out = *n;

    out.message = JOURNAL_FILE_START;
    out.prev = 0;
    journal_note_put(&out, p->epoch, &p->notes);
}

int store_promotion_begin_locked(struct store *s, struct store_msg *m, struct promotion **out,
                                 struct err *err)
{
    struct promotion *p = xcalloc(1, sizeof(*p));
    unsigned char raw[JOURNAL_RECORD_BYTES];
    ssize_t n;

    memcpy(p->id, m->id, sizeof(p->id));
    p->seg = m->seg;
    p->log_at = m->log_at;
    p->epoch = journal_new_epoch();
    p->notes = BUF_INIT(SIZE_MAX);
    p->err = ERR_INIT;
    /* a state that came with the message stands in its envelope, which the index of files does not read */
    copy_note(&(struct journal_note){.type = NOTE_STATE, .state = m->state}, p);
    n = s->io->pread(s->io->ctx, m->seg->fd, raw, sizeof(raw), m->offset);
    if (n < 0) {
        store_err_sys(err, "read", "journal segment");
        goto fail;
    }
    if (!journal_record_get(raw, (size_t) n, m->seg->epoch, m->offset, &p->record) ||
        p->record.length != m->length) {
        err_permanent(err, "the message's record is damaged");
        goto fail;
    }
    if (store_notes_each_locked(s, m, 0, copy_note, p, err) == -1)
        goto fail;
    m->seg->jobs++;
    *out = p;
    return 0;
fail:
    buf_fini(&p->notes);
    free(p);
    return -1;
}

/* Notes that came while the file was made, in memory for a moment. */
#define LATE_EPOCH 1

static void keep_late(const struct journal_note *n, void *arg)
{
    journal_note_put(n, LATE_EPOCH, arg);
}

int store_promotion_end_locked(struct store *s, struct store_msg *m, enum store_queue q,
                               struct promotion *p, struct err *err)
{
    struct buf late = BUF_INIT(SIZE_MAX);
    size_t at = 0;

    if (store_notes_each_locked(s, m, p->log_at, keep_late, &late, err) == -1) {
        buf_fini(&late);
        return -1;
    }
    store_note_gone_locked(s, m->seg, m->offset, NOTE_MOVED);
    store_segment_unlink_locked(s, m);
    store_content_forget_locked(s, m);
    m->queue = (uint8_t) q;
    m->offset = JOURNAL_FILE_START;
    m->log_at = p->file_end;
    while (at < late.len) {
        struct journal_note n;

        at += journal_note_get(late.ptr + at, late.len - at, LATE_EPOCH, &n);
        store_note_locked(s, m, &n);
    }
    buf_fini(&late);
    return 0;
}

void store_promotion_free(struct promotion **pp)
{
    struct promotion *p = *pp;

    *pp = NULL;
    if (p == NULL)
        return;
    p->seg->jobs--;
    buf_fini(&p->notes);
    free(p);
}
