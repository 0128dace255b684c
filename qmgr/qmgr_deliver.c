/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_deliver.c - delivery requests: which are made (with qmgr_sched.h), how they go to the agents, what comes back.
 *
 * A recipient with which an agent broke off three times is deferred: it may be what kills the agent. Otherwise trouble with a
 * service is seen to in qmgr_deliver_service.c.
 */
#include <stdlib.h>

#include "base/log.h"
#include "qmgr/qmgr_deliver_int.h"

#define REQUESTS_A_TURN 256 /* of one transport */
#define BREAKS_MAX      3

struct request {
    struct agents *agents;
    struct link *link;
    struct part *p;
    struct sched_request r;
    unsigned open; /* recipients without status */
    enum sched_outcome outcome;
};

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
            agents_failed(a, err.text);
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

    if (line_defer_given_up(q))
        qmgr_wake(q);
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
        line_kill_dest(a, rq->r.dest, ((struct rcpt *) rq->r.rcpts)->schedule);
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
        sched_dest_give_up(d, NULL);
    p->requests--;
    message_check(p);
    if (!fresh)
        agents_failed(a, why);
    qmgr_wake(q);
}

const struct link_events deliver_link_events = {on_frame, on_broken};
