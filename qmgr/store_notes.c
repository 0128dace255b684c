/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_notes.c - what is noted about messages after they came in: recipients done or deferred, retry state, removal.
 *
 * Notes on mail in a segment go to the segment's companion, batched in seg->notes; each points back to the note before it
 * on the same message, so that a handle needs the last one's offset only. Notes on a message file are appended to
 * it, batched in m->pending. A companion counts only while its epoch is the segment's. Notes end at the first that is not
 * sound: what a power cut tore off is lost, which costs a duplicate. What cannot be written now (disk full)
 * stays in memory, is read from there, and is tried again at the next flush.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/log.h"
#include "qmgr/store_owner_int.h"

#define FLUSH_BYTES  (256U << 10)
#define WINDOW_BYTES (64U << 10)
#define WINDOW_SMALL 4096U
#define NOTE_SMALL   512U /* few are longer */

/* --- writing ----------------------------------------------------------------------------------- */

static int open_companion(struct store *s, struct segment *seg, struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    unsigned char raw[JOURNAL_HEAD_BYTES];
    struct iovec iov = {raw, sizeof(raw)};
    struct journal_head head = {JOURNAL_COMPANION, seg->epoch, seg->number, 0};
    int ret = -1;
    int fd = s->io->open(s->io->ctx, store_path_companion(&path, s->directory, seg->number),
                         O_RDWR | O_CREAT, STORE_FILE_MODE);

    if (fd == -1) {
        store_err_sys(err, "create", buf_cstr(&path));
        goto done;
    }
    /* whatever it has is of another epoch, or a torn end */
    journal_head_put(&head, raw);
    if (s->io->truncate(s->io->ctx, fd, 0) == -1 ||
        s->io->pwritev(s->io->ctx, fd, &iov, 1, 0) == -1) {
        store_err_sys(err, "write", buf_cstr(&path));
        s->io->close(s->io->ctx, fd);
        goto done;
    }
    seg->companion_fd = fd;
    ret = 0;
done:
    buf_fini(&path);
    return ret;
}

static int flush_segment(struct store *s, struct segment *seg, struct err *err)
{
    struct iovec iov = {seg->notes.ptr, seg->notes.len};

    if (seg->notes.len == 0)
        return 0;
    if (seg->companion_fd == -1 && open_companion(s, seg, err) == -1)
        return -1;
    if (s->io->pwritev(s->io->ctx, seg->companion_fd, &iov, 1, seg->companion_end) == -1)
        return store_err_sys(err, "write", "completion records");
    seg->companion_end += seg->notes.len;
    seg->unsynced = true;
    buf_reset(&seg->notes);
    return 0;
}

static void dirty_unlink(struct store *s, struct store_msg *m)
{
    if (m->prev != NULL)
        m->prev->next = m->next;
    else
        s->dirty = m->next;
    if (m->next != NULL)
        m->next->prev = m->prev;
    m->prev = m->next = NULL;
}

void store_pending_drop_locked(struct store *s, struct store_msg *m)
{
    if (m->pending == NULL)
        return;
    dirty_unlink(s, m);
    buf_fini(m->pending);
    free(m->pending);
    m->pending = NULL;
}

/* Opens m's file; its epoch. */
static int open_file(struct store *s, const struct store_msg *m, int flags, uint64_t *epoch,
                     struct buf *path, struct err *err)
{
    struct journal_record r;
    int fd = s->io->open(
        s->io->ctx,
        store_path_message(path, s->directory, (enum store_queue) m->queue, slice_str(m->id)),
        flags, 0);

    if (fd == -1)
        return store_err_sys(err, "open", buf_cstr(path));
    if (store_file_head(s->io, fd, epoch, &r, err) == -1) {
        s->io->close(s->io->ctx, fd);
        return -1;
    }
    return fd;
}

/* m->pending holds notes as they are given, each encoded under epoch 1: the file's is known once it is open. */
#define PENDING_EPOCH 1

/* The one at `at`; its length. */
static size_t pending_note(const struct store_msg *m, size_t at, struct journal_note *n)
{
    size_t used = journal_note_get(m->pending->ptr + at, m->pending->len - at, PENDING_EPOCH, n);

    if (used == 0)
        panic("a note on a message is not as it was put");
    return used;
}

void store_pending_each_locked(const struct store_msg *m,
                               void (*fn)(const struct journal_note *n, void *arg), void *arg)
{
    size_t at = 0;

    while (m->pending != NULL && at < m->pending->len) {
        struct journal_note n = {0};

        at += pending_note(m, at, &n);
        fn(&n, arg);
    }
}

