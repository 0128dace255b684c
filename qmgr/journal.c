/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal.c - the bytes of journal.h, written and checked.
 */
#include "qmgr/journal.h"

#include <sys/random.h>

#include "base/crc32c.h"

#define JOURNAL_VERSION 1U
#define RECORD_MAGIC    0x31525250U /* "PRR1" */
#define ENVELOPE_MAX    (256U << 10)
#define RCPT_MAX        (32U << 10)

static void put32(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char) (v >> (8 * i));
}

static void put64(unsigned char *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (unsigned char) (v >> (8 * i));
}

static uint32_t get32(const unsigned char *p)
{
    return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

static uint64_t get64(const unsigned char *p)
{
    return (uint64_t) get32(p) | (uint64_t) get32(p + 4) << 32;
}

void journal_head_put(const struct journal_head *h, unsigned char out[JOURNAL_HEAD_BYTES])
{
    put32(out, h->magic);
    put32(out + 4, JOURNAL_VERSION);
    put64(out + 8, h->epoch);
    put64(out + 16, h->number);
    put64(out + 24, h->bytes);
    put32(out + 32, 0);
    put32(out + 36, crc32c(0, out, 36));
}

bool journal_head_get(const void *data, size_t len, uint32_t magic, struct journal_head *out)
{
    const unsigned char *p = data;

    if (len < JOURNAL_HEAD_BYTES || get32(p) != magic || get32(p + 4) != JOURNAL_VERSION ||
        get32(p + 36) != crc32c(0, p, 36) || get64(p + 8) == 0)
        return false;
    out->magic = magic;
    out->epoch = get64(p + 8);
    out->number = get64(p + 16);
    out->bytes = get64(p + 24);
    return true;
}

uint64_t journal_new_epoch(void)
{
    uint64_t epoch = 0;

    while (epoch == 0) {
        if (getrandom(&epoch, sizeof(epoch), 0) != (ssize_t) sizeof(epoch))
            epoch = 0;
    }
    return epoch;
}

void journal_record_put(const struct journal_record *r, unsigned char out[JOURNAL_RECORD_BYTES])
{
    put32(out, RECORD_MAGIC);
    put32(out + 4, r->type);
    put64(out + 8, r->epoch);
    put64(out + 16, r->offset);
    put64(out + 24, r->length);
    put64(out + 32, r->content_bytes);
    put64(out + 40, r->large);
    put32(out + 48, r->meta_bytes);
    put32(out + 52, r->payload_crc);
    put32(out + 56, r->content_crc);
    put32(out + 60, crc32c(0, out, 60));
}

bool journal_record_get_any(const void *data, size_t len, uint64_t offset,
                            struct journal_record *out)
{
    const unsigned char *p = data;
    struct journal_record r;
    uint64_t want;

    if (len < JOURNAL_RECORD_BYTES || get32(p) != RECORD_MAGIC || get64(p + 16) != offset)
        return false;
    if (get32(p + 60) != crc32c(0, p, 60))
        return false;
    r.type = get32(p + 4);
    r.epoch = get64(p + 8);
    r.offset = offset;
    r.length = get64(p + 24);
    r.content_bytes = get64(p + 32);
    r.large = get64(p + 40);
    r.meta_bytes = get32(p + 48);
    r.payload_crc = get32(p + 52);
    r.content_crc = get32(p + 56);
    if (r.epoch == 0 || r.meta_bytes >= JOURNAL_META_MAX || r.content_bytes >= JOURNAL_RECORD_MAX)
        return false;
    want = journal_content_at(&r);
    if (r.large == 0)
        want += journal_align(r.content_bytes);
    if (r.length != want)
        return false;
    if (r.type == JOURNAL_SEAL ? r.length != JOURNAL_RECORD_BYTES : r.type != JOURNAL_MESSAGE)
        return false;
    *out = r;
    return true;
}

bool journal_record_get(const void *data, size_t len, uint64_t epoch, uint64_t offset,
                        struct journal_record *out)
{
    const unsigned char *p = data;

    if (len < JOURNAL_RECORD_BYTES || get64(p + 8) != epoch)
        return false;
    return journal_record_get_any(data, len, offset, out);
}

bool journal_payload_ok(const struct journal_record *r, const void *payload)
{
    return crc32c(0, payload, r->length - JOURNAL_RECORD_BYTES) == r->payload_crc;
}

size_t journal_find(const void *data, size_t from, size_t len, uint64_t epoch, uint64_t base)
{
    const unsigned char *p = data;
    unsigned char want[12];
    struct journal_record r;
    size_t at = from + (size_t) (journal_align(base + from) - (base + from));

    put32(want, RECORD_MAGIC);
    put64(want + 4, epoch);
    for (; at < len && len - at >= JOURNAL_RECORD_BYTES; at += 8) {
        if (memcmp(p + at, want, 4) == 0 && memcmp(p + at + 8, want + 4, 8) == 0 &&
            journal_record_get(p + at, len - at, epoch, base + at, &r))
            return at;
    }
    return len;
}

static void put_length(struct buf *out, size_t at, size_t value)
{
    if (buf_ok(out))
        put32((unsigned char *) out->ptr + at, (uint32_t) value);
}

static int encode_one(const struct msg_def *def, const void *m, struct buf *out, struct err *err)
{
    size_t at = out->len;

    buf_put(out, "\0\0\0\0", 4);
    if (msg_encode(def, m, out, err) == -1)
        return -1;
    put_length(out, at, out->len - at - 4);
    return 0;
}

int journal_meta_put(const struct mail_envelope *env, const struct mail_rcpt *rcpts, size_t nrcpts,
                     struct buf *out, struct err *err)
{
    unsigned char count[4];

    if (nrcpts > MAIL_RECIPIENTS_MAX)
        return err_set(err, ERR_PERMANENT, "5.5.3", "too many recipients");
    if (encode_one(&msg_envelope, env, out, err) == -1)
        return -1;
    put32(count, (uint32_t) nrcpts);
    buf_put(out, count, 4);
    for (size_t i = 0; i < nrcpts; i++) {
        if (encode_one(&msg_rcpt, &rcpts[i], out, err) == -1)
            return -1;
    }
    if (!buf_ok(out) || out->len >= JOURNAL_META_MAX)
        return err_set(err, ERR_PERMANENT, "5.3.4", "envelope is too large");
    return 0;
}

/* Cuts 4 bytes of length and as many bytes. */
static bool cut_counted(struct slice *rest, size_t limit, struct slice *out)
{
    size_t len;

    if (rest->len < 4)
        return false;
    len = get32((const unsigned char *) rest->ptr);
    if (len > limit || len > rest->len - 4)
        return false;
    *out = slice_of(rest->ptr + 4, len);
    *rest = slice_of(rest->ptr + 4 + len, rest->len - 4 - len);
    return true;
}

int journal_meta_get(struct slice meta, struct mail_envelope *env, struct slice *rcpts,
                     uint32_t *nrcpts, struct err *err)
{
    struct slice one;
    struct mail_envelope e;
    uint32_t count;

    if (!cut_counted(&meta, ENVELOPE_MAX, &one))
        return err_permanent(err, "damaged envelope");
    if (msg_decode(&msg_envelope, one, &e, err) == -1)
        return err_prefix(err, "envelope: ");
    if (meta.len < 4)
        return err_permanent(err, "no recipients");
    count = get32((const unsigned char *) meta.ptr);
    meta = slice_of(meta.ptr + 4, meta.len - 4);
    if (count > MAIL_RECIPIENTS_MAX || count > meta.len / 4)
        return err_permanent(err, "bad number of recipients: %lu", (unsigned long) count);
    *env = e;
    *rcpts = meta;
    *nrcpts = count;
    return 0;
}

int journal_rcpt_next(struct slice *rcpts, struct mail_rcpt *out, struct err *err)
{
    struct slice one;

    if (!cut_counted(rcpts, RCPT_MAX, &one))
        return err_permanent(err, "damaged recipient");
    if (msg_decode(&msg_rcpt, one, out, err) == -1)
        return err_prefix(err, "recipient: ");
    return 0;
}

/* Bits of a STATE note's flags. */
enum {
    STATE_WARNED = 1,
    STATE_FORCED_EXPIRE = 2,
    STATE_HOLD = 4,
    STATE_REMOVE = 8,
    STATE_REQUEUE = 16
};

static uint32_t note_crc(const void *data, size_t len, uint64_t epoch)
{
    unsigned char e[8];

    put64(e, epoch);
    return crc32c(crc32c(0, e, sizeof(e)), data, len);
}

static void put_counted(struct buf *out, struct slice s)
{
    unsigned char n[4];

    put32(n, (uint32_t) s.len);
    buf_put(out, n, 4);
    buf_put_slice(out, s);
}

void journal_note_put(const struct journal_note *n, uint64_t epoch, struct buf *out)
{
    unsigned char head[JOURNAL_NOTE_BYTES] = {0};
    unsigned char state[16];
    size_t at = out->len;
    size_t len;
    unsigned char *p;

    put64(head + 8, n->message);
    put64(head + 16, n->prev);
    put32(head + 24, n->type);
    put32(head + 28, n->index);
    buf_put(out, head, sizeof(head));
    if (n->type == NOTE_STATE) {
        put32(state, n->state.attempts);
        put32(state + 4, (n->state.warned ? STATE_WARNED : 0) |
                             (n->state.forced_expire ? STATE_FORCED_EXPIRE : 0) |
                             (n->state.hold ? STATE_HOLD : 0) |
                             (n->state.remove ? STATE_REMOVE : 0) |
                             (n->state.requeue ? STATE_REQUEUE : 0));
        put64(state + 8, (uint64_t) n->state.next_retry_us);
        buf_put(out, state, sizeof(state));
    } else if (n->type == NOTE_DEFERRED) {
        put_counted(out, slice_sub(n->code, 0, DSN_CODE_MAX));
        put_counted(out, slice_sub(n->reason, 0, JOURNAL_NOTE_MAX - 128));
    }
    len = (size_t) journal_align(out->len - at);
    buf_put(out, "\0\0\0\0\0\0\0", at + len - out->len);
    if (!buf_ok(out))
        return;
    p = (unsigned char *) out->ptr + at;
    put32(p + 4, (uint32_t) len);
    put32(p, note_crc(p + 4, len - 4, epoch));
}

size_t journal_note_get(const void *data, size_t len, uint64_t epoch, struct journal_note *out)
{
    const unsigned char *p = data;
    struct journal_note n = {0};
    struct slice rest;
    size_t total;

    if (len < JOURNAL_NOTE_BYTES)
        return 0;
    total = get32(p + 4);
    if (total < JOURNAL_NOTE_BYTES || total > JOURNAL_NOTE_MAX || total > len || total % 8 != 0)
        return 0;
    if (get32(p) != note_crc(p + 4, total - 4, epoch))
        return 0;
    n.message = get64(p + 8);
    n.prev = get64(p + 16);
    n.type = get32(p + 24);
    n.index = get32(p + 28);
    rest = slice_of((const char *) p + JOURNAL_NOTE_BYTES, total - JOURNAL_NOTE_BYTES);
    switch (n.type) {
    case NOTE_REMOVED:
    case NOTE_RCPT_DONE:
    case NOTE_MOVED:
        break;
    case NOTE_STATE:
        if (rest.len < 16)
            return 0;
        p = (const unsigned char *) rest.ptr;
        n.state.attempts = get32(p);
        n.state.warned = (get32(p + 4) & STATE_WARNED) != 0;
        n.state.forced_expire = (get32(p + 4) & STATE_FORCED_EXPIRE) != 0;
        n.state.hold = (get32(p + 4) & STATE_HOLD) != 0;
        n.state.remove = (get32(p + 4) & STATE_REMOVE) != 0;
        n.state.requeue = (get32(p + 4) & STATE_REQUEUE) != 0;
        n.state.next_retry_us = (int64_t) get64(p + 8);
        break;
    case NOTE_DEFERRED:
        if (!cut_counted(&rest, DSN_CODE_MAX, &n.code) ||
            !cut_counted(&rest, JOURNAL_NOTE_MAX, &n.reason))
            return 0;
        break;
    default:
        break; /* of a later version: passed over */
    }
    *out = n;
    return total;
}
