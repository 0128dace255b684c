/* SPDX-License-Identifier: Apache-2.0 */
/* test_qmgr_commands.c - the queue commands' side of qmgr, also in the middle of a delivery; hold, filter, redirect. */
#include "test_qmgr_ask.h"

static bool is_held(struct fixture *f)
{
    struct queued *qd = TAILQ_FIRST(&f->q->queue.all);

    return qd != NULL && qd->where == IN_HOLD;
}

static bool is_in_line(struct fixture *f)
{
    struct queued *qd = TAILQ_FIRST(&f->q->queue.all);

    return qd != NULL && qd->where == IN_REQUEUE;
}

static bool is_paused(struct fixture *f)
{
    return f->q->requeues_paused.us != 0 && is_in_line(f);
}

static bool is_moving(struct fixture *f)
{
    return !TAILQ_EMPTY(&f->q->moves);
}

/* The commands of both clients have begun. */
static bool is_waited_for(struct fixture *f)
{
    const struct client *c;
    int n = 0;

    TAILQ_FOREACH(c, &f->q->clients, list)
    {
        n += c->command != NULL;
    }
    return n == 2;
}

static bool is_busy(struct fixture *f)
{
    return f->requests > 1;
}

static void list(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, slow, ANSWER_BY_NAME);
    expect_list(&f, "");
    submit(&f, "AAAA01", "me@example.org", "s@one.test d@one.test", 0, 0);
    run_until(&f, "attempt", is_idle);
    expect_list(&f, "deferred AAAA01 me@example.org: d@one.test(not now)");
    set_answer(&f, ANSWER_WAIT);
    submit(&f, "AAAA02", "", "a@one.test", 0, 0);
    expect_list(&f, "deferred AAAA01 me@example.org: d@one.test(not now)\n"
                    "active AAAA02 : a@one.test()");
    end(&f);
}

static void delete_waiting(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, slow, ANSWER_DEFER);
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    submit(&f, "AAAA02", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "attempt", is_idle);
    expect(&f, QUEUE_OP_DELETE, "AAAA01", "hold", PROTO_NOT_FOUND, 0);
    expect(&f, QUEUE_OP_DELETE, "AAAA09", "", PROTO_NOT_FOUND, 0);
    expect(&f, QUEUE_OP_DELETE, "AAAA01", "", PROTO_OK, 1);
    expect(&f, QUEUE_OP_DELETE, "ALL", "hold", PROTO_OK, 0);
    expect(&f, QUEUE_OP_DELETE, "ALL", "deferred", PROTO_OK, 1);
    assert_true(is_empty(&f));
    expect(&f, 99, "ALL", "", PROTO_PERMANENT, 0);
    end(&f);
}

static void delete_active(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, "smtp_destination_recipient_limit = 2\nsmtp_destination_concurrency_limit = 1\n",
          ANSWER_WAIT);
    submit(&f, "AAAA01", "me@example.org", "a@one.test b@one.test c@one.test", 0, 0);
    run_until(&f, "request", is_with_agent);
    expect(&f, QUEUE_OP_DELETE, "AAAA01", "", PROTO_OK, 1);
    expect(&f, QUEUE_OP_DELETE, "AAAA01", "active", PROTO_OK, 1);
    assert_false(is_empty(&f)); /* an agent has it */
    set_answer(&f, ANSWER_DEFER);
    run_until(&f, "its end", is_empty);
    assert_int_equal(f.rcpts, 2);
    end(&f);
}

static void hold_active_and_release(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, slow, ANSWER_WAIT);
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "request", is_with_agent);
    expect(&f, QUEUE_OP_HOLD, "AAAA01", "", PROTO_OK, 1);
    set_answer(&f, ANSWER_DEFER);
    run_until(&f, "hold", is_held);
    expect(&f, QUEUE_OP_HOLD, "AAAA01", "", PROTO_NOT_FOUND, 0); /* is there already */
    expect(&f, QUEUE_OP_FLUSH_ALL, "", "", PROTO_OK, 0);
    expect_list(&f, "hold AAAA01 me@example.org: a@one.test(not now)");
    set_answer(&f, ANSWER_SENT);
    expect(&f, QUEUE_OP_RELEASE, "AAAA01", "", PROTO_OK, 1);
    run_until(&f, "delivery", is_empty);
    end(&f);
}

