/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr_sched_int.h - what the files of the scheduler share. */
#ifndef PR_QMGR_SCHED_INT_H
#define PR_QMGR_SCHED_INT_H

#include "base/htable.h"
#include "base/vec.h"
#include "qmgr/qmgr_sched.h"

#define FEEDBACK_ERROR 1e-9 /* sums of thirds are never quite 1 */

TAILQ_HEAD(dest_list, sched_dest);
TAILQ_HEAD(sched_job_list, sched_job);

struct sched_job {
    struct sched_dest *dest;
    struct sched_jobs *owner;
    void *message;
    enum sched_lane lane;
    struct sched_rcpt *first, **tail;
    size_t count;
    uint64_t round; /* the destination's when it got in line; another than now: it is given up */
    TAILQ_ENTRY(sched_job) of_dest;
    TAILQ_ENTRY(sched_job) of_message;
};

struct sched_dest {
    struct sched_transport *transport;
    char *key; /* next hop, and with a recipient limit of 1 the recipient behind NEXTHOP_MARK */
    size_t key_len;
    size_t nexthop_len;
    struct sched_job_list jobs[SCHED_LANES];
    struct sched_job_list given_up; /* of earlier rounds, for the caller to take */
    uint64_t round;
    const char *given_up_why;
    TAILQ_ENTRY(sched_dest) giving_up;
    bool is_ready[SCHED_LANES];
    TAILQ_ENTRY(sched_dest) ready[SCHED_LANES];
    size_t njobs;               /* in the lanes */
    struct mono_time warned;    /* 0: never */
    struct sched_job *last_job; /* where the last recipient was added, or NULL */
    unsigned busy;
    unsigned window;
    double success, failure, failed_cohorts;
    struct mono_time dead_until; /* 0: alive */
    struct mono_time not_before; /* rate delay; 0: none */
    bool is_dead_listed, is_delay_listed, is_idle;
    TAILQ_ENTRY(sched_dest) dead, delayed, idle;
    struct mono_time idle_since;
    char code[12];
    char *reason;
};

struct sched_transport {
    struct sched *sched;
    char *name;
    void *data;
    struct sched_limits limits;
    unsigned busy;
    unsigned busy_slow; /* of them: not fresh */
    struct htable *dests;
    struct dest_list ready[SCHED_LANES];
    struct dest_list idle; /* oldest first */
    struct dest_list dead;
    struct dest_list delayed;    /* the first to go on first */
    struct mono_time not_before; /* the transport's own rate delay; 0: none */
    size_t nidle;
    double slots;              /* earned and not yet used */
    enum sched_lane last_slow; /* RETRY or BULK: whose turn it was */
};

struct sched {
    struct htable *transports;
    struct vec list;
    struct dest_list giving_up; /* those of which something is given up */
    size_t nwaiting, nbusy;
};

/* qmgr_sched.c. Restores invariants 1 and 3 after a change of d. */
void sched_update(struct sched_dest *d, struct mono_time now);
bool sched_has_jobs(const struct sched_dest *d); /* in line; not what is given up */
/* qmgr_sched_jobs.c */
void sched_job_free(struct sched_job *j);

/* qmgr_sched_feedback.c. The concurrency to begin with. */
void sched_learn_anew(struct sched_dest *d);
void sched_learn_good(struct sched_dest *d); /* busy still counts the request */
void sched_learn_bad(struct sched_dest *d);
/* So many failures in a row that it is to be dead. */
bool sched_is_hopeless(const struct sched_dest *d);

#endif
