/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_queue.c - every message of the queue, by what it waits for: a line of new ones, a line of those whose retry is due
 * (taken in turn, so that neither starves the other), a heap of those that wait for their time, a line of those that another host is to get.
 */
#include <stdlib.h>

#include "qmgr/qmgr_int.h"

void queue_init(struct queue *q)
{
    *q = (struct queue){0};
    TAILQ_INIT(&q->all);
    TAILQ_INIT(&q->incoming);
    TAILQ_INIT(&q->due);
    TAILQ_INIT(&q->requeue);
    TAILQ_INIT(&q->handover);
    TAILQ_INIT(&q->cursors);
}

void queue_fini(struct queue *q)
{
    struct queued *qd;

    while ((qd = TAILQ_FIRST(&q->all)) != NULL)
        queue_forget(q, &qd);
    free(q->heap);
    q->heap = NULL;
    q->heap_cap = 0;
}

uint32_t queue_site(struct slice addr)
{
    ptrdiff_t at = slice_rfind(addr, '@');
    uint32_t h = 2166136261U; /* FNV-1a: a collision costs one look at a message */

    for (size_t i = (size_t) (at + 1); i < addr.len; i++)
        h = (h ^ (uint32_t) ascii_lower((unsigned char) addr.ptr[i])) * 16777619U;
    return h > SITE_SEVERAL ? h : h + SITE_SEVERAL + 1;
}

uint32_t queue_site_of(const struct store_rcpt *rcpts, size_t n)
{
    uint32_t site = SITE_UNKNOWN;

    for (size_t i = 0; i < n && site != SITE_SEVERAL; i++) {
        uint32_t own = queue_site(rcpts[i].r.addr);

        if (!rcpts[i].done)
            site = site == SITE_UNKNOWN || site == own ? own : SITE_SEVERAL;
    }
    return site;
}

/* --- heap -------------------------------------------------------------------------------------- */

static int64_t time_of(const struct queued *qd)
{
    return store_msg_state(qd->m)->next_retry_us;
}

static void heap_place(struct queue *q, size_t i, struct queued *qd)
{
    q->heap[i] = qd;
    qd->heap_at = (uint32_t) i + 1;
}

static void heap_swap(struct queue *q, size_t a, size_t b)
{
    struct queued *qd = q->heap[a];

    heap_place(q, a, q->heap[b]);
    heap_place(q, b, qd);
}

static void heap_fix(struct queue *q, size_t i)
{
    while (i > 0 && time_of(q->heap[i]) < time_of(q->heap[(i - 1) / 2])) {
        heap_swap(q, i, (i - 1) / 2);
        i = (i - 1) / 2;
    }
    for (;;) {
        size_t least = i;

        for (size_t child = 2 * i + 1; child <= 2 * i + 2; child++)
            if (child < q->heap_len && time_of(q->heap[child]) < time_of(q->heap[least]))
                least = child;
        if (least == i)
            return;
        heap_swap(q, i, least);
        i = least;
    }
}

static void heap_add(struct queue *q, struct queued *qd)
{
    if (q->heap_len == q->heap_cap) {
        q->heap_cap = q->heap_cap == 0 ? 64 : q->heap_cap * 2;
        q->heap = xrealloc(q->heap, q->heap_cap * sizeof(struct queued *));
    }
    heap_place(q, q->heap_len++, qd);
    heap_fix(q, q->heap_len - 1);
}

static void heap_remove(struct queue *q, struct queued *qd)
{
    size_t i = qd->heap_at - 1;
    struct queued *last = q->heap[--q->heap_len];

    qd->heap_at = 0;
    if (last != qd) {
        heap_place(q, i, last);
        heap_fix(q, i);
    }
}

/* --- lists ------------------------------------------------------------------------------------- */

struct queued *queue_add(struct queue *q, struct store_msg *m)
{
    struct queued *qd = xcalloc(1, sizeof(*qd));

    qd->m = m;
    qd->where = IN_MOVING; /* in no list yet */
    TAILQ_INSERT_TAIL(&q->all, qd, all);
    q->added++;
    store_msg_set_data(m, qd);
    return qd;
}

