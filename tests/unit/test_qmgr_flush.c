/* SPDX-License-Identifier: Apache-2.0 */
/* test_qmgr_flush.c - postqueue -f, -i, -s as qmgr sees them: what is tried, and what does not count then. */
#include <semaphore.h>

#include "test_qmgr_ask.h"

static const char flushable[] = "minimal_backoff_time = 600s\nmaximal_backoff_time = 600s\n"
                                "fast_flush_domains = one.test, two.test, three.test\n";

static void flush(void **state)
{
    static const struct {
        uint32_t op;
        const char *arg;
        uint32_t status;
        uint64_t count;
    } cases[] = {
        {QUEUE_OP_FLUSH_SITE, "three.test", PROTO_OK, 0},
        {QUEUE_OP_FLUSH_ID, "AAAA09", PROTO_NOT_FOUND, 0},
        {QUEUE_OP_FLUSH_SITE, "TWO.test", PROTO_OK, 2},
        {QUEUE_OP_FLUSH_ID, "AAAA01", PROTO_OK, 1},
        {QUEUE_OP_FLUSH_SITE, "one.test", PROTO_OK, 2},
        {QUEUE_OP_FLUSH_SITE, "four.test", PROTO_NOT_FOUND, 0},
        {QUEUE_OP_FLUSH_ALL, "", PROTO_OK, 3},
    };
    struct fixture f;

    (void) state;
    begin(&f, flushable, ANSWER_DEFER);
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    submit(&f, "AAAA02", "me@example.org", "a@Two.test b@two.TEST", 0, 0);
    submit(&f, "AAAA03", "me@example.org", "a@one.test b@two.test", 0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        run_until(&f, "attempts", is_idle);
        expect(&f, cases[i].op, cases[i].arg, "", cases[i].status, cases[i].count);
    }
    run_until(&f, "attempts", is_idle);
    assert_int_equal(f.requests, 3 + 2 + 1 + 2 + 3);
    end(&f);
}

/* What is known of the messages' domains is gone: they are read, and noted again. */
static void flush_after_restart(void **state)
{
    struct fixture f;
    struct queued *qd;

    (void) state;
    begin(&f, flushable, ANSWER_DEFER);
    submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
    submit(&f, "AAAA02", "me@example.org", "a@two.test", 0, 0);
    run_until(&f, "attempts", is_idle);
    qmgr_end(&f.q);
    loop_free(&f.loop);
    begin_qmgr(&f);
    qd = store_msg_data(store_find(f.q->store, SLICE_LIT("AAAA02")));
    assert_int_equal(qd->site, SITE_UNKNOWN);
    expect(&f, QUEUE_OP_FLUSH_SITE, "one.test", "", PROTO_OK, 1);
    assert_int_equal(qd->site, queue_site(SLICE_LIT("two.TEST")));
    run_until(&f, "attempt", is_idle);
    assert_int_equal(f.requests, 3);
    end(&f);
}

static void flush_domains(void **state)
{
    static const struct {
        const char *domains, *site;
        uint32_t status;
    } cases[] = {
        {"", "one.test", PROTO_NOT_FOUND},
        {"one.test", "one.test", PROTO_OK},
        {"one.test", "sub.one.test", PROTO_OK}, /* parent_domain_matches_subdomains has it */
        {"!one.test, static:all", "one.test", PROTO_NOT_FOUND},
        {"static:all", "[192.0.2.1]", PROTO_OK},
        {"fail:broken", "one.test", PROTO_TEMPORARY},
        {"proxy:inline:{one.test=x}", "one.test",
         PROTO_TEMPORARY}, /* no proxymap: asked on the pool */
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;
        char params[200];

        snprintf(params, sizeof(params), "fast_flush_domains = %s\n", cases[i].domains);
        begin(&f, params, ANSWER_DEFER);
        expect(&f, QUEUE_OP_FLUSH_SITE, cases[i].site, "", cases[i].status, 0);
        end(&f);
    }
}

