/* SPDX-License-Identifier: Apache-2.0 */
/* test_map_servers.c - the pool of connections and the circuit breaker, on servers that exist in memory only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "maps/map_servers.h"

struct fake {
    atomic_bool up;
    atomic_bool hangs; /* accepts, never answers */
    atomic_uint life;  /* raised by a restart: older connections are dead */
    atomic_int connects, asked, open, most_open;
};

static struct fake fakes[2];

struct fake_conn {
    struct fake *server;
    unsigned life;
};

static void pause_us(long us)
{
    struct timespec ts = {us / 1000000, us % 1000000 * 1000};

    (void) nanosleep(&ts, NULL);
}

static int fake_connect(const char *server, struct mono_time deadline, void *arg, void **conn,
                        struct err *err)
{
    struct fake *f = &fakes[server[0] - 'a'];
    struct fake_conn *c;
    int open;
    int most;

    (void) deadline;
    assert_ptr_equal(arg, fakes);
    atomic_fetch_add(&f->connects, 1);
    if (!atomic_load(&f->up))
        return err_temporary(err, "Connection refused");
    c = xcalloc(1, sizeof(*c));
    c->server = f;
    c->life = atomic_load(&f->life);
    open = atomic_fetch_add(&f->open, 1) + 1;
    most = atomic_load(&f->most_open);
    while (open > most && !atomic_compare_exchange_weak(&f->most_open, &most, open))
        continue;
    *conn = c;
    return 0;
}

static void fake_close(void *conn)
{
    struct fake_conn *c = conn;

    atomic_fetch_sub(&c->server->open, 1);
    free(c);
}

static const struct map_servers_ops ops = {fake_connect, fake_close};

/* *arg: which server answered */
static enum map_servers_answer fake_ask(void *conn, struct mono_time deadline, void *arg,
                                        struct err *err)
{
    struct fake_conn *c = conn;

    if (atomic_load(&c->server->hangs)) {
        int64_t left = mono_diff_us(deadline, mono_now());

        if (left > 0)
            pause_us((long) left);
        (void) err_temporary(err, "timed out");
        return MAP_SERVERS_BROKEN;
    }
    if (!atomic_load(&c->server->up) || c->life != atomic_load(&c->server->life)) {
        (void) err_temporary(err, "Connection reset by peer");
        return MAP_SERVERS_BROKEN;
    }
    atomic_fetch_add(&c->server->asked, 1);
    *(char *) arg = (char) ('a' + (c->server - fakes));
    return MAP_SERVERS_DONE;
}

static void restart(struct fake *f)
{
    atomic_fetch_add(&f->life, 1);
    atomic_store(&f->up, true);
}

static struct map_servers *make(size_t nservers, bool random, size_t connections)
{
    static const char *const names[] = {"a", "b"};
    struct map_servers_config c = {
        .table = "fake:test",
        .servers = names,
        .nservers = nservers,
        .random_order = random,
        .max_connections = connections,
        .query_timeout_ms = 300,
        .idle_timeout_ms = 60000,
        .down_min_ms = 20,
        .down_max_ms = 80,
    };

    for (size_t i = 0; i < ARRAY_LEN(fakes); i++) {
        memset(&fakes[i], 0, sizeof(fakes[i]));
        atomic_store(&fakes[i].up, true);
    }
    return map_servers_new(&c, &ops, fakes);
}

static char ask(struct map_servers *s, struct err *err)
{
    char who = '-';

    *err = ERR_INIT;
    return map_servers_ask(s, fake_ask, &who, err) == 0 ? who : '!';
}

static void test_keeps_connection(void **state)
{
    struct map_servers *s = make(2, false, 4);
    struct err err;

    (void) state;
    for (int i = 0; i < 100; i++)
        assert_int_equal(ask(s, &err), 'a');
    assert_int_equal(fakes[0].connects, 1);
    assert_int_equal(fakes[1].connects, 0);
    map_servers_free(&s);
    assert_int_equal(fakes[0].open, 0);
}

static void test_stale_connection_is_replaced(void **state)
{
    struct map_servers *s = make(1, false, 4);
    struct err err;

    (void) state;
    assert_int_equal(ask(s, &err), 'a');
    restart(&fakes[0]);
    assert_int_equal(ask(s, &err), 'a');
    assert_int_equal(fakes[0].connects, 2);
    assert_int_equal(fakes[0].open, 1);
    map_servers_free(&s);
}

static void test_fails_over_and_back(void **state)
{
    struct map_servers *s = make(2, false, 4);
    struct mono_time limit;
    struct err err;

    (void) state;
    assert_int_equal(ask(s, &err), 'a');
    atomic_store(&fakes[0].up, false);
    assert_int_equal(ask(s, &err), 'b');
    assert_int_equal(fakes[0].open, 0);
    restart(&fakes[0]);
    limit = mono_after_ms(mono_now(), 2000);
    while (ask(s, &err) == 'b') {
        assert_true(mono_diff_ms(limit, mono_now()) > 0);
        pause_us(1000);
    }
    assert_int_equal(ask(s, &err), 'a');
    map_servers_free(&s);
}

