/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_message.c - a message's attempt: read, resolve, deliver, report, and then removed or deferred.
 *
 * An attempt is over when every recipient has an outcome (pending is 0). What was delivered is noted at once, so
 * that a crash repeats only what was on its way.
 */
#include <stdlib.h>

#include "base/log.h"
#include "mail/deliver.h"
#include "qmgr/qmgr_int.h"

#define ACTIVATE_A_TURN 128
#define DUE_A_TURN      512
#define READ_RETRY_S    60
#define RETRY_LATEST_S  (100LL * 86400)
#define ACTIVE_ARENA    1024
#define EXPIRED_TEXT    "message is administratively expired"
#define DELAY_DIGITS    2

void qmgr_dirty(struct qmgr *q)
{
    if (!q->is_dirty) {
        q->is_dirty = true;
        loop_timer_set(q->flush, 5);
    }
}

/*
 * Found when the process begins. A next attempt that is farther away than any can be was reckoned with a clock that was
 * ahead then: it comes soon instead.
 */
static void place_deferred(struct qmgr *q, struct queued *qd)
{
    const struct qmgr_params *p = &q->gen->p;
    struct store_state s = *store_msg_state(qd->m);
    int64_t now_us = qmgr_now_us(q);
    int64_t most_s = map_list_is_empty(q->gen->schedules) ? p->maximal_backoff_s : RETRY_LATEST_S;

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

    if (store_msg_queue(m) == STORE_HOLD)
        queue_place(&q->queue, qd, IN_HOLD);
    else if (s->attempts == 0 && s->next_retry_us == 0)
        queue_place(&q->queue, qd, IN_INCOMING);
    else
        place_deferred(q, qd);
    qmgr_wake(q);
}

void message_remove(struct qmgr *q, struct queued *qd)
{
    struct store_msg *m = qd->m;

    log_info("%.*s: removed", SLICE_FMT(store_msg_id(m)));
    queue_forget(&q->queue, &qd);
    store_msg_remove(q->store, &m);
    qmgr_dirty(q);
}

/* --- becoming active --------------------------------------------------------------------------- */

static void copy(struct arena *a, struct slice *s)
{
    *s = s->len > 0 ? arena_slice(a, *s) : SLICE_EMPTY;
}

/* From the reading arena, which holds the whole record, into one that holds what is needed for longer. */
static struct active *active_new(struct qmgr *q, struct queued *qd, const struct mail_envelope *env,
                                 const struct store_rcpt *rcpts, size_t n)
{
    struct arena *a = arena_new(ACTIVE_ARENA);
    struct active *m = arena_alloc(a, sizeof(*m));
    struct mail_envelope *e = &m->env;

    m->qmgr = q;
    m->qd = qd;
    m->arena = a;
    *e = *env;
    struct slice *strings[] = {&e->queue_id,    &e->sender,        &e->dsn_envid,   &e->client_name,
                               &e->client_addr, &e->client_port,   &e->helo,        &e->protocol,
                               &e->sasl_method, &e->sasl_username, &e->sasl_sender, &e->filter,
                               &e->redirect,    &e->message_id};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        copy(a, strings[i]);
    e->client_reverse_name = e->tls_comment = e->full_name = e->rewrite_domain = e->log_tag =
        SLICE_EMPTY;
    m->nrcpts = n;
    m->stored = arena_alloc(a, (n + 1) * sizeof(*m->stored));
    m->rcpts = arena_alloc(a, (n + 1) * sizeof(*m->rcpts));
    for (size_t i = 0; i < n; i++) {
        struct store_rcpt *s = &m->stored[i];

        *s = rcpts[i];
        copy(a, &s->r.addr);
        copy(a, &s->r.orig);
        copy(a, &s->r.orcpt);
        copy(a, &s->reason);
        copy(a, &s->code);
        m->rcpts[i] = (struct rcpt){
            .active = m, .s = s, .addr = s->r.addr, .state = s->done ? RCPT_DONE : RCPT_WAITING};
        if (!s->done)
            m->pending++;
    }
    TAILQ_INIT(&m->jobs);
    m->queued_us = (uint64_t) wall_now().us;
    m->lane = store_msg_state(qd->m)->attempts == 0 ? SCHED_FRESH : SCHED_RETRY;
    m->traced = (e->flags & MAIL_PROBE) != 0 ||
                ((e->flags & MAIL_TRACE) != 0 && store_msg_state(qd->m)->attempts == 0);
    return m;
}

