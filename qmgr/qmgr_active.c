/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_active.c - which messages are being delivered, and how many of their recipients are in memory.
 *
 * qmgr_message_active_limit bounds the messages; those that are tried again have no more than four fifths of it, so that a
 * large backlog that is due (a flush, a site that is back) does not keep new mail waiting. Of their recipients, qmgr_message_recipient_limit are in memory at once: a
 * message's recipients come in parts, the next when there is room; one message has no more than half of the limit, so that
 * another with very many need not wait for its end. qmgr_message_recipient_minimum of a message may come whether there is room or
 * not, if none of it is in memory: so every active message makes progress, and small ones never wait. Nor do large ones for many
 * small ones: half of the limit is theirs in any case.
 */
#include <stdlib.h>

#include "base/log.h"
#include "qmgr/qmgr_int.h"

#define ACTIVATE_A_TURN 128
#define ACTIVATE_US     2000
#define DUE_A_TURN      512
#define RETRY_SHARE     5 /* one of so many active messages is none that is tried again */
#define FEEDS_A_TURN    16
#define FEED_LEAST      100 /* not worth reading fewer, if the message has others in memory */
#define READ_RETRY_S    60
#define RETRY_LATEST_S  (100LL * 86400)
#define ACTIVE_ARENA    1024
#define PART_ARENA      (64U << 10)

/*
 * Found when the process begins. A next attempt that is farther away than any can be was reckoned with a clock that was
 * ahead then: it comes soon instead.
 */
static void place_deferred(struct qmgr *q, struct queued *qd)
{
    const struct qmgr_params *p = &q->gen->p;
    struct store_state s = *store_msg_state(qd->m);
    int64_t now_us = qmgr_now_us(q);
    bool is_far = !map_list_is_empty(q->gen->schedules) || q->suspensions.len > 0;
    int64_t most_s = is_far ? RETRY_LATEST_S : p->maximal_backoff_s;

    if (s.next_retry_us - now_us > most_s * 1000000) {
        s.next_retry_us =
            now_us + retry_backoff_us(0, 1, p->minimal_backoff_s + 1, retry_random(&q->random));
        store_msg_set_state(q->store, qd->m, &s);
    }
    queue_place(&q->queue, qd, IN_DEFERRED);
}

void message_found(void *arg, struct store_msg *m)
{
    struct qmgr *q = arg;
    struct queued *qd = queue_add(&q->queue, m);
    const struct store_state *s = store_msg_state(m);

    if (s->requeue)
        queue_place(&q->queue, qd, IN_REQUEUE);
    else if (store_msg_queue(m) == STORE_HOLD)
        queue_place(&q->queue, qd, IN_HOLD);
    else if (s->attempts == 0 && s->next_retry_us == 0)
        queue_place(&q->queue, qd, IN_INCOMING);
    else
        place_deferred(q, qd);
    qmgr_wake(q);
}

/* --- parts ------------------------------------------------------------------------------------------ */

static void copy(struct arena *a, struct slice *s)
{
    *s = s->len > 0 ? arena_slice(a, *s) : SLICE_EMPTY;
}

/* rcpts: in the reading arena. */
static struct part *part_new(struct active *m, struct arena *a, const struct store_rcpt *rcpts,
                             size_t n)
{
    struct part *p = arena_alloc(a, sizeof(*p));

    p->m = m;
    p->arena = a;
    p->nrcpts = p->pending = n;
    p->stored = arena_alloc(a, (n + 1) * sizeof(*p->stored));
    p->rcpts = arena_alloc(a, (n + 1) * sizeof(*p->rcpts));
    for (size_t i = 0; i < n; i++) {
        struct store_rcpt *s = &p->stored[i];

        *s = rcpts[i];
        copy(a, &s->r.addr);
        copy(a, &s->r.orig);
        copy(a, &s->r.orcpt);
        s->r.code = s->r.reason = SLICE_EMPTY; /* as code and reason */
        copy(a, &s->reason);
        copy(a, &s->code);
        p->rcpts[i] = (struct rcpt){.part = p, .s = s, .addr = s->r.addr, .state = RCPT_WAITING};
    }
    TAILQ_INIT(&p->jobs);
    TAILQ_INSERT_TAIL(&m->parts, p, list);
    m->loaded += n;
    m->qmgr->nrcpts += n;
    if (m->is_large)
        m->qmgr->nlarge += n;
    return p;
}