/* An agent may have a message for minutes: what was answered is kept if qmgr does not see its end. */
static void hold_active_and_die(void **state)
{
    static const struct store_events none = {0};
    struct store_options opt;
    struct store *reader;
    struct err err = ERR_INIT;
    struct fixture f;

    (void) state;
    begin(&f, slow, ANSWER_WAIT);
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "request", is_with_agent);
    expect(&f, QUEUE_OP_HOLD, "AAAA01", "", PROTO_OK, 1);
    assert_int_equal(store_options_from(f.cfg, &opt, &err), 0);
    opt.queue_directory = ".";
    assert_int_equal(store_open_readonly(&opt, &none, NULL, &reader, &err), 0);
    assert_int_equal(store_recover(reader, &err), 0);
    assert_true(store_msg_state(store_find(reader, SLICE_LIT("AAAA01")))->hold);
    store_close(&reader);
    qmgr_end(&f.q);
    loop_free(&f.loop);
    begin_qmgr(&f);
    assert_true(is_held(&f));
    expect_list(&f, "hold AAAA01 me@example.org: a@one.test()");
    set_answer(&f, ANSWER_SENT);
    expect(&f, QUEUE_OP_RELEASE, "AAAA01", "", PROTO_OK, 1);
    run_until(&f, "delivery", is_empty);
    end(&f);
}

static void delete_active_and_die(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, slow, ANSWER_WAIT);
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "request", is_with_agent);
    expect(&f, QUEUE_OP_DELETE, "AAAA01", "", PROTO_OK, 1);
    qmgr_end(&f.q);
    loop_free(&f.loop);
    begin_qmgr(&f);
    assert_true(is_empty(&f));
    end(&f);
}

static void expire_active_and_die(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, slow, ANSWER_WAIT);
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "request", is_with_agent);
    expect(&f, QUEUE_OP_EXPIRE, "AAAA01", "", PROTO_OK, 1);
    qmgr_end(&f.q);
    loop_free(&f.loop);
    set_answer(&f, ANSWER_SENT);
    begin_qmgr(&f);
    run_until(&f, "return", is_empty);
    assert_int_equal(f.report_kind, REPORT_FAILURE);
    assert_int_equal(f.reports, 1);
    end(&f);
}

/* What a reader finds: what would be left of it if qmgr was killed now. */
static struct store_state noted_state(struct fixture *f, const char *id)
{
    static const struct store_events none = {0};
    struct store_state s = {.remove = true};
    struct store_options opt;
    struct store_msg *m;
    struct store *reader;
    struct err err = ERR_INIT;

    assert_int_equal(store_options_from(f->cfg, &opt, &err), 0);
    opt.queue_directory = ".";
    assert_int_equal(store_open_readonly(&opt, &none, NULL, &reader, &err), 0);
    assert_int_equal(store_recover(reader, &err), 0);
    m = store_find(reader, slice_str(id));
    if (m != NULL)
        s = *store_msg_state(m);
    store_close(&reader);
    return s;
}

static void expire_is_noted(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, slow, ANSWER_DEFER);
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "attempt", is_idle);
    set_answer(&f, ANSWER_WAIT);
    submit(&f, "AAAA02", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "activity", is_busy);
    f.reports_refused = 1; /* the first is not gone at once */
    expect(&f, QUEUE_OP_EXPIRE, "ALL", "", PROTO_OK, 2);
    assert_true(noted_state(&f, "AAAA01").forced_expire);
    assert_true(noted_state(&f, "AAAA02").forced_expire);
    set_answer(&f, ANSWER_SENT);
    run_until(&f, "the end of both", is_empty);
    end(&f);
}

