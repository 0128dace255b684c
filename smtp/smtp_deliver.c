/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp_deliver.c - one delivery request: host after host, until every recipient has its answer.
 */
#include "smtp/smtp_int.h"

#include <stdlib.h>
#include <string.h>

static bool keeps_connection(struct smtp *s, const struct deliver_request *r)
{
    struct err err = ERR_INIT;

    if (s->p.cache_on_demand && r->msg.reuse != 0)
        return true;
    /* trouble with that table costs a connection, not a message */
    return !match_list_is_empty(s->cache_destinations) &&
           match_list_string(s->cache_destinations, r->msg.nexthop, &err) == MAP_FOUND;
}

/* A queue is handed over: what is wrong with its host concerns all of it. */
static bool is_handover(const struct smtp_job *job)
{
    return job->r->msg.handover != 0;
}

/* Greets the server. -1: the connection is over, and what that means for the recipients is noted. */
static int greet(struct smtp_job *job, struct smtp_conn **conn)
{
    struct smtp_conn *c = *conn;
    struct err err = ERR_INIT;

    if (smtp_hello(job->s, c, &err) == 0)
        return 0;
    if (err.kind == ERR_PERMANENT) {
        struct dsn_status st = {.outcome = OUTCOME_BOUNCED,
                                .code = slice_str(err.dsn),
                                .text = slice_str(err.text),
                                .mta_name = slice_str(c->host)};

        for (size_t i = 0; i < job->r->nrcpts; i++) {
            if (job->rcpts[i].final)
                continue;
            deliver_status(job->r, i, buf_view(&c->relay), 0, &st, is_handover(job));
            job->rcpts[i].final = true;
        }
    } else {
        smtp_job_defer(job, &err, slice_str(c->host), buf_view(&c->relay), true);
    }
    smtp_quit(job->s, conn);
    return -1;
}

/* A fresh connection to the next host of the targets, or NULL: it is none. */
static struct smtp_conn *connect_next(struct smtp_job *job)
{
    const struct smtp_address *target = &job->targets.list[job->next_target++];
    struct err err = ERR_INIT;
    struct smtp_conn *c = smtp_conn_open(job->s, target, &err);

    if (c == NULL) {
        smtp_job_defer(job, &err, slice_str(target->host), SLICE_LIT("none"), true);
        return NULL;
    }
    job->r->connected = mono_now();
    job->sessions++;
    return greet(job, &c) == 0 ? c : NULL;
}

static bool has_target(const struct smtp_job *job)
{
    const struct smtp_params *p = &job->s->p;

    return job->next_target < job->targets.count &&
           (p->mx_address_limit <= 0 || (int64_t) job->next_target < p->mx_address_limit) &&
           (p->mx_session_limit <= 0 || job->sessions < p->mx_session_limit);
}

/* The addresses of a next hop become the targets. */
static void find_targets(struct smtp_job *job, struct slice hop)
{
    struct err err = ERR_INIT;
    struct dsn_status st = {.outcome = OUTCOME_BOUNCED};

    smtp_targets_fini(&job->targets);
    job->next_target = 0;
    job->sessions = 0;
    if (smtp_targets_find(job->s, hop, &job->targets, &err) == 0)
        return;
    if (err.kind != ERR_PERMANENT) {
        smtp_job_defer(job, &err, SLICE_EMPTY, SLICE_LIT("none"), is_handover(job));
        return;
    }
    st.code = slice_str(err.dsn);
    st.text = slice_str(err.text);
    for (size_t i = 0; i < job->r->nrcpts; i++)
        if (!job->rcpts[i].final)
            smtp_rcpt_note(&job->rcpts[i], &st, SLICE_LIT("none"), is_handover(job));
}

/*
 * The next connection for what is still open: a kept one first, then each address of each next hop, as far as the limits go. NULL: there is no
 * other, or nothing is open any more.
 */
