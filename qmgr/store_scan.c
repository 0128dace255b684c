/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_scan.c - reading segments: what is in them, where they end, what is damaged.
 *
 * A record counts when its head and its payload have the right checksums and the epoch is the segment's. What stands at a place
 * where a record should begin and is none:
 *   the writer lives, and nobody has said that it is durable: not written yet. Reading goes on there later.
 *   a record follows later, or it was said to be durable: damage. The bytes go to corrupt/NUMBER-OFFSET, reading
 *   goes on at the next record.
 *   otherwise: the torn end of what a dead writer wrote, never acknowledged. Dropped.
 * (Two records that were never acknowledged, the second on disk and not the first, look like damage. That costs a report.)
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/metrics.h"
#include "qmgr/store_owner_int.h"

#define WINDOW_BYTES (1U << 20)

/* The bytes of the file around a place. */
struct window {
    const struct io_ops *io;
    int fd;
    uint64_t end; /* of what may be looked at */
    uint64_t at;  /* of data */
    size_t len;
    struct buf *data;
};

/* `want` bytes at offset (fewer at the end), or NULL with errno. */
static const char *window_get(struct window *w, uint64_t offset, size_t want, size_t *got)
{
    if (offset >= w->end) {
        *got = 0;
        return "";
    }
    if (want > w->end - offset)
        want = (size_t) (w->end - offset);
    if (offset < w->at || offset - w->at > w->len || w->len - (size_t) (offset - w->at) < want) {
        size_t n = want > WINDOW_BYTES ? want : WINDOW_BYTES;
        ssize_t r;

        if (n > w->end - offset)
            n = (size_t) (w->end - offset);
        buf_reset(w->data);
        if (buf_reserve(w->data, n) == NULL) {
            errno = ENOMEM;
            return NULL;
        }
        r = w->io->pread(w->io->ctx, w->fd, w->data->ptr, n, offset);
        if (r < 0)
            return NULL;
        w->at = offset;
        w->len = (size_t) r;
        if (w->len < want)
            want = w->len;
    }
    *got = want;
    return w->data->ptr + (offset - w->at);
}

static struct segment *segment_new(uint64_t number)
{
    struct segment *seg = xcalloc(1, sizeof(*seg));

    seg->number = number;
    seg->fd = seg->content_fd = seg->companion_fd = -1;
    seg->scanned = JOURNAL_SEGMENT_START;
    seg->notes = BUF_INIT(SIZE_MAX);
    seg->large_done = VEC_INIT;
    return seg;
}

/* The head is lost: the first record, always of the present use, knows the epoch too. */
static bool epoch_of_first_record(struct store *s, int fd, uint64_t *epoch)
{
    unsigned char raw[JOURNAL_RECORD_BYTES];
    struct journal_record r;

    if (s->io->pread(s->io->ctx, fd, raw, sizeof(raw), JOURNAL_SEGMENT_START) !=
            (ssize_t) sizeof(raw) ||
        !journal_record_get_any(raw, sizeof(raw), JOURNAL_SEGMENT_START, &r))
        return false;
    *epoch = r.epoch;
    return true;
}

int store_segment_open(struct store *s, uint64_t number, struct segment **out, struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    struct segment *seg = segment_new(number);
    unsigned char raw[JOURNAL_HEAD_BYTES];
    struct journal_head head;
    struct io_stat st;
    ssize_t n;
    int ret = -1;

    seg->fd = s->io->open(s->io->ctx, store_path_segment(&path, s->directory, number),
                          s->readonly ? O_RDONLY : O_RDWR, 0);
    if (seg->fd == -1) {
        ret = errno == ENOENT ? 1 : store_err_sys(err, "open", buf_cstr(&path));
        goto done;
    }
    n = s->io->pread(s->io->ctx, seg->fd, raw, sizeof(raw), 0);
    if (n < 0 || s->io->stat_fd(s->io->ctx, seg->fd, &st) == -1) {
        store_err_sys(err, "read", buf_cstr(&path));
        goto done;
    }
    seg->bytes = st.bytes;
    if (journal_head_get(raw, (size_t) n, JOURNAL_SEGMENT, &head)) {
        seg->epoch = head.epoch;
    } else if (epoch_of_first_record(s, seg->fd, &seg->epoch)) {
        store_damage_locked(s, "%s: the head is damaged; its records are read all the same",
                            buf_cstr(&path));
    } else {
        char name[32];

        snprintf(name, sizeof(name), "%016" PRIX64, number);
        s->had_damage = true;
        seg->scanned = seg->bytes;
        seg->epoch = journal_new_epoch();
        if (s->readonly)
            store_damage_locked(s, "%s: head and first record are damaged", buf_cstr(&path));
        else if (store_set_aside(s, seg->fd, 0, seg->bytes, name, err) == -1)
            goto done;
        else
            store_damage_locked(
                s, "%s: head and first record are damaged; all of it is kept as corrupt/%s",
                buf_cstr(&path), name);
    }
    metrics_unique_raise((int64_t) number);
    vec_push(&s->segments, seg);
    *out = seg;
    seg = NULL;
    ret = 0;
done:
    if (seg != NULL)
        store_segment_free(s, seg);
    buf_fini(&path);
    return ret;
}

