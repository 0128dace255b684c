/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_report.c - asks bounce(8) for the reports that are due when an attempt is over: of failures, of deliveries that the
 * sender wanted to hear of, of an attempt (sendmail -v, -bv), of a delay. One after the other; nothing is given up before bounce says that its report is in the
 * queue. When bounce cannot be had for a while, failed recipients are deferred: the next attempt comes to the same.
 */
#include <stdlib.h>

#include "base/log.h"
#include "qmgr/qmgr_int.h"

#define REPORTS_MAX       20 /* at once */
#define REPORT_TRIES      3
#define REPORT_TIMEOUT_MS 300000

struct report {
    struct part *p;
    struct link *link;
    enum report_kind kind;
};

static bool on_frame(void *request, const struct frame *f, struct err *err);
static void on_broken(void *request, bool fresh, const char *why);

bool report_of_delay_wanted(const struct rcpt *r)
{
    return r->s->r.notify == 0 || (r->s->r.notify & DSN_NOTIFY_DELAY) != 0;
}

static bool wants_report(const struct rcpt *r, enum report_kind kind)
{
    uint32_t notify = r->s->r.notify;

    switch (kind) {
    case REPORT_FAILURE:
        /* bounce leaves out those of which the sender does not want to hear, notify_classes may add the postmaster */
        return r->state == RCPT_FAILED && (notify == 0 || (notify & DSN_NOTIFY_FAILURE) != 0 ||
                                           r->part->m->qmgr->gen->tells_postmaster);
    case REPORT_SUCCESS:
        return r->state == RCPT_DONE && r->report_success;
    case REPORT_DELAY:
        return r->state == RCPT_DEFERRED && report_of_delay_wanted(r);
    case REPORT_VERIFY:
        return r->traced;
    }
    return false;
}

static bool is_due(const struct part *p, enum report_kind kind)
{
    if (kind == REPORT_DELAY && !p->delay_report)
        return false;
    for (size_t i = 0; i < p->nrcpts; i++)
        if (wants_report(&p->rcpts[i], kind))
            return true;
    return false;
}

/* The report of this kind is out, or none was due. */
static void settle(struct part *p, enum report_kind kind)
{
    struct store_state s;

    for (size_t i = 0; i < p->nrcpts; i++) {
        struct rcpt *r = &p->rcpts[i];

        if (kind == REPORT_FAILURE && r->state == RCPT_FAILED) {
            r->state = RCPT_DONE;
            store_rcpt_done(p->m->qmgr->store, p->m->qd->m, r->s->r.index);
        } else if (kind == REPORT_SUCCESS) {
            r->report_success = false;
        } else if (kind == REPORT_VERIFY) {
            r->traced = false;
        }
    }
    if (kind == REPORT_DELAY && p->delay_report) {
        p->delay_report = false;
        s = *store_msg_state(p->m->qd->m);
        s.warned = true; /* message_conclude() notes it with the rest */
        store_msg_set_state(p->m->qmgr->store, p->m->qd->m, &s);
    }
    qmgr_dirty(p->m->qmgr);
}

/* bounce cannot be had: failures and probes stay in the queue, the other kinds are dropped for this time. */
static void give_up(struct part *p, enum report_kind kind, const char *why)
{
    log_warning("%.*s: no report could be made: %s", SLICE_FMT(p->m->env.queue_id), why);
    for (size_t i = 0; i < p->nrcpts; i++) {
        struct rcpt *r = &p->rcpts[i];

        bool is_probed = kind == REPORT_VERIFY && r->traced && (p->m->env.flags & MAIL_PROBE) != 0;

        if (kind == REPORT_SUCCESS)
            r->report_success = false;
        if (kind == REPORT_VERIFY)
            r->traced = false;
        if (!is_probed && (kind != REPORT_FAILURE || r->state != RCPT_FAILED))
            continue;
        r->state = RCPT_DEFERRED;
        store_rcpt_deferred(p->m->qmgr->store, p->m->qd->m, r->s->r.index, r->status->code,
                            r->status->text);
    }
    if (kind == REPORT_DELAY)
        p->delay_report = false;
    p->report_tries = 0;
}

static void enqueue(struct part *p)
{
    struct qmgr *q = p->m->qmgr;

    p->next_report = NULL;
    *q->reports_tail = p;
    q->reports_tail = &p->next_report;
    qmgr_wake(q);
}

static bool next_kind(const struct part *p, enum report_kind *kind)
{
    static const enum report_kind order[] = {REPORT_FAILURE, REPORT_SUCCESS, REPORT_VERIFY,
                                             REPORT_DELAY};

    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        if (is_due(p, order[i])) {
            *kind = order[i];
            return true;
        }
    }
    return false;
}

void report_message(struct part *p)
{
    enum report_kind kind;

    if (next_kind(p, &kind)) {
        enqueue(p);
        return;
    }
    settle(p, REPORT_FAILURE); /* those that nobody wants to hear of */
    message_conclude(p);
}

/* --- requests ---------------------------------------------------------------------------------- */

