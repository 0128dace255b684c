/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_deliver.c - delivery requests: which are made (with qmgr_sched.h), how they go to the agents, what comes back.
 *
 * Trouble with a service itself (no connection, or it broke off) says nothing about mail or destinations: the transport
 * pauses for a second, longer each time, and its recipients stay in line. Three times in a row: it is suspended for
 * transport_retry_time and what waits for it is deferred. A recipient with which an agent broke off three times is
 * deferred, too: it may be what kills the agent.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "qmgr/qmgr_int.h"

#define REQUESTS_A_TURN 256 /* of one transport */
#define FAILS_MAX       3
#define BREAKS_MAX      3
#define DEFER_CODE      "4.3.2"
#define DEFER_TEXT      "deferred transport"

struct agents {
    struct qmgr *qmgr;
    struct sched_transport *transport;
    struct link_pool *links;
    bool defers; /* defer_transports */
    unsigned fails;
    struct mono_time paused_until;    /* 0: not paused */
    struct mono_time full_until;      /* the service takes no more connections; 0: it does */
    struct mono_time suspended_until; /* 0: not suspended */
    char reason[200];
};

struct request {
    struct agents *agents;
    struct link *link;
    struct part *p;
    struct sched_request r;
    unsigned open; /* recipients without status */
    enum sched_outcome outcome;
};

static void put_in_line(struct part *p, struct rcpt *r);

static bool on_frame(void *request, const struct frame *f, struct err *err);
static void on_broken(void *request, bool fresh, const char *why);

static void set_limits(struct agents *a)
{
    struct sched_limits limits;
    struct err err = ERR_INIT;

    if (qmgr_config_limits(a->qmgr->gen, sched_transport_name(a->transport), &limits, &err) == -1)
        log_warning("%s", err.text);
    sched_transport_set_limits(a->transport, &limits);
    a->defers = qmgr_config_defers(a->qmgr->gen, slice_str(sched_transport_name(a->transport)));
}

static struct agents *agents_of(struct qmgr *q, struct slice name)
{
    static const struct link_events events = {on_frame, on_broken};
    bool made;
    struct sched_transport *t = sched_transport(q->sched, name, &made);
    struct buf path = BUF_INIT(SIZE_MAX);
    struct agents *a;

    if (!made)
        return sched_transport_data(t);
    a = xcalloc(1, sizeof(*a));
    a->qmgr = q;
    a->transport = t;
    qmgr_service_path(q, sched_transport_name(t), &path);
    a->links = link_pool_new(q->loop, buf_cstr(&path), "qmgr", &events);
    buf_fini(&path);
    sched_transport_set_data(t, a);
    set_limits(a);
    return a;
}

/* --- into line --------------------------------------------------------------------------------- */

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

