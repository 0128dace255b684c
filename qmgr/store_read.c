/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_read.c - a queued message's envelope, recipients and content.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "qmgr/store_owner_int.h"

#define PIECE_BYTES (256U << 10) /* of recipients, at once */
#define PIECE_RCPTS 1024         /* that are likely to lie in it */

struct apply {
    struct arena *arena;
    struct store_rcpt *rcpts;
    uint32_t nrcpts;     /* of the message */
    uint32_t nread;      /* of them in rcpts: the first ones */
    unsigned char *done; /* of all, a bit each; NULL: nread is nrcpts */
};

static void apply_note(const struct journal_note *n, void *arg)
{
    struct apply *a = arg;
    struct store_rcpt *r;

    if (n->index >= a->nrcpts)
        return;
    if (a->done != NULL && n->type == NOTE_RCPT_DONE)
        a->done[n->index / 8] |= (unsigned char) (1U << n->index % 8);
    if (n->index >= a->nread)
        return;
    r = &a->rcpts[n->index];
    if (n->type == NOTE_RCPT_DONE) {
        r->done = true;
    } else if (n->type == NOTE_DEFERRED) {
        r->code = arena_slice(a->arena, n->code);
        r->reason = arena_slice(a->arena, n->reason);
    }
}

static int decode_rcpt(struct slice *rest, uint32_t index, struct store_rcpt *out, struct err *err)
{
    *out = (struct store_rcpt){0};
    if (journal_rcpt_next(rest, &out->r, err) == -1)
        return -1;
    out->r.index = index;
    out->code = out->r.code; /* until a note says something newer */
    out->reason = out->r.reason;
    return 0;
}

/* Envelope and the first `max` recipients. *left: the bytes of the others. */
static int decode(struct slice meta, const struct store_msg *m, struct arena *arena, size_t max,
                  struct mail_envelope *env, struct apply *a, size_t *left, struct err *err)
{
    struct slice rest;

    if (journal_meta_get(meta, env, &rest, &a->nrcpts, err) == -1)
        return -1;
    a->arena = arena;
    a->nread = a->nrcpts < max ? a->nrcpts : (uint32_t) max;
    a->rcpts = arena_alloc(arena, ((size_t) a->nread + 1) * sizeof(*a->rcpts));
    for (uint32_t i = 0; i < a->nread; i++)
        if (decode_rcpt(&rest, i, &a->rcpts[i], err) == -1)
            return -1;
    *left = rest.len;
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

/* Not for fresh mail: its writer took the checksum of these very pages a moment ago. */
static int check_large_content(struct store *s, const struct store_msg *m, struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    char *data = NULL;
    uint32_t crc = 0;
    uint64_t at = 0;
    int ret = -1;
    int fd;

    if (m->large == 0 || (m->fresh && m->state.attempts == 0))
        return 0;
    fd = s->io->open(s->io->ctx, store_path_large(&path, s->directory, m->large), O_RDONLY, 0);
    if (fd == -1) {
        store_err_sys(err, "open", buf_cstr(&path));
        goto done;
    }
    data = xmalloc(PIECE_BYTES);
    while (at < m->content_bytes) {
        uint64_t rest = m->content_bytes - at;
        size_t want = rest < PIECE_BYTES ? (size_t) rest : PIECE_BYTES;
        ssize_t got = s->io->pread(s->io->ctx, fd, data, want, at);

        if (got < 0) {
            store_err_read(err, buf_cstr(&path));
            goto done;
        }
        if ((size_t) got < want)
            break;
        crc = crc32c(crc, data, want);
        at += want;
    }
    ret = at == m->content_bytes && crc == m->content_crc
              ? 0
              : err_permanent(err, "%s is damaged", buf_cstr(&path));
done:
    if (fd != -1)
        s->io->close(s->io->ctx, fd);
    free(data);
    buf_fini(&path);
    return ret;
}

/* The file that has the record. *own_fd: to be closed, or -1. */
static int open_record(struct store *s, const struct store_msg *m, int *fd, int *own_fd,
                       uint64_t *epoch, struct err *err)
{
    struct journal_record r;

    if (m->queue == STORE_JOURNAL) {
        *fd = m->seg->fd;
        *epoch = m->seg->epoch;
        return 0;
    }
    *fd = *own_fd = open_message_file(s, m, err);
    return *fd == -1 ? -1 : store_file_head(s->io, *fd, epoch, &r, err);
}

/* keep: NULL if all are wanted. */
static int read_all(struct store *s, struct store_msg *m, struct arena *arena, struct arena *keep,
                    size_t max, struct mail_envelope *env, struct apply *a, uint64_t *meta_at,
                    struct err *err)
{
    struct journal_record r;
    uint64_t epoch;
    uint64_t end;
    size_t left;
    char *data;
    ssize_t got;
    int own_fd = -1;
    int fd;
    int ret = -1;

