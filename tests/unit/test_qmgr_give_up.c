/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_qmgr_give_up.c - what waits for a site that is found dead is deferred in pieces: each recipient has its line and its reason, and
 * what happens between two pieces (a flush, a deletion, a suspension, a reload, the end of the process) finds the queue in order.
 */
#include "qmgr/qmgr_deliver_int.h"
#include "test_qmgr_ask.h"

#define WAITING 900 /* messages; several pieces */

static const char one_at_a_time[] = "minimal_backoff_time = 600s\nmaximal_backoff_time = 600s\n"
                                    "initial_destination_concurrency = 1\n"
                                    "default_destination_concurrency_limit = 1\n"
                                    "retry_destination_concurrency_limit = 20\n";

static const char *id_of(unsigned n)
{
    static char id[20];

    snprintf(id, sizeof(id), "AAAA%04u", n);
    return id;
}

static struct active *active_of(struct fixture *f, unsigned n)
{
    struct store_msg *m = store_find(f->q->store, slice_str(id_of(n)));
    const struct queued *qd;

    assert_non_null(m);
    qd = store_msg_data(m);
    assert_non_null(qd->active);
    return qd->active;
}

static bool all_active(struct fixture *f)
{
    return f->q->queue.nactive == WAITING && f->requests == 1;
}

static size_t waiting(const struct fixture *f)
{
    size_t n;
    size_t busy;

    sched_counts(f->q->sched, &n, &busy);
    return n;
}

/* An agent has message 0, the others are in line; then the site is found dead. */
static void begin_dead(struct fixture *f)
{
    struct sched_dest *d;

    begin(f, one_at_a_time, ANSWER_WAIT);
    for (unsigned n = 0; n < WAITING; n++)
        submit(f, id_of(n), "me@example.org", "a@one.test", 0, 0);
    run_until(f, "all in line", all_active);
    d = sched_dest(sched_transport(f->q->sched, SLICE_LIT("smtp"), NULL),
                   SLICE_LIT("[relay.example.test]"), SLICE_LIT("a@one.test"));
    sched_dest_set_reason(d, SLICE_LIT("4.4.1"), SLICE_LIT("connect: refused"));
    line_kill_dest(sched_transport_data(sched_dest_transport(d)), d, NULL);
    assert_int_equal(waiting(f), WAITING - 1);
}

static bool others_deferred(struct fixture *f)
{
    return f->q->queue.nactive <= 1 && f->retried >= WAITING - 1;
}

static void check_deferred(struct fixture *f, unsigned n)
{
    assert_string_equal(left(f, id_of(n)),
                        "a@one.test(delivery temporarily suspended: connect: refused) ");
    assert_int_equal(store_msg_state(store_find(f->q->store, slice_str(id_of(n))))->attempts, 1);
}

static void in_pieces(void **state)
{
    struct fixture f;
    size_t before;
    unsigned pieces = 0;
    bool more = true;

    (void) state;
    begin_dead(&f);
    while (more) {
        struct sched_given_up g;

        before = f.q->queue.nactive;
        more = line_defer_given_up(f.q);
        pieces++;
        assert_int_equal(f.q->queue.nactive, before); /* each waits for its line in the log */
        assert_true(pieces < WAITING);
        if (!more)
            assert_false(sched_take_given_up(f.q->sched, &g));
    }
    assert_true(pieces >= 3);
    qmgr_wake(f.q);
    run_until(&f, "deferral", others_deferred);
    for (unsigned n = 1; n < WAITING; n++)
        check_deferred(&f, n);
    assert_int_equal(f.retried, WAITING - 1);
    set_answer(&f, ANSWER_SENT);
    run_until(&f, "the end of the one under way", is_idle);
    assert_int_equal(store_count(f.q->store), WAITING - 1);
    end(&f);
}

/* Some are with the retry service, some given up, and one with an agent: all are tried now. */
static void flushed_meanwhile(void **state)
{
    struct fixture f;

    (void) state;
    begin_dead(&f);
    assert_true(line_defer_given_up(f.q));
    set_answer(&f, ANSWER_SENT);
    expect(&f, QUEUE_OP_FLUSH_ALL, "", "", PROTO_OK, WAITING - 1);
    run_until(&f, "delivery", is_empty);
    assert_int_equal(f.retried, WAITING - 1);
    end(&f);
}