static int flush_file(struct store *s, struct store_msg *m, struct err *err) REQUIRES(s->lock)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    struct buf out = BUF_INIT(SIZE_MAX);
    struct iovec iov;
    uint64_t epoch = 0;
    size_t at = 0;
    int ret = -1;
    int fd = open_file(s, m, O_RDWR, &epoch, &path, err);

    if (fd == -1)
        goto done;
    while (at < m->pending->len) {
        struct journal_note n = {0};

        at += pending_note(m, at, &n);
        journal_note_put(&n, epoch, &out);
    }
    iov = (struct iovec){out.ptr, out.len};
    if (s->io->pwritev(s->io->ctx, fd, &iov, 1, m->log_at) == -1) {
        store_err_sys(err, "write", buf_cstr(&path));
        goto done;
    }
    m->log_at += out.len;
    if (m->sync_file) {
        struct job *j = store_job_new(JOB_SYNC_FILE);

        vec_push(&j->paths, xstrdup(buf_cstr(&path)));
        store_job_run(s, j);
        m->sync_file = false;
    }
    store_pending_drop_locked(s, m);
    ret = 0;
done:
    if (fd != -1)
        s->io->close(s->io->ctx, fd);
    buf_fini(&path);
    buf_fini(&out);
    return ret;
}

int store_flush_locked(struct store *s, struct err *err)
{
    struct store_msg *m = s->dirty;
    int ret = 0;

    for (size_t i = 0; i < s->segments.len; i++) {
        if (flush_segment(s, s->segments.items[i], err) == -1)
            ret = -1;
    }
    while (m != NULL) {
        struct store_msg *next = m->next;

        if (flush_file(s, m, err) == -1)
            ret = -1;
        m = next;
    }
    return ret;
}

static void flush_if_many(struct store *s, struct segment *seg)
{
    struct err err;

    /* tried again when as much again has gathered, and at store_flush(), which reports */
    if (seg->notes.len >= FLUSH_BYTES && seg->notes.len % FLUSH_BYTES < JOURNAL_NOTE_MAX &&
        flush_segment(s, seg, &err) == -1)
        log_warning("queue: %s", err.text);
}

void store_note_locked(struct store *s, struct store_msg *m, struct journal_note *n)
{
    if (m->queue == STORE_JOURNAL) {
        struct segment *seg = m->seg;

        if (seg->companion_end == 0)
            seg->companion_end = JOURNAL_HEAD_BYTES;
        n->message = m->offset;
        n->prev = m->log_at;
        m->log_at = seg->companion_end + seg->notes.len;
        journal_note_put(n, seg->epoch, &seg->notes);
        flush_if_many(s, seg);
        return;
    }
    if (m->pending == NULL) {
        m->pending = xmalloc(sizeof(*m->pending));
        *m->pending = BUF_INIT(SIZE_MAX);
        m->prev = NULL;
        m->next = s->dirty;
        if (s->dirty != NULL)
            s->dirty->prev = m;
        s->dirty = m;
    }
    n->message = m->offset;
    n->prev = 0;
    if (n->type == NOTE_RCPT_DONE)
        m->sync_file = true;
    journal_note_put(n, PENDING_EPOCH, m->pending);
}

void store_note_gone_locked(struct store *s, struct segment *seg, uint64_t offset,
                            enum journal_note_type type)
{
    struct journal_note n = {.type = type, .message = offset};

    if (seg->companion_end == 0)
        seg->companion_end = JOURNAL_HEAD_BYTES;
    journal_note_put(&n, seg->epoch, &seg->notes);
    flush_if_many(s, seg);
}

void store_rcpt_done(struct store *s, struct store_msg *m, uint32_t rcpt_index)
{
    struct journal_note n = {.type = NOTE_RCPT_DONE, .index = rcpt_index};

    lock_take(&s->lock);
    store_note_locked(s, m, &n);
    lock_release(&s->lock);
}

void store_rcpt_deferred(struct store *s, struct store_msg *m, uint32_t rcpt_index,
                         struct slice code, struct slice reason)
{
    struct journal_note n = {
        .type = NOTE_DEFERRED, .index = rcpt_index, .code = code, .reason = reason};

    lock_take(&s->lock);
    store_note_locked(s, m, &n);
    lock_release(&s->lock);
}

#define PROMOTE_ATTEMPTS 3