/* Cleanup is not there: it waits for it, over restarts, and is not delivered. */
static void requeue_waits_for_cleanup(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, slow, ANSWER_WAIT);
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "request", is_with_agent);
    expect(&f, QUEUE_OP_REQUEUE, "AAAA01", "", PROTO_OK, 1);
    expect(&f, QUEUE_OP_HOLD, "AAAA01", "", PROTO_OK, 1); /* it comes to the same */
    assert_true(noted_state(&f, "AAAA01").requeue);
    assert_false(noted_state(&f, "AAAA01").hold);
    set_answer(&f, ANSWER_DEFER);
    run_until(&f, "refusal", is_paused); /* else it may be with cleanup just then */
    expect_list(&f, "maildrop AAAA01 me@example.org: a@one.test(not now)");
    qmgr_end(&f.q);
    loop_free(&f.loop);
    set_answer(&f, ANSWER_SENT);
    begin_qmgr(&f);
    run_until(&f, "refusal", is_paused);
    expect(&f, QUEUE_OP_FLUSH_ALL, "", "", PROTO_OK, 0);
    expect(&f, QUEUE_OP_HOLD, "AAAA01", "", PROTO_NOT_FOUND, 0);
    expect(&f, QUEUE_OP_EXPIRE, "ALL", "", PROTO_OK, 0);
    expect_list(&f, "maildrop AAAA01 me@example.org: a@one.test(not now)");
    assert_int_equal(f.requests, 1);
    expect(&f, QUEUE_OP_DELETE, "AAAA01", "", PROTO_OK, 1);
    assert_true(is_empty(&f));
    end(&f);
}

/* A deletion meanwhile is answered when it is known what it is that is deleted. */
static void delete_while_requeued(void **state)
{
    struct fixture f;
    struct asker requeue;
    struct asker delete;
    struct err err = ERR_INIT;
    int cleanup;
    int fd;

    (void) state;
    begin(&f, slow, ANSWER_DEFER);
    assert_int_equal(dir_make("public", 0700, &err), 0);
    cleanup = unix_listen("public/cleanup", 0600, 10, &err);
    assert_int_not_equal(cleanup, -1);
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "attempt", is_idle);
    ask_in_thread(&f, &requeue, PROTO_QUEUE_EDIT, QUEUE_OP_REQUEUE, "AAAA01", "");
    run_until(&f, "the move", is_moving);
    ask_in_thread(&f, &delete, PROTO_QUEUE_EDIT, QUEUE_OP_DELETE, "AAAA01", "");
    run_until(&f, "the second command", is_waited_for);
    assert_false(atomic_load(&delete.done));
    while ((fd = accept(cleanup, NULL, NULL)) == -1)
        usleep(2000);
    fd_close(&fd); /* it has not taken it */
    fd_close(&cleanup);
    run_until(&f, "the deletion", is_answered);
    pthread_join(delete.thread, NULL);
    asking = &requeue;
    run_until(&f, "the other answer", is_answered);
    pthread_join(requeue.thread, NULL);
    chan_free(&requeue.c);
    chan_free(&delete.c);
    assert_int_equal(requeue.count, 0);
    assert_int_equal(delete.count, 1);
    assert_true(noted_state(&f, "AAAA01").remove); /* or is not there at all */
    assert_true(is_empty(&f));
    end(&f);
}

static void hold_all_deferred(void **state)
{
    struct fixture f;
    char id[16];

    (void) state;
    begin(&f, slow, ANSWER_DEFER);
    for (int i = 0; i < 100; i++) {
        snprintf(id, sizeof(id), "BB%04X", (unsigned) i);
        submit(&f, id, "me@example.org", "a@one.test", 0, 0);
    }
    run_until(&f, "attempts", is_idle);
    expect(&f, QUEUE_OP_HOLD, "ALL", "", PROTO_OK, 100);
    expect(&f, QUEUE_OP_DELETE, "ALL", "hold", PROTO_OK, 100);
    end(&f);
}