int store_set_aside(struct store *s, int fd, uint64_t from, uint64_t to, const char *name,
                    struct err *err)
{
    const struct io_ops *io = s->io;
    struct buf path = BUF_INIT(SIZE_MAX);
    struct buf data = BUF_INIT(SIZE_MAX);
    struct io_stat st;
    uint64_t at = 0;
    int out = -1;
    int ret = -1;

    buf_printf(&path, "%s/corrupt/%s", s->directory, name);
    if (io->stat_path(io->ctx, buf_cstr(&path), &st) == 0 && st.bytes == to - from) {
        ret = 1;
        goto done;
    }
    out = io->open(io->ctx, buf_cstr(&path), O_RDWR | O_CREAT | O_TRUNC, STORE_FILE_MODE);
    if (out == -1) {
        store_err_sys(err, "create", buf_cstr(&path));
        goto done;
    }
    while (from < to) {
        size_t n = to - from < WINDOW_BYTES ? (size_t) (to - from) : WINDOW_BYTES;
        struct iovec iov;
        ssize_t got;

        buf_reset(&data);
        got = io->pread(io->ctx, fd, buf_reserve(&data, n), n, from);
        if (got <= 0)
            break; /* unreadable from here on: what could be read is kept */
        iov = (struct iovec){data.ptr, (size_t) got};
        if (io->pwritev(io->ctx, out, &iov, 1, at) == -1) {
            store_err_sys(err, "write", buf_cstr(&path));
            goto done;
        }
        from += (uint64_t) got;
        at += (uint64_t) got;
    }
    if (io->fdatasync(io->ctx, out) == -1) {
        store_err_sys(err, "sync", buf_cstr(&path));
        goto done;
    }
    buf_reset(&data);
    if (io->sync_dir(io->ctx, store_path(&data, s->directory, "corrupt")) == -1) {
        store_err_sys(err, "sync", buf_cstr(&data));
        goto done;
    }
    ret = 0;
done:
    if (out != -1)
        io->close(io->ctx, out);
    if (ret == -1)
        (void) io->unlink(io->ctx, buf_cstr(&path));
    buf_fini(&path);
    buf_fini(&data);
    return ret;
}

static void report_damage(struct store *s, struct segment *seg, uint64_t from, uint64_t to)
{
    struct err err;
    char name[48];

    s->had_damage = true;
    snprintf(name, sizeof(name), "%016" PRIX64 "-%" PRIX64, seg->number, from);
    if (s->readonly) {
        store_damage_locked(
            s, "journal segment %016" PRIX64 ": %" PRIu64 " bytes at %" PRIu64 " are damaged",
            seg->number, to - from, from);
        return;
    }
    switch (store_set_aside(s, seg->fd, from, to, name, &err)) {
    case 0:
        store_damage_locked(s,
                            "journal segment %016" PRIX64 ": %" PRIu64 " bytes at %" PRIu64
                            " are damaged, kept as corrupt/%s",
                            seg->number, to - from, from, name);
        break;
    case 1: /* reported by an earlier recovery */
        break;
    default:
        seg->keep = true;
        store_damage_locked(s,
                            "journal segment %016" PRIX64 ": %" PRIu64 " bytes at %" PRIu64
                            " are damaged; cannot keep them elsewhere: %s",
                            seg->number, to - from, from, err.text);
        break;
    }
}

/* The next place in [from, end) where a sound record begins, or end. Payloads are not looked into: a forged record would have
 * to know the epoch. */