/* A server that is down is not asked by each lookup: it is probed, less and less often, and noticed soon when it is back. */
static void test_breaker(void **state)
{
    struct map_servers *s = make(1, false, 4);
    struct mono_time limit;
    struct err err;
    int probes;

    (void) state;
    atomic_store(&fakes[0].up, false);
    assert_int_equal(ask(s, &err), '!');
    assert_string_equal(err.text, "server a: Connection refused");
    assert_int_equal(err.kind, ERR_TEMPORARY);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(ask(s, &err), '!');
        assert_string_equal(err.text, "server a: Connection refused");
    }
    assert_true(fakes[0].connects <= 3); /* 100 lookups take no 60 ms */
    limit = mono_after_ms(mono_now(), 500);
    while (mono_diff_us(limit, mono_now()) > 0) {
        assert_int_equal(ask(s, &err), '!');
        pause_us(500);
    }
    probes = fakes[0].connects;
    assert_in_range(probes, 4, 11); /* after 20, 60, 140, 220, 300, 380, 460 ms */
    restart(&fakes[0]);
    limit = mono_after_ms(mono_now(), 1000);
    while (ask(s, &err) == '!') {
        assert_true(mono_diff_ms(limit, mono_now()) > 0);
        pause_us(500);
    }
    assert_int_equal(ask(s, &err), 'a');
    map_servers_free(&s);
}

static enum map_servers_answer wrong_ask(void *conn, struct mono_time deadline, void *arg,
                                         struct err *err)
{
    (void) conn;
    (void) deadline;
    (void) arg;
    (void) err_input(err, "nonsense");
    return MAP_SERVERS_WRONG;
}

/* A question that is answered wrongly does not take the server from all others. */
static void test_wrong_answer(void **state)
{
    struct map_servers *s = make(2, false, 1);
    struct err err = ERR_INIT;

    (void) state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(map_servers_ask(s, wrong_ask, NULL, &err), -1);
        assert_string_equal(err.text, "server a: nonsense");
        assert_int_equal(err.kind, ERR_TEMPORARY);
        assert_int_equal(ask(s, &err), 'a');
    }
    assert_int_equal(fakes[0].connects,
                     4); /* each wrong answer but the first costs the connection that there was */
    assert_int_equal(fakes[1].connects, 0);
    map_servers_free(&s);
    assert_int_equal(fakes[0].open, 0);
}

/* The time is shared: a server that swallows the question leaves some for the next. */
static void test_hanging_server(void **state)
{
    struct map_servers *s = make(2, false, 4);
    struct mono_time begun = mono_now();
    struct err err;

    (void) state;
    atomic_store(&fakes[0].hangs, true);
    assert_int_equal(ask(s, &err), 'b');
    assert_in_range(mono_diff_ms(mono_now(), begun), 100, 290);
    begun = mono_now();
    assert_int_equal(ask(s, &err), 'b');
    assert_true(mono_diff_ms(mono_now(), begun) < 100);
    map_servers_free(&s);
}

static void test_all_down_names_all(void **state)
{
    struct map_servers *s = make(2, true, 4);
    struct err err;

    (void) state;
    atomic_store(&fakes[0].up, false);
    atomic_store(&fakes[1].up, false);
    assert_int_equal(ask(s, &err), '!');
    assert_string_equal(err.text, "server a: Connection refused; server b: Connection refused");
    map_servers_free(&s);
}

/* Both servers are used, and a table with places for two connections need not open a third. */
static void test_random_order(void **state)
{
    struct map_servers *s;
    struct err err;
    int seen = 0;

    (void) state;
    for (int round = 0; round < 64 && seen != 3; round++) {
        s = make(2, true, 2);
        seen |= ask(s, &err) == 'a' ? 1 : 2;
        for (int i = 0; i < 20; i++)
            assert_int_not_equal(ask(s, &err), '!');
        assert_true(fakes[0].connects + fakes[1].connects == 1);
        map_servers_free(&s);
    }
    assert_int_equal(seen, 3);
}

static void test_idle_timeout(void **state)
{
    static const char *const names[] = {"a"};
    struct map_servers_config c = {.table = "fake:idle",
                                   .servers = names,
                                   .nservers = 1,
                                   .max_connections = 1,
                                   .query_timeout_ms = 300,
                                   .idle_timeout_ms = 20,
                                   .down_min_ms = 20,
                                   .down_max_ms = 80};
    struct map_servers *s = make(1, false, 1);
    struct err err;

    (void) state;
    map_servers_free(&s);
    s = map_servers_new(&c, &ops, fakes);
    assert_int_equal(ask(s, &err), 'a');
    pause_us(30000);
    assert_int_equal(ask(s, &err), 'a');
    assert_int_equal(fakes[0].connects, 2);
    assert_int_equal(fakes[0].open, 1);
    map_servers_free(&s);
}

