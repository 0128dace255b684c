/* SPDX-License-Identifier: Apache-2.0 */
/* test_qmgr_parts.c - messages with more recipients than there is room for in memory: their recipients come in parts. */
#include "test_qmgr.h"

#define BOUNDED                                                                                    \
    "qmgr_message_recipient_limit = 16\nqmgr_message_recipient_minimum = 2\n"                      \
    "smtp_destination_recipient_limit = 3\n"                                                       \
    "minimal_backoff_time = 600s\nmaximal_backoff_time = 600s\n"

static size_t most; /* recipients that were in memory at once */

/* "s0@d0.test d1@d1.test ...", letters in turn. */
static const char *names(size_t n, const char *letters)
{
    static char text[RCPTS_MAX * 40];
    size_t len = 0;

    assert_true(n <= RCPTS_MAX);
    for (size_t i = 0; i < n; i++)
        len += (size_t) snprintf(text + len, sizeof(text) - len, "%c%zu@d%zu.test ",
                                 letters[i % strlen(letters)], i, i % 7);
    return text;
}

static bool is_empty_and_bounded(struct fixture *f)
{
    if (f->q->nrcpts > most)
        most = f->q->nrcpts;
    return is_empty(f);
}

static bool is_idle_and_bounded(struct fixture *f)
{
    if (f->q->nrcpts > most)
        most = f->q->nrcpts;
    return is_idle(f);
}

static bool waits_for_agents(struct fixture *f)
{
    size_t waiting;
    size_t busy;

    sched_counts(f->q->sched, &waiting, &busy);
    return busy > 0 && f->requests >= busy;
}

static void bounded(void **state)
{
    struct fixture f;

    (void) state;
    most = 0;
    begin(&f, BOUNDED, ANSWER_WAIT);
    submit(&f, "AAAA01", "me@example.org", names(300, "s"), 0, 0);
    submit(&f, "AAAA02", "me@example.org", names(200, "s"), 0, 0);
    submit(&f, "AAAA03", "me@example.org", names(1, "s"), 0, 0);
    run_until(&f, "requests", waits_for_agents);
    assert_in_range(f.q->nrcpts, 8, 16 + 3 * 2);
    set_answer(&f, ANSWER_SENT);
    run_until(&f, "delivery", is_empty_and_bounded);
    assert_int_equal(f.rcpts, 501);
    assert_in_range(most, 0, 16 + 3 * 2);
    assert_int_equal(f.q->nrcpts, 0);
    end(&f);
}

/* The pieces in which recipients are read from disk are another boundary than the parts. */
static void many_and_long(void **state)
{
    static char text[300000];
    struct fixture f;
    size_t len = 0;

    (void) state;
    begin(&f, "qmgr_message_recipient_limit = 500\n", ANSWER_SENT);
    for (int i = 0; i < 1500; i++)
        len += (size_t) snprintf(text + len, sizeof(text) - len, "s%0*d@one.test ", i % 150 + 1, i);
    submit(&f, "AAAA01", "me@example.org", text, 0, 0);
    run_until(&f, "delivery", is_empty_and_bounded);
    assert_int_equal(f.rcpts, 1500);
    end(&f);
}

static void outcomes_of_parts(void **state)
{
    struct fixture f;
    struct store_msg *m;
    struct queued *qd;
    size_t n = 0;

    (void) state;
    begin(&f, BOUNDED, ANSWER_BY_NAME);
    submit(&f, "AAAA01", "me@example.org", names(90, "sdb"), 0, 0);
    run_until(&f, "attempt", is_idle_and_bounded);
    assert_int_equal(f.rcpts, 90);
    assert_int_equal(f.reported, 30);
    assert_in_range(f.reports, 2, 30);
    for (const char *p = left(&f, "AAAA01"); (p = strstr(p, ".test(not now)")) != NULL; p++)
        n++;
    assert_int_equal(n, 30);
    m = store_find(f.q->store, SLICE_LIT("AAAA01"));
    assert_int_equal(store_msg_state(m)->attempts, 1);
    /* the next attempt is for those that are left */
    set_answer(&f, ANSWER_SENT);
    f.rcpts = 0;
    qd = store_msg_data(m);
    queue_place(&f.q->queue, qd, IN_DUE);
    qmgr_wake(f.q);
    run_until(&f, "retry", is_empty_and_bounded);
    assert_int_equal(f.rcpts, 30);
    end(&f);
}