static uint64_t next_record(struct window *w, const struct segment *seg, uint64_t from,
                            uint64_t end)
{
    uint64_t at = journal_align(from);

    while (at < end && end - at >= JOURNAL_RECORD_BYTES) {
        size_t got;
        const char *p = window_get(w, at, WINDOW_BYTES, &got);
        size_t hit;
        struct journal_record r;

        if (p == NULL || got < JOURNAL_RECORD_BYTES)
            return end;
        hit = journal_find(p, 0, got, seg->epoch, at);
        if (hit == got) {
            at += got - (JOURNAL_RECORD_BYTES - 8);
            continue;
        }
        at += hit;
        p = window_get(w, at, JOURNAL_RECORD_BYTES, &got);
        if (p == NULL || !journal_record_get(p, got, seg->epoch, at, &r))
            return end;
        if (r.length <= end - at) {
            p = window_get(w, at, (size_t) r.length, &got);
            if (p != NULL && got == r.length && journal_payload_ok(&r, p + JOURNAL_RECORD_BYTES))
                return at;
        }
        at += 8;
    }
    return end;
}

/* NULL: sound, but no envelope that can be read. */
static struct store_msg *msg_from_record(struct segment *seg, const struct journal_record *r,
                                         const char *p)
{
    struct mail_envelope env;
    struct slice rcpts;
    uint32_t nrcpts;
    struct store_msg *m;

    if (journal_meta_get(slice_of(p + JOURNAL_RECORD_BYTES, r->meta_bytes), &env, &rcpts, &nrcpts,
                         NULL) == -1 ||
        !queue_id_valid(env.queue_id))
        return NULL;
    m = xcalloc(1, sizeof(*m));
    memcpy(m->id, env.queue_id.ptr, env.queue_id.len);
    m->seg = seg;
    m->offset = r->offset;
    m->length = r->length;
    m->content_bytes = r->content_bytes;
    m->large = r->large;
    m->meta_bytes = r->meta_bytes;
    m->payload_crc = r->payload_crc;
    m->queue = STORE_JOURNAL;
    m->state = (struct store_state){
        .attempts = env.next_retry_us != 0 ? 1 : 0,
        .next_retry_us = env.next_retry_us < INT64_MAX ? (int64_t) env.next_retry_us : 0,
        .warned = (env.flags & MAIL_DELAY_WARNED) != 0,
        .forced_expire = (env.flags & MAIL_FORCED_EXPIRE) != 0,
    };
    return m;
}

int store_segment_scan_locked(struct store *s, struct segment *seg, uint64_t limit, bool live,
                              struct vec *out, struct err *err)
{
    bool known = limit != UINT64_MAX; /* durable up to limit */
    uint64_t end = limit < seg->bytes ? limit : seg->bytes;
    struct window w = {s->io, seg->fd, end, 0, 0, &s->scan};
    uint64_t at = seg->scanned;

    while (!seg->sealed && at < end && end - at >= JOURNAL_RECORD_BYTES) {
        struct journal_record r;
        bool head_ok = false;
        bool ok = false;
        size_t got;
        const char *p = window_get(&w, at, JOURNAL_RECORD_BYTES, &got);
        uint64_t next;

        if (p != NULL && journal_record_get(p, got, seg->epoch, at, &r) && r.length <= end - at) {
            head_ok = true;
            p = window_get(&w, at, (size_t) r.length, &got);
            ok = p != NULL && got == r.length && journal_payload_ok(&r, p + JOURNAL_RECORD_BYTES);
        }
        if (p == NULL && errno != EIO)
            return store_err_sys(err, "read", "journal segment");
        if (ok) {
            if (r.type == JOURNAL_SEAL) {
                seg->sealed = true;
            } else {
                struct store_msg *m = msg_from_record(seg, &r, p);

                if (m != NULL) {
                    m->fresh = known;
                    vec_push(out, m);
                } else {
                    report_damage(s, seg, at, at + r.length);
                }
            }
            at += r.length;
            continue;
        }
        if (live && !known)
            break;
        next = next_record(&w, seg, head_ok ? at + r.length : at + 8, end);
        if (next == end && !known)
            break; /* torn end */
        report_damage(s, seg, at, next);
        at = next;
    }
    seg->scanned = at;
    return 0;
}

/*
 * To the last valid record, for a segment whose writer has not said how far it is durable. While he lives, his last records may not be:
 * should his sync fail, he refuses those messages and cuts them off, and they must not have been delivered meanwhile. So
 * the owner syncs them himself, by his own descriptor, which is told of a failed write as the writer's is. 1: some are not durable; nothing was found.
 */
static int scan_unannounced(struct store *s, struct segment *seg, bool live, struct vec *found,
                            struct err *err) REQUIRES(s->lock)
{
    uint64_t from = seg->scanned;
    struct io_stat st;