    lock_take(&s->lock);
    if (open_record(s, m, &fd, &own_fd, &epoch, err) == -1)
        goto done;
    data = arena_alloc(arena, (size_t) m->length);
    got = s->io->pread(s->io->ctx, fd, data, (size_t) m->length, m->offset);
    if (got < 0) {
        store_err_read(err, "the message's record");
        goto done;
    }
    if ((uint64_t) got < m->length ||
        !journal_record_get(data, (size_t) got, epoch, m->offset, &r) || r.length != m->length ||
        !journal_payload_ok(&r, data + JOURNAL_RECORD_BYTES)) {
        err_permanent(err, "the message's record is damaged");
        goto done;
    }
    if (decode(slice_of(data + JOURNAL_RECORD_BYTES, r.meta_bytes), m, arena, max, env, a, &left,
               err) == -1 ||
        check_large(s, m, err) == -1)
        goto done;
    *meta_at = r.meta_bytes - left;
    m->content_crc = r.content_crc;
    if (keep != NULL && a->nread < a->nrcpts)
        a->done = arena_alloc(keep, ((size_t) a->nrcpts + 7) / 8);
    if (m->queue == STORE_JOURNAL) {
        if (store_notes_each_locked(s, m, 0, apply_note, a, err) == -1)
            goto done;
    } else {
        if (store_file_notes_each(s, fd, epoch, m->offset + m->length, apply_note, a, &end, err) ==
            -1)
            goto done;
        store_pending_each_locked(m, apply_note, a);
    }
    ret = 0;
done:
    if (own_fd != -1)
        s->io->close(s->io->ctx, own_fd);
    lock_release(&s->lock);
    return ret;
}

int store_msg_read(struct store *s, struct store_msg *m, struct arena *arena,
                   struct mail_envelope *env, struct store_rcpt **rcpts, size_t *nrcpts,
                   struct err *err)
{
    struct apply a = {0};
    uint64_t meta_at;

    if (read_all(s, m, arena, NULL, SIZE_MAX, env, &a, &meta_at, err) == -1)
        return -1;
    *rcpts = a.rcpts;
    *nrcpts = a.nrcpts;
    return 0;
}

/* A disk that fails now and then, or for a while, is given some more attempts before its mail counts as damaged. */
static void judge_unreadable(struct store_msg *m, struct err *err)
{
    if (strcmp(err->dsn, STORE_UNREADABLE) != 0)
        return;
    if (m->unreadable < STORE_READ_TRIES)
        m->unreadable++;
    if (m->unreadable == STORE_READ_TRIES)
        err->kind = ERR_PERMANENT;
}

int store_msg_read_first(struct store *s, struct store_msg *m, struct arena *arena,
                         struct arena *keep, size_t max, struct mail_envelope *env,
                         struct store_cursor *c, struct store_rcpt **rcpts, size_t *nrcpts,
                         struct err *err)
{
    struct apply a = {0};
    uint64_t meta_at;
    struct err why = ERR_INIT;
    size_t n = 0;

    if (read_all(s, m, arena, keep, max, env, &a, &meta_at, &why) == -1 ||
        check_large_content(s, m, &why) == -1) {
        judge_unreadable(m, &why);
        if (err != NULL)
            *err = why;
        return -1;
    }
    m->unreadable = 0;
    *c = (struct store_cursor){
        .total = a.nrcpts, .next = a.nread, .meta_at = meta_at, .done = a.done};
    for (uint32_t i = 0; i < a.nread; i++)
        if (!a.rcpts[i].done)
            a.rcpts[n++] = a.rcpts[i];
    if (n == 0 && a.nread < a.nrcpts)
        return store_msg_read_next(s, m, arena, max, c, rcpts, nrcpts, err);
    *rcpts = a.rcpts;
    *nrcpts = n;
    return 0;
}

/* Recipients' bytes from c->meta_at on: as much as makes one piece. */
static int read_piece(struct store *s, const struct store_msg *m, int fd, struct arena *arena,
                      const struct store_cursor *c, size_t bytes, struct slice *out,
                      struct err *err)
{
    uint64_t rest = m->meta_bytes - c->meta_at;
    size_t want = rest < bytes ? (size_t) rest : bytes;
    char *data = arena_alloc(arena, want);
    ssize_t got =
        s->io->pread(s->io->ctx, fd, data, want, m->offset + JOURNAL_RECORD_BYTES + c->meta_at);

    if (got < 0)
        return store_err_read(err, "the message's record");
    if ((size_t) got < want)
        return err_permanent(err, "the message's record is damaged");
    *out = slice_of(data, want);
    return 0;
}

int store_msg_read_next(struct store *s, struct store_msg *m, struct arena *arena, size_t max,
                        struct store_cursor *c, struct store_rcpt **rcpts, size_t *nrcpts,
                        struct err *err)
{
    struct store_cursor at = *c;
    struct store_rcpt *list;
    size_t most = at.total - at.next < max ? at.total - at.next : max;
    size_t n = 0;
    size_t piece = most < PIECE_RCPTS ? PIECE_BYTES / PIECE_RCPTS * (most + 1) : PIECE_BYTES;
    uint64_t epoch;
    int own_fd = -1;
    int fd;
    int ret = -1;

    list = arena_alloc(arena, (most + 1) * sizeof(*list));
    lock_take(&s->lock);
    if (open_record(s, m, &fd, &own_fd, &epoch, err) == -1)
        goto done;
    while (n < most && at.next < at.total) {
        struct slice data;
        uint32_t before = at.next;
        bool is_last = at.meta_at + piece >= m->meta_bytes;

        if (read_piece(s, m, fd, arena, &at, piece, &data, err) == -1)
            goto done;
        while (n < most && at.next < at.total) {
            struct slice rest = data;

            if (decode_rcpt(&rest, at.next, &list[n], err) == -1) {
                if (is_last)
                    goto done;
                break; /* the piece ends within it */
            }
            at.meta_at += data.len - rest.len;
            data = rest;
            if ((at.done[at.next / 8] & 1U << at.next % 8) == 0)
                n++;
            at.next++;
        }
        if (at.next == before)
            piece *= 2; /* a recipient that is longer than a piece */
    }
    *c = at;
    *rcpts = list;
    *nrcpts = n;
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