static void leave(struct queue *q, struct queued *qd)
{
    switch ((enum where) qd->where) {
    case IN_INCOMING:
        TAILQ_REMOVE(&q->incoming, qd, line);
        break;
    case IN_DUE:
        TAILQ_REMOVE(&q->due, qd, line);
        break;
    case IN_REQUEUE:
        TAILQ_REMOVE(&q->requeue, qd, line);
        break;
    case IN_DEFERRED:
        heap_remove(q, qd);
        break;
    case IN_ACTIVE:
        q->nactive--;
        break;
    case IN_HANDOVER:
        TAILQ_REMOVE(&q->handover, qd, line);
        q->nhandover--;
        break;
    case IN_HOLD:
    case IN_MOVING:
    case IN_CORRUPT:
        break;
    }
}

void queue_place(struct queue *q, struct queued *qd, enum where where)
{
    leave(q, qd);
    qd->where = where;
    switch (where) {
    case IN_INCOMING:
        TAILQ_INSERT_TAIL(&q->incoming, qd, line);
        break;
    case IN_DUE:
        TAILQ_INSERT_TAIL(&q->due, qd, line);
        break;
    case IN_REQUEUE:
        TAILQ_INSERT_TAIL(&q->requeue, qd, line);
        break;
    case IN_DEFERRED:
        heap_add(q, qd);
        break;
    case IN_ACTIVE:
        q->nactive++;
        break;
    case IN_HANDOVER:
        TAILQ_INSERT_TAIL(&q->handover, qd, line);
        q->nhandover++;
        break;
    case IN_HOLD:
    case IN_MOVING:
    case IN_CORRUPT:
        break;
    }
}

void queue_forget(struct queue *q, struct queued **qdp)
{
    struct queued *qd = *qdp;
    struct queue_cursor *c;

    *qdp = NULL;
    leave(q, qd);
    TAILQ_FOREACH(c, &q->cursors, list)
    {
        if (c->next == qd)
            c->next = qd == c->last ? NULL : TAILQ_NEXT(qd, all);
        if (c->last == qd) /* if next is something, it is one before */
            c->last = TAILQ_PREV(qd, queued_list, all);
    }
    TAILQ_REMOVE(&q->all, qd, all);
    free(qd);
}

struct queued *queue_next(struct queue *q, bool retries)
{
    struct queued *due = retries ? TAILQ_FIRST(&q->due) : NULL;
    struct queued *fresh = TAILQ_FIRST(&q->incoming);
    struct queued *qd = fresh == NULL || (due != NULL && q->due_next) ? due : fresh;

    if (qd == NULL)
        return NULL;
    q->due_next = qd == fresh;
    queue_place(q, qd, IN_MOVING);
    return qd;
}

bool queue_take_due(struct queue *q, int64_t wall_us, size_t limit)
{
    while (q->heap_len > 0 && time_of(q->heap[0]) <= wall_us) {
        if (limit-- == 0)
            return true;
        queue_place(q, q->heap[0], IN_DUE);
    }
    return false;
}

/* --- walks ------------------------------------------------------------------------------------- */

void queue_cursor_begin(struct queue *q, struct queue_cursor *c)
{
    c->next = TAILQ_FIRST(&q->all);
    c->last = NULL;
    TAILQ_INSERT_TAIL(&q->cursors, c, list);
}

void queue_cursor_bound(struct queue *q, struct queue_cursor *c)
{
    c->last = TAILQ_LAST(&q->all, queued_list);
}

struct queued *queue_cursor_next(struct queue_cursor *c)
{
    struct queued *qd = c->next;

    if (qd != NULL)
        c->next = qd == c->last ? NULL : TAILQ_NEXT(qd, all);
    return qd;
}

void queue_cursor_end(struct queue *q, struct queue_cursor *c)
{
    TAILQ_REMOVE(&q->cursors, c, list);
}

const char *queue_name(const struct queued *qd)
{
    switch ((enum where)(qd->where == IN_HANDOVER ? qd->was : qd->where)) {
    case IN_INCOMING:
        return "incoming";
    case IN_DUE:
    case IN_DEFERRED:
        return "deferred";
    case IN_ACTIVE:
        return "active";
    case IN_HOLD:
        return "hold";
    case IN_REQUEUE:
        return "maildrop"; /* where Postfix has such mail */
    case IN_CORRUPT:
        return "corrupt";
    case IN_MOVING:
    case IN_HANDOVER: /* what was there before cannot be that */
        return store_msg_queue(qd->m) == STORE_HOLD ? "hold" : "deferred";
    }
    return "deferred";
}
