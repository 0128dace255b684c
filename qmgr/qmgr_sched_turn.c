/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_sched_turn.c - which request of a transport is next, and what its end teaches.
 *
 * The reference lets a message with few recipients preempt one with many, as far as the latter has earned delivery slots: one for
 * every delivery_slot_cost requests. Here the messages stand in lanes, and slots are earned and spent by lane:
 *
 * - Bulk are messages that need at least minimum_delivery_slots * delivery_slot_cost requests; they stand in the bulk lane. Others
 *   are fresh mail when they are tried for the first time, else they stand in the retry lane. Bulk and retries together: slow mail.
 * - Slow requests earn 1/cost slot each. While both wait, a fresh request goes first if its job needs no more slots than there are,
 *   less discount (percent) and loan; it uses one. So a stream of fresh mail lengthens a list's delivery by no more than 1/cost, and
 *   a single message hardly ever waits for more than one request to end. Retry and bulk lane take turns.
 * - When no slow mail waits, slots count from 0 again.
 * - Slow mail never has the last of every cost + 1 processes (of 100 with cost 5: 16): however slow its destinations
 *   are, fresh mail finds an agent.
 *
 * A cost of 0 means no preemption at all: one lane, and a destination's messages go one after the other.
 */
#include "qmgr/qmgr_sched_int.h"

/* So many requests of one destination are under way only while its mail comes in quickly: more is soon there. */
#define BUSY_AT_ONCE 3

/* Requests that this job still needs. */
static size_t needs(const struct sched_job *j)
{
    size_t each = j->dest->transport->limits.recipients;

    return each == 0 ? 1 : (j->count + each - 1) / each;
}

enum sched_lane sched_settle(struct sched_jobs *jobs, enum sched_lane lane, size_t more)
{
    enum sched_lane now_in = lane;
    size_t need = more;
    struct sched_job *j;

    TAILQ_FOREACH(j, jobs, of_message)
    {
        need += needs(j);
    }
    TAILQ_FOREACH(j, jobs, of_message)
    {
        const struct sched_limits *l = &j->dest->transport->limits;
        struct sched_dest *d = j->dest;

        if (l->slot_cost == 0 || need < (size_t) l->minimum_slots * l->slot_cost)
            continue;
        now_in = SCHED_BULK;
        if (j->lane == SCHED_BULK)
            continue;
        TAILQ_REMOVE(&d->jobs[j->lane], j, of_dest);
        j->lane = SCHED_BULK;
        TAILQ_INSERT_TAIL(&d->jobs[j->lane], j, of_dest);
        sched_update(d, mono_now());
    }
    return now_in;
}

static bool slow_waits(const struct sched_transport *t)
{
    return !TAILQ_EMPTY(&t->ready[SCHED_RETRY]) || !TAILQ_EMPTY(&t->ready[SCHED_BULK]);
}

static bool slow_may(const struct sched_transport *t)
{
    unsigned n = t->limits.processes;

    return slow_waits(t) &&
           (n == 0 || t->limits.slot_cost == 0 || t->busy_slow < n - n / (t->limits.slot_cost + 1));
}

/* Has slow mail earned what the next fresh job takes? */
static bool fresh_may_preempt(const struct sched_transport *t)
{
    const struct sched_limits *l = &t->limits;
    const struct sched_dest *d = TAILQ_FIRST(&t->ready[SCHED_FRESH]);
    double need = (double) needs(TAILQ_FIRST(&d->jobs[SCHED_FRESH]));

    return t->slots + l->slot_loan + need * l->slot_discount / 100 + FEEDBACK_ERROR >= need;
}

bool sched_is_ready(const struct sched_transport *t)
{
    return (t->limits.processes == 0 || t->busy < t->limits.processes) && t->not_before.us == 0 &&
           (!TAILQ_EMPTY(&t->ready[SCHED_FRESH]) || slow_may(t));
}

/* The lane whose turn it is; something is ready. */
static enum sched_lane choose(struct sched_transport *t)
{
    enum sched_lane lane = t->last_slow == SCHED_RETRY ? SCHED_BULK : SCHED_RETRY;

    if (!slow_waits(t))
        t->slots = 0;
    if (!slow_may(t))
        return SCHED_FRESH;
    if (!TAILQ_EMPTY(&t->ready[SCHED_FRESH]) && fresh_may_preempt(t)) {
        t->slots -= 1;
        return SCHED_FRESH;
    }
    if (TAILQ_EMPTY(&t->ready[lane]))
        lane = lane == SCHED_RETRY ? SCHED_BULK : SCHED_RETRY;
    t->last_slow = lane;
    if (t->limits.slot_cost > 0) /* 0: it was another when they got in line */
        t->slots += 1.0 / t->limits.slot_cost;
    return lane;
}

bool sched_next(struct sched_transport *t, struct mono_time now, struct sched_request *out)
{
    const struct sched_limits *l = &t->limits;
    enum sched_lane lane;
    struct sched_dest *d;
    struct sched_job *j;
    struct sched_rcpt **end;

    if (!sched_is_ready(t))
        return false;
    lane = choose(t);
    d = TAILQ_FIRST(&t->ready[lane]);
    j = TAILQ_FIRST(&d->jobs[lane]);
    *out =
        (struct sched_request){.dest = d, .message = j->message, .rcpts = j->first, .lane = lane};
    for (end = &j->first; *end != NULL && (l->recipients == 0 || out->count < l->recipients);
         end = &(*end)->next)
        out->count++;
    j->count -= out->count;
    t->sched->nwaiting -= out->count;
    if (*end == NULL) {
        sched_job_free(j);
    } else {
        j->first = *end;
        *end = NULL;
        if (l->slot_cost > 0) {
            TAILQ_REMOVE(&d->jobs[lane], j, of_dest);
            TAILQ_INSERT_TAIL(&d->jobs[lane], j, of_dest);
        }
    }
    d->busy++;
    t->busy++;
    t->busy_slow += lane != SCHED_FRESH;
    t->sched->nbusy++;
    if (l->transport_rate_delay_ms > 0)
        t->not_before = mono_after_ms(now, l->transport_rate_delay_ms);
    /* to the end of the line of destinations */
    TAILQ_REMOVE(&t->ready[lane], d, ready[lane]);
    d->is_ready[lane] = false;
    sched_update(d, now);
    out->is_busy = sched_has_jobs(d) || d->busy >= BUSY_AT_ONCE;
    return true;
}

bool sched_done(const struct sched_request *r, enum sched_outcome outcome, struct mono_time now)
{
    struct sched_dest *d = r->dest;
    struct sched_transport *t = d->transport;
    bool dead = false;

    if (d->dead_until.us == 0) {
        if (outcome == SCHED_GOOD)
            sched_learn_good(d);
        else if (outcome == SCHED_BAD)
            sched_learn_bad(d);
        dead = outcome == SCHED_BAD && sched_is_hopeless(d);
    }
    d->busy--;
    t->busy--;
    t->busy_slow -= r->lane != SCHED_FRESH;
    t->sched->nbusy--;
    if (t->limits.rate_delay_ms > 0) {
        if (d->not_before.us !=
            0) { /* it was set under an older limit: at the end of the line again */
            d->not_before.us = 0;
            sched_update(d, now);
        }
        d->not_before = mono_after_ms(now, t->limits.rate_delay_ms);
    }
    sched_update(d, now);
    return dead;
}
