/* SPDX-License-Identifier: Apache-2.0 */
/* test_qmgr_deliver.c - whole attempts: what the agents were asked, what is left in the queue, what was reported. */
#include "test_qmgr.h"

static void delivered_and_removed(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, "", ANSWER_SENT);
    submit(&f, "AAAA01", "me@example.org", "a@one.test b@one.test c@two.test", 0, 0);
    run_until(&f, "delivery", is_empty);
    assert_int_equal(f.requests, 1); /* one relay host: one next hop */
    assert_int_equal(f.rcpts, 3);
    assert_int_equal(f.reports, 0);
    end(&f);
}

static void mixed_outcomes(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, "minimal_backoff_time = 600s\nmaximal_backoff_time = 600s\n", ANSWER_BY_NAME);
    submit(&f, "AAAA01", "me@example.org", "s@one.test d@one.test b@one.test", 0, 0);
    run_until(&f, "attempt", is_idle);
    assert_string_equal(left(&f, "AAAA01"), "d@one.test(not now) ");
    assert_int_equal(f.reports, 1);
    assert_int_equal(f.report_kind, REPORT_FAILURE);
    assert_string_equal(f.report_rcpts, "b@one.test ");
    end(&f);
}

static void retried_after_backoff(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, "", ANSWER_DEFER);
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "attempt", is_idle);
    assert_int_equal(store_msg_state(store_find(f.q->store, SLICE_LIT("AAAA01")))->attempts, 1);
    set_answer(&f, ANSWER_SENT);
    run_until(&f, "retry", is_empty);
    assert_int_equal(f.requests, 2);
    end(&f);
}

static void expired(void **state)
{
    static const struct {
        const char *name, *sender, *params;
        int64_t age_s;
        bool gone;
    } cases[] = {
        {"young", "me@example.org", "maximal_queue_lifetime = 1h\n", 3000, false},
        {"old", "me@example.org", "maximal_queue_lifetime = 1h\n", 3700, true},
        {"old bounce", "", "bounce_queue_lifetime = 1h\n", 3700, true},
        {"bounce, other limit", "", "maximal_queue_lifetime = 1h\n", 3700, false},
        {"zero", "me@example.org", "maximal_queue_lifetime = 0\n", 0, true},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;

        begin(&f, cases[i].params, ANSWER_DEFER);
        submit(&f, "AAAA01", cases[i].sender, "a@one.test", cases[i].age_s, 0);
        run_until(&f, cases[i].name, is_idle);
        if (is_empty(&f) != cases[i].gone || f.reports != (cases[i].gone ? 1U : 0U))
            fail_msg("%s: empty %d, reports %u", cases[i].name, is_empty(&f), f.reports);
        end(&f);
    }
}

/* The seconds until the next attempt. */
static double next_attempt(struct fixture *f, const char *id)
{
    struct store_msg *m = store_find(f->q->store, slice_str(id));

    return (double) (store_msg_state(m)->next_retry_us - qmgr_now_us(f->q)) / 1e6;
}

static void attempts_by_schedule(void **state)
{
    static const struct {
        const char *name, *tables;
        int64_t age_s;
        double least_s, most_s; /* 0: the message is returned */
    } cases[] = {
        {"domain", "inline:{{one.test=100 5m}}", 0, 90, 110},
        {"domain, later", "inline:{{one.test=100 5m}}", 200, 190, 230},
        {"domain, over", "inline:{{one.test=100 5m}}", 401, 0, 0},
        {"repeated", "inline:{{one.test=100 5m*}}", 401, 290, 330},
        {"parent", "inline:{{.test=700}}", 0, 690, 770},
        {"next hop", "inline:{[relay.example.test]=100, .example=700}", 0, 90, 110},
        {"transport", "inline:{smtp:=100, local:=700}", 0, 90, 110},
        {"the domain before the transport", "inline:{smtp:=700, one.test=100}", 0, 90, 110},
        {"none", "inline:{{other.test=1}}", 0, 600, 660},
        {"unusable", "inline:{{one.test=soon}}", 0, 600, 660},
        {"no answer", "fail:broken", 0, 600, 660},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;
        char params[300];
        double got = 0;

        snprintf(params, sizeof(params),
                 "retry_schedule_maps = %s\nminimal_backoff_time = 600s\n"
                 "maximal_backoff_time = 4000s\n",
                 cases[i].tables);
        begin(&f, params, ANSWER_DEFER);
        submit(&f, "AAAA01", "me@example.org", "a@one.test", cases[i].age_s, 0);
        run_until(&f, cases[i].name, is_idle);
        if (!is_empty(&f))
            got = next_attempt(&f, "AAAA01");
        if (got < cases[i].least_s || got > cases[i].most_s ||
            f.reports != (cases[i].most_s == 0 ? 1U : 0U))
            fail_msg("%s: next attempt in %g s, %u reports", cases[i].name, got, f.reports);
        end(&f);
    }
}