static void part_free(struct part *p)
{
    struct active *m = p->m;
    struct arena *a = p->arena;

    m->loaded -= p->nrcpts;
    m->qmgr->nrcpts -= p->nrcpts;
    if (m->is_large)
        m->qmgr->nlarge -= p->nrcpts;
    TAILQ_REMOVE(&m->parts, p, list);
    if (a != m->arena)
        arena_free(&a);
}

static void set_feed(struct active *m, enum feed feed)
{
    struct qmgr *q = m->qmgr;

    if (m->feed == FEED_HUNGRY)
        TAILQ_REMOVE(&q->hungry, m, feed_list);
    else if (m->feed == FEED_STARVING)
        TAILQ_REMOVE(&q->starving, m, feed_list);
    m->feed = feed;
    if (feed == FEED_HUNGRY)
        TAILQ_INSERT_TAIL(&q->hungry, m, feed_list);
    else if (feed == FEED_STARVING)
        TAILQ_INSERT_TAIL(&q->starving, m, feed_list);
    if (feed != FEED_NONE)
        qmgr_wake(q);
}

/* How many recipients more a message may have in memory that has `loaded` already; 0: none now. */
static size_t allowance(const struct qmgr *q, size_t loaded)
{
    const struct qmgr_params *p = &q->gen->p;
    int64_t left = p->recipient_limit - (int64_t) q->nrcpts;
    int64_t reserved = p->recipient_limit / 2 - (int64_t) q->nlarge;
    int64_t room = left > reserved ? left : reserved;
    int64_t own = p->recipient_limit / 2 - (int64_t) loaded;
    int64_t n = room < own ? room : own;
    int64_t least = p->recipient_limit / 8 < FEED_LEAST ? p->recipient_limit / 8 : FEED_LEAST;

    if (loaded == 0)
        return (size_t) (n > p->recipient_minimum ? n : p->recipient_minimum);
    return n > 0 && n >= least ? (size_t) n : 0;
}

static bool wants_more(const struct active *m)
{
    return !store_cursor_at_end(&m->cursor) && !message_is_withdrawn(m);
}

/* Reads the next part. */
static void feed(struct active *m, size_t n)
{
    struct qmgr *q = m->qmgr;
    struct store_rcpt *rcpts;
    struct arena *a;
    struct err err = ERR_INIT;

    set_feed(m, FEED_NONE);
    arena_reset(q->reading);
    if (store_msg_read_next(q->store, m->qd->m, q->reading, n, &m->cursor, &rcpts, &n, &err) ==
        -1) {
        log_warning("%.*s: recipients cannot be read: %s", SLICE_FMT(m->env.queue_id), err.text);
        m->cursor.next = m->cursor.total; /* the next attempt finds out what is the matter */
        m->is_left = true;
        n = 0;
    }
    if (n == 0) {
        if (TAILQ_EMPTY(&m->parts))
            message_over(m);
        return;
    }
    m->guard++;
    a = arena_new(PART_ARENA);
    message_begin(part_new(m, a, rcpts, n));
    m->guard--;
    if (wants_more(m))
        set_feed(m, TAILQ_EMPTY(&m->parts) ? FEED_STARVING : FEED_HUNGRY);
    else if (TAILQ_EMPTY(&m->parts))
        message_over(m);
}

bool active_feed(struct qmgr *q)
{
    struct active *m;
    size_t n;

    for (int i = 0; (m = TAILQ_FIRST(&q->starving)) != NULL; i++) {
        if (i == FEEDS_A_TURN)
            return true;
        feed(m, allowance(q, 0));
    }
    for (int i = 0; (m = TAILQ_FIRST(&q->hungry)) != NULL; i++) {
        if (allowance(q, 1) == 0)
            return false; /* the end of a part wakes the pump */
        if (i == FEEDS_A_TURN)
            return true;
        n = allowance(q, m->loaded);
        if (n == 0)
            set_feed(m, FEED_NONE); /* it has enough: the end of one of its parts asks again */
        else
            feed(m, n);
    }
    return false;
}

