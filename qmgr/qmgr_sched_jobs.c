/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_sched_jobs.c - see qmgr_sched.h: recipients get in line for a destination, leave the line, are given up.
 *
 * Giving up takes the same time however much waits: the lanes' jobs become one list, and the destination's round is raised, so that
 * they are known as what waited before. What is added later has the new round and stands in the lanes as ever, whatever becomes of
 * the destination meanwhile.
 */
#include <stdlib.h>

#include "qmgr/qmgr_sched_int.h"

static bool is_given_up(const struct sched_job *j)
{
    return j->round != j->dest->round;
}

static struct sched_job_list *list_of(struct sched_job *j)
{
    return is_given_up(j) ? &j->dest->given_up : &j->dest->jobs[j->lane];
}

void sched_job_free(struct sched_job *j)
{
    struct sched_dest *d = j->dest;

    TAILQ_REMOVE(list_of(j), j, of_dest);
    TAILQ_REMOVE(j->owner, j, of_message);
    if (d->last_job == j)
        d->last_job = NULL;
    if (!is_given_up(j))
        d->njobs--;
    else if (TAILQ_EMPTY(&d->given_up))
        TAILQ_REMOVE(&d->transport->sched->giving_up, d, giving_up);
    free(j);
}

static struct sched_job *job_new(struct sched_dest *d, struct sched_jobs *jobs, void *message,
                                 enum sched_lane lane, bool in_front)
{
    struct sched_job *j = xcalloc(1, sizeof(*j));

    j->dest = d;
    j->owner = jobs;
    j->message = message;
    j->round = d->round;
    j->lane = d->transport->limits.slot_cost == 0 ? SCHED_FRESH : lane;
    j->tail = &j->first;
    if (in_front)
        TAILQ_INSERT_HEAD(&d->jobs[j->lane], j, of_dest);
    else
        TAILQ_INSERT_TAIL(&d->jobs[j->lane], j, of_dest);
    TAILQ_INSERT_TAIL(jobs, j, of_message);
    d->njobs++;
    return j;
}

void sched_add(struct sched_dest *d, struct sched_jobs *jobs, void *message, enum sched_lane lane,
               struct sched_rcpt *r)
{
    struct sched_job *j = d->last_job;

    if (j == NULL || j->message != message)
        j = d->last_job = job_new(d, jobs, message, lane, false);
    r->next = NULL;
    *j->tail = r;
    j->tail = &r->next;
    j->count++;
    d->transport->sched->nwaiting++;
    sched_update(d, mono_now());
}

void sched_put_back(struct sched_dest *d, struct sched_jobs *jobs, void *message,
                    enum sched_lane lane, struct sched_rcpt *first)
{
    struct sched_job *j;

    if (first == NULL)
        return;
    j = job_new(d, jobs, message, lane, true);
    j->first = first;
    for (struct sched_rcpt *r = first; r != NULL; r = r->next) {
        j->tail = &r->next;
        j->count++;
    }
    d->transport->sched->nwaiting += j->count;
    sched_update(d, mono_now());
}

struct sched_rcpt *sched_withdraw(struct sched_jobs *jobs)
{
    struct sched_rcpt *all = NULL;
    struct sched_rcpt **tail = &all;
    struct sched_job *j;

    while ((j = TAILQ_FIRST(jobs)) != NULL) {
        struct sched_dest *d = j->dest;

        *tail = j->first;
        tail = j->tail;
        d->transport->sched->nwaiting -= j->count;
        sched_job_free(j);
        sched_update(d, mono_now());
    }
    return all;
}

/* --- given up ------------------------------------------------------------------------------------ */

void sched_dest_give_up(struct sched_dest *d, const char *why)
{
    bool is_listed = !TAILQ_EMPTY(&d->given_up);

    for (unsigned i = 0; i < SCHED_LANES; i++)
        TAILQ_CONCAT(&d->given_up, &d->jobs[i], of_dest);
    d->round++;
    d->njobs = 0;
    d->last_job = NULL;
    d->given_up_why = why;
    if (!is_listed && !TAILQ_EMPTY(&d->given_up))
        TAILQ_INSERT_TAIL(&d->transport->sched->giving_up, d, giving_up);
    sched_update(d, mono_now());
}

bool sched_take_given_up(struct sched *s, struct sched_given_up *out)
{
    struct sched_dest *d = TAILQ_FIRST(&s->giving_up);
    struct sched_job *j;
    struct sched_rcpt *r;

    if (d == NULL)
        return false;
    j = TAILQ_FIRST(&d->given_up);
    r = j->first;
    *out = (struct sched_given_up){d, j->message, r, d->given_up_why};
    j->first = r->next;
    j->count--;
    s->nwaiting--;
    r->next = NULL;
    if (j->first == NULL) {
        sched_job_free(j);
        sched_update(d, mono_now());
    }
    return true;
}

bool sched_is_given_up(const struct sched_jobs *jobs)
{
    const struct sched_job *j;

    TAILQ_FOREACH(j, jobs, of_message)
    {
        if (is_given_up(j))
            return true;
    }
    return false;
}