/* A child must not speak on its parent's connections, nor say goodbye on them. */
static void test_fork(void **state)
{
    struct map_servers *s = make(1, false, 2);
    struct err err;
    int status = -1;
    pid_t pid;

    (void) state;
    assert_int_equal(ask(s, &err), 'a');
    pid = fork();
    assert_int_not_equal(pid, -1);
    if (pid == 0) {
        bool good = ask(s, &err) == 'a' && fakes[0].connects == 2 && fakes[0].open == 2;

        map_servers_free(&s);
        _exit(good && fakes[0].open == 1 ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    map_servers_free(&s);
    assert_int_equal(fakes[0].open, 0);
}

/* --- threads -------------------------------------------------------------------------------------- */

struct load {
    struct map_servers *s;
    int rounds; /* 0: until stop */
    int64_t hold_us;
    int good, bad, lost;
};

static atomic_bool stop;

struct slow {
    int64_t hold_us;
    char who;
};

static enum map_servers_answer slow_ask(void *conn, struct mono_time deadline, void *arg,
                                        struct err *err)
{
    struct slow *slow = arg;

    if (slow->hold_us > 0)
        pause_us(slow->hold_us);
    return fake_ask(conn, deadline, &slow->who, err);
}

static void *run(void *arg)
{
    struct load *l = arg;

    for (int i = 0; l->rounds == 0 ? !atomic_load(&stop) : i < l->rounds; i++) {
        struct slow slow = {l->hold_us, '-'};
        struct err err = ERR_INIT;

        if (map_servers_ask(l->s, slow_ask, &slow, &err) == 0 && slow.who != '-')
            l->good++;
        else if (err.kind == ERR_TEMPORARY && err.text[0] != '\0')
            l->bad++;
        else
            l->lost++;
    }
    return NULL;
}

static void run_threads(struct map_servers *s, int rounds, int64_t hold_us, void (*during)(void),
                        int *good, int *bad)
{
    pthread_t threads[16];
    struct load loads[16];

    *good = *bad = 0;
    atomic_store(&stop, false);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        loads[i] = (struct load){.s = s, .rounds = rounds, .hold_us = hold_us};
        assert_int_equal(pthread_create(&threads[i], NULL, run, &loads[i]), 0);
    }
    if (during != NULL)
        during();
    atomic_store(&stop, true);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(loads[i].lost, 0);
        *good += loads[i].good;
        *bad += loads[i].bad;
    }
}

static void test_pool_is_bounded(void **state)
{
    struct map_servers *s = make(1, false, 3);
    int good;
    int bad;

    (void) state;
    run_threads(s, 50, 200, NULL, &good, &bad);
    assert_int_equal(good, 16 * 50);
    assert_int_equal(bad, 0);
    assert_in_range(fakes[0].most_open, 1, 3);
    assert_in_range(fakes[0].connects, 1, 3);
    map_servers_free(&s);
    assert_int_equal(fakes[0].open, 0);
}

/* Waiting for a connection ends with the deadline, and is not the server's fault: it stays up. */
static void test_busy_pool(void **state)
{
    struct map_servers *s = make(1, false, 1);
    struct err err;
    int good;
    int bad;

    (void) state;
    run_threads(s, 1, 150000, NULL, &good, &bad);
    assert_int_equal(good + bad, 16);
    assert_in_range(good, 1, 3);
    assert_int_equal(ask(s, &err), 'a');
    map_servers_free(&s);
}

static void restarts(void)
{
    for (int i = 0; i < 20; i++) {
        atomic_store(&fakes[i % 2].up, false);
        pause_us(5000);
        restart(&fakes[i % 2]);
        pause_us(5000);
    }
}

static void test_restarts_under_load(void **state)
{
    struct map_servers *s = make(2, true, 4);
    struct mono_time limit;
    struct err err;
    int good;
    int bad;

    (void) state;
    run_threads(s, 0, 100, restarts, &good, &bad);
    assert_true(good > 100);
    assert_true(fakes[0].most_open <= 4 && fakes[1].most_open <= 4);
    limit = mono_after_ms(mono_now(), 2000);
    while (ask(s, &err) == '!')
        assert_true(mono_diff_ms(limit, mono_now()) > 0);
    map_servers_free(&s);
    assert_int_equal(fakes[0].open + fakes[1].open, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_connection),
        cmocka_unit_test(test_stale_connection_is_replaced),
        cmocka_unit_test(test_fails_over_and_back),
        cmocka_unit_test(test_breaker),
        cmocka_unit_test(test_wrong_answer),
        cmocka_unit_test(test_hanging_server),
        cmocka_unit_test(test_all_down_names_all),
        cmocka_unit_test(test_random_order),
        cmocka_unit_test(test_idle_timeout),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_pool_is_bounded),
        cmocka_unit_test(test_busy_pool),
        cmocka_unit_test(test_restarts_under_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