/* One recipient's schedule is over, the other goes on. */
static void schedules_of_two_recipients(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f,
          "retry_schedule_maps = inline:{one.test=100, two.test=300*}\n"
          "minimal_backoff_time = 600s\nmaximal_backoff_time = 600s\n",
          ANSWER_DEFER);
    submit(&f, "AAAA01", "me@example.org", "a@one.test b@two.test", 101, 0);
    run_until(&f, "attempt", is_idle);
    assert_int_equal(f.reports, 1);
    assert_string_equal(f.report_rcpts, "a@one.test ");
    assert_string_equal(left(&f, "AAAA01"), "b@two.test(not now) ");
    end(&f);
}

/* The clock is set forward or back by two days while mail waits: it is due when it was to be, and does not expire. */
static void clock_is_set(void **state)
{
    static const int64_t jumps_us[] = {2 * 86400 * 1000000LL, -2 * 86400 * 1000000LL};

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(jumps_us); i++) {
        struct fixture f;

        begin(&f, "maximal_queue_lifetime = 1d\n", ANSWER_DEFER);
        /* this process began, and the message came, while the clock was elsewhere */
        f.q->clock.wall_us -= jumps_us[i];
        submit(&f, "AAAA01", "me@example.org", "a@one.test", jumps_us[i] / 1000000, 0);
        run_until(&f, "attempt", is_idle);
        assert_int_equal(f.q->clock.nsteps, 1);
        assert_in_range(next_attempt(&f, "AAAA01") * 1000 + 5000, 5000, 7000);
        set_answer(&f, ANSWER_SENT);
        run_until(&f, "retry", is_empty);
        assert_int_equal(f.reports, 0);
        end(&f);
    }
}

/* A next attempt that a clock far ahead has left behind. */
static void time_from_the_future(void **state)
{
    struct fixture f;
    struct store_state s;
    struct store_msg *m;
    struct err err = ERR_INIT;

    (void) state;
    begin(&f, "", ANSWER_DEFER);
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "attempt", is_idle);
    m = store_find(f.q->store, SLICE_LIT("AAAA01"));
    s = *store_msg_state(m);
    s.next_retry_us += 400LL * 86400 * 1000000;
    store_msg_set_state(f.q->store, m, &s);
    assert_int_equal(store_flush(f.q->store, &err), 0);
    qmgr_end(&f.q);
    loop_free(&f.loop);
    begin_qmgr(&f);
    set_answer(&f, ANSWER_SENT);
    run_until(&f, "retry", is_empty);
    end(&f);
}

/* With class bounce or 2bounce the postmaster may have to hear of what the sender does not want to. */
static void failures_for_the_postmaster(void **state)
{
    static const char *const classes[] = {"resource", "bounce", "resource, 2bounce"};

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        struct fixture f;
        char params[100];

        snprintf(params, sizeof(params), "notify_classes = %s\n", classes[i]);
        begin(&f, params, ANSWER_BOUNCE);
        submit(&f, "AAAA01", "", "a@one.test", 0, DSN_NOTIFY_NEVER);
        run_until(&f, classes[i], is_empty);
        assert_int_equal(f.reports, i == 0 ? 0 : 1);
        end(&f);
    }
}

static bool has_report(struct fixture *f)
{
    return f->reports > 0 && is_idle(f);
}

static void told_of_delay_once(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, "delay_warning_time = 1h\n", ANSWER_DEFER);
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 4000, 0);
    run_until(&f, "delay report", has_report);
    assert_int_equal(f.report_kind, REPORT_DELAY);
    assert_true(store_msg_state(store_find(f.q->store, SLICE_LIT("AAAA01")))->warned);
    set_answer(&f, ANSWER_SENT);
    run_until(&f, "delivery", is_empty);
    assert_int_equal(f.reports, 1);
    end(&f);
}

static void notify(void **state)
{
    static const struct {
        const char *name;
        uint32_t bits;
        enum answer answer;
        unsigned reports;
        uint32_t kind;
    } cases[] = {
        {"success wanted", DSN_NOTIFY_SUCCESS, ANSWER_SENT, 1, REPORT_SUCCESS},
        {"success not wanted", DSN_NOTIFY_FAILURE, ANSWER_SENT, 0, 0},
        {"failure wanted", DSN_NOTIFY_FAILURE, ANSWER_BOUNCE, 1, REPORT_FAILURE},
        {"failure by default", 0, ANSWER_BOUNCE, 1, REPORT_FAILURE},
        {"failure not wanted", DSN_NOTIFY_NEVER, ANSWER_BOUNCE, 0, 0},
        {"only success wanted", DSN_NOTIFY_SUCCESS, ANSWER_BOUNCE, 0, 0},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;

        begin(&f, "", cases[i].answer);
        submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, cases[i].bits);
        run_until(&f, cases[i].name, is_empty);
        if (f.reports != cases[i].reports || f.report_kind != cases[i].kind)
            fail_msg("%s: got %u reports of kind %u", cases[i].name, f.reports, f.report_kind);
        end(&f);
    }
}

