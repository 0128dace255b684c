/* SPDX-License-Identifier: Apache-2.0 */
/* test_schedule_sched.c - the scheduler: turns, limits, rates, slots. Concurrency: test_schedule_feedback.c. */
#include "tests/unit/test_sched.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(destinations_take_turns),
        cmocka_unit_test(messages_take_turns),
        cmocka_unit_test(bulk_does_not_delay_small),
        cmocka_unit_test(recipient_limit_both_sides),
        cmocka_unit_test(one_recipient_is_a_destination),
        cmocka_unit_test(process_limit),
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