static bool is_asked(struct fixture *f)
{
    return f->q->nhelping > 0;
}

static void keep_busy(void *arg)
{
    sem_wait(arg);
}

static bool is_abandoned(struct fixture *f)
{
    return TAILQ_EMPTY(&f->q->clients);
}

/*
 * The end of the queue manager while fast_flush_domains is asked on the pool, whose answer is not heard any more: with the
 * client, and with one that has gone before. The leak checker is the judge.
 */
static void end_while_asking(void **state)
{
    (void) state;
    for (int gone = 0; gone < 2; gone++) {
        struct fixture f;
        struct asker a;
        sem_t may_go_on;

        begin(&f, "fast_flush_domains = proxy:inline:{one.test=x}\nqmgr_resolver_threads = 1\n",
              ANSWER_DEFER);
        assert_int_equal(sem_init(&may_go_on, 0, 0), 0);
        pool_run(f.q->resolvers, keep_busy, &may_go_on);
        ask_in_thread(&f, &a, PROTO_QUEUE_FLUSH, QUEUE_OP_FLUSH_SITE, "one.test", "");
        run_until(&f, "the question", is_asked);
        if (gone != 0) {
            assert_int_equal(shutdown(chan_fd(a.c), SHUT_RDWR), 0);
            run_until(&f, "the end of the client", is_abandoned);
        }
        sem_post(&may_go_on);
        end(&f);
        pthread_join(a.thread, NULL);
        chan_free(&a.c);
        sem_destroy(&may_go_on);
    }
}

/* A flush counts for transports that are deferred and sites that are dead; for other mail these stay so. */
static void flush_forces(void **state)
{
    static const struct {
        uint32_t op;
        const char *arg;
    } flushes[] = {
        {QUEUE_OP_FLUSH_ALL, ""}, {QUEUE_OP_FLUSH_SITE, "one.test"}, {QUEUE_OP_FLUSH_ID, "AAAA01"}};

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(flushes); i++) {
        struct fixture f;
        char params[300];

        snprintf(params, sizeof(params), "%sdefer_transports = smtp\n", flushable);
        begin(&f, params, ANSWER_SENT);
        submit(&f, "AAAA01", "me@example.org", "a@one.test", 0, 0);
        run_until(&f, "deferral", is_idle);
        assert_int_equal(f.requests, 0);
        expect(&f, flushes[i].op, flushes[i].arg, "", PROTO_OK, 1);
        run_until(&f, "delivery", is_empty);
        assert_int_equal(f.requests, 1);
        submit(&f, "AAAA02", "me@example.org", "a@one.test", 0, 0);
        run_until(&f, "deferral", is_idle);
        assert_int_equal(f.requests, 1);
        end(&f);

        begin(&f, flushable, ANSWER_DEAD);
        submit(&f, "AAAA00", "me@example.org",
               "a@one.test b@one.test c@one.test d@one.test e@one.test f@one.test", 0, 0);
        for (int n = 1; n < 7; n++) { /* until it is dead */
            char id[20];

            snprintf(id, sizeof(id), "AAAA0%d", n);
            submit(&f, id, "me@example.org", "a@one.test", 0, 0);
            run_until(&f, "attempt", is_idle);
        }
        assert_true(f.requests < 7);
        set_answer(&f, ANSWER_SENT);
        expect(&f, flushes[i].op, flushes[i].arg, "", PROTO_OK,
               flushes[i].op == QUEUE_OP_FLUSH_ID ? 1 : 7);
        run_until(&f, "attempts", is_idle);
        assert_int_equal(store_count(f.q->store), flushes[i].op == QUEUE_OP_FLUSH_ID ? 6 : 0);
        end(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flush),         cmocka_unit_test(flush_after_restart),
        cmocka_unit_test(flush_domains), cmocka_unit_test(end_while_asking),
        cmocka_unit_test(flush_forces),
    };

    log_open(&(struct log_target){.program = "test", .maillog_fd = -1, .no_syslog = true});
    return cmocka_run_group_tests(tests, NULL, NULL);
}