static int put_report(struct report *rp, struct err *err)
{
    struct part *p = rp->p;
    struct qmgr *q = p->m->qmgr;
    const struct mail_envelope *e = &p->m->env;
    struct proto_report msg = {
        .kind = (uint32_t) rp->kind,
        .queue_id = e->queue_id,
        .sender = e->sender,
        .header_bytes = e->header_bytes,
        .flags = e->flags,
        .arrival_us = e->arrival_us,
        .dsn_ret = e->dsn_ret,
        .dsn_envid = e->dsn_envid,
        .message_id = e->message_id,
    };
    struct chan *c = link_chan(rp->link);
    int fd;

    if (rp->kind == REPORT_DELAY)
        msg.expires_us = e->arrival_us + (uint64_t) q->gen->p.maximal_lifetime_s * 1000000;
    if (store_msg_content(q->store, p->m->qd->m, &fd, &msg.content_offset, &msg.content_bytes,
                          err) == -1 ||
        proto_put(c, &msg_report, &msg, fd, err) == -1)
        return -1;
    for (size_t i = 0; i < p->nrcpts; i++) {
        const struct rcpt *r = &p->rcpts[i];
        struct proto_report_rcpt line = {
            .addr = r->s->r.addr,
            .orig = r->s->r.orig,
            .orcpt = r->s->r.orcpt,
            .notify = r->s->r.notify,
        };

        if (!wants_report(r, rp->kind))
            continue;
        line.outcome = (uint32_t) r->status->outcome;
        line.code = r->status->code;
        line.text = r->status->text;
        line.diag_type = r->status->diag_type;
        line.diag_text = r->status->diag_text;
        line.mta_name = r->status->mta_name;
        if (rp->kind == REPORT_VERIFY || rp->kind == REPORT_SUCCESS)
            line.relay = r->status->relay;
        if (proto_put(c, &msg_report_rcpt, &line, -1, err) == -1)
            return -1;
    }
    proto_put_empty(c, PROTO_END);
    return 0;
}

static void open_pool(struct qmgr *q)
{
    static const struct link_events events = {on_frame, on_broken};
    struct buf path = BUF_INIT(SIZE_MAX);

    if (q->bounce != NULL && strcmp(q->bounce_service, q->gen->p.bounce_service_name) == 0)
        return;
    if (q->bounce != NULL && q->nreports > 0)
        return;                       /* the new name counts when the reports under way are done */
    link_pool_free(&q->bounce, NULL); /* none is under way */
    free(q->bounce_service);
    q->bounce_service = xstrdup(q->gen->p.bounce_service_name);
    qmgr_service_path(q, q->bounce_service, &path);
    q->bounce = link_pool_new(q->loop, buf_cstr(&path), "qmgr", &events);
    buf_fini(&path);
}

static struct part *dequeue(struct qmgr *q)
{
    struct part *p = q->reports;

    q->reports = p->next_report;
    if (q->reports == NULL)
        q->reports_tail = &q->reports;
    return p;
}

/* One try has failed. */
static void failed(struct part *p, enum report_kind kind, const char *why)
{
    struct qmgr *q = p->m->qmgr;

    q->reports_paused = mono_after_ms(loop_now(q->loop), 1000LL << p->report_tries);
    if (++p->report_tries < REPORT_TRIES) {
        enqueue(p);
    } else {
        give_up(p, kind, why);
        report_message(p);
    }
}

void report_pump(struct qmgr *q)
{
    unsigned limit = qmgr_config_processes(q->gen, q->gen->p.bounce_service_name);

    if (limit == 0 || limit > REPORTS_MAX)
        limit = REPORTS_MAX;
    if (q->reports == NULL || q->reports_paused.us != 0)
        return;
    open_pool(q);
    while (q->reports != NULL && q->nreports < limit && q->reports_paused.us == 0) {
        struct part *p = dequeue(q);
        struct report *rp = xcalloc(1, sizeof(*rp));
        struct err err = ERR_INIT;

        rp->p = p;
        if (!next_kind(p, &rp->kind)) {
            free(rp);
            report_message(p);
            continue;
        }
        rp->link = link_take(q->bounce, rp, &err);
        if (rp->link == NULL || put_report(rp, &err) == -1) {
            enum report_kind kind = rp->kind;

            if (rp->link != NULL)
                link_drop(&rp->link);
            free(rp);
            failed(p, kind, err.text);
            continue;
        }
        q->nreports++;
        link_send(rp->link, REPORT_TIMEOUT_MS);
    }
}

static bool on_frame(void *request, const struct frame *f, struct err *err)
{
    struct report *rp = request;
    struct part *p = rp->p;
    struct qmgr *q = p->m->qmgr;
    enum report_kind kind = rp->kind;
    struct proto_result result;

    if (proto_decode(f, &msg_result, &result, err) == -1)
        return false;
    link_release(&rp->link);
    free(rp);
    q->nreports--;
    qmgr_wake(q);
    if (result.status == PROTO_OK) {
        p->report_tries = 0;
        settle(p, kind);
        report_message(p);
    } else {
        char *why = slice_dup(result.text);

        failed(p, kind, why);
        free(why);
    }
    return true;
}

static void on_broken(void *request, bool fresh, const char *why)
{
    struct report *rp = request;
    struct part *p = rp->p;
    enum report_kind kind = rp->kind;

    free(rp);
    p->m->qmgr->nreports--;
    if (fresh)
        enqueue(p);
    else
        failed(p, kind, why);
}

void report_tick(struct qmgr *q, struct mono_time now)
{
    if (q->reports_paused.us != 0 && now.us >= q->reports_paused.us) {
        q->reports_paused.us = 0;
        qmgr_wake(q);
    }
    if (q->bounce != NULL)
        link_pool_tick(q->bounce, now, q->gen->max_idle_s * 1000);
}

bool report_is_busy(const struct qmgr *q)
{
    return q->nreports > 0;
}

void report_fini(struct qmgr *q)
{
    link_pool_free(&q->bounce, free);
    free(q->bounce_service);
    q->bounce_service = NULL;
}
