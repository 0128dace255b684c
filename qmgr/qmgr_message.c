/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_message.c - an attempt: resolve, deliver, report, and then removed or deferred. Each part of a message by itself.
 *
 * A part's attempt is over when every recipient of it has an outcome (pending is 0). What was delivered is noted at once, so
 * that a crash repeats only what was on its way.
 */
#include <stdlib.h>

#include "base/log.h"
#include "mail/address.h"
#include "mail/deliver.h"
#include "mail/flow.h"
#include "qmgr/qmgr_int.h"

#define EXPIRED_TEXT      "message is administratively expired"
#define DELAY_DIGITS      2
#define SUSPENDED_MORE_US 1000000 /* then it is over for sure */

void qmgr_dirty(struct qmgr *q)
{
    if (!q->is_dirty) {
        q->is_dirty = true;
        loop_timer_set(q->flush, 5);
    }
}

void message_remove(struct qmgr *q, struct queued *qd)
{
    struct store_msg *m = qd->m;

    log_info("%.*s: removed", SLICE_FMT(store_msg_id(m)));
    queue_forget(&q->queue, &qd);
    store_msg_remove(q->store, &m);
    qmgr_dirty(q);
}

/* --- the beginning ------------------------------------------------------------------------------------ */

/* Every recipient that is left fails for good: with the reason that it was delayed for, if there is one. */
static void force_expire(struct part *p)
{
    for (size_t i = 0; i < p->nrcpts; i++) {
        struct rcpt *r = &p->rcpts[i];
        bool has_reason = r->s->reason.len > 0;

        if (r->state == RCPT_DONE)
            continue;
        r->status = arena_alloc(p->arena, sizeof(*r->status));
        *r->status = (struct dsn_status){
            .outcome = OUTCOME_EXPIRED,
            .code = has_reason ? r->s->code : SLICE_LIT("5.7.0"),
            .text = has_reason ? r->s->reason : SLICE_LIT(EXPIRED_TEXT),
        };
        r->state = RCPT_FAILED;
    }
    p->pending = 0;
}

/* REDIRECT: one recipient stands for all. */
static void redirect(struct part *p)
{
    struct active *m = p->m;

    for (size_t i = 0; i < p->nrcpts; i++) {
        struct rcpt *r = &p->rcpts[i];

        if (r->state != RCPT_WAITING)
            continue;
        if (!m->is_redirected) {
            r->addr = m->env.redirect;
        } else {
            r->state = RCPT_DONE;
            p->pending--;
            store_rcpt_done(m->qmgr->store, m->qd->m, r->s->r.index);
        }
        m->is_redirected = true;
    }
}

void message_begin(struct part *p)
{
    struct active *m = p->m;

    if (store_msg_state(m->qd->m)->forced_expire)
        force_expire(p);
    else if (m->env.redirect.len > 0)
        redirect(p);
    if (p->pending > 0) {
        resolve_message(p);
    } else {
        p->phase = PHASE_DELIVERING;
        message_check(p);
    }
}

void message_resolved(struct part *p)
{
    p->phase = PHASE_DELIVERING;
    if (message_is_withdrawn(p->m)) {
        for (size_t i = 0; i < p->nrcpts; i++)
            if (p->rcpts[i].state == RCPT_WAITING)
                p->pending--;
        message_check(p);
    } else {
        deliver_message(p);
    }
}

/* --- outcomes ---------------------------------------------------------------------------------- */

static void copy(struct arena *a, struct slice *s)
{
    *s = s->len > 0 ? arena_slice(a, *s) : SLICE_EMPTY;
}

static struct dsn_status *keep_status(struct part *p, const struct dsn_status *status)
{
    struct dsn_status *s = arena_alloc(p->arena, sizeof(*s));

    *s = *status;
    struct slice *strings[] = {&s->code,      &s->text,     &s->diag_type,
                               &s->diag_text, &s->mta_name, &s->relay};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        copy(p->arena, strings[i]);
    return s;
}

/* A probe's outcome is for the report alone; nothing of it is noted before that. */
static void probe_outcome(struct part *p, struct rcpt *r, const struct dsn_status *status)
{
    r->state = RCPT_DONE;
    r->status = keep_status(p, status);
    r->traced = true;
}