static struct smtp_conn *next_connection(struct smtp_job *job)
{
    struct smtp_conn *c = NULL;
    struct slice hop;

    if (!job->asked_cache) {
        job->asked_cache = true;
        c = smtp_cache_take(job->s->cache, job->r->msg.nexthop);
        if (c != NULL)
            job->r->connected = mono_now();
    }
    while (c == NULL && smtp_job_open(job) > 0) {
        if (has_target(job))
            c = connect_next(job);
        else if (slice_token(&job->nexthops, ", \t", &hop) ||
                 slice_token(&job->fallbacks, ", \t", &hop))
            find_targets(job, hop);
        else
            break;
    }
    return c;
}

/* The transaction is over; the connection is kept, or ended. */
static void end_transaction(struct smtp_job *job, enum smtp_progress how)
{
    smtp_transaction_free(&job->transaction);
    if (how == SMTP_BROKEN)
        smtp_conn_free(&job->conn);
    else if (keeps_connection(job->s, job->r))
        smtp_cache_put(job->s->cache, job->r->msg.nexthop, &job->conn);
    else
        smtp_quit(job->s, &job->conn);
}

/* No host is left: recipients that have no answer get the last one. */
static void answer_rest(struct smtp_job *job)
{
    static const struct dsn_status none = {.outcome = OUTCOME_DEFERRED,
                                           .code = SLICE_LIT("4.3.5"),
                                           .text = SLICE_LIT("no next hop to try")};

    for (size_t i = 0; i < job->r->nrcpts; i++) {
        struct smtp_rcpt *rcpt = &job->rcpts[i];

        if (!rcpt->final)
            deliver_status(job->r, i, rcpt->has_last ? rcpt->relay : SLICE_LIT("none"), 0,
                           rcpt->has_last ? &rcpt->last : &none, rcpt->site_dead);
    }
}

struct smtp_job *smtp_job_new(struct smtp *s, struct deliver_request *r)
{
    struct smtp_job *job = xcalloc(1, sizeof(*job));
    struct err err = ERR_INIT;

    job->s = s;
    job->r = r;
    job->rcpts = xcalloc(r->nrcpts, sizeof(*job->rcpts));
    job->sender = r->msg.sender;
    buf_init(&job->header, SIZE_MAX);
    for (size_t i = 0; i < r->nrcpts; i++)
        job->rcpts[i].addr = r->rcpts[i].r.addr;
    if (!is_handover(job) && smtp_generic_job(job, &err) == -1) {
        smtp_job_defer(job, &err, SLICE_EMPTY, SLICE_LIT("none"), false);
        job->asked_cache = true; /* no host is tried */
        return job;
    }
    job->nexthops = r->msg.nexthop;
    if (!is_handover(job))
        job->fallbacks = slice_str(s->p.fallback_relay);
    return job;
}

void smtp_job_free(struct smtp_job **job)
{
    struct smtp_job *j = *job;

    if (j == NULL)
        return;
    smtp_transaction_free(&j->transaction);
    smtp_conn_free(&j->conn);
    smtp_targets_fini(&j->targets);
    for (size_t i = 0; i < j->r->nrcpts; i++)
        for (size_t k = 0; k < ARRAY_LEN(j->rcpts[i].strings); k++)
            free(j->rcpts[i].strings[k]);
    free(j->rcpts);
    vec_clear(&j->mapped, free);
    vec_fini(&j->mapped);
    buf_fini(&j->header);
    free(j);
    *job = NULL;
}

bool smtp_job_go(struct smtp_job *job, struct deliver_wait *wait)
{
    for (;;) {
        enum smtp_progress how;

        if (job->transaction == NULL) {
            job->conn = next_connection(job);
            if (job->conn == NULL)
                break;
            job->transaction = smtp_transaction_new(job, job->conn);
        }
        how = smtp_transaction_go(job->transaction, wait);
        if (how == SMTP_WAITS)
            return false;
        end_transaction(job, how);
    }
    answer_rest(job);
    return true;
}