static bool is_held(struct fixture *f)
{
    return store_msg_queue(store_find(f->q->store, SLICE_LIT("AAAA01"))) == STORE_HOLD &&
           ((struct queued *) store_msg_data(store_find(f->q->store, SLICE_LIT("AAAA01"))))
                   ->where == IN_HOLD;
}

static struct active *active_of(struct fixture *f, const char *id)
{
    return ((struct queued *) store_msg_data(store_find(f->q->store, slice_str(id))))->active;
}

static void withdrawn_in_the_middle(void **state)
{
    (void) state;
    for (int hold = 0; hold < 2; hold++) {
        struct fixture f;
        struct active *m;
        unsigned before;

        begin(&f, BOUNDED, ANSWER_WAIT);
        submit(&f, "AAAA01", "me@example.org", names(90, "s"), 0, 0);
        run_until(&f, "requests", waits_for_agents);
        m = active_of(&f, "AAAA01");
        assert_non_null(m);
        m->wants_hold = hold == 1;
        m->wants_delete = hold == 0;
        message_withdraw(m);
        set_answer(&f, ANSWER_SENT);
        if (hold == 0) {
            run_until(&f, "removal", is_empty);
            assert_true(f.rcpts < 90);
        } else {
            run_until(&f, "hold", is_held);
            before = f.rcpts;
            assert_true(before < 90);
            move_message(f.q, store_msg_data(store_find(f.q->store, SLICE_LIT("AAAA01"))),
                         MOVE_RELEASE, NULL, NULL, NULL);
            run_until(&f, "delivery after release", is_empty);
            assert_int_equal(f.rcpts, 90);
        }
        assert_int_equal(f.q->nrcpts, 0);
        end(&f);
    }
}

static bool is_half_done(struct fixture *f)
{
    return f->rcpts >= 100;
}

static void restarted_in_the_middle(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, BOUNDED, ANSWER_SENT);
    submit(&f, "AAAA01", "me@example.org", names(300, "s"), 0, 0);
    run_until(&f, "half", is_half_done);
    qmgr_end(&f.q);
    loop_free(&f.loop);
    begin_qmgr(&f);
    run_until(&f, "the rest", is_empty);
    assert_in_range(f.rcpts, 300, 316); /* twice at most what was with agents */
    end(&f);
}

/* Only the last of very many is left: it comes in the first part. */
static void done_ones_take_no_room(void **state)
{
    struct fixture f;
    struct store_msg *m;

    (void) state;
    begin(&f, BOUNDED, ANSWER_DEFER);
    submit(&f, "AAAA01", "me@example.org", names(300, "s"), 0, 0);
    run_until(&f, "attempt", is_idle);
    m = store_find(f.q->store, SLICE_LIT("AAAA01"));
    for (uint32_t i = 0; i < 299; i++)
        store_rcpt_done(f.q->store, m, i);
    set_answer(&f, ANSWER_SENT);
    f.rcpts = 0;
    queue_place(&f.q->queue, store_msg_data(m), IN_DUE);
    qmgr_wake(f.q);
    run_until(&f, "retry", is_empty);
    assert_int_equal(f.rcpts, 1);
    assert_string_equal(f.last_rcpt, "s299@d5.test");
    end(&f);
}

/* The room is full of small messages that wait for agents: a large one goes on nevertheless. */
static bool large_is_served(struct fixture *f)
{
    return active_of(f, "AAAA01") != NULL && active_of(f, "AAAA01")->loaded >= 8;
}

