/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_schedule_feedback.c - how many deliveries a destination gets at a time, by how the last ones went; and when it is dead.
 */
#include "tests/unit/test_sched.h"

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
    struct sched_given_up g;

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
    assert_false(sched_take_given_up(w.s, &g));
    (void) sched_done(&r[4], SCHED_BAD, w.now); /* says nothing new */
    sched_tick(w.s, mono_after_ms(w.now, 4999));
    assert_false(sched_is_ready(w.t));
    sched_tick(w.s, mono_after_ms(w.now, 5000));
    assert_true(sched_is_ready(w.t));
    end(&w);
}

/* "message:recipients taken in a row ..." of what is given up. */
static const char *given_up(struct world *w)
{
    static char text[500];
    struct sched_given_up g;
    size_t n = 0;
    unsigned count = 0;
    const struct message *last = NULL;

    text[0] = '\0';
    while (sched_take_given_up(w->s, &g)) {
        if (last != NULL && g.message != last) {
            n += (size_t) snprintf(text + n, sizeof(text) - n, "%td:%u ", last - w->m, count);
            count = 0;
        }
        last = g.message;
        count++;
    }
    if (last != NULL)
        (void) snprintf(text + n, sizeof(text) - n, "%td:%u", last - w->m, count);
    return text;
}

/* What waits at that moment is given up, and nothing else: not what comes later, though the site lives again, not other sites. */
static void given_up_at_once(void **state)
{
    struct world w;
    struct sched_given_up g;
    size_t waiting;
    size_t busy;

    (void) state;
    begin(&w, &plain);
    add(&w, 1, "a", 3, SCHED_RETRY);
    add(&w, 2, "a", 2, SCHED_FRESH);
    add(&w, 3, "b", 2, SCHED_FRESH);
    add(&w, 4, "a", 1, SCHED_FRESH);
    sched_dest_kill(dest(&w, "a"), mono_after_ms(w.now, 5000));
    sched_dest_give_up(dest(&w, "a"), NULL);
    assert_true(sched_is_given_up(&w.m[1].jobs));
    assert_false(sched_is_given_up(&w.m[3].jobs));
    sched_counts(w.s, &waiting, &busy);
    assert_int_equal(waiting, 8);
    sched_revive_all(w.s);
    add(&w, 1, "a", 1, SCHED_FRESH);
    add(&w, 5, "a", 1, SCHED_FRESH);
    (void) sched_withdraw(&w.m[4].jobs);
    assert_string_equal(order(&w, 10), "b:3:2 a:1:1 a:5:1");
    assert_true(sched_take_given_up(w.s, &g));
    assert_null(g.why);
    assert_ptr_equal(g.message, &w.m[2]); /* fresh mail first */
    assert_string_equal(given_up(&w), "2:1 1:3");
    sched_counts(w.s, &waiting, &busy);
    assert_int_equal(waiting, 0);
    end(&w);
}

/* Twice before anything was taken; of several destinations the first given up is first. */
static void given_up_again(void **state)
{
    struct world w;
    struct sched_given_up g;

    (void) state;
    begin(&w, &plain);
    sched_dest_give_up(dest(&w, "none"), "why"); /* nothing waits: nothing is given up */
    assert_false(sched_take_given_up(w.s, &g));
    add(&w, 0, "a", 1, SCHED_FRESH);
    sched_dest_give_up(dest(&w, "a"), "first");
    add(&w, 1, "b", 1, SCHED_FRESH);
    sched_dest_give_up(dest(&w, "b"), "b");
    add(&w, 2, "a", 1, SCHED_FRESH);
    sched_dest_give_up(dest(&w, "a"), "second");
    add(&w, 3, "a", 1, SCHED_FRESH);
    assert_true(sched_take_given_up(w.s, &g));
    assert_ptr_equal(g.message, &w.m[0]);
    assert_string_equal(g.why, "second");
    assert_string_equal(given_up(&w), "2:1 1:1");
    /* an idle destination is forgotten only when nothing of it is left */
    sched_tick(w.s, mono_after_ms(w.now, 10 * 60 * 1000));
    assert_string_equal(order(&w, 10), "a:3:1");
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
        cmocka_unit_test(concurrency_grows_by_success),
        cmocka_unit_test(failures_kill),
        cmocka_unit_test(given_up_at_once),
        cmocka_unit_test(given_up_again),
        cmocka_unit_test(never_dead_with_limit_zero),
        cmocka_unit_test(other_destinations_live),
        cmocka_unit_test(a_busy_destination_is_told),
        cmocka_unit_test(feedback_hysteresis),
        cmocka_unit_test(no_feedback_without_load),
        cmocka_unit_test(feedback_values),
        cmocka_unit_test(feedback_by_concurrency),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