/* Was its sender told of its delay, and is now to be told that it is over? Another host may have it wait on. */
static bool clears_delay(const struct active *m, const struct rcpt *r)
{
    return m->handover == NULL && m->qmgr->gen->p.confirm_delay_cleared &&
           store_msg_state(m->qd->m)->warned && report_of_delay_wanted(r);
}

void message_outcome(struct part *p, struct rcpt *r, const struct dsn_status *status)
{
    struct active *m = p->m;
    struct store *store = m->qmgr->store;

    p->pending--;
    r->request = NULL;
    if ((m->env.flags & MAIL_PROBE) != 0) {
        probe_outcome(p, r, status);
        return;
    }
    if (m->handover != NULL && status->outcome != OUTCOME_SENT) {
        r->state = RCPT_DEFERRED; /* with the code and reason that it has */
        handover_kept(m, r, status->text);
        return;
    }
    r->traced = m->traced;
    switch (status->outcome) {
    case OUTCOME_SENT:
        r->state = RCPT_DONE;
        r->report_success =
            ((r->s->r.notify & DSN_NOTIFY_SUCCESS) != 0 && !status->notify_passed) ||
            clears_delay(m, r);
        if (r->report_success || r->traced)
            r->status = keep_status(p, status);
        /* the removal of the whole, in this same turn, says as much */
        if (m->cursor.total > 1 || r->report_success || r->traced)
            store_rcpt_done(store, m->qd->m, r->s->r.index);
        break;
    case OUTCOME_BOUNCED:
    case OUTCOME_EXPIRED:
        r->state = RCPT_FAILED;
        r->status = keep_status(p, status);
        break;
    case OUTCOME_DEFERRED:
    case OUTCOME_UNCERTAIN:
        r->state = RCPT_DEFERRED;
        r->status = keep_status(p, status);
        r->s->code = r->status->code;
        r->s->reason = r->status->text;
        store_rcpt_deferred(store, m->qd->m, r->s->r.index, status->code, status->text);
        break;
    }
    qmgr_dirty(m->qmgr);
}

void message_defer_here(struct part *p, struct rcpt *r, struct slice code, struct slice text)
{
    const struct active *m = p->m;
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
    message_outcome(p, r, &status);
}

/* --- the end of an attempt ---------------------------------------------------------------------- */

static size_t count_state(const struct part *p, enum rcpt_state state)
{
    size_t n = 0;

    for (size_t i = 0; i < p->nrcpts; i++)
        n += p->rcpts[i].state == state;
    return n;
}

/* Deferred recipients whose retry schedule is over at this age fail; INT64_MAX: all do. True: there were some. */
static bool expire(struct part *p, int64_t age_us)
{
    bool any = false;

    for (size_t i = 0; i < p->nrcpts; i++) {
        struct rcpt *r = &p->rcpts[i];

        if (r->state != RCPT_DEFERRED)
            continue;
        if (age_us != INT64_MAX &&
            (r->schedule == NULL || retry_schedule_us(r->schedule, age_us, 0) >= 0))
            continue;
        r->state = RCPT_FAILED;
        r->status->outcome = OUTCOME_EXPIRED;
        any = true;
    }
    return any;
}

static int64_t lifetime_us(const struct active *m)
{
    const struct qmgr_params *params = &m->qmgr->gen->p;
    bool is_bounce = m->env.sender.len == 0 || (m->env.flags & MAIL_BOUNCE) != 0;

    return (is_bounce ? params->bounce_lifetime_s : params->maximal_lifetime_s) * 1000000;
}