void active_part_over(struct part *p)
{
    struct active *m = p->m;

    part_free(p);
    qmgr_wake(m->qmgr);
    if (m->guard == 0)
        active_go_on(m);
}

void active_go_on(struct active *m)
{
    if (wants_more(m))
        set_feed(m, TAILQ_EMPTY(&m->parts) ? FEED_STARVING : FEED_HUNGRY);
    else if (TAILQ_EMPTY(&m->parts))
        message_over(m);
}

/* --- messages --------------------------------------------------------------------------------------- */

/* From the reading arena, which holds the whole record, into one that holds what is needed for longer. */
static struct active *active_new(struct qmgr *q, struct queued *qd, struct arena *a,
                                 const struct mail_envelope *env, const struct store_cursor *c)
{
    struct active *m = arena_alloc(a, sizeof(*m));
    struct mail_envelope *e = &m->env;
    bool is_first = store_msg_state(qd->m)->attempts == 0;

    m->qmgr = q;
    m->qd = qd;
    m->arena = a;
    m->cursor = *c;
    *e = *env;
    struct slice *strings[] = {&e->queue_id,    &e->sender,        &e->dsn_envid,   &e->client_name,
                               &e->client_addr, &e->client_port,   &e->helo,        &e->protocol,
                               &e->sasl_method, &e->sasl_username, &e->sasl_sender, &e->filter,
                               &e->redirect,    &e->message_id};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        copy(a, strings[i]);
    e->client_reverse_name = e->tls_comment = e->full_name = e->rewrite_domain = e->log_tag =
        SLICE_EMPTY;
    TAILQ_INIT(&m->parts);
    m->queued_us = (uint64_t) wall_now().us;
    m->retry_after_us = -1;
    m->is_large = c->total > (size_t) q->gen->p.recipient_minimum;
    m->is_flushed = qd->flushed;
    qd->flushed = false;
    m->lane = is_first ? SCHED_FRESH : SCHED_RETRY;
    m->traced = (e->flags & MAIL_PROBE) != 0 || ((e->flags & MAIL_TRACE) != 0 && is_first);
    return m;
}

/* The caller sees to the message. */
static void active_free(struct active *m)
{
    struct arena *a = m->arena;
    struct part *p;

    set_feed(m, FEED_NONE);
    if (m->handover != NULL)
        handover_ends(m);
    while ((p = TAILQ_FIRST(&m->parts)) != NULL)
        part_free(p);
    m->qd->active = NULL;
    arena_free(&a);
}

void message_forget(struct active *m)
{
    struct part *p;

    TAILQ_FOREACH(p, &m->parts, list)
    {
        (void) sched_withdraw(&p->jobs);
    }
    active_free(m);
}

void active_end(struct active **mp)
{
    active_free(*mp);
    *mp = NULL;
}

bool message_is_withdrawn(const struct active *m)
{
    return m->is_withdrawn;
}

void message_withdraw(struct active *m)
{
    struct part *p;
    struct part *next;

    if (m->is_withdrawn)
        return;
    m->is_withdrawn = true;
    set_feed(m, FEED_NONE);
    m->guard++;
    for (p = TAILQ_FIRST(&m->parts); p != NULL; p = next) {
        next = TAILQ_NEXT(p, list);
        if (p->phase == PHASE_RESOLVING)
            continue; /* message_resolved() comes back to it */
        (void) sched_withdraw(&p->jobs);
        for (size_t i = 0; i < p->nrcpts; i++)
            if (p->rcpts[i].state == RCPT_WAITING && p->phase == PHASE_DELIVERING)
                p->pending--;
        message_check(p);
    }
    m->guard--;
    if (TAILQ_EMPTY(&m->parts))
        message_over(m);
}

static void unreadable(struct qmgr *q, struct queued *qd, const struct err *err)
{
    struct store_state s = *store_msg_state(qd->m);

    log_warning("%.*s: cannot be read: %s", SLICE_FMT(store_msg_id(qd->m)), err->text);
    if (err->kind == ERR_PERMANENT) {
        move_message(q, qd, MOVE_CORRUPT, err->text, NULL, NULL);
        return;
    }
    s.next_retry_us = qmgr_now_us(q) + READ_RETRY_S * 1000000LL;
    store_msg_set_state(q->store, qd->m, &s);
    queue_place(&q->queue, qd, IN_DEFERRED);
    qmgr_dirty(q);
}

