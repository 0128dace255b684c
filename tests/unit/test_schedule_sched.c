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

static void add(struct world *w, size_t message, const char *nexthop, size_t count, bool bulk)
{
    struct message *m = &w->m[message];

    for (size_t i = 0; i < count; i++) {
        assert_true(m->used < RCPTS);
        sched_add(dest(w, nexthop), &m->jobs, m, bulk, &m->rcpts[m->used++]);
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
    add(&w, 0, "a", 1, false);
    add(&w, 1, "a", 1, false);
    add(&w, 2, "a", 1, false);
    add(&w, 3, "b", 1, false);
    add(&w, 4, "c", 1, false);
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
    add(&w, 0, "a", 5, false);
    add(&w, 1, "a", 3, false);
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
        add(&w, 0, site, 1, true);
    }
    add(&w, 1, "z", 1, false);
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
        add(&w, 0, "a", cases[i].rcpts, false);
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
    add(&w, 0, "a", 100, false);
    while (sched_next(w.t, w.now, &r[n]))
        n++;
    assert_int_equal(n, 2);
    assert_false(sched_done(r[0].dest, SCHED_GOOD, w.now));
    n = 1;
    while (sched_next(w.t, w.now, &r[n]))
        n++;
    assert_int_equal(n, 3);
    for (int i = 0; i < 10; i++) {
        (void) sched_done(r[0].dest, SCHED_GOOD, w.now);
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
        add(&w, i, "a", 1, false);
    while (n < 6 && sched_next(w.t, w.now, &r[n]))
        n++;
    assert_int_equal(n, 5);
    /* 1/5 + 1/4 + 1/3 = 0.78; with 1/2 it is over one cohort */
    assert_false(sched_done(r[0].dest, SCHED_BAD, w.now));
    assert_false(sched_done(r[1].dest, SCHED_BAD, w.now));
    assert_false(sched_done(r[2].dest, SCHED_BAD, w.now));
    assert_true(sched_done(r[3].dest, SCHED_BAD, w.now));
    sched_dest_set_reason(r[3].dest, SLICE_LIT("4.4.1"), SLICE_LIT("connect to a: refused"));
    sched_dest_kill(r[3].dest, mono_after_ms(w.now, 5000));
    assert_true(sched_dest_is_dead(r[3].dest));
    assert_false(sched_is_ready(w.t));
    assert_true(slice_eq_str(sched_dest_reason_text(r[3].dest), "connect to a: refused"));
    assert_non_null(sched_dest_take(r[3].dest, &message));
    assert_ptr_equal(message, &w.m[5]);
    (void) sched_done(r[4].dest, SCHED_BAD, w.now); /* says nothing new */
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
    add(&w, 0, "a", 200, false);
    for (int i = 0; i < 4; i++) {
        assert_true(sched_next(w.t, w.now, &r));
        assert_false(sched_done(r.dest, SCHED_BAD, w.now));
    }
    end(&w);
}

static void other_destinations_live(void **state)
{
    struct world w;

    (void) state;
    begin(&w, &plain);
    add(&w, 0, "dead", 1, false);
    add(&w, 1, "alive", 1, false);
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

    (void) state;
    limits.processes = 2;
    begin(&w, &limits);
    add(&w, 0, "a", 1, false);
    add(&w, 1, "b", 1, false);
    add(&w, 2, "c", 1, false);
    assert_true(sched_next(w.t, w.now, &r));
    assert_true(sched_next(w.t, w.now, &r));
    assert_false(sched_is_ready(w.t));
    assert_false(sched_next(w.t, w.now, &r));
    (void) sched_done(dest(&w, "a"), SCHED_NEUTRAL, w.now);
    assert_string_equal(order(&w, 10), "c:2:1");
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
    add(&w, 0, "a", 2, false);
    add(&w, 1, "a", 2, false);
    assert_true(sched_next(w.t, w.now, &r));
    assert_true(r.more);
    sched_put_back(r.dest, &w.m[0].jobs, &w.m[0], false, r.rcpts);
    (void) sched_done(r.dest, SCHED_NEUTRAL, w.now);
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
    add(&w, 0, "a", 3, false);
    add(&w, 1, "a", 1, false);
    add(&w, 0, "b", 2, false);
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
    add(&w, 0, "a", 6, false);
    assert_true(sched_next(w.t, w.now, &r));
    assert_false(sched_next(w.t, w.now, &r));
    (void) sched_done(dest(&w, "a"), SCHED_GOOD, w.now);
    assert_false(sched_is_ready(w.t));
    sched_tick(w.s, mono_after_ms(w.now, 999));
    assert_false(sched_is_ready(w.t));
    sched_tick(w.s, mono_after_ms(w.now, 1000));
    assert_true(sched_next(w.t, w.now, &r));
    assert_false(sched_is_ready(w.t));
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
        sched_add(sched_dest(w.t, SLICE_LIT("a"), SLICE_LIT("r")), &w.m[0].jobs, &w.m[0], false,
                  &w.m[0].rcpts[i]);
    /* window 1: one success makes it 2; then two are needed for 3 */
    while (sched_next(w.t, w.now, &r))
        starts++;
    assert_int_equal(starts, 1);
    (void) sched_done(r.dest, SCHED_GOOD, w.now);
    starts = 0;
    while (sched_next(w.t, w.now, &r))
        starts++;
    assert_int_equal(starts, 2);
    (void) sched_done(r.dest, SCHED_GOOD, w.now);
    starts = 0;
    while (sched_next(w.t, w.now, &r))
        starts++;
    assert_int_equal(starts, 1);
    (void) sched_done(r.dest, SCHED_GOOD, w.now);
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
        cmocka_unit_test(put_back_comes_first),
        cmocka_unit_test(withdraw_takes_all_of_one_message),
        cmocka_unit_test(rate_delay),
        cmocka_unit_test(feedback_values),
        cmocka_unit_test(feedback_by_concurrency),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