static void arrives_held(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, slow, ANSWER_SENT);
    f.extra.flags = MAIL_HOLD;
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "hold", is_held);
    assert_int_equal(f.requests, 0);
    expect(&f, QUEUE_OP_RELEASE, "ALL", "", PROTO_OK, 1);
    run_until(&f, "delivery", is_empty);
    end(&f);
}

static void expire(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, slow, ANSWER_DEFER);
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "attempt", is_idle);
    expect(&f, QUEUE_OP_EXPIRE, "AAAA01", "", PROTO_OK, 1);
    run_until(&f, "return", is_empty);
    assert_int_equal(f.requests, 1); /* no further attempt */
    assert_int_equal(f.report_kind, REPORT_FAILURE);
    set_answer(&f, ANSWER_WAIT);
    submit(&f, "AAAA02", "me@example.org", "a@one.test", 0, 0);
    expect(&f, QUEUE_OP_EXPIRE, "ALL", "active", PROTO_OK, 1);
    set_answer(&f, ANSWER_DEFER);
    run_until(&f, "return from active", is_empty);
    assert_int_equal(f.reports, 2);
    end(&f);
}

static void filter_and_redirect(void **state)
{
    struct fixture f;

    (void) state;
    begin(&f, slow, ANSWER_SENT);
    f.extra.filter = SLICE_LIT("smtp:[127.0.0.1]:10025");
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "filter", is_empty);
    assert_string_equal(f.last_nexthop, "[127.0.0.1]:10025");
    f.extra.filter = SLICE_LIT("smtp:");
    submit(&f, "AAAA02", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "filter without next hop", is_empty);
    assert_string_equal(f.last_nexthop, "one.test");
    f.extra.filter = SLICE_EMPTY;
    f.extra.redirect = SLICE_LIT("else@where.test");
    f.rcpts = 0;
    submit(&f, "AAAA03", "me@example.org", "a@one.test b@one.test", 0, 0);
    run_until(&f, "redirect", is_empty);
    assert_string_equal(f.last_rcpt, "else@where.test");
    assert_int_equal(f.rcpts, 1);
    end(&f);
}

/* A client that sends nonsense loses its connection, and nothing else happens. */
static void nonsense(void **state)
{
    struct fixture f;
    struct asker a;
    int pair[2];

    (void) state;
    begin(&f, slow, ANSWER_SENT);
    for (uint16_t type = 0; type < 70; type++) {
        struct chan *c;
        struct err err = ERR_INIT;

        if (type == PROTO_QUEUE_LIST)
            continue;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        server_accepted(f.q, pair[1]);
        c = chan_new(pair[0]);
        if (type % 2 == 0)
            proto_hello(c, "test");
        chan_put(c, type, SLICE_LIT("\001\000\377\377\377\377garbage"), -1);
        assert_int_equal(chan_flush_wait(c, WAIT_MS, &err), CHAN_OK);
        if (type % 3 == 0)
            command(&f, &a, PROTO_QUEUE_LIST, 0, "", "");
        chan_free(&c);
    }
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    run_until(&f, "delivery", is_empty);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list),
        cmocka_unit_test(delete_waiting),
        cmocka_unit_test(delete_active),
        cmocka_unit_test(hold_active_and_release),
        cmocka_unit_test(hold_active_and_die),
        cmocka_unit_test(delete_active_and_die),
        cmocka_unit_test(expire_active_and_die),
        cmocka_unit_test(expire_is_noted),
        cmocka_unit_test(requeue_waits_for_cleanup),
        cmocka_unit_test(delete_while_requeued),
        cmocka_unit_test(hold_all_deferred),
        cmocka_unit_test(arrives_held),
        cmocka_unit_test(expire),
        cmocka_unit_test(filter_and_redirect),
        cmocka_unit_test(nonsense),
    };

    log_open(&(struct log_target){.program = "test", .maillog_fd = -1, .no_syslog = true});
    return cmocka_run_group_tests(tests, NULL, NULL);
}