static void small_ones_do_not_starve_large(void **state)
{
    struct fixture f;
    char id[20];

    (void) state;
    begin(&f, BOUNDED, ANSWER_WAIT);
    for (int i = 10; i < 50; i++) {
        snprintf(id, sizeof(id), "AAAA%d", i);
        submit(&f, id, "me@example.org", "s@one.test", 0, 0);
    }
    submit(&f, "AAAA01", "me@example.org", names(300, "s"), 0, 0);
    run_until(&f, "the large one", large_is_served);
    assert_in_range(f.q->nrcpts, 48, 40 + 8);
    assert_in_range(f.q->nlarge, 8, 8);
    set_answer(&f, ANSWER_SENT);
    run_until(&f, "delivery", is_empty);
    assert_int_equal(f.rcpts, 340);
    assert_int_equal(f.q->nlarge, 0);
    end(&f);
}

/* What is tried again has four of five active messages at most. */
static void retries_leave_room(void **state)
{
    struct fixture f;
    char id[20];

    (void) state;
    begin(&f, BOUNDED "qmgr_message_active_limit = 5\n", ANSWER_DEFER);
    for (int i = 10; i < 30; i++) {
        snprintf(id, sizeof(id), "AAAA%d", i);
        submit(&f, id, "me@example.org", "s@one.test", 0, 0);
    }
    run_until(&f, "attempts", is_idle);
    assert_int_equal(store_count(f.q->store), 20);
    set_answer(&f, ANSWER_WAIT);
    for (int i = 10; i < 30; i++) {
        snprintf(id, sizeof(id), "AAAA%d", i);
        queue_place(&f.q->queue, store_msg_data(store_find(f.q->store, slice_str(id))), IN_DUE);
    }
    f.requests = 0;
    qmgr_wake(f.q);
    run_until(&f, "requests", waits_for_agents);
    assert_int_equal(f.q->queue.nactive, 4);
    submit(&f, "AAAA99", "me@example.org", "s@one.test", 0, 0);
    assert_true(message_activate_some(f.q) == false);
    assert_non_null(active_of(&f, "AAAA99"));
    assert_int_equal(f.q->queue.nactive, 5);
    set_answer(&f, ANSWER_SENT);
    run_until(&f, "delivery", is_empty);
    end(&f);
}

static void redirected_in_parts(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, BOUNDED, ANSWER_SENT);
    f.extra.redirect = SLICE_LIT("other@example.org");
    submit(&f, "AAAA01", "me@example.org", names(50, "s"), 0, 0);
    run_until(&f, "delivery", is_empty);
    assert_int_equal(f.rcpts, 1);
    assert_string_equal(f.last_rcpt, "other@example.org");
    end(&f);
}

static void expired_by_force_in_parts(void **state)
{
    struct fixture f;
    struct store_state s;
    struct store_msg *m;

    (void) state;
    begin(&f, BOUNDED, ANSWER_DEFER);
    submit(&f, "AAAA01", "me@example.org", names(50, "s"), 0, 0);
    run_until(&f, "attempt", is_idle);
    m = store_find(f.q->store, SLICE_LIT("AAAA01"));
    s = *store_msg_state(m);
    s.forced_expire = true;
    store_msg_set_state(f.q->store, m, &s);
    f.rcpts = 0;
    queue_place(&f.q->queue, store_msg_data(m), IN_DUE);
    qmgr_wake(f.q);
    run_until(&f, "return", is_empty);
    assert_int_equal(f.rcpts, 0);
    assert_int_equal(f.reported, 50);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounded),
        cmocka_unit_test(many_and_long),
        cmocka_unit_test(outcomes_of_parts),
        cmocka_unit_test(withdrawn_in_the_middle),
        cmocka_unit_test(restarted_in_the_middle),
        cmocka_unit_test(done_ones_take_no_room),
        cmocka_unit_test(small_ones_do_not_starve_large),
        cmocka_unit_test(retries_leave_room),
        cmocka_unit_test(redirected_in_parts),
        cmocka_unit_test(expired_by_force_in_parts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
