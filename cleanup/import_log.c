/* SPDX-License-Identifier: Apache-2.0 */
/* import_log.c - see import_log.h. */
#include "cleanup/import_log.h"

#include "base/htable.h"
#include "base/num.h"

struct entry {
    struct slice recipient, offset, status, reason;
};

struct apply {
    struct import_message *m;
    enum import_log kind;
    struct htable *by_offset;
    struct htable *by_address; /* the first of that address */
};

static struct slice offset_key(const uint64_t *offset)
{
    return slice_of((const char *) offset, sizeof(*offset));
}

static struct import_rcpt *find(const struct apply *a, const struct entry *e)
{
    struct import_rcpt *r = NULL;
    int64_t n;

    if (num_parse_i64(e->offset, 0, INT64_MAX, &n, NULL) == 0) {
        uint64_t offset = (uint64_t) n;

        r = htable_get(a->by_offset, offset_key(&offset));
    }
    /* of a message that was redirected the log has the address to which it went */
    if (r == NULL || (!slice_eq(r->r.addr, e->recipient) && a->m->env.redirect.len == 0))
        r = htable_get(a->by_address, e->recipient);
    return r;
}

static void take(const struct apply *a, const struct entry *e)
{
    struct import_rcpt *r = e->recipient.len > 0 ? find(a, e) : NULL;

    if (r == NULL || (a->kind == IMPORT_DEFER_LOG && r->done))
        return;
    if (a->kind == IMPORT_BOUNCE_LOG) {
        r->done = true;
        r->reported = false;
    }
    r->r.code = dsn_code_valid(e->status) ? arena_slice(a->m->arena, e->status) : SLICE_EMPTY;
    r->r.reason = e->reason.len > 0
                      ? arena_slice(a->m->arena, slice_sub(e->reason, 0, MAIL_REASON_MAX))
                      : SLICE_EMPTY;
}

static void take_line(struct entry *e, struct slice line)
{
    ptrdiff_t eq = slice_find(line, '=');
    struct slice name;
    struct slice value;

    if (eq == -1)
        return;
    name = slice_sub(line, 0, (size_t) eq);
    value = slice_sub(line, (size_t) eq + 1, line.len);
    if (slice_eq_str(name, "recipient"))
        e->recipient = value;
    else if (slice_eq_str(name, "offset"))
        e->offset = value;
    else if (slice_eq_str(name, "status"))
        e->status = value;
    else if (slice_eq_str(name, "reason"))
        e->reason = value;
}

void import_log_apply(struct import_message *m, enum import_log kind, struct slice text)
{
    struct apply a = {m, kind, htable_new(false), htable_new(false)};
    struct entry e = {0};

    for (size_t i = 0; i < m->rcpts.len; i++) {
        struct import_rcpt *r = m->rcpts.items[i];

        (void) htable_put(a.by_offset, offset_key(&r->at), r);
        if (htable_get(a.by_address, r->r.addr) == NULL)
            (void) htable_put(a.by_address, r->r.addr, r);
    }
    while (text.len > 0) {
        ptrdiff_t nl = slice_find(text, '\n');
        struct slice line = slice_sub(text, 0, nl == -1 ? text.len : (size_t) nl);

        text = slice_sub(text, line.len + 1, text.len);
        if (line.len > 0) {
            take_line(&e, line);
            continue;
        }
        take(&a, &e);
        e = (struct entry){0};
    }
    take(&a, &e);
    htable_free(&a.by_offset, NULL);
    htable_free(&a.by_address, NULL);
}
