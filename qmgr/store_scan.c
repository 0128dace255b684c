/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_scan.c - reading segments: what is in them, where they end, what is damaged.
 *
 * A record counts when its head and its payload have the right checksums and the epoch is the segment's. What stands at a place
 * where a record should begin and is none:
 *   the writer lives, and nobody has said that it is durable: not written yet. Reading goes on there later.
 *   a record follows later, or it was said to be durable: damage. The bytes go to corrupt/NUMBER-OFFSET, reading
 *   goes on at the next record.
 *   the disk does not give it back (EIO): the same, page by page, so that one bad page costs the records that it is part of, no others.
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
    uint64_t
        lost_to; /* the end of the last page that could not be read: zeros stand in its place */
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
        r = store_pread_salvage(w->io, w->fd, w->data->ptr, n, offset, &w->lost_to);
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

/* Nothing in it can be read. */
static int set_segment_aside(struct store *s, struct segment *seg, const char *path,
                             struct err *err)
{
    char name[32];

    snprintf(name, sizeof(name), "%016" PRIX64, seg->number);
    s->had_damage = true;
    if (s->readonly) {
        store_damage_locked(s, "%s: head and first record are damaged", path);
        return 0;
    }
    switch (store_set_aside(s, seg->fd, 0, seg->bytes, name, err)) {
    case ASIDE_DONE:
    case ASIDE_BEFORE:
        store_damage_locked(
            s, "%s: head and first record are damaged; all of it is kept as corrupt/%s", path,
            name);
        return 0;
    case ASIDE_PART:
        seg->keep = s->left_unread = true;
        store_damage_locked(
            s,
            "%s: head and first record cannot be read: I/O error; it stays where it is, what could be read is kept as corrupt/%s.part",
            path, name);
        return 0;
    case ASIDE_FAILED:
        break;
    }
    return -1;
}

int store_segment_open(struct store *s, uint64_t number, struct segment **out, struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    struct segment *seg = segment_new(number);
    unsigned char raw[JOURNAL_HEAD_BYTES];
    struct journal_head head;
    struct io_stat st;
    uint64_t lost_to = 0;
    ssize_t n;
    int ret = -1;

    seg->fd = s->io->open(s->io->ctx, store_path_segment(&path, s->directory, number),
                          s->readonly ? O_RDONLY : O_RDWR, 0);
    if (seg->fd == -1) {
        ret = errno == ENOENT ? 1 : store_err_sys(err, "open", buf_cstr(&path));
        goto done;
    }
    n = store_pread_salvage(s->io, seg->fd, raw, sizeof(raw), 0, &lost_to);
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
        seg->scanned = seg->bytes;
        seg->epoch = journal_new_epoch();
        if (set_segment_aside(s, seg, buf_cstr(&path), err) == -1)
            goto done;
    }
    metrics_unique_raise((int64_t) number);
    metrics_unique_raise(st.mtime_us); /* ids of mail that is finished */
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
    struct window w = {s->io, seg->fd, end, 0, 0, &s->scan, 0};
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
        if (p == NULL)
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
                    store_report_damage(s, seg, at, at + r.length);
                }
            }
            at += r.length;
            continue;
        }
        if (live && !known)
            break;
        next = next_record(&w, seg, head_ok ? at + r.length : at + 8, end);
        if (next == end && !known && w.lost_to <= at)
            break; /* torn end */
        store_report_damage(s, seg, at, next);
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
