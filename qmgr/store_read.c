/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_read.c - a queued message's envelope, recipients and content.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "qmgr/store_owner_int.h"

struct apply {
    struct arena *arena;
    struct store_rcpt *rcpts;
    uint32_t nrcpts;
};

static void apply_note(const struct journal_note *n, void *arg)
{
    struct apply *a = arg;
    struct store_rcpt *r;

    if (n->index >= a->nrcpts)
        return;
    r = &a->rcpts[n->index];
    if (n->type == NOTE_RCPT_DONE) {
        r->done = true;
    } else if (n->type == NOTE_DEFERRED) {
        r->code = arena_slice(a->arena, n->code);
        r->reason = arena_slice(a->arena, n->reason);
    }
}

static int decode(struct slice meta, const struct store_msg *m, struct arena *arena,
                  struct mail_envelope *env, struct apply *a, struct err *err)
{
    struct slice rest;

    if (journal_meta_get(meta, env, &rest, &a->nrcpts, err) == -1)
        return -1;
    a->arena = arena;
    a->rcpts = arena_alloc(arena, (a->nrcpts + 1) * sizeof(*a->rcpts));
    for (uint32_t i = 0; i < a->nrcpts; i++) {
        if (journal_rcpt_next(&rest, &a->rcpts[i].r, err) == -1)
            return -1;
        a->rcpts[i].r.index = i;
        a->rcpts[i].code = a->rcpts[i].r.code; /* until a note says something newer */
        a->rcpts[i].reason = a->rcpts[i].r.reason;
    }
    env->queue_id = arena_slice(arena, slice_str(m->id));
    env->content_bytes = m->content_bytes;
    return 0;
}

static int open_message_file(struct store *s, const struct store_msg *m, struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    int fd = s->io->open(
        s->io->ctx,
        store_path_message(&path, s->directory, (enum store_queue) m->queue, slice_str(m->id)),
        O_RDONLY, 0);

    if (fd == -1)
        store_err_sys(err, "open", buf_cstr(&path));
    buf_fini(&path);
    return fd;
}

static int check_large(struct store *s, const struct store_msg *m, struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    struct io_stat st;
    int ret = 0;

    if (m->large == 0)
        return 0;
    if (s->io->stat_path(s->io->ctx, store_path_large(&path, s->directory, m->large), &st) == -1)
        ret = errno == ENOENT ? err_permanent(err, "%s is missing", buf_cstr(&path))
                              : store_err_sys(err, "look at", buf_cstr(&path));
    else if (st.bytes != m->content_bytes)
        ret = err_permanent(err, "%s has not the length that it had", buf_cstr(&path));
    buf_fini(&path);
    return ret;
}

int store_msg_read(struct store *s, struct store_msg *m, struct arena *arena,
                   struct mail_envelope *env, struct store_rcpt **rcpts, size_t *nrcpts,
                   struct err *err)
{
    struct journal_record r;
    struct apply a = {0};
    uint64_t epoch;
    uint64_t end;
    char *data;
    ssize_t got;
    int own_fd = -1;
    int fd;
    int ret = -1;

    lock_take(&s->lock);
    if (m->queue == STORE_JOURNAL) {
        fd = m->seg->fd;
        epoch = m->seg->epoch;
    } else {
        fd = own_fd = open_message_file(s, m, err);
        if (fd == -1 || store_file_head(s->io, fd, &epoch, &r, err) == -1)
            goto done;
    }
    data = arena_alloc(arena, (size_t) m->length);
    got = s->io->pread(s->io->ctx, fd, data, (size_t) m->length, m->offset);
    if (got < 0) {
        store_err_sys(err, "read", "message");
        goto done;
    }
    if ((uint64_t) got < m->length ||
        !journal_record_get(data, (size_t) got, epoch, m->offset, &r) || r.length != m->length ||
        !journal_payload_ok(&r, data + JOURNAL_RECORD_BYTES)) {
        err_permanent(err, "the message's record is damaged");
        goto done;
    }
    if (decode(slice_of(data + JOURNAL_RECORD_BYTES, r.meta_bytes), m, arena, env, &a, err) == -1 ||
        check_large(s, m, err) == -1)
        goto done;
    if (m->queue == STORE_JOURNAL) {
        if (store_notes_each_locked(s, m, 0, apply_note, &a, err) == -1)
            goto done;
    } else {
        if (store_file_notes_each(s, fd, epoch, m->offset + m->length, apply_note, &a, &end, err) ==
            -1)
            goto done;
        store_pending_each_locked(m, apply_note, &a);
    }
    *rcpts = a.rcpts;
    *nrcpts = a.nrcpts;
    ret = 0;
done:
    if (own_fd != -1)
        s->io->close(s->io->ctx, own_fd);
    lock_release(&s->lock);
    return ret;
}

int store_msg_content(struct store *s, struct store_msg *m, int *fd, uint64_t *offset,
                      uint64_t *bytes, struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    unsigned slot;
    int opened = -1;
    int ret = -1;

    lock_take(&s->lock);
    *bytes = m->content_bytes;
    *offset = m->large != 0 ? 0 : m->offset + JOURNAL_RECORD_BYTES + journal_align(m->meta_bytes);
    if (m->large == 0 && m->queue == STORE_JOURNAL) {
        if (m->seg->content_fd == -1)
            m->seg->content_fd = s->io->open(
                s->io->ctx, store_path_segment(&path, s->directory, m->seg->number), O_RDONLY, 0);
        if (m->seg->content_fd == -1) {
            store_err_sys(err, "open", buf_cstr(&path));
            goto done;
        }
        if (m->pin == NULL) {
            m->pin = m->seg;
            m->pin->pins++;
        }
        *fd = m->seg->content_fd;
        ret = 0;
        goto done;
    }
    for (size_t i = 0; i < CONTENT_SLOTS; i++) {
        if (s->content[i].m == m && s->content[i].fd != -1) {
            *fd = s->content[i].fd;
            ret = 0;
            goto done;
        }
    }
    if (m->large != 0) {
        opened =
            s->io->open(s->io->ctx, store_path_large(&path, s->directory, m->large), O_RDONLY, 0);
        if (opened == -1)
            store_err_sys(err, "open", buf_cstr(&path));
    } else {
        opened = open_message_file(s, m, err);
    }
    if (opened == -1)
        goto done;
    slot = s->content_next++ % CONTENT_SLOTS;
    if (s->content[slot].fd != -1)
        s->io->close(s->io->ctx, s->content[slot].fd);
    s->content[slot].m = m;
    s->content[slot].fd = opened;
    *fd = opened;
    ret = 0;
done:
    lock_release(&s->lock);
    buf_fini(&path);
    return ret;
}