/* Those that were deferred once too often fail; or the sender hears of the delay. */
static void check_age(struct part *p)
{
    struct active *m = p->m;
    const struct qmgr_params *params = &m->qmgr->gen->p;
    const struct store_state *s = store_msg_state(m->qd->m);
    bool forced = s->forced_expire;
    int64_t age_us = qmgr_age_us(m->qmgr, &m->env);

    if (count_state(p, RCPT_DEFERRED) == 0)
        return;
    if (age_us > lifetime_us(m) || forced) {
        log_event(LOG_LEVEL_INFO, "expired", m->env.queue_id, LF_ADDR("from", m->env.sender),
                  LF_TEXT("status", slice_str(forced ? "force-expired" : "expired")),
                  LF_RAW("what", SLICE_LIT("returned to sender")));
        (void) expire(p, INT64_MAX);
        return;
    }
    if (expire(p, age_us))
        log_event(LOG_LEVEL_INFO, "expired", m->env.queue_id, LF_ADDR("from", m->env.sender),
                  LF_TEXT("status", SLICE_LIT("expired")),
                  LF_RAW("what", SLICE_LIT("retry schedule is over, returned to sender")));
    if (!m->delay_judged) {
        m->delay_judged = true;
        m->delay_due =
            params->delay_warning_s > 0 && !s->warned && age_us > params->delay_warning_s * 1000000;
    }
    p->delay_report = m->delay_due;
}

void message_check(struct part *p)
{
    if (p->pending > 0 || p->requests > 0 || p->phase != PHASE_DELIVERING)
        return;
    p->phase = PHASE_REPORTING;
    if (p->m->wants_delete) {
        message_conclude(p);
        return;
    }
    if (!message_is_withdrawn(p->m) && p->m->handover == NULL)
        check_age(p);
    report_message(p);
}

/* What is suspended is not tried before that is over; but it may get too old meanwhile, or its sender be told of the delay. */
static int64_t suspended_us(const struct active *m, const struct rcpt *r, int64_t age_us)
{
    int64_t warning_us = m->qmgr->gen->p.delay_warning_s * 1000000;
    int64_t after_us = r->suspended_until_us - wall_now().us;

    if (lifetime_us(m) - age_us < after_us)
        after_us = lifetime_us(m) - age_us;
    if (warning_us > 0 && !store_msg_state(m->qd->m)->warned && !m->delay_due &&
        warning_us - age_us < after_us)
        after_us = warning_us - age_us;
    return (after_us > 0 ? after_us : 0) + SUSPENDED_MORE_US;
}

/* How long until the part's recipients are due: of the first of them. */
static int64_t retry_after_us(const struct part *p)
{
    struct qmgr *q = p->m->qmgr;
    const struct qmgr_params *params = &q->gen->p;
    int64_t age_us = qmgr_age_us(q, &p->m->env);
    uint32_t random = retry_random(&q->random); /* one for all, so that they stay together */
    int64_t least_us = -1;

    for (size_t i = 0; i < p->nrcpts; i++) {
        const struct rcpt *r = &p->rcpts[i];
        int64_t after_us = -1;

        if (r->state != RCPT_DEFERRED)
            continue;
        if (r->suspended_until_us != 0)
            after_us = suspended_us(p->m, r, age_us);
        else if (r->schedule != NULL)
            after_us = retry_schedule_us(r->schedule, age_us, random);
        if (after_us == -1)
            after_us = retry_backoff_us(age_us, params->minimal_backoff_s,
                                        params->maximal_backoff_s, random);
        if (least_us == -1 || after_us < least_us)
            least_us = after_us;
    }
    return least_us;
}

/* For the next flush of one site. */
static void note_sites(const struct part *p)
{
    for (size_t i = 0; i < p->nrcpts && p->m->site != SITE_SEVERAL; i++) {
        uint32_t site = queue_site(p->rcpts[i].s->r.addr);

        if (p->rcpts[i].state == RCPT_DONE)
            continue;
        p->m->site = p->m->site == SITE_UNKNOWN || p->m->site == site ? site : SITE_SEVERAL;
    }
}

void message_conclude(struct part *p)
{
    struct active *m = p->m;
    int64_t after_us = retry_after_us(p);

    if (count_state(p, RCPT_DONE) < p->nrcpts)
        m->is_left = true;
    if (after_us != -1 && (m->retry_after_us == -1 || after_us < m->retry_after_us))
        m->retry_after_us = after_us;
    note_sites(p);
    active_part_over(p);
}

static bool is_deferred(const struct rcpt *r, bool some_given_up)
{
    switch ((enum rcpt_state) r->state) {
    case RCPT_WAITING:
        return some_given_up || slice_eq_str(r->transport, "retry");
    case RCPT_INFLIGHT:
        return slice_eq_str(r->transport, "retry");
    case RCPT_DEFERRED:
        return true;
    case RCPT_DONE:
    case RCPT_FAILED:
        break;
    }
    return false;
}