static void active_free(struct active *m)
{
    struct arena *a = m->arena;

    m->qmgr->nrcpts -= m->nrcpts;
    m->qd->active = NULL;
    arena_free(&a);
}

void message_forget(struct active *m)
{
    (void) sched_withdraw(&m->jobs);
    active_free(m);
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

/* Every recipient that is left fails for good: with the reason that it was delayed for, if there is one. */
static void force_expire(struct active *m)
{
    for (size_t i = 0; i < m->nrcpts; i++) {
        struct rcpt *r = &m->rcpts[i];
        bool has_reason = r->s->reason.len > 0;

        if (r->state == RCPT_DONE)
            continue;
        r->status = arena_alloc(m->arena, sizeof(*r->status));
        *r->status = (struct dsn_status){
            .outcome = OUTCOME_EXPIRED,
            .code = has_reason ? r->s->code : SLICE_LIT("5.7.0"),
            .text = has_reason ? r->s->reason : SLICE_LIT(EXPIRED_TEXT),
        };
        r->state = RCPT_FAILED;
    }
    m->pending = 0;
    m->expired = true;
    log_info("%.*s: from=<%.*s>, status=force-expired, returned to sender",
             SLICE_FMT(m->env.queue_id), SLICE_FMT(m->env.sender));
}

/* REDIRECT: one recipient stands for all. */
static void redirect(struct active *m)
{
    bool first = true;

    for (size_t i = 0; i < m->nrcpts; i++) {
        struct rcpt *r = &m->rcpts[i];

        if (r->state != RCPT_WAITING)
            continue;
        if (first) {
            r->addr = m->env.redirect;
        } else {
            r->state = RCPT_DONE;
            m->pending--;
            store_rcpt_done(m->qmgr->store, m->qd->m, (uint32_t) i);
        }
        first = false;
    }
}

/* qd is in no line. False: there is no room for it, or for anything more, now. */
static void activate(struct qmgr *q, struct queued *qd)
{
    struct mail_envelope env;
    struct store_rcpt *rcpts;
    size_t n;
    struct err err = ERR_INIT;
    struct active *m;

    arena_reset(q->reading);
    if (store_msg_read(q->store, qd->m, q->reading, &env, &rcpts, &n, &err) == -1) {
        unreadable(q, qd, &err);
        return;
    }
    if ((env.flags & MAIL_HOLD) != 0 && store_msg_queue(qd->m) == STORE_JOURNAL) {
        move_message(q, qd, MOVE_HOLD, NULL, NULL, NULL);
        return;
    }
    if (n > (size_t) q->gen->p.recipient_minimum && q->queue.nactive > 0 &&
        q->nrcpts + n > (size_t) q->gen->p.recipient_limit) {
        queue_place(&q->queue, qd, IN_BULK);
        return;
    }
    m = active_new(q, qd, &env, rcpts, n);
    qd->active = m;
    q->nrcpts += n;
    queue_place(&q->queue, qd, IN_ACTIVE);
    log_event(LOG_LEVEL_INFO, "active", m->env.queue_id, LF_ADDR("from", m->env.sender),
              LF_INT("size", (int64_t) m->env.content_bytes), LF_INT("nrcpt", (int64_t) n),
              LF_PAREN("queue", SLICE_LIT("queue active")));
    if (store_msg_state(qd->m)->forced_expire)
        force_expire(m);
    else if (m->env.redirect.len > 0)
        redirect(m);
    if (m->pending > 0) {
        resolve_message(m);
    } else {
        m->phase = PHASE_DELIVERING;
        message_check(m);
    }
}

bool message_activate_some(struct qmgr *q)
{
    bool more = queue_take_due(&q->queue, qmgr_now_us(q), DUE_A_TURN);

    for (size_t i = 0; q->queue.nactive < (size_t) q->gen->p.active_limit; i++) {
        bool room = q->nrcpts < (size_t) q->gen->p.recipient_limit;
        struct queued *qd;

        if (i == ACTIVATE_A_TURN)
            return true;
        qd = queue_next(&q->queue, room);
        if (qd == NULL)
            return more;
        activate(q, qd);
    }
    return false; /* the end of a message wakes the pump */
}

void message_resolved(struct active *m)
{
    m->phase = PHASE_DELIVERING;
    if (m->wants_delete || m->wants_hold)
        message_withdraw(m);
    else
        deliver_message(m);
}

/* --- outcomes ---------------------------------------------------------------------------------- */

static struct dsn_status *keep_status(struct active *m, const struct dsn_status *status)
{
    struct dsn_status *s = arena_alloc(m->arena, sizeof(*s));

    *s = *status;
    struct slice *strings[] = {&s->code,      &s->text,     &s->diag_type,
                               &s->diag_text, &s->mta_name, &s->relay};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        copy(m->arena, strings[i]);
    return s;
}

/* A probe's outcome is for the report alone; nothing of it is noted before that. */
static void probe_outcome(struct active *m, struct rcpt *r, const struct dsn_status *status)
{
    r->state = RCPT_DONE;
    r->status = keep_status(m, status);
    r->traced = true;
}

void message_outcome(struct active *m, struct rcpt *r, const struct dsn_status *status)
{
    struct store *store = m->qmgr->store;

    m->pending--;
    r->request = NULL;
    if ((m->env.flags & MAIL_PROBE) != 0) {
        probe_outcome(m, r, status);
        return;
    }
    r->traced = m->traced;
    switch (status->outcome) {
    case OUTCOME_SENT:
        r->state = RCPT_DONE;
        r->report_success = (r->s->r.notify & DSN_NOTIFY_SUCCESS) != 0 && !status->notify_passed;
        if (r->report_success || r->traced)
            r->status = keep_status(m, status);
        /* the removal of the whole, in this same turn, says as much */
        if (m->nrcpts > 1 || r->report_success || r->traced)
            store_rcpt_done(store, m->qd->m, r->s->r.index);
        break;
    case OUTCOME_BOUNCED:
    case OUTCOME_EXPIRED:
        r->state = RCPT_FAILED;
        r->status = keep_status(m, status);
        break;
    case OUTCOME_DEFERRED:
    case OUTCOME_UNCERTAIN:
        r->state = RCPT_DEFERRED;
        r->status = keep_status(m, status);
        r->s->code = r->status->code;
        r->s->reason = r->status->text;
        store_rcpt_deferred(store, m->qd->m, r->s->r.index, status->code, status->text);
        break;
    }
    qmgr_dirty(m->qmgr);
}

void message_defer_here(struct active *m, struct rcpt *r, struct slice code, struct slice text)
{
    struct dsn_status status = {.outcome = OUTCOME_DEFERRED, .code = code, .text = text};
    struct buf delay = BUF_INIT(64);
    struct buf delays = BUF_INIT(128);
    int64_t now = wall_now().us;

    deliver_delay_print(now - (int64_t) m->env.arrival_us, DELAY_DIGITS, &delay);
    deliver_delay_print((int64_t) (m->queued_us - m->env.arrival_us), DELAY_DIGITS, &delays);
    buf_putc(&delays, '/');
    deliver_delay_print(now - (int64_t) m->queued_us, DELAY_DIGITS, &delays);
    buf_puts(&delays, "/0/0");
    log_event(LOG_LEVEL_INFO, "delivery", m->env.queue_id, LF_ADDR("to", r->addr),
              LF_OPT_ADDR("orig_to", slice_eq(r->s->r.orig, r->addr) ? SLICE_EMPTY : r->s->r.orig),
              LF_TEXT("relay", SLICE_LIT("none")), LF_TEXT("delay", buf_view(&delay)),
              LF_TEXT("delays", buf_view(&delays)), LF_TEXT("dsn", code),
              LF_TEXT("status", slice_str(deliver_status_name(m->env.flags, OUTCOME_DEFERRED))),
              LF_PAREN("text", text));
    buf_fini(&delay);
    buf_fini(&delays);
    message_outcome(m, r, &status);
}

void message_withdraw(struct active *m)
{
    if (m->phase == PHASE_RESOLVING)
        return; /* message_resolved() comes back to it */
    (void) sched_withdraw(&m->jobs);
    for (size_t i = 0; i < m->nrcpts; i++)
        if (m->rcpts[i].state == RCPT_WAITING && m->phase == PHASE_DELIVERING)
            m->pending--;
    message_check(m);
}

/* --- the end of an attempt ---------------------------------------------------------------------- */

static size_t count_state(const struct active *m, enum rcpt_state state)
{
    size_t n = 0;

    for (size_t i = 0; i < m->nrcpts; i++)
        n += m->rcpts[i].state == state;
    return n;
}

/* Deferred recipients whose retry schedule is over at this age fail; INT64_MAX: all do. True: there were some. */
static bool expire(struct active *m, int64_t age_us)
{
    bool any = false;

    for (size_t i = 0; i < m->nrcpts; i++) {
        struct rcpt *r = &m->rcpts[i];

        if (r->state != RCPT_DEFERRED)
            continue;
        if (age_us != INT64_MAX &&
            (r->schedule == NULL || retry_schedule_us(r->schedule, age_us, 0) >= 0))
            continue;
        r->state = RCPT_FAILED;
        r->status->outcome = OUTCOME_EXPIRED;
        any = true;
    }
    m->expired |= any;
    return any;
}

/* Those that were deferred once too often fail; or the sender hears of the delay. */
static void check_age(struct active *m)
{
    const struct qmgr_params *p = &m->qmgr->gen->p;
    const struct store_state *s = store_msg_state(m->qd->m);
    bool forced = s->forced_expire || m->wants_expire;
    int64_t age_us = qmgr_age_us(m->qmgr, &m->env);
    bool is_bounce = m->env.sender.len == 0 || (m->env.flags & MAIL_BOUNCE) != 0;
    int64_t lifetime_s = is_bounce ? p->bounce_lifetime_s : p->maximal_lifetime_s;

    if (count_state(m, RCPT_DEFERRED) == 0)
        return;
    if (age_us > lifetime_s * 1000000 || forced) {
        log_info("%.*s: from=<%.*s>, status=%s, returned to sender", SLICE_FMT(m->env.queue_id),
                 SLICE_FMT(m->env.sender), forced ? "force-expired" : "expired");
        expire(m, INT64_MAX);
        return;
    }
    if (expire(m, age_us))
        log_info("%.*s: from=<%.*s>, status=expired, retry schedule is over, returned to sender",
                 SLICE_FMT(m->env.queue_id), SLICE_FMT(m->env.sender));
    if (p->delay_warning_s > 0 && !s->warned && age_us > p->delay_warning_s * 1000000) {
        m->delay_report = true;
    }
}

void message_check(struct active *m)
{
    if (m->pending > 0 || m->requests > 0 || m->phase != PHASE_DELIVERING)
        return;
    m->phase = PHASE_REPORTING;
    if (m->wants_delete) {
        message_conclude(m);
        return;
    }
    if (!m->wants_hold)
        check_age(m);
    report_message(m);
}

static void set_next_attempt(struct active *m)
{
    struct qmgr *q = m->qmgr;
    const struct qmgr_params *p = &q->gen->p;
    struct store_state s = *store_msg_state(m->qd->m);
    int64_t age_us = qmgr_age_us(q, &m->env);
    uint32_t random = retry_random(&q->random); /* one for all, so that they stay together */
    int64_t delay_us = -1;

    for (size_t i = 0; i < m->nrcpts; i++) {
        const struct rcpt *r = &m->rcpts[i];
        int64_t after_us = -1;

        if (r->state != RCPT_DEFERRED)
            continue;
        if (r->schedule != NULL)
            after_us = retry_schedule_us(r->schedule, age_us, random);
        if (after_us == -1)
            after_us = retry_backoff_us(age_us, p->minimal_backoff_s, p->maximal_backoff_s, random);
        if (delay_us == -1 || after_us < delay_us)
            delay_us = after_us;
    }
    if (delay_us == -1)
        delay_us = retry_backoff_us(age_us, p->minimal_backoff_s, p->maximal_backoff_s, random);
    s.attempts++;
    s.next_retry_us = qmgr_now_us(q) + delay_us;
    store_msg_set_state(q->store, m->qd->m, &s);
}

void message_conclude(struct active *m)
{
    struct qmgr *q = m->qmgr;
    struct queued *qd = m->qd;
    bool hold = m->wants_hold;
    bool over = m->wants_delete || count_state(m, RCPT_DONE) == m->nrcpts;

    if (!over)
        set_next_attempt(m);
    active_free(m);
    if (over) {
        message_remove(q, qd);
    } else if (hold) {
        queue_place(&q->queue, qd, IN_MOVING);
        move_message(q, qd, MOVE_HOLD, NULL, NULL, NULL);
    } else {
        queue_place(&q->queue, qd, IN_DEFERRED);
        qmgr_dirty(q);
    }
    qmgr_wake(q);
}
