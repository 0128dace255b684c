/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr_deliver_int.h - what the files of delivery share: a transport, with its agents and what is wrong with them. */
#ifndef PR_QMGR_DELIVER_INT_H
#define PR_QMGR_DELIVER_INT_H

#include "qmgr/qmgr_int.h"

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

/* --- qmgr_deliver.c */

extern const struct link_events deliver_link_events;

/* --- qmgr_deliver_service.c */

/* Finds or makes. */
struct agents *agents_of(struct qmgr *q, struct slice transport);
/* Whatever was wrong with the service, it is tried again. */
void agents_revive(struct agents *a);
/* No connection, or one broke off. */
void agents_failed(struct agents *a, const char *why);

/* --- qmgr_deliver_clog.c */

/* A message got in line for d: warns if the active queue is full of such. */
void clog_check(const struct agents *a, struct sched_dest *d);

/* --- qmgr_deliver_line.c */

/* The destination is dead from now on, and what waits for it given up. schedule: of what failed last; NULL: by age. */
void line_kill_dest(struct agents *a, struct sched_dest *d, const struct retry_schedule *schedule);
/* Defers some of what was given up. True: there may be more. */
bool line_defer_given_up(struct qmgr *q);

#endif