bool message_ask(struct active *m, const char *site)
{
    struct part *p;

    if (m->handover != NULL || m->is_withdrawn)
        return false;
    /* of parts that are over nothing is known here but that */
    m->is_asked_again |= m->is_left;
    TAILQ_FOREACH(p, &m->parts, list)
    {
        bool some_given_up = sched_is_given_up(&p->jobs);

        /* else a helper has its recipients, and nothing was decided yet */
        for (size_t i = 0; p->phase != PHASE_RESOLVING && i < p->nrcpts && !m->is_asked_again; i++)
            m->is_asked_again =
                is_deferred(&p->rcpts[i], some_given_up) &&
                (site == NULL || slice_caseeq_str(address_domain(p->rcpts[i].s->r.addr), site));
    }
    return m->is_asked_again;
}

static void set_next_attempt(struct active *m)
{
    struct qmgr *q = m->qmgr;
    struct store_state s = *store_msg_state(m->qd->m);
    int64_t after_us = m->retry_after_us;

    if (after_us == -1) /* withdrawn before it was tried */
        after_us = retry_backoff_us(0, q->gen->p.minimal_backoff_s, q->gen->p.maximal_backoff_s,
                                    retry_random(&q->random));
    if (m->is_suspended && m->suspended_at != q->suspensions_ended)
        after_us = 0; /* one ended meanwhile: maybe its own */
    if ((s.forced_expire && m->is_withdrawn) || m->is_asked_again)
        after_us = 0; /* it was wished for too late for this one */
    s.attempts++;
    s.next_retry_us = qmgr_now_us(q) + after_us;
    store_msg_set_state(q->store, m->qd->m, &s);
}

/* The attempt was none: the message stays as it was. */
static void keep_state(struct active *m)
{
    struct store_state s = *store_msg_state(m->qd->m);

    if (s.forced_expire) /* wished for meanwhile */
        s.next_retry_us = qmgr_now_us(m->qmgr);
    store_msg_set_state(m->qmgr->store, m->qd->m, &s);
}

/* Where a message goes that was not delivered, in this attempt to do so. */
static enum where after_attempt(struct active *m)
{
    const struct store_state *s = store_msg_state(m->qd->m);
    bool was_tried = m->ends_for == 0 || m->retry_after_us != -1;
    enum where where;

    if (was_tried)
        set_next_attempt(m);
    else
        keep_state(m);
    where = s->attempts == 0 && s->next_retry_us == 0 ? IN_INCOMING : IN_DEFERRED;
    if (handover_waited_for(m->qmgr, m) && !m->wants_hold && !m->wants_requeue) {
        m->qd->was = (uint8_t) where;
        where = IN_HANDOVER;
    }
    return where;
}

void message_over(struct active *m)
{
    struct qmgr *q = m->qmgr;
    struct queued *qd = m->qd;
    bool hold = m->wants_hold;
    bool requeue = m->wants_requeue;
    bool done = !m->is_left && store_cursor_at_end(&m->cursor);
    bool over = m->wants_delete || done;
    enum where where = IN_DEFERRED;

    if (m->handover != NULL) {
        handover_result(m, done, !over && !hold && !requeue);
        if (!over)
            keep_state(m);
        where = handover_back(m->handover, qd);
    } else if (over) {
        (void) handover_waited_for(q, m);
    } else {
        where = after_attempt(m);
        qd->flushed = m->is_asked_again && where == IN_DEFERRED;
    }
    qd->site = store_cursor_at_end(&m->cursor) ? m->site : SITE_UNKNOWN;
    active_end(&m);
    flow_left();
    if (over) {
        message_remove(q, qd);
    } else if (requeue) {
        queue_place(&q->queue, qd, IN_REQUEUE);
        qmgr_dirty(q);
    } else if (hold) {
        queue_place(&q->queue, qd, IN_MOVING);
        move_message(q, qd, MOVE_HOLD, NULL, NULL, NULL);
    } else {
        queue_place(&q->queue, qd, where);
        qmgr_dirty(q);
    }
    qmgr_wake(q);
}