static bool two_left_the_queue(struct fixture *f)
{
    return f->q->queue.nactive == 0 && store_count(f->q->store) == WAITING - 2;
}

/* The others stay deferred. */
static void one_flushed_meanwhile(void **state)
{
    struct fixture f;

    (void) state;
    begin_dead(&f);
    expect(&f, QUEUE_OP_FLUSH_ID, "AAAA0005", "", PROTO_OK, 1);
    set_answer(&f, ANSWER_SENT);
    run_until(&f, "delivery", two_left_the_queue);
    assert_string_equal(left(&f, "AAAA0005"), "");
    check_deferred(&f, 4);
    end(&f);
}

/* It lives again for new mail; what was given up is deferred all the same. */
static void revived_meanwhile(void **state)
{
    struct fixture f;

    (void) state;
    begin_dead(&f);
    deliver_revive(f.q);
    set_answer(&f, ANSWER_SENT);
    submit(&f, "BBBB01", "me@example.org", "a@one.test", 0, 0);
    qmgr_wake(f.q);
    run_until(&f, "attempts", is_idle);
    assert_string_equal(left(&f, "BBBB01"), "");
    assert_int_equal(store_count(f.q->store), WAITING - 1);
    check_deferred(&f, WAITING - 1);
    end(&f);
}

/* But for the one with the agent. */
static bool settled(struct fixture *f)
{
    const struct store_msg *m = store_find(f->q->store, SLICE_LIT("AAAA0008"));
    const struct queued *qd = store_msg_data(m);

    return f->q->queue.nactive == 1 && qd->where == IN_HOLD;
}

static void withdrawn_meanwhile(void **state)
{
    struct fixture f;

    (void) state;
    begin_dead(&f);
    active_of(&f, 7)->wants_delete = true;
    message_withdraw(active_of(&f, 7));
    assert_null(store_find(f.q->store, SLICE_LIT("AAAA0007")));
    assert_int_equal(waiting(&f), WAITING - 2);
    active_of(&f, 8)->wants_hold = true;
    message_withdraw(active_of(&f, 8));
    deliver_suspend(active_of(&f, 9)); /* nothing of it is suspended: it stays where it is */
    qmgr_wake(f.q);
    run_until(&f, "deferral", settled);
    assert_int_equal(f.retried, WAITING - 3);
    check_deferred(&f, 6);
    check_deferred(&f, 9);
    set_answer(&f, ANSWER_SENT);
    end(&f);
}

/* What was not deferred yet stays as it was, and is tried when the process begins again. */
static void ends_meanwhile(void **state)
{
    struct fixture f;

    (void) state;
    begin_dead(&f);
    assert_true(line_defer_given_up(f.q));
    deliver_reconfigure(f.q);
    qmgr_end(&f.q);
    loop_free(&f.loop);
    begin_qmgr(&f);
    assert_int_equal(store_count(f.q->store), WAITING);
    assert_int_equal(store_msg_state(store_find(f.q->store, SLICE_LIT("AAAA0899")))->attempts, 0);
    set_answer(&f, ANSWER_SENT);
    run_until(&f, "delivery", is_empty);
    end(&f);
}

/* A service that cannot be reached: the same for every destination of it. */
static void service_gone(void **state)
{
    struct fixture f;
    struct agents *a;

    (void) state;
    begin(&f, one_at_a_time, ANSWER_WAIT);
    for (unsigned n = 0; n < WAITING; n++)
        submit(&f, id_of(n), "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "all in line", all_active);
    a = agents_of(f.q, SLICE_LIT("smtp"));
    for (int i = 0; i < 3; i++) {
        a->paused_until.us = 0;
        agents_failed(a, "connect: refused");
    }
    run_until(&f, "deferral", others_deferred);
    for (unsigned n = 1; n < WAITING; n++)
        assert_string_equal(left(&f, id_of(n)), "a@one.test(mail transport unavailable) ");
    set_answer(&f, ANSWER_SENT);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_pieces),
        cmocka_unit_test(flushed_meanwhile),
        cmocka_unit_test(one_flushed_meanwhile),
        cmocka_unit_test(revived_meanwhile),
        cmocka_unit_test(withdrawn_meanwhile),
        cmocka_unit_test(ends_meanwhile),
        cmocka_unit_test(service_gone),
    };

    log_open(&(struct log_target){.program = "test", .maillog_fd = -1, .no_syslog = true});
    return cmocka_run_group_tests(tests, NULL, NULL);
}
