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

/* Runs the transaction; the connection is kept, or ended. True if it must be tried on a fresh one. */
static bool use(struct smtp_job *job, struct smtp_conn **c)
{
    bool lost_early = false;
    int res = smtp_transaction(job, *c, &lost_early);

    if (res == -1)
        smtp_conn_free(c);
    else if (keeps_connection(job->s, job->r))
        smtp_cache_put(job->s->cache, job->r->msg.nexthop, c);
    else
        smtp_quit(job->s, c);
    return lost_early;
}

/* Every address of the next hop, as far as the limits go. */
static void try_nexthop(struct smtp_job *job, struct slice nexthop)
{
    struct smtp *s = job->s;
    struct smtp_targets targets = {0};
    struct err err = ERR_INIT;
    int64_t sessions = 0;
    bool is_handover =
        job->r->msg.handover != 0; /* what is wrong with its host concerns all of it */

    if (smtp_targets_find(s, nexthop, &targets, &err) == -1) {
        struct dsn_status st = {
            .outcome = OUTCOME_BOUNCED, .code = slice_str(err.dsn), .text = slice_str(err.text)};

        if (err.kind == ERR_PERMANENT)
            for (size_t i = 0; i < job->r->nrcpts; i++) {
                if (job->rcpts[i].final)
                    continue;
                smtp_rcpt_note(&job->rcpts[i], &st, SLICE_LIT("none"), is_handover);
            }
        else
            smtp_job_defer(job, &err, SLICE_EMPTY, SLICE_LIT("none"), is_handover);
        return;
    }
    for (size_t i = 0; i < targets.count && smtp_job_open(job) > 0; i++) {
        struct smtp_conn *c;

        if ((s->p.mx_address_limit > 0 && (int64_t) i >= s->p.mx_address_limit) ||
            (s->p.mx_session_limit > 0 && sessions >= s->p.mx_session_limit))
            break;
        c = smtp_conn_open(s, &targets.list[i], &err);
        if (c == NULL) {
            smtp_job_defer(job, &err, slice_str(targets.list[i].host), SLICE_LIT("none"), true);
            continue;
        }
        job->r->connected = mono_now();
        if (smtp_hello(s, c, &err) == -1) {
            sessions++;
            if (err.kind == ERR_PERMANENT) {
                struct dsn_status st = {.outcome = OUTCOME_BOUNCED,
                                        .code = slice_str(err.dsn),
                                        .text = slice_str(err.text),
                                        .mta_name = slice_str(c->host)};

                for (size_t k = 0; k < job->r->nrcpts; k++) {
                    if (job->rcpts[k].final)
                        continue;
                    deliver_status(job->r, k, buf_view(&c->relay), 0, &st, is_handover);
                    job->rcpts[k].final = true;
                }
            } else {
                smtp_job_defer(job, &err, slice_str(c->host), buf_view(&c->relay), true);
            }
            smtp_quit(s, &c);
            continue;
        }
        sessions++;
        (void) use(job, &c); /* a fresh connection is not retried */
    }
    smtp_targets_fini(&targets);
}

void smtp_deliver(struct smtp *s, struct deliver_request *r)
{
    struct smtp_job job = {.s = s,
                           .r = r,
                           .rcpts = xcalloc(r->nrcpts, sizeof(*job.rcpts)),
                           .sender = r->msg.sender,
                           .header = BUF_INIT(SIZE_MAX)};
    struct smtp_conn *c = NULL;
    struct slice rest = r->msg.nexthop;
    struct slice fallback = r->msg.handover != 0 ? SLICE_EMPTY : slice_str(s->p.fallback_relay);
    struct err err = ERR_INIT;
    struct slice hop;

    for (size_t i = 0; i < r->nrcpts; i++)
        job.rcpts[i].addr = r->rcpts[i].r.addr;
    if (r->msg.handover == 0 && smtp_generic_job(&job, &err) == -1) {
        smtp_job_defer(&job, &err, SLICE_EMPTY, SLICE_LIT("none"), false);
        rest = fallback = SLICE_EMPTY;
    } else {
        c = smtp_cache_take(s->cache, r->msg.nexthop);
    }
    if (c != NULL) {
        r->connected = mono_now();
        (void) use(&job, &c); /* what it left open goes on below, on a fresh connection */
    }
    while (smtp_job_open(&job) > 0 && slice_token(&rest, ", \t", &hop))
        try_nexthop(&job, hop);
    while (smtp_job_open(&job) > 0 && slice_token(&fallback, ", \t", &hop))
        try_nexthop(&job, hop);
    for (size_t i = 0; i < r->nrcpts; i++) {
        struct smtp_rcpt *rcpt = &job.rcpts[i];

        if (!rcpt->final) {
            struct dsn_status none = {.outcome = OUTCOME_DEFERRED,
                                      .code = SLICE_LIT("4.3.5"),
                                      .text = SLICE_LIT("no next hop to try")};

            deliver_status(r, i, rcpt->has_last ? rcpt->relay : SLICE_LIT("none"), 0,
                           rcpt->has_last ? &rcpt->last : &none, rcpt->site_dead);
        }
        for (size_t k = 0; k < ARRAY_LEN(rcpt->strings); k++)
            free(rcpt->strings[k]);
    }
    free(job.rcpts);
    vec_clear(&job.mapped, free);
    vec_fini(&job.mapped);
    buf_fini(&job.header);
}
