/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sched.h - a scheduler with one transport, and what tests do to it. Included by one .c each.
 */
#ifndef PR_TESTS_SCHED_H
#define PR_TESTS_SCHED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "qmgr/qmgr_sched.h"

#define MESSAGES 8
#define RCPTS    200

struct message {
    struct sched_jobs jobs;
    struct sched_rcpt rcpts[RCPTS];
    size_t used;
};

struct world {
    struct sched *s;
    struct sched_transport *t;
    struct message m[MESSAGES];
    struct mono_time now;
};

static const struct sched_limits plain = {
    .concurrency = 20,
    .recipients = 50,
    .initial = 5,
    .failed_cohorts = 1,
    .slot_cost = 5,
    .slot_discount = 50,
    .slot_loan = 3,
    .minimum_slots = 3,
    .positive = {FEEDBACK_NUMBER, 1},
    .negative = {FEEDBACK_NUMBER, 1},
};

static inline void begin(struct world *w, const struct sched_limits *limits)
{
    *w = (struct world){.s = sched_new(), .now = mono_now()};
    w->t = sched_transport(w->s, SLICE_LIT("smtp"), NULL);
    sched_transport_set_limits(w->t, limits);
    for (size_t i = 0; i < MESSAGES; i++)
        TAILQ_INIT(&w->m[i].jobs);
}

static inline void end(struct world *w)
{
    for (size_t i = 0; i < MESSAGES; i++)
        (void) sched_withdraw(&w->m[i].jobs);
    sched_free(&w->s);
    assert_null(w->s);
}

static inline struct sched_dest *dest(struct world *w, const char *nexthop)
{
    return sched_dest(w->t, slice_str(nexthop), SLICE_LIT("user@example.org"));
}

static inline void add(struct world *w, size_t message, const char *nexthop, size_t count,
                       enum sched_lane lane)
{
    struct message *m = &w->m[message];

    for (size_t i = 0; i < count; i++) {
        assert_true(m->used < RCPTS);
        sched_add(dest(w, nexthop), &m->jobs, m, lane, &m->rcpts[m->used++]);
    }
}

/* "site:message:count site:message:count ..." of everything that is ready now. */
static const char *order(struct world *w, size_t most)
{
    static char text[2000];
    struct sched_request r;
    size_t n = 0;

    text[0] = '\0';
    while (most-- > 0 && sched_next(w->t, w->now, &r))
        n += (size_t) snprintf(text + n, sizeof(text) - n, "%s%.*s:%td:%u", n > 0 ? " " : "",
                               SLICE_FMT(sched_dest_nexthop(r.dest)),
                               (struct message *) r.message - w->m, r.count);
    return text;
}

#endif
