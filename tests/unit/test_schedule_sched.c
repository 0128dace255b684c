/* SPDX-License-Identifier: Apache-2.0 */
/* test_schedule_sched.c - the scheduler: turns, limits, feedback, dead destinations. */
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

static void begin(struct world *w, const struct sched_limits *limits)
{
    *w = (struct world){.s = sched_new(), .now = mono_now()};
    w->t = sched_transport(w->s, SLICE_LIT("smtp"), NULL);
    sched_transport_set_limits(w->t, limits);
    for (size_t i = 0; i < MESSAGES; i++)
        TAILQ_INIT(&w->m[i].jobs);
}

static void end(struct world *w)
{
    for (size_t i = 0; i < MESSAGES; i++)
        (void) sched_withdraw(&w->m[i].jobs);
    sched_free(&w->s);
    assert_null(w->s);
}

static struct sched_dest *dest(struct world *w, const char *nexthop)
{
    return sched_dest(w->t, slice_str(nexthop), SLICE_LIT("user@example.org"));
}

static void add(struct world *w, size_t message, const char *nexthop, size_t count,
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

static void destinations_take_turns(void **state)
{
    struct world w;

    (void) state;
    begin(&w, &plain);
    add(&w, 0, "a", 1, SCHED_FRESH);
    add(&w, 1, "a", 1, SCHED_FRESH);
    add(&w, 2, "a", 1, SCHED_FRESH);
    add(&w, 3, "b", 1, SCHED_FRESH);
    add(&w, 4, "c", 1, SCHED_FRESH);
    assert_string_equal(order(&w, 100), "a:0:1 b:3:1 c:4:1 a:1:1 a:2:1");
    end(&w);
}

static void messages_take_turns(void **state)
{
    struct world w;
    struct sched_limits limits = plain;

    (void) state;
    limits.recipients = 2;
    begin(&w, &limits);
    add(&w, 0, "a", 5, SCHED_FRESH);
    add(&w, 1, "a", 3, SCHED_FRESH);
    assert_string_equal(order(&w, 100), "a:0:2 a:1:2 a:0:2 a:1:1 a:0:1");
    end(&w);
}

static void bulk_does_not_delay_small(void **state)
{
    struct world w;
    struct sched_limits limits = plain;
    char site[16];

    (void) state;
    limits.recipients = 1;
    begin(&w, &limits);
    for (int i = 0; i < 100; i++) {
        snprintf(site, sizeof(site), "s%d", i);
        add(&w, 0, site, 1, SCHED_BULK);
    }
    add(&w, 1, "z", 1, SCHED_FRESH);
    assert_string_equal(order(&w, 2), "z:1:1 s0:0:1");
    end(&w);
}

static void recipient_limit_both_sides(void **state)
{
    static const struct {
        unsigned limit;
        size_t rcpts;
        const char *wanted;
    } cases[] = {
        {3, 2, "a:0:2"},
        {3, 3, "a:0:3"},
        {3, 4, "a:0:3 a:0:1"},
        {0, 100, "a:0:100"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world w;
        struct sched_limits limits = plain;

        limits.recipients = cases[i].limit;
        begin(&w, &limits);
        add(&w, 0, "a", cases[i].rcpts, SCHED_FRESH);
        assert_string_equal(order(&w, 100), cases[i].wanted);
        end(&w);
    }
}

static void one_recipient_is_a_destination(void **state)
{
    struct world w;
    struct sched_limits limits = plain;
    struct sched_dest *a;

    (void) state;
    limits.recipients = 1;
    begin(&w, &limits);
    a = sched_dest(w.t, SLICE_LIT("site"), SLICE_LIT("a@site"));
    assert_ptr_equal(a, sched_dest(w.t, SLICE_LIT("SITE"), SLICE_LIT("a@site")));
    assert_ptr_not_equal(a, sched_dest(w.t, SLICE_LIT("site"), SLICE_LIT("b@site")));
    assert_true(slice_eq_str(sched_dest_nexthop(a), "site"));
    end(&w);
}

static void concurrency_grows_by_success(void **state)
{
    struct world w;
    struct sched_limits limits = plain;
    struct sched_request r[60];
    size_t n = 0;

    (void) state;
    limits.recipients = 2;
    limits.initial = 2;
    limits.concurrency = 4;
    begin(&w, &limits);
    add(&w, 0, "a", 100, SCHED_FRESH);
    while (sched_next(w.t, w.now, &r[n]))
        n++;
    assert_int_equal(n, 2);
    assert_false(sched_done(&r[0], SCHED_GOOD, w.now));
    n = 1;
    while (sched_next(w.t, w.now, &r[n]))
        n++;
    assert_int_equal(n, 3);
    for (int i = 0; i < 10; i++) {
        (void) sched_done(&r[0], SCHED_GOOD, w.now);
        n--;
        while (sched_next(w.t, w.now, &r[0]))
            n++;
    }
    assert_int_equal(n, 4); /* the limit */
    end(&w);
}

static void failures_kill(void **state)
{
    struct world w;
    struct sched_request r[6];
    size_t n = 0;
    void *message;

    (void) state;
    begin(&w, &plain);
    for (size_t i = 0; i < 7; i++)
        add(&w, i, "a", 1, SCHED_FRESH);
    while (n < 6 && sched_next(w.t, w.now, &r[n]))
        n++;
    assert_int_equal(n, 5);
    /* 1/5 + 1/4 + 1/3 = 0.78; with 1/2 it is over one cohort */
    assert_false(sched_done(&r[0], SCHED_BAD, w.now));
    assert_false(sched_done(&r[1], SCHED_BAD, w.now));
    assert_false(sched_done(&r[2], SCHED_BAD, w.now));
    assert_true(sched_done(&r[3], SCHED_BAD, w.now));
    sched_dest_set_reason(r[3].dest, SLICE_LIT("4.4.1"), SLICE_LIT("connect to a: refused"));
    sched_dest_kill(r[3].dest, mono_after_ms(w.now, 5000));
    assert_true(sched_dest_is_dead(r[3].dest));
    assert_false(sched_is_ready(w.t));
    assert_true(slice_eq_str(sched_dest_reason_text(r[3].dest), "connect to a: refused"));
    assert_non_null(sched_dest_take(r[3].dest, &message));
    assert_ptr_equal(message, &w.m[5]);
    (void) sched_done(&r[4], SCHED_BAD, w.now); /* says nothing new */
    sched_tick(w.s, mono_after_ms(w.now, 4999));
    assert_false(sched_is_ready(w.t));
    sched_tick(w.s, mono_after_ms(w.now, 5000));
    assert_true(sched_is_ready(w.t));
    end(&w);
}

static void never_dead_with_limit_zero(void **state)
{
    struct world w;
    struct sched_limits limits = plain;
    struct sched_request r;

    (void) state;
    limits.failed_cohorts = 0;
    begin(&w, &limits);
    add(&w, 0, "a", 200, SCHED_FRESH);
    for (int i = 0; i < 4; i++) {
        assert_true(sched_next(w.t, w.now, &r));
        assert_false(sched_done(&r, SCHED_BAD, w.now));
    }
    end(&w);
}

static void other_destinations_live(void **state)
{
    struct world w;

    (void) state;
    begin(&w, &plain);
    add(&w, 0, "dead", 1, SCHED_FRESH);
    add(&w, 1, "alive", 1, SCHED_FRESH);
    sched_dest_kill(dest(&w, "dead"), mono_after_ms(w.now, 5000));
    assert_string_equal(order(&w, 10), "alive:1:1");
    sched_revive_all(w.s);
    assert_string_equal(order(&w, 10), "dead:0:1");
    end(&w);
}

static void process_limit(void **state)
{
    struct world w;
    struct sched_limits limits = plain;
    struct sched_request r;
    struct sched_request second;
    struct sched_request third;

    (void) state;
    limits.processes = 2;
    begin(&w, &limits);
    add(&w, 0, "a", 1, SCHED_FRESH);
    add(&w, 1, "b", 1, SCHED_FRESH);
    add(&w, 2, "c", 1, SCHED_FRESH);
    assert_true(sched_next(w.t, w.now, &r));
    assert_true(sched_next(w.t, w.now, &second));
    assert_false(sched_is_ready(w.t));
    assert_false(sched_next(w.t, w.now, &third));
    (void) sched_done(&r, SCHED_NEUTRAL, w.now);
    assert_string_equal(order(&w, 10), "c:2:1");
    end(&w);
}

/* A connection is kept while more waits, or while requests overlap, so that more is soon there. */
static void a_busy_destination_is_told(void **state)
{
    struct world w;
    struct sched_request r[5];
    static const bool wanted[] = {true, false, true, true, false};

    (void) state;
    begin(&w, &plain);
    add(&w, 0, "a", 1, SCHED_FRESH);
    add(&w, 1, "a", 1, SCHED_FRESH);
    for (size_t i = 0; i < 2; i++) {
        assert_true(sched_next(w.t, w.now, &r[i]));
        assert_int_equal(r[i].is_busy, wanted[i]);
    }
    for (size_t i = 2; i < 4; i++) {
        add(&w, i, "a", 1, SCHED_FRESH);
        assert_true(sched_next(w.t, w.now, &r[i]));
        assert_int_equal(r[i].is_busy, wanted[i]);
    }
    for (size_t i = 0; i < 3; i++)
        (void) sched_done(&r[i], SCHED_GOOD, w.now);
    add(&w, 0, "a", 1, SCHED_FRESH);
    assert_true(sched_next(w.t, w.now, &r[4]));
    assert_int_equal(r[4].is_busy, wanted[4]);
    (void) sched_done(&r[3], SCHED_GOOD, w.now);
    (void) sched_done(&r[4], SCHED_GOOD, w.now);
    end(&w);
}

static void put_back_comes_first(void **state)
{
    struct world w;
    struct sched_limits limits = plain;
    struct sched_request r;
    size_t waiting;
    size_t busy;

    (void) state;
    limits.recipients = 2;
    begin(&w, &limits);
    add(&w, 0, "a", 2, SCHED_FRESH);
    add(&w, 1, "a", 2, SCHED_FRESH);
    assert_true(sched_next(w.t, w.now, &r));
    assert_true(r.is_busy);
    sched_put_back(r.dest, &w.m[0].jobs, &w.m[0], SCHED_FRESH, r.rcpts);
    (void) sched_done(&r, SCHED_NEUTRAL, w.now);
    sched_counts(w.s, &waiting, &busy);
    assert_int_equal(waiting, 4);
    assert_int_equal(busy, 0);
    assert_string_equal(order(&w, 10), "a:0:2 a:1:2");
    end(&w);
}

static void withdraw_takes_all_of_one_message(void **state)
{
    struct world w;
    size_t n = 0;

    (void) state;
    begin(&w, &plain);
    add(&w, 0, "a", 3, SCHED_FRESH);
    add(&w, 1, "a", 1, SCHED_FRESH);
    add(&w, 0, "b", 2, SCHED_FRESH);
    for (struct sched_rcpt *r = sched_withdraw(&w.m[0].jobs); r != NULL; r = r->next)
        n++;
    assert_int_equal(n, 5);
    assert_string_equal(order(&w, 10), "a:1:1");
    end(&w);
}

static void rate_delay(void **state)
{
    struct world w;
    struct sched_limits limits = plain;
    struct sched_request r;

    (void) state;
    limits.rate_delay_ms = 1000;
    limits.recipients = 2;
    begin(&w, &limits);
    add(&w, 0, "a", 6, SCHED_FRESH);
    assert_true(sched_next(w.t, w.now, &r));
    assert_false(sched_next(w.t, w.now, &r));
    assert_int_equal(sched_delayed_until(w.s).us, 0); /* counts from the end of a delivery */
    (void) sched_done(&r, SCHED_GOOD, w.now);
    assert_false(sched_is_ready(w.t));
    assert_int_equal(sched_delayed_until(w.s).us, mono_after_ms(w.now, 1000).us);
    sched_tick(w.s, mono_after_ms(w.now, 999));
    assert_false(sched_is_ready(w.t));
    sched_tick(w.s, mono_after_ms(w.now, 1000));
    assert_true(sched_next(w.t, w.now, &r));
    assert_false(sched_is_ready(w.t));
    end(&w);
}

/* The delay outlives the time for which idle destinations are remembered. */
static void rate_delay_of_an_idle_destination(void **state)
{
    struct world w;
    struct sched_limits limits = plain;
    struct sched_request r;

    (void) state;
    limits.rate_delay_ms = 300000;
    begin(&w, &limits);
    add(&w, 0, "a", 1, SCHED_FRESH);
    assert_true(sched_next(w.t, w.now, &r));
    (void) sched_done(&r, SCHED_GOOD, w.now);
    sched_tick(w.s, mono_after_ms(w.now, 290000));
    add(&w, 1, "a", 1, SCHED_FRESH);
    assert_false(sched_is_ready(w.t));
    sched_tick(w.s, mono_after_ms(w.now, 300000));
    assert_true(sched_is_ready(w.t));
    end(&w);
}

static void transport_rate_delay(void **state)
{
    struct world w;
    struct sched_limits limits = plain;
    struct sched_request r;

    (void) state;
    limits.transport_rate_delay_ms = 2000;
    begin(&w, &limits);
    add(&w, 0, "a", 1, SCHED_FRESH);
    add(&w, 1, "b", 1, SCHED_FRESH);
    assert_true(sched_next(w.t, w.now, &r));
    assert_false(sched_is_ready(w.t)); /* another destination's, too */
    assert_int_equal(sched_delayed_until(w.s).us, mono_after_ms(w.now, 2000).us);
    sched_tick(w.s, mono_after_ms(w.now, 1999));
    assert_false(sched_is_ready(w.t));
    sched_tick(w.s, mono_after_ms(w.now, 2000));
    assert_true(sched_next(w.t, w.now, &r)); /* the first may be under way yet */
    limits.transport_rate_delay_ms = 0;
    sched_transport_set_limits(w.t, &limits);
    add(&w, 2, "c", 1, SCHED_FRESH);
    assert_true(sched_is_ready(w.t));
    end(&w);
}

/* Bulk 0, and fresh messages 1..7 for other sites: who goes, in requests. */
static void slots_and_their_parameters(void **state)
{
    static const struct {
        const char *name;
        unsigned cost, discount, loan;
        unsigned fresh_rcpts; /* of each message, all for one site, one a request */
        const char *wanted;   /* B bulk, f fresh */
    } cases[] = {
        {"the loan, then one for five", 5, 0, 3, 1, "fffBBBBBfBBBBBfBBBBBf"},
        {"no loan", 5, 0, 0, 1, "BBBBBfBBBBBfBBBBBf"},
        {"gives way most", 2, 0, 0, 1, "BBfBBfBBf"},
        {"half in advance", 2, 50, 0, 2, "BBfBBfBBf"},
        {"all earned before", 2, 0, 0, 2, "BBBBfBBfBBf"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world w;
        struct sched_limits limits = plain;
        struct sched_request r;
        char got[40] = "";
        char site[16];

        limits.slot_cost = cases[i].cost;
        limits.slot_discount = cases[i].discount;
        limits.slot_loan = cases[i].loan;
        limits.recipients = 1;
        limits.initial = 20;
        begin(&w, &limits);
        for (unsigned n = 0; n < 100; n++) {
            snprintf(site, sizeof(site), "bulk%u", n);
            add(&w, 0, site, 1, SCHED_BULK);
        }
        for (unsigned n = 1; n < MESSAGES; n++)
            for (unsigned k = 0; k < cases[i].fresh_rcpts; k++) {
                struct message *m = &w.m[n];

                snprintf(site, sizeof(site), "site%u", n);
                sched_add(sched_dest(w.t, slice_str(site), SLICE_LIT("one")), &m->jobs, m,
                          SCHED_FRESH, &m->rcpts[m->used++]);
            }
        for (size_t n = 0; n < strlen(cases[i].wanted); n++) {
            assert_true(sched_next(w.t, w.now, &r));
            got[n] = r.lane == SCHED_BULK ? 'B' : 'f';
        }
        if (strcmp(got, cases[i].wanted) != 0)
            fail_msg("%s: got %s, wanted %s", cases[i].name, got, cases[i].wanted);
        end(&w);
    }
}

static void earned_slots_end_with_the_bulk(void **state)
{
    struct world w;
    struct sched_limits limits = plain;

    (void) state;
    limits.slot_loan = limits.slot_discount = 0;
    limits.slot_cost = 2;
    limits.recipients = 50;
    begin(&w, &limits);
    for (int i = 0; i < 4; i++)
        add(&w, 0, (const char *[]){"a", "b", "c", "d"}[i], 1, SCHED_BULK);
    assert_string_equal(order(&w, 10), "a:0:1 b:0:1 c:0:1 d:0:1"); /* earns two */
    add(&w, 1, "x", 1, SCHED_FRESH);
    assert_string_equal(order(&w, 10), "x:1:1"); /* nothing slow waits: free of charge */
    add(&w, 0, "e", 1, SCHED_BULK);
    add(&w, 0, "f", 1, SCHED_BULK);
    add(&w, 2, "y", 1, SCHED_FRESH);
    assert_string_equal(order(&w, 10), "e:0:1 f:0:1 y:2:1");
    end(&w);
}

static void cost_zero_is_no_preemption(void **state)
{
    struct world w;
    struct sched_limits limits = plain;

    (void) state;
    limits.slot_cost = 0;
    limits.recipients = 2;
    begin(&w, &limits);
    add(&w, 0, "a", 6, SCHED_FRESH);
    assert_int_equal(sched_settle(&w.m[0].jobs, SCHED_FRESH, 1000), SCHED_FRESH);
    add(&w, 1, "a", 2, SCHED_RETRY);
    assert_string_equal(order(&w, 10), "a:0:2 a:0:2 a:0:2 a:1:2");
    end(&w);
}

/* minimum_slots * cost requests make a message bulk: 3 * 5. */
static void what_is_bulk(void **state)
{
    static const struct {
        unsigned recipients; /* in a request */
        size_t rcpts, more;
        enum sched_lane lane, wanted;
    } cases[] = {
        {1, 14, 0, SCHED_FRESH, SCHED_FRESH},  {1, 15, 0, SCHED_FRESH, SCHED_BULK},
        {1, 14, 0, SCHED_RETRY, SCHED_RETRY},  {1, 14, 1, SCHED_RETRY, SCHED_BULK},
        {2, 28, 0, SCHED_FRESH, SCHED_FRESH},  {2, 29, 0, SCHED_FRESH, SCHED_BULK},
        {0, 199, 0, SCHED_FRESH, SCHED_FRESH},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world w;
        struct sched_limits limits = plain;
        struct sched_request r;
        enum sched_lane got;

        limits.recipients = cases[i].recipients;
        begin(&w, &limits);
        for (size_t n = 0; n < cases[i].rcpts; n++)
            sched_add(sched_dest(w.t, SLICE_LIT("a"), SLICE_LIT("r")), &w.m[0].jobs, &w.m[0],
                      cases[i].lane, &w.m[0].rcpts[n]);
        got = sched_settle(&w.m[0].jobs, cases[i].lane, cases[i].more);
        if (got != cases[i].wanted)
            fail_msg("case %zu: lane %d, wanted %d", i, got, cases[i].wanted);
        assert_true(sched_next(w.t, w.now, &r));
        assert_int_equal(r.lane, cases[i].wanted);
        end(&w);
    }
}

/* Of 12 processes with cost 5, slow mail may have 10. */
static void fresh_mail_finds_a_process(void **state)
{
    struct world w;
    struct sched_limits limits = plain;
    struct sched_request r[12];
    size_t n = 0;

    (void) state;
    limits.processes = 12;
    limits.recipients = 1;
    begin(&w, &limits);
    for (int i = 0; i < 100; i++) {
        char site[16];

        snprintf(site, sizeof(site), "slow%d", i);
        add(&w, 0, site, 1, i % 2 == 0 ? SCHED_BULK : SCHED_RETRY);
    }
    while (n < 12 && sched_next(w.t, w.now, &r[n]))
        n++;
    assert_int_equal(n, 10);
    assert_int_equal(r[0].lane, SCHED_RETRY); /* they take turns */
    assert_int_equal(r[1].lane, SCHED_BULK);
    assert_int_equal(r[2].lane, SCHED_RETRY);
    add(&w, 1, "x", 1, SCHED_FRESH);
    add(&w, 2, "y", 1, SCHED_FRESH);
    add(&w, 3, "z", 1, SCHED_FRESH);
    assert_string_equal(order(&w, 100), "x:1:1 y:2:1");
    (void) sched_done(&r[0], SCHED_GOOD, w.now);
    assert_string_equal(order(&w, 100), "z:3:1"); /* by the loan */
    (void) sched_done(&r[1], SCHED_GOOD, w.now);
    assert_true(sched_next(w.t, w.now, &r[1]));
    assert_int_not_equal(r[1].lane, SCHED_FRESH);
    end(&w);
}

/* The concurrency falls at the beginning of a run of failures, and rises at the end of a run of successes. */
static void feedback_hysteresis(void **state)
{
    struct world w;
    struct sched_limits limits = plain;
    struct sched_request r[20];
    struct sched_dest_info info;
    size_t n = 0;
    static const struct {
        enum sched_outcome outcome;
        unsigned wanted;
    } steps[] = {
        {SCHED_GOOD, 8},    {SCHED_GOOD, 9},                                 /* 1/2 each */
        {SCHED_BAD, 8},     {SCHED_BAD, 8},  {SCHED_BAD, 8}, {SCHED_BAD, 8}, /* 1/4 each */
        {SCHED_BAD, 7},     {SCHED_GOOD, 7}, {SCHED_BAD, 7}, {SCHED_GOOD, 8},
        {SCHED_NEUTRAL, 8}, {SCHED_BAD, 7},
    };

    (void) state;
    limits.initial = 8;
    limits.recipients = 2;
    limits.failed_cohorts = 100;
    limits.positive = (struct sched_feedback){FEEDBACK_NUMBER, 0.5};
    limits.negative = (struct sched_feedback){FEEDBACK_NUMBER, 0.25};
    begin(&w, &limits);
    add(&w, 0, "a", 199, SCHED_FRESH);
    while (n < 20 && sched_next(w.t, w.now, &r[n]))
        n++;
    assert_int_equal(n, 8);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        (void) sched_done(&r[0], steps[i].outcome, w.now);
        sched_dest_info(r[0].dest, &info);
        if (info.window != steps[i].wanted)
            fail_msg("step %zu: window %u, wanted %u", i, info.window, steps[i].wanted);
        while (sched_next(w.t, w.now, &r[0]))
            n++;
    }
    end(&w);
}

/* What is not used does not grow. */
static void no_feedback_without_load(void **state)
{
    struct world w;
    struct sched_limits limits = plain;
    struct sched_request r;
    struct sched_dest_info info;

    (void) state;
    limits.initial = 2;
    begin(&w, &limits);
    for (size_t i = 0; i < 7; i++) {
        add(&w, i, "a", 1, SCHED_FRESH);
        assert_true(sched_next(w.t, w.now, &r));
        (void) sched_done(&r, SCHED_GOOD, w.now);
    }
    sched_dest_info(r.dest, &info);
    assert_int_equal(info.window, 3); /* less than busy + initial: once */
    end(&w);
}

static void feedback_values(void **state)
{
    static const struct {
        const char *text;
        int ret;
        enum sched_feedback_kind kind;
        double number;
    } cases[] = {
        {"1", 0, FEEDBACK_NUMBER, 1},
        {"0.25", 0, FEEDBACK_NUMBER, 0.25},
        {"0", 0, FEEDBACK_NUMBER, 0},
        {"1/concurrency", 0, FEEDBACK_CONCURRENCY, 1},
        {" 0.5 / sqrt_concurrency ", 0, FEEDBACK_SQRT_CONCURRENCY, 0.5},
        {"1/4", 0, FEEDBACK_NUMBER, 0.25},
        {"3 / 4", 0, FEEDBACK_NUMBER, 0.75},
        {"5/4", -1, 0, 0},
        {"1/0", -1, 0, 0},
        {"1/-2", -1, 0, 0},
        {"2/concurrency", -1, 0, 0},
        {"1.01", -1, 0, 0},
        {"-0.1", -1, 0, 0},
        {"", -1, 0, 0},
        {"1/square", -1, 0, 0},
        {"nan", -1, 0, 0},
        {"x", -1, 0, 0},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sched_feedback f = {0};
        struct err err = ERR_INIT;
        int ret = sched_feedback_parse(slice_str(cases[i].text), &f, &err);

        if (ret != cases[i].ret || f.kind != cases[i].kind || f.numerator != cases[i].number)
            fail_msg("%s: got %d %d %g, wanted %d %d %g", cases[i].text, ret, f.kind, f.numerator,
                     cases[i].ret, cases[i].kind, cases[i].number);
    }
}

static void feedback_by_concurrency(void **state)
{
    struct world w;
    struct sched_limits limits = plain;
    struct sched_request r;
    int starts = 0;

    (void) state;
    limits.initial = 1;
    limits.recipients = 1;
    limits.concurrency = 0;
    limits.positive = (struct sched_feedback){FEEDBACK_CONCURRENCY, 1};
    begin(&w, &limits);
    for (size_t i = 0; i < 20; i++)
        sched_add(sched_dest(w.t, SLICE_LIT("a"), SLICE_LIT("r")), &w.m[0].jobs, &w.m[0],
                  SCHED_FRESH, &w.m[0].rcpts[i]);
    /* window 1: one success makes it 2; then two are needed for 3 */
    while (sched_next(w.t, w.now, &r))
        starts++;
    assert_int_equal(starts, 1);
    (void) sched_done(&r, SCHED_GOOD, w.now);
    starts = 0;
    while (sched_next(w.t, w.now, &r))
        starts++;
    assert_int_equal(starts, 2);
    (void) sched_done(&r, SCHED_GOOD, w.now);
    starts = 0;
    while (sched_next(w.t, w.now, &r))
        starts++;
    assert_int_equal(starts, 1);
    (void) sched_done(&r, SCHED_GOOD, w.now);
    starts = 0;
    while (sched_next(w.t, w.now, &r))
        starts++;
    assert_int_equal(starts, 2);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(destinations_take_turns),
        cmocka_unit_test(messages_take_turns),
        cmocka_unit_test(bulk_does_not_delay_small),
        cmocka_unit_test(recipient_limit_both_sides),
        cmocka_unit_test(one_recipient_is_a_destination),
        cmocka_unit_test(concurrency_grows_by_success),
        cmocka_unit_test(failures_kill),
        cmocka_unit_test(never_dead_with_limit_zero),
        cmocka_unit_test(other_destinations_live),
        cmocka_unit_test(process_limit),
        cmocka_unit_test(a_busy_destination_is_told),
        cmocka_unit_test(put_back_comes_first),
        cmocka_unit_test(withdraw_takes_all_of_one_message),
        cmocka_unit_test(rate_delay),
        cmocka_unit_test(rate_delay_of_an_idle_destination),
        cmocka_unit_test(transport_rate_delay),
        cmocka_unit_test(slots_and_their_parameters),
        cmocka_unit_test(earned_slots_end_with_the_bulk),
        cmocka_unit_test(cost_zero_is_no_preemption),
        cmocka_unit_test(what_is_bulk),
        cmocka_unit_test(fresh_mail_finds_a_process),
        cmocka_unit_test(feedback_hysteresis),
        cmocka_unit_test(no_feedback_without_load),
        cmocka_unit_test(feedback_values),
        cmocka_unit_test(feedback_by_concurrency),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