void store_msg_set_state(struct store *s, struct store_msg *m, const struct store_state *state)
{
    struct journal_note n = {.type = NOTE_STATE, .state = *state};

    lock_take(&s->lock);
    m->state = *state;
    store_unpin_locked(s, m);
    store_note_locked(s, m, &n);
    if (m->queue == STORE_JOURNAL && state->attempts >= PROMOTE_ATTEMPTS && !m->wanted) {
        m->wanted = true;
        vec_push(&s->wanted, m);
    }
    lock_release(&s->lock);
}

/* --- reading ----------------------------------------------------------------------------------- */

static int compare_offset(const struct store_msg *m, uint64_t offset)
{
    return m->offset < offset ? -1 : m->offset > offset;
}

static size_t find_offset(const struct vec *msgs, uint64_t offset)
{
    size_t lo = 0;
    size_t hi = msgs->len;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = compare_offset(msgs->items[mid], offset);

        if (c == 0)
            return mid;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return SIZE_MAX;
}

int store_companion_load_locked(struct store *s, struct segment *seg, struct vec *msgs,
                                struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    struct buf data = BUF_INIT(SIZE_MAX);
    enum journal_note_type *gone = xcalloc(msgs->len + 1, sizeof(*gone)); /* 0: it is not */
    struct journal_head head;
    struct journal_note n;
    struct io_stat st;
    size_t at = JOURNAL_HEAD_BYTES;
    size_t used;
    uint64_t lost_to = 0;
    ssize_t got;
    int ret = -1;
    int fd = s->io->open(s->io->ctx, store_path_companion(&path, s->directory, seg->number),
                         s->readonly ? O_RDONLY : O_RDWR, 0);

    if (fd == -1) {
        ret = errno == ENOENT ? 0 : store_err_sys(err, "open", buf_cstr(&path));
        goto done;
    }
    if (s->io->stat_fd(s->io->ctx, fd, &st) == -1 ||
        buf_reserve(&data, (size_t) st.bytes + 1) == NULL ||
        (got = store_pread_salvage(s->io, fd, data.ptr, (size_t) st.bytes, 0, &lost_to)) < 0) {
        store_err_sys(err, "read", buf_cstr(&path));
        goto done;
    }
    ret = 0;
    if (lost_to > 0)
        store_damage_locked(
            s, "%s cannot be read: I/O error; mail of this segment may be delivered twice",
            buf_cstr(&path));
    if (!journal_head_get(data.ptr, (size_t) got, JOURNAL_COMPANION, &head) ||
        head.epoch != seg->epoch)
        goto done; /* of an earlier use of this number */
    while ((used = journal_note_get(data.ptr + at, (size_t) got - at, seg->epoch, &n)) > 0) {
        size_t i = find_offset(msgs, n.message);

        if (i != SIZE_MAX) {
            struct store_msg *m = msgs->items[i];

            if (n.type == NOTE_REMOVED || n.type == NOTE_MOVED)
                gone[i] = (enum journal_note_type) n.type;
            else
                m->log_at = at;
            if (n.type == NOTE_STATE)
                m->state = n.state;
        }
        at += used;
    }
    for (size_t i = 0; i < msgs->len; i++) {
        struct store_msg *m = msgs->items[i];

        if (gone[i] == 0)
            continue;
        if (m->large != 0 && gone[i] == NOTE_REMOVED && !s->readonly)
            vec_push(&seg->large_done, xstrdup(store_path_large(&path, s->directory, m->large)));
        free(m);
        msgs->items[i] = NULL;
    }
    seg->companion_end = at;
    seg->companion_fd = fd;
    seg->unsynced = true; /* by whoever wrote it */
    fd = -1;
    if (!s->readonly && s->io->truncate(s->io->ctx, seg->companion_fd, at) == -1)
        ret = store_err_sys(err, "truncate", buf_cstr(&path));
done:
    if (fd != -1)
        s->io->close(s->io->ctx, fd);
    free(gone);
    buf_fini(&path);
    buf_fini(&data);
    return ret;
}

/* Part of a companion in memory. */
struct note_window {
    struct buf data;
    uint64_t at;
    unsigned reads;
};

static bool in_window(const struct note_window *w, const struct segment *seg, uint64_t offset,
                      struct journal_note *n)
{
    if (offset < w->at || offset - w->at >= w->data.len)
        return false;
    return journal_note_get(w->data.ptr + (offset - w->at), w->data.len - (size_t) (offset - w->at),
                            seg->epoch, n) > 0;
}