static void revive_transport(struct sched_transport *t, void *arg)
{
    struct agents *a = sched_transport_data(t);

    (void) arg;
    a->fails = 0;
    a->paused_until.us = a->full_until.us = a->suspended_until.us = 0;
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
        revive_transport(a->transport, NULL);
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
        sched_add(d, &p->jobs, p, p->m->lane, &r->line);
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

/* Defers all that waits for the destination. */
static void empty_dest(struct sched_dest *d, const char *suspended)
{
    struct sched_rcpt *line;
    void *message;

    while ((line = sched_dest_take(d, &message)) != NULL) {
        struct rcpt *r = (struct rcpt *) line; /* its first member */
        struct part *p = message;

        if (suspended != NULL)
            defer(p, r, SLICE_LIT("4.3.0"), slice_str(suspended));
        else
            defer_dead(p, r, d);
        message_check(p);
    }
}

static void kill_dest(struct agents *a, struct sched_dest *d, const struct retry_schedule *schedule)
{
    int64_t ms = a->qmgr->gen->p.minimal_backoff_s * 1000;

    if (schedule != NULL && schedule->times_s[0] * 1000 < ms)
        ms = schedule->times_s[0] * 1000; /* or its attempts would be none */
    sched_dest_kill(d, mono_after_ms(loop_now(a->qmgr->loop), ms));
    empty_dest(d, NULL);
}

/* --- the service's own trouble ------------------------------------------------------------------- */

static void collect_dest(struct sched_dest *d, void *arg)
{
    vec_push(arg, d);
}

static void suspend(struct agents *a)
{
    struct vec dests = VEC_INIT;

    a->suspended_until =
        mono_after_ms(loop_now(a->qmgr->loop), a->qmgr->gen->p.transport_retry_s * 1000);
    sched_each_dest(a->transport, collect_dest, &dests);
    for (size_t i = 0; i < dests.len; i++)
        empty_dest(dests.items[i], a->reason);
    vec_fini(&dests);
}

static void service_failed(struct agents *a, const char *why)
{
    struct mono_time now = loop_now(a->qmgr->loop);
    int64_t pause_s;

    if (a->paused_until.us != 0)
        return; /* one fault, seen on several connections */
    a->fails++;
    pause_s = 1LL << (a->fails - 1 > 10 ? 10 : a->fails - 1);
    if (pause_s > a->qmgr->gen->p.transport_retry_s)
        pause_s = a->qmgr->gen->p.transport_retry_s;
    a->paused_until = mono_after_ms(now, pause_s * 1000);
    log_warning("transport %s: private/%s: %s", sched_transport_name(a->transport),
                sched_transport_name(a->transport), why);
    snprintf(a->reason, sizeof(a->reason), "mail transport unavailable");
    if (a->fails >= FAILS_MAX)
        suspend(a);
}

/* --- requests ---------------------------------------------------------------------------------- */

static int put_message(struct request *rq, struct err *err)
{
    struct active *m = rq->p->m;
    struct qmgr *q = m->qmgr;
    const struct mail_envelope *e = &m->env;
    struct proto_deliver msg = {
        .queue_id = e->queue_id,
        .nexthop = sched_dest_nexthop(rq->r.dest),
        .sender = e->sender,
        .header_bytes = e->header_bytes,
        .flags = e->flags,
        .longest_line = e->longest_line,
        .arrival_us = e->arrival_us,
        .queued_us = m->queued_us,
        .dsn_ret = e->dsn_ret,
        .dsn_envid = e->dsn_envid,
        .client_name = e->client_name,
        .client_addr = e->client_addr,
        .client_port = e->client_port,
        .helo = e->helo,
        .protocol = e->protocol,
        .sasl_method = e->sasl_method,
        .sasl_username = e->sasl_username,
        .sasl_sender = e->sasl_sender,
        .reuse = rq->r.is_busy ? 1 : 0,
        .message_id = e->message_id,
        .handover = m->handover != NULL ? 1 : 0,
    };
    struct chan *c = link_chan(rq->link);
    int fd;

    if (store_msg_content(q->store, m->qd->m, &fd, &msg.content_offset, &msg.content_bytes, err) ==
        -1)
        return -1;
    buf_reset(&q->scratch);
    if (msg_encode(&msg_deliver, &msg, &q->scratch, err) == -1)
        return -1;
    chan_put(c, PROTO_DELIVER, buf_view(&q->scratch), fd);
    return 0;
}

static int put_rcpts(struct request *rq, struct err *err)
{
    struct chan *c = link_chan(rq->link);
    struct qmgr *q = rq->p->m->qmgr;

    for (struct sched_rcpt *line = rq->r.rcpts; line != NULL; line = line->next) {
        struct rcpt *r = (struct rcpt *) line;
        struct proto_deliver_rcpt msg = {
            .index = (uint32_t) (r - rq->p->rcpts), /* the answer names it so */
            .addr = r->addr,
            .orig = r->s->r.orig,
            .orcpt = r->s->r.orcpt,
            .notify = r->s->r.notify,
        };

        buf_reset(&q->scratch);
        if (msg_encode(&msg_deliver_rcpt, &msg, &q->scratch, err) == -1)
            return -1;
        chan_put(c, PROTO_DELIVER_RCPT, buf_view(&q->scratch), -1);
        r->state = RCPT_INFLIGHT;
        r->request = rq;
        rq->open++;
    }
    proto_put_empty(c, PROTO_END);
    return 0;
}

/* The request ends without an answer: what it has left is deferred with this reason. */
static void request_defer(struct request *rq, const char *why)
{
    struct sched_rcpt *next;
    struct part *p = rq->p;

    for (struct sched_rcpt *line = rq->r.rcpts; line != NULL; line = next) {
        struct rcpt *r = (struct rcpt *) line;

        next = line->next;
        if (r->state == RCPT_WAITING || (r->state == RCPT_INFLIGHT && r->request == rq))
            message_defer_here(p, r, SLICE_LIT("4.3.0"), slice_str(why));
    }
    (void) sched_done(&rq->r, SCHED_NEUTRAL, loop_now(p->m->qmgr->loop));
    free(rq);
    p->requests--;
    message_check(p);
}

/* False: nothing more can be started now. */
static bool start_one(struct agents *a)
{
    struct qmgr *q = a->qmgr;
    struct request *rq = xcalloc(1, sizeof(*rq));
    struct err err = ERR_INIT;

    rq->agents = a;
    rq->link = link_take(a->links, rq, &err);
    if (rq->link == NULL) {
        free(rq);
        if (sched_transport_busy(a->transport) > 0)
            a->full_until = mono_after_ms(loop_now(q->loop), 1000);
        else
            service_failed(a, err.text);
        return false;
    }
    if (!sched_next(a->transport, loop_now(q->loop), &rq->r))
        panic("the scheduler was ready and has nothing");
    rq->p = rq->r.message;
    rq->p->requests++;
    rq->outcome = SCHED_GOOD;
    if (put_message(rq, &err) == -1 || put_rcpts(rq, &err) == -1) {
        log_warning("%.*s: delivery request: %s", SLICE_FMT(rq->p->m->env.queue_id), err.text);
        link_drop(&rq->link);
        request_defer(rq, err.text);
        return true;
    }
    link_send(rq->link, q->gen->daemon_timeout_s * 1000);
    return true;
}

static void pump_transport(struct sched_transport *t, void *arg)
{
    struct agents *a = sched_transport_data(t);
    struct qmgr *q = arg;

    for (int i = 0; a->paused_until.us == 0 && sched_is_ready(t); i++) {
        if (i == REQUESTS_A_TURN) {
            qmgr_wake(q);
            return;
        }
        if (a->full_until.us != 0 && !link_pool_has_idle(a->links))
            return;
        if (!qmgr_may_begin(q) || !start_one(a))
            return;
    }
}

void deliver_pump(struct qmgr *q)
{
    struct mono_time until;

    sched_each_transport(q->sched, pump_transport, q);
    until = sched_delayed_until(q->sched);
    if (until.us != q->delayed_until.us) {
        int64_t ms = (until.us - loop_now(q->loop).us + 999) / 1000;

        q->delayed_until = until;
        if (until.us != 0)
            loop_timer_set(q->delayed, ms > 0 ? ms : 0);
    }
}

void deliver_delay_over(void *arg)
{
    struct qmgr *q = arg;

    q->delayed_until.us = 0;
    sched_tick(q->sched, loop_now(q->loop));
    qmgr_wake(q);
}

/* --- answers ----------------------------------------------------------------------------------- */

static bool take_status(struct request *rq, const struct frame *f, struct err *err)
{
    struct part *p = rq->p;
    struct proto_status msg;
    struct dsn_status status;
    struct rcpt *r;

    if (proto_decode(f, &msg_status, &msg, err) == -1)
        return false;
    if (msg.index >= p->nrcpts || p->rcpts[msg.index].request != rq ||
        p->rcpts[msg.index].state != RCPT_INFLIGHT || msg.outcome < OUTCOME_SENT) {
        err_input(err, "status for a recipient that was not asked about");
        return false;
    }
    r = &p->rcpts[msg.index];
    status = (struct dsn_status){
        .outcome = (enum outcome) msg.outcome,
        .code = msg.code,
        .text = msg.text,
        .diag_type = msg.diag_type,
        .diag_text = msg.diag_text,
        .mta_name = msg.mta_name,
        .relay = msg.relay,
        .notify_passed = msg.notify_passed != 0,
    };
    if (msg.site_dead != 0) {
        rq->outcome = SCHED_BAD;
        sched_dest_set_reason(rq->r.dest, msg.code, msg.text);
    }
    rq->open--;
    message_outcome(p, r, &status);
    return true;
}

/* True: the destination is to be dead. */
static bool end_request(const struct request *rq)
{
    struct qmgr *q = rq->p->m->qmgr;
    struct sched_dest_info i;
    bool dead = sched_done(&rq->r, rq->outcome, loop_now(q->loop));

    if (rq->p->m->handover != NULL)
        handover_feedback(rq->p->m->handover, rq->outcome, sched_dest_reason_text(rq->r.dest));
    if (q->gen->p.feedback_debug && rq->outcome != SCHED_NEUTRAL) {
        sched_dest_info(rq->r.dest, &i);
        log_info(
            "destination %s:%.*s: %s, limit %u window %u busy %u success %g failure %g "
            "fail_cohorts %g%s",
            sched_transport_name(rq->agents->transport), SLICE_FMT(sched_dest_nexthop(rq->r.dest)),
            rq->outcome == SCHED_GOOD ? "positive feedback" : "negative feedback", i.limit,
            i.window, i.busy, i.success, i.failure, i.failed_cohorts, dead ? ": suspended" : "");
    }
    return dead;
}

static bool on_frame(void *request, const struct frame *f, struct err *err)
{
    struct request *rq = request;
    struct agents *a = rq->agents;
    struct part *p = rq->p;

    if (f->type == PROTO_STATUS)
        return take_status(rq, f, err);
    if (f->type != PROTO_DONE) {
        err_input(err, "unexpected frame of type %u", f->type);
        return false;
    }
    if (rq->open > 0) {
        err_input(err, "delivery request ended with %u recipients unanswered", rq->open);
        return false;
    }
    link_release(&rq->link);
    a->fails = 0;
    if (end_request(rq))
        kill_dest(a, rq->r.dest, ((struct rcpt *) rq->r.rcpts)->schedule);
    free(rq);
    p->requests--;
    qmgr_wake(a->qmgr);
    message_check(p);
    return true;
}

/* What an agent left unanswered gets in line again. */
static void put_back(struct request *rq, bool is_fault)
{
    struct part *p = rq->p;
    struct active *m = p->m;
    struct sched_rcpt *first = NULL;
    struct sched_rcpt **tail = &first;
    struct sched_rcpt *next;

    for (struct sched_rcpt *line = rq->r.rcpts; line != NULL; line = next) {
        struct rcpt *r = (struct rcpt *) line;

        next = line->next;
        if (r->request != rq || r->state != RCPT_INFLIGHT)
            continue;
        r->request = NULL;
        if (is_fault && ++r->breaks >= BREAKS_MAX) {
            message_defer_here(p, r, SLICE_LIT("4.3.0"),
                               SLICE_LIT("the delivery service broke off"));
            continue;
        }
        r->state = RCPT_WAITING;
        line->next = NULL;
        if (message_is_withdrawn(m)) {
            p->pending--;
        } else {
            *tail = line;
            tail = &line->next;
        }
    }
    sched_put_back(rq->r.dest, &p->jobs, p, m->lane, first);
}

static void on_broken(void *request, bool fresh, const char *why)
{
    struct request *rq = request;
    struct agents *a = rq->agents;
    struct part *p = rq->p;
    struct sched_dest *d = rq->r.dest;
    struct qmgr *q = a->qmgr;

    rq->link = NULL;
    put_back(rq, !fresh);
    (void) sched_done(&rq->r, SCHED_NEUTRAL, loop_now(q->loop));
    free(rq);
    if (!fresh)
        log_warning("%.*s: transport %s broke off a delivery: %s", SLICE_FMT(p->m->env.queue_id),
                    sched_transport_name(a->transport), why);
    if (sched_dest_is_dead(d))
        empty_dest(d, NULL);
    p->requests--;
    message_check(p);
    if (!fresh)
        service_failed(a, why);
    qmgr_wake(q);
}

/* --- time -------------------------------------------------------------------------------------- */

static void tick_transport(struct sched_transport *t, void *arg)
{
    struct agents *a = sched_transport_data(t);
    struct qmgr *q = a->qmgr;
    const struct mono_time *now = arg;

    if (a->paused_until.us != 0 && now->us >= a->paused_until.us)
        a->paused_until.us = 0;
    if (a->full_until.us != 0 && now->us >= a->full_until.us)
        a->full_until.us = 0;
    if (a->suspended_until.us != 0 && now->us >= a->suspended_until.us)
        a->suspended_until.us = 0;
    link_pool_tick(a->links, *now, q->gen->max_idle_s * 1000);
}

void deliver_tick(struct qmgr *q, struct mono_time now)
{
    sched_tick(q->sched, now);
    sched_each_transport(q->sched, tick_transport, &now);
}

static void reconfigure_transport(struct sched_transport *t, void *arg)
{
    (void) arg;
    set_limits(sched_transport_data(t));
}

void deliver_reconfigure(struct qmgr *q)
{
    sched_each_transport(q->sched, reconfigure_transport, NULL);
}

void deliver_revive(struct qmgr *q)
{
    sched_revive_all(q->sched);
    sched_each_transport(q->sched, revive_transport, NULL);
}

void deliver_pause(struct qmgr *q, struct slice transport, struct deliver_pause *out)
{
    const struct agents *a = agents_of(q, transport);

    *out = (struct deliver_pause){
        .paused_until = a->paused_until.us != 0 ? a->paused_until : a->full_until,
        .reason = a->paused_until.us != 0 ? a->reason : "takes no more connections",
        .busy = sched_transport_busy(a->transport),
        .processes = sched_transport_limits(a->transport)->processes,
    };
}

static void fini_transport(struct sched_transport *t, void *arg)
{
    struct agents *a = sched_transport_data(t);

    (void) arg;
    link_pool_free(&a->links, free);
    free(a);
    sched_transport_set_data(t, NULL);
}

void deliver_fini(struct qmgr *q)
{
    sched_each_transport(q->sched, fini_transport, NULL);
}