static void report_is_tried_again(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, "", ANSWER_BOUNCE);
    f.reports_refused = 1;
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "second report", is_empty);
    assert_int_equal(f.reports, 2);
    assert_int_equal(f.requests, 1);
    end(&f);
}

static void not_lost_without_bounce(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, "minimal_backoff_time = 600s\nmaximal_backoff_time = 600s\n", ANSWER_BOUNCE);
    f.reports_refused = 3;
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "giving up", is_idle);
    assert_int_equal(f.reports, 3);
    assert_string_equal(left(&f, "AAAA01"), "a@one.test(no such user) ");
    end(&f);
}

static void agent_breaks_off(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, "", ANSWER_BREAK);
    f.break_times = 1;
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "second request", is_empty);
    assert_int_equal(f.requests, 2);
    end(&f);
}

static void poison_is_deferred(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, "minimal_backoff_time = 600s\nmaximal_backoff_time = 600s\n", ANSWER_BREAK);
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "deferral", is_idle);
    assert_int_equal(f.requests, 3);
    assert_string_equal(left(&f, "AAAA01"), "a@one.test(the delivery service broke off) ");
    end(&f);
}

static bool three_idle(struct fixture *f)
{
    return is_idle(f) && f->requests + f->retried >= 3;
}

static void dead_destination_is_left_alone(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f,
          "minimal_backoff_time = 600s\nmaximal_backoff_time = 600s\n"
          "initial_destination_concurrency = 1\n",
          ANSWER_DEAD);
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    submit(&f, "AAAA02", "me@example.org", "b@one.test", 0, 0);
    submit(&f, "AAAA03", "me@example.org", "c@one.test", 0, 0);
    run_until(&f, "three deferrals", three_idle);
    assert_int_equal(f.requests, 1);
    assert_int_equal(f.retried, 2);
    assert_string_equal(left(&f, "AAAA02"), "b@one.test(delivery temporarily suspended: not now) ");
    set_answer(&f, ANSWER_SENT);
    deliver_revive(f.q);
    submit(&f, "AAAA04", "me@example.org", "d@one.test", 0, 0);
    end(&f);
}

static void found_again_after_restart(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, "minimal_backoff_time = 600s\nmaximal_backoff_time = 600s\n", ANSWER_BY_NAME);
    submit(&f, "AAAA01", "me@example.org", "s@one.test d@one.test", 0, 0);
    run_until(&f, "attempt", is_idle);
    qmgr_end(&f.q);
    loop_free(&f.loop);
    begin_qmgr(&f);
    assert_int_equal(store_count(f.q->store), 1);
    assert_string_equal(left(&f, "AAAA01"), "d@one.test(not now) ");
    assert_int_equal(store_msg_state(store_find(f.q->store, SLICE_LIT("AAAA01")))->attempts, 1);
    end(&f);
}

static void many_messages(void **state)
{
    struct fixture f;
    char id[16];

    (void) state;
    begin(&f, "qmgr_message_active_limit = 7\n", ANSWER_SENT);
    for (int i = 0; i < 300; i++) {
        snprintf(id, sizeof(id), "BB%04X", (unsigned) i);
        submit(&f, id, "me@example.org", "a@one.test b@two.test", 0, 0);
    }
    run_until(&f, "300 messages", is_empty);
    assert_int_equal(f.rcpts, 600);
    end(&f);
}

static void deferred_transport(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, "defer_transports = smtp\nminimal_backoff_time = 600s\nmaximal_backoff_time = 600s\n",
          ANSWER_SENT);
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "deferral", is_idle);
    assert_int_equal(f.requests, 0);
    assert_string_equal(left(&f, "AAAA01"), "a@one.test(deferred transport) ");
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delivered_and_removed),
        cmocka_unit_test(mixed_outcomes),
        cmocka_unit_test(retried_after_backoff),
        cmocka_unit_test(expired),
        cmocka_unit_test(attempts_by_schedule),
        cmocka_unit_test(schedules_of_two_recipients),
        cmocka_unit_test(clock_is_set),
        cmocka_unit_test(time_from_the_future),
        cmocka_unit_test(failures_for_the_postmaster),
        cmocka_unit_test(told_of_delay_once),
        cmocka_unit_test(notify),
        cmocka_unit_test(report_is_tried_again),
        cmocka_unit_test(not_lost_without_bounce),
        cmocka_unit_test(agent_breaks_off),
        cmocka_unit_test(poison_is_deferred),
        cmocka_unit_test(dead_destination_is_left_alone),
        cmocka_unit_test(found_again_after_restart),
        cmocka_unit_test(many_messages),
        cmocka_unit_test(deferred_transport),
    };

    log_open(&(struct log_target){.program = "test", .maillog_fd = -1, .no_syslog = true});
    return cmocka_run_group_tests(tests, NULL, NULL);
}