    if (store_segment_scan_locked(s, seg, UINT64_MAX, live, found, err) == -1)
        return -1;
    if (!live || s->readonly || found->len == 0 ||
        (s->io->fdatasync(s->io->ctx, seg->fd) == 0 &&
         s->io->stat_fd(s->io->ctx, seg->fd, &st) == 0 && st.bytes >= seg->scanned))
        return 0;
    vec_clear(found, free);
    seg->scanned = from;
    seg->sealed = false;
    return 1;
}

int store_segment_look_locked(struct store *s, struct segment *seg, struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    struct vec found = VEC_INIT;
    struct io_stat st;
    bool live = false;
    int ret;

    if (seg->sealed)
        return 0;
    if (s->io->stat_path(s->io->ctx, store_path_segment(&path, s->directory, seg->number), &st) ==
            -1 &&
        errno == ENOENT)
        seg->sealed = true; /* given back unused */
    buf_fini(&path);
    if (seg->sealed)
        return 0;
    if (!s->readonly) {
        live = s->io->lock(s->io->ctx, seg->fd) == -1;
        if (!live)
            (void) s->io->unlock(s->io->ctx, seg->fd);
    } else {
        live = true; /* cannot know: nothing is called damage that may not be written yet */
    }
    /* a writer that failed has cut it back */
    if (s->io->stat_fd(s->io->ctx, seg->fd, &st) == 0)
        seg->bytes = st.bytes;
    ret = scan_unannounced(s, seg, live, &found, err);
    if (ret == 0 && !live)
        seg->sealed = true;
    for (size_t i = 0; i < found.len; i++)
        store_index_add_locked(s, found.items[i]);
    vec_fini(&found);
    return ret == -1 ? -1 : 0;
}

struct segment_list {
    uint64_t *numbers;
    size_t count, cap;
};

static void collect_segment(void *arg, const char *name)
{
    struct segment_list *l = arg;
    uint64_t number;

    if (!store_parse_number(slice_str(name), &number))
        return;
    if (l->count == l->cap) {
        l->cap = l->cap == 0 ? 64 : l->cap * 2;
        l->numbers = xrealloc(l->numbers, l->cap * sizeof(*l->numbers));
    }
    l->numbers[l->count++] = number;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *) a;
    uint64_t y = *(const uint64_t *) b;

    return x < y ? -1 : x > y;
}

/* A segment that was not known: what its companion says counts too. */
static int load_segment(struct store *s, struct segment *seg, struct err *err) REQUIRES(s->lock)
{
    struct vec found = VEC_INIT;
    bool live = true;
    int ret;

    if (!s->readonly) {
        live = s->io->lock(s->io->ctx, seg->fd) == -1;
        if (!live)
            (void) s->io->unlock(s->io->ctx, seg->fd);
    }
    ret = scan_unannounced(s, seg, live, &found, err);
    if (ret == 1) {
        /* as if it had not been seen: the next look loads it again, with its companion */
        vec_fini(&found);
        s->segments.len--;
        store_segment_free(s, seg);
        return 0;
    }
    if (ret == 0 && !live)
        seg->sealed = true;
    if (ret == 0)
        ret = store_companion_load_locked(s, seg, &found, err);
    for (size_t i = 0; i < found.len; i++) {
        if (found.items[i] != NULL)
            store_index_add_locked(s, found.items[i]);
    }
    vec_fini(&found);
    return ret;
}

int store_look_for_segments_locked(struct store *s, struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    struct segment_list list = {NULL, 0, 0};
    int ret = -1;

    if (s->io->list(s->io->ctx, store_path(&path, s->directory, "journal"), collect_segment,
                    &list) == -1) {
        store_err_sys(err, "list", buf_cstr(&path));
        goto done;
    }
    if (list.count > 0)
        qsort(list.numbers, list.count, sizeof(*list.numbers), compare_numbers);
    for (size_t i = 0; i < list.count; i++) {
        struct segment *seg = NULL;
        int r;

        if (store_segment_find(s, list.numbers[i]) != NULL)
            continue;
        r = store_segment_open(s, list.numbers[i], &seg, err);
        if (r == 1)
            continue; /* the writer gave it back */
        if (r != 0 || seg == NULL || load_segment(s, seg, err) == -1)
            goto done;
    }
    ret = 0;
done:
    free(list.numbers);
    buf_fini(&path);
    return ret;
}