/* `bytes` of the companion, from `before` bytes before the offset on. */
static int read_window(struct store *s, const struct segment *seg, uint64_t offset, size_t before,
                       size_t bytes, struct note_window *w, struct err *err)
{
    ssize_t got;

    w->at = offset > before ? offset - before : 0;
    buf_reset(&w->data);
    got = s->io->pread(s->io->ctx, seg->companion_fd, buf_reserve(&w->data, bytes), bytes, w->at);
    if (got < 0)
        return store_err_sys(err, "read", "completion records");
    w->data.len = (size_t) got;
    return 0;
}

/* The note at `offset` of the companion, from the file or from what waits to be written. Read from the back to the front,
 * the window ends behind the note, otherwise it begins with it. */
static int note_at(struct store *s, const struct segment *seg, uint64_t offset, bool forward,
                   struct note_window *w, struct journal_note *n, struct err *err)
{
    if (offset >= seg->companion_end) {
        size_t at = (size_t) (offset - seg->companion_end);

        if (at >= seg->notes.len ||
            journal_note_get(seg->notes.ptr + at, seg->notes.len - at, seg->epoch, n) == 0)
            panic("a note on a message is not where it was put");
    } else if (!in_window(w, seg, offset, n)) {
        /* most messages have few notes, written together: a page has them all */
        bool is_small = w->reads++ == 0 && !forward;

        if (read_window(s, seg, offset,
                        forward    ? 0
                        : is_small ? WINDOW_SMALL - NOTE_SMALL
                                   : WINDOW_BYTES - JOURNAL_NOTE_MAX,
                        is_small ? WINDOW_SMALL : WINDOW_BYTES, w, err) == -1)
            return -1;
        if (is_small && !in_window(w, seg, offset, n) && /* a long one */
            read_window(s, seg, offset, WINDOW_BYTES - JOURNAL_NOTE_MAX, WINDOW_BYTES, w, err) ==
                -1)
            return -1;
        if (!in_window(w, seg, offset, n))
            return err_temporary(err, "damaged completion record");
    }
    if (n->prev >= offset && n->prev != 0)
        return err_temporary(err, "damaged completion record");
    return 0;
}

int store_notes_each_locked(struct store *s, const struct store_msg *m, uint64_t after,
                            void (*fn)(const struct journal_note *n, void *arg), void *arg,
                            struct err *err)
{
    struct note_window window = {BUF_INIT(SIZE_MAX), 0, 0};
    uint64_t *offsets = NULL;
    size_t count = 0;
    size_t cap = 0;
    struct journal_note n = {0};
    int ret = -1;

    for (uint64_t at = m->log_at; at != 0 && at > after; at = n.prev) {
        if (note_at(s, m->seg, at, false, &window, &n, err) == -1)
            goto done;
        if (count == cap) {
            cap = cap == 0 ? 64 : cap * 2;
            offsets = xrealloc(offsets, cap * sizeof(*offsets));
        }
        offsets[count++] = at;
    }
    while (count > 0) {
        if (note_at(s, m->seg, offsets[--count], true, &window, &n, err) == -1)
            goto done;
        fn(&n, arg);
    }
    ret = 0;
done:
    free(offsets);
    buf_fini(&window.data);
    return ret;
}

int store_file_notes_each(struct store *s, int fd, uint64_t epoch, uint64_t from,
                          void (*fn)(const struct journal_note *n, void *arg), void *arg,
                          uint64_t *end, struct err *err)
{
    struct buf data = BUF_INIT(SIZE_MAX);
    uint64_t at = from;
    int ret = -1;

    for (;;) {
        struct journal_note n;
        size_t done = 0;
        size_t used;
        ssize_t got;

        buf_reset(&data);
        got = s->io->pread(s->io->ctx, fd, buf_reserve(&data, WINDOW_BYTES), WINDOW_BYTES, at);
        if (got < 0) {
            store_err_read(err, "the message's notes");
            goto done;
        }
        while ((used = journal_note_get(data.ptr + done, (size_t) got - done, epoch, &n)) > 0) {
            fn(&n, arg);
            done += used;
        }
        at += done;
        /* a note that the window cut is read again from its begin; nothing taken: the end */
        if (done == 0 || (size_t) got < WINDOW_BYTES)
            break;
    }
    *end = at;
    ret = 0;
done:
    buf_fini(&data);
    return ret;
}
