/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_deliver_line.c - recipients get in line for their transport and next hop; or they are deferred without an attempt, because
 * the destination is dead, the service is suspended, or an administrator said so.
 *
 * When a destination dies, or a service is suspended, all that waits for it is given up at once, but deferred in pieces
 * between other work: there may be thousands, and each costs a request to the retry service. Until its turn comes it is
 * active as before: it can be withdrawn, suspended, listed; if the process ends, it stays in the queue as it was.
 */
#include "qmgr/qmgr_deliver_int.h"

#define DEFER_CODE      "4.3.2"
#define DEFER_TEXT      "deferred transport"
#define GIVEN_UP_A_TURN 256
#define GIVEN_UP_US     1000

static void put_in_line(struct part *p, struct rcpt *r);

/*
 * Has the deferral logged by the retry service, or does it here if that is out of order. What is to be handed over stays as it is; it
 * comes here only because its one next hop was given up.
 */
static void defer(struct part *p, struct rcpt *r, struct slice code, struct slice text)
{
    struct agents *retry = agents_of(p->m->qmgr, SLICE_LIT("retry"));

    if (p->m->handover != NULL) {
        handover_stop(p->m->handover, text);
        message_outcome(p, r, &(struct dsn_status){.outcome = OUTCOME_DEFERRED});
        return;
    }
    if (code.len == 0)
        code = SLICE_LIT("4.3.0");
    text = slice_sub(text, 0, 1000);
    if (retry->suspended_until.us != 0 || slice_eq_str(r->transport, "retry") ||
        slice_eq_str(r->transport, "error")) {
        message_defer_here(p, r, code, text);
        return;
    }
    r->transport = SLICE_LIT("retry");
    r->nexthop = slice_str(arena_printf(p->arena, "%.*s %.*s", SLICE_FMT(code), SLICE_FMT(text)));
    put_in_line(p, r);
}

static void defer_dead(struct part *p, struct rcpt *r, const struct sched_dest *d)
{
    struct slice reason = sched_dest_reason_text(d);

    if (p->m->handover == NULL)
        reason = slice_str(
            arena_printf(p->arena, "delivery temporarily suspended: %.*s", SLICE_FMT(reason)));
    defer(p, r, sched_dest_reason_code(d), reason);
}

/* It is logged once, and again when somebody has asked for the attempt or the suspension says something else. */
static void put_suspended(struct part *p, struct rcpt *r, const struct suspension *s)
{
    struct dsn_status status = {.outcome = OUTCOME_DEFERRED, .code = SLICE_LIT(DEFER_CODE)};

    p->m->is_suspended = true;
    p->m->suspended_at = p->m->qmgr->suspensions_ended;
    r->suspended_until_us = s->until_us;
    status.text = slice_str(suspension_text(s, p->arena));
    if (slice_eq(r->s->reason, status.text) && !p->m->is_flushed)
        message_outcome(p, r, &status);
    else
        defer(p, r, status.code, status.text);
}

static void add_to_dest(const struct agents *a, struct sched_dest *d, struct part *p,
                        struct rcpt *r)
{
    sched_add(d, &p->jobs, p, p->m->lane, &r->line);
    if (p->m->handover == NULL)
        clog_check(a, d);
}

static void put_in_line(struct part *p, struct rcpt *r)
{
    struct agents *a = agents_of(p->m->qmgr, r->transport);
    const struct suspension *s = suspend_of(p, r);
    struct sched_dest *d;

    if (s != NULL) {
        put_suspended(p, r, s);
        return;
    }
    if (p->m->is_flushed)
        agents_revive(a);
    if (a->suspended_until.us != 0) {
        defer(p, r, SLICE_LIT("4.3.0"), slice_str(a->reason));
        return;
    }
    if (a->defers && !p->m->is_flushed) {
        defer(p, r, SLICE_LIT(DEFER_CODE), SLICE_LIT(DEFER_TEXT));
        return;
    }
    d = sched_dest(a->transport, r->nexthop, r->addr);
    if (p->m->is_flushed)
        sched_dest_revive(d);
    if (sched_dest_is_dead(d))
        defer_dead(p, r, d);
    else
        add_to_dest(a, d, p, r);
}

void deliver_message(struct part *p)
{
    struct active *m = p->m;
    struct qmgr *q = m->qmgr;

    for (size_t i = 0; i < p->nrcpts; i++)
        if (p->rcpts[i].state == RCPT_WAITING)
            put_in_line(p, &p->rcpts[i]);
    m->lane = sched_settle(&p->jobs, m->lane, m->cursor.total - m->cursor.next);
    message_check(p);
    qmgr_wake(q);
}

/* A part of which nothing is concerned keeps its place in line. */
static bool has_suspended(const struct part *p)
{
    for (size_t i = 0; i < p->nrcpts; i++)
        if (p->rcpts[i].state == RCPT_WAITING && suspend_of(p, &p->rcpts[i]) != NULL)
            return true;
    return false;
}

static void line_up_again(struct part *p)
{
    struct sched_rcpt *next;

    for (struct sched_rcpt *line = sched_withdraw(&p->jobs); line != NULL; line = next) {
        next = line->next;
        line->next = NULL;
        put_in_line(p, (struct rcpt *) line); /* its first member */
    }
    message_check(p);
}

void deliver_suspend(struct active *m)
{
    struct part *next;
    bool any = false;

    if (message_is_withdrawn(m))
        return;
    m->guard++;
    for (struct part *p = TAILQ_FIRST(&m->parts); p != NULL; p = next) {
        next = TAILQ_NEXT(p, list);
        if (p->phase != PHASE_DELIVERING || !has_suspended(p))
            continue;
        line_up_again(p);
        any = true;
    }
    m->guard--;
    if (any)
        active_go_on(m);
}

/* --- given up --------------------------------------------------------------------------------------- */

void line_kill_dest(struct agents *a, struct sched_dest *d, const struct retry_schedule *schedule)
{
    int64_t ms = a->qmgr->gen->p.minimal_backoff_s * 1000;

    if (schedule != NULL && schedule->times_s[0] * 1000 < ms)
        ms = schedule->times_s[0] * 1000; /* or its attempts would be none */
    sched_dest_kill(d, mono_after_ms(loop_now(a->qmgr->loop), ms));
    sched_dest_give_up(d, NULL);
}

bool line_defer_given_up(struct qmgr *q)
{
    int64_t until_us = mono_now().us + GIVEN_UP_US;
    struct sched_given_up g;

    for (int i = 0; sched_take_given_up(q->sched, &g); i++) {
        struct rcpt *r = (struct rcpt *) g.rcpt; /* its first member */
        struct part *p = g.message;

        if (g.why != NULL)
            defer(p, r, SLICE_LIT("4.3.0"), slice_str(g.why));
        else
            defer_dead(p, r, g.dest);
        message_check(p);
        if (i == GIVEN_UP_A_TURN - 1 || (i % 16 == 15 && mono_now().us > until_us))
            return true;
    }
    return false;
}