static bool is_to_be_held(const struct queued *qd, const struct mail_envelope *env)
{
    return ((env->flags & MAIL_HOLD) != 0 && store_msg_queue(qd->m) == STORE_JOURNAL) ||
           store_msg_state(qd->m)->hold;
}

/* False: its record says otherwise, and it was seen to. */
static bool may_be_active(struct qmgr *q, struct queued *qd, const struct mail_envelope *env,
                          struct handover *h)
{
    if (is_to_be_held(qd, env) && (h == NULL || !handover_takes_held(h))) {
        if (h != NULL)
            handover_is_held(h);
        move_message(q, qd, MOVE_HOLD, NULL, NULL, NULL);
        return false;
    }
    if (h != NULL && (env->flags & MAIL_PROBE) != 0) {
        handover_refuse(h, qd, "it only asks what would become of it (sendmail -bv)");
        return false;
    }
    return true;
}

/* qd is in no line. h: see message_hand_over(); NULL: to deliver it. */
static void activate(struct qmgr *q, struct queued *qd, struct handover *h)
{
    struct mail_envelope env;
    struct store_cursor cursor;
    struct store_rcpt *rcpts;
    struct arena *a = arena_new(ACTIVE_ARENA);
    size_t n;
    struct err err = ERR_INIT;
    struct active *m;

    arena_reset(q->reading);
    if (store_msg_read_first(q->store, qd->m, q->reading, a, allowance(q, 0), &env, &cursor, &rcpts,
                             &n, &err) == -1) {
        arena_free(&a);
        if (h != NULL && err.kind != ERR_PERMANENT)
            handover_refuse(h, qd, err.text);
        else
            unreadable(q, qd, &err);
        return;
    }
    if (!may_be_active(q, qd, &env, h)) {
        arena_free(&a);
        return;
    }
    m = active_new(q, qd, a, &env, &cursor);
    qd->active = m;
    if (h != NULL)
        handover_begins(h, m);
    queue_place(&q->queue, qd, IN_ACTIVE);
    log_event(LOG_LEVEL_INFO, "active", m->env.queue_id, LF_ADDR("from", m->env.sender),
              LF_INT("size", (int64_t) m->env.content_bytes),
              LF_INT("nrcpt", (int64_t) cursor.total),
              LF_PAREN("queue", SLICE_LIT("queue active")));
    if (store_msg_state(qd->m)->forced_expire)
        log_event(LOG_LEVEL_INFO, "expired", m->env.queue_id, LF_ADDR("from", m->env.sender),
                  LF_RAW("status", SLICE_LIT("status=force-expired, returned to sender")));
    if (n > 0) {
        /* a large part has chunks of another size, and is let go before the message */
        struct arena *own = store_cursor_at_end(&cursor) ? a : arena_new(PART_ARENA);

        m->guard++;
        message_begin(part_new(m, own, rcpts, n));
        m->guard--;
    }
    if (wants_more(m))
        set_feed(m, TAILQ_EMPTY(&m->parts) ? FEED_STARVING : FEED_HUNGRY);
    else if (TAILQ_EMPTY(&m->parts))
        message_over(m);
}

void message_hand_over(struct qmgr *q, struct queued *qd, struct handover *h)
{
    activate(q, qd, h);
}

bool message_activate_some(struct qmgr *q)
{
    bool more = queue_take_due(&q->queue, qmgr_now_us(q), DUE_A_TURN);
    int64_t until_us = mono_now().us + ACTIVATE_US;
    size_t limit = (size_t) q->gen->p.active_limit;
    size_t retry_limit = limit - limit / RETRY_SHARE;

    for (size_t i = 0; q->queue.nactive < limit; i++) {
        struct queued *qd;

        /* the shorter a turn, the sooner is seen to what comes meanwhile */
        if (i == ACTIVATE_A_TURN || (i % 8 == 7 && mono_now().us > until_us))
            return true;
        qd = queue_next(&q->queue, q->queue.nactive < retry_limit);
        if (qd == NULL)
            return more && q->queue.nactive < retry_limit;
        activate(q, qd, NULL);
    }
    return false; /* the end of a message wakes the pump */
}
