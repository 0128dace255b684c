/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_loop.c - lib/base/loop.h. */
#include "test_base.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/loop.h"

/* What happened, in order, one letter each. */
struct story {
    struct loop *loop;
    char text[100];
    size_t len;
    struct loop_io *io[2];
    struct loop_timer *timer[3];
    int pair[2];
    unsigned events;
};

static void note(struct story *s, char c)
{
    if (s->len < sizeof(s->text) - 1)
        s->text[s->len++] = c;
}

static struct story *begin(void)
{
    struct story *s = xcalloc(1, sizeof(*s));

    s->loop = loop_new();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s->pair),
                     0);
    return s;
}

static void end(struct story *s, const char *wanted)
{
    check_str("story", s->text, wanted);
    for (size_t i = 0; i < ARRAY_LEN(s->io); i++)
        loop_io_free(&s->io[i]);
    for (size_t i = 0; i < ARRAY_LEN(s->timer); i++)
        loop_timer_free(&s->timer[i]);
    loop_free(&s->loop);
    assert_null(s->loop);
    fd_close(&s->pair[0]);
    fd_close(&s->pair[1]);
    free(s);
}

static void stop(void *arg)
{
    struct story *s = arg;

    note(s, '.');
    loop_stop(s->loop);
}

static void on_read(void *arg, unsigned events)
{
    struct story *s = arg;
    char c;

    s->events = events;
    if ((events & LOOP_READ) != 0 && fd_read_some(s->pair[0], &c, 1) == 1)
        note(s, c);
    if ((events & LOOP_HANGUP) != 0) {
        note(s, 'H');
        loop_stop(s->loop);
    }
}

static void test_read_and_hangup(void **state)
{
    struct story *s = begin();

    (void) state;
    assert_int_equal(fd_write_all(s->pair[1], "abc", 3), 0);
    s->io[0] = loop_io_new(s->loop, s->pair[0], LOOP_READ, on_read, s);
    check_str("not inside the registering call", s->text, "");
    loop_defer(s->loop, stop, s);
    loop_run(s->loop);
    check_str("level-triggered, one turn", s->text, "a.");
    fd_close(&s->pair[1]);
    loop_run(s->loop);
    check_int("hangup is reported", (s->events & LOOP_HANGUP) != 0, true);
    end(s, "a.bH");
}

static void on_write(void *arg, unsigned events)
{
    struct story *s = arg;

    note(s, (events & LOOP_WRITE) != 0 ? 'w' : '?');
    loop_io_set(s->io[0], 0); /* no more, or the loop would turn for ever */
    loop_timer_set(s->timer[0], 10);
}

static void test_write_and_set(void **state)
{
    struct story *s = begin();

    (void) state;
    s->timer[0] = loop_timer_new(s->loop, stop, s);
    s->io[0] = loop_io_new(s->loop, s->pair[0], LOOP_READ, on_write, s);
    loop_io_set(s->io[0], LOOP_READ | LOOP_WRITE);
    loop_run(s->loop);
    end(s, "w.");
}

static void free_both(void *arg, unsigned events)
{
    struct story *s = arg;

    (void) events;
    note(s, 'x');
    loop_io_free(&s->io[0]);
    loop_io_free(&s->io[1]);
    assert_null(s->io[0]);
    loop_io_free(&s->io[0]);
    loop_defer(s->loop, stop, s);
}

static void test_free_in_callback(void **state)
{
    struct story *s = begin();

    (void) state;
    /* both are ready in one turn; whichever comes first frees itself and the other */
    assert_int_equal(fd_write_all(s->pair[1], "a", 1), 0);
    assert_int_equal(fd_write_all(s->pair[0], "a", 1), 0);
    s->io[0] = loop_io_new(s->loop, s->pair[0], LOOP_READ, free_both, s);
    s->io[1] = loop_io_new(s->loop, s->pair[1], LOOP_READ, free_both, s);
    loop_run(s->loop);
    end(s, "x.");
}

static void note_a(void *arg)
{
    note(arg, 'a');
}

static void note_b(void *arg)
{
    note(arg, 'b');
}

static void note_c(void *arg)
{
    note(arg, 'c');
}

static void test_timers_in_order(void **state)
{
    struct story *s = begin();
    struct loop_timer *last = loop_timer_new(s->loop, stop, s);
    struct mono_time start = mono_now();

    (void) state;
    s->timer[0] = loop_timer_new(s->loop, note_a, s);
    s->timer[1] = loop_timer_new(s->loop, note_b, s);
    s->timer[2] = loop_timer_new(s->loop, note_c, s);
    loop_timer_set(last, 60);
    loop_timer_set(s->timer[2], 5);
    loop_timer_set(s->timer[0], 1000);
    loop_timer_set(s->timer[1], 20);
    loop_timer_set(s->timer[0], 10); /* moved */
    loop_run(s->loop);
    assert_in_range(mono_diff_ms(mono_now(), start), 60, 5000);
    assert_in_range(mono_diff_ms(loop_now(s->loop), start), 60, 5000);
    loop_timer_free(&last);
    end(s, "cab.");
}

static void cancel_others(void *arg)
{
    struct story *s = arg;

    note(s, 'x');
    loop_timer_cancel(s->timer[1]);
    loop_timer_cancel(s->timer[1]);
    loop_timer_free(&s->timer[2]);
    loop_timer_free(&s->timer[0]); /* itself */
}

static void test_timer_cancel(void **state)
{
    struct story *s = begin();
    struct loop_timer *last = loop_timer_new(s->loop, stop, s);

    (void) state;
    s->timer[0] = loop_timer_new(s->loop, cancel_others, s);
    s->timer[1] = loop_timer_new(s->loop, note_b, s);
    s->timer[2] = loop_timer_new(s->loop, note_c, s);
    loop_timer_set(s->timer[0], 5);
    loop_timer_set(s->timer[1], 10);
    loop_timer_set(s->timer[2], 10);
    loop_timer_set(last, 30);
    loop_run(s->loop);
    loop_timer_free(&last);
    end(s, "x.");
}

static void again_at_once(void *arg)
{
    struct story *s = arg;

    note(s, 't');
    if (s->len == 1)
        loop_defer(s->loop, note_a, s);
    if (s->len < 4)
        loop_timer_set(s->timer[0], 0);
    else
        loop_stop(s->loop);
}

static void test_timer_of_zero(void **state)
{
    struct story *s = begin();

    (void) state;
    s->timer[0] = loop_timer_new(s->loop, again_at_once, s);
    loop_timer_set(s->timer[0], 0);
    loop_run(s->loop);
    /* set again from its own callback it waits for the next turn: the deferred work comes between */
    end(s, "tatt");
}

#define HEAP 500
struct ring {
    struct loop *loop;
    struct loop_timer *timers[HEAP];
    int64_t due[HEAP];
    int64_t last;
    int left;
};
struct ring_entry {
    struct ring *ring;
    int i;
};

static void fired(void *arg)
{
    struct ring_entry *e = arg;

    assert_true(e->ring->due[e->i] >= e->ring->last);
    e->ring->last = e->ring->due[e->i];
    if (--e->ring->left == 0)
        loop_stop(e->ring->loop);
}

static void test_many_timers(void **state)
{
    struct ring r = {.loop = loop_new()};
    struct ring_entry entries[HEAP];
    unsigned seed = 1;

    (void) state;
    for (int i = 0; i < HEAP; i++) {
        entries[i] = (struct ring_entry){&r, i};
        r.timers[i] = loop_timer_new(r.loop, fired, &entries[i]);
    }
    for (int i = 0; i < HEAP; i++) {
        seed = seed * 1103515245U + 12345;
        r.due[i] = (int64_t) (seed >> 16) % 30 * 2;
        loop_timer_set(r.timers[i], r.due[i]);
        r.left++;
    }
    for (int i = 0; i < HEAP; i += 3) {
        loop_timer_cancel(r.timers[i]);
        r.left--;
    }
    for (int i = 0; i < HEAP; i += 6) { /* moved far behind the others */
        r.due[i] = 200 + i % 5 * 10;
        loop_timer_set(r.timers[i], r.due[i]);
        r.left++;
    }
    loop_run(r.loop);
    check_int("all fired", r.left, 0);
    for (int i = 0; i < HEAP; i++)
        loop_timer_free(&r.timers[i]);
    loop_free(&r.loop);
}

#define POSTS 5000
struct poster {
    struct loop *loop;
    pthread_t thread;
    int last; /* the loop's thread only */
    int *finished;
};
struct letter {
    struct poster *from;
    int number;
};

static void deliver(void *arg)
{
    struct letter *l = arg;

    check_int("in the order posted", l->number, l->from->last + 1);
    l->from->last = l->number;
    if (l->number == POSTS && ++*l->from->finished == 3)
        loop_stop(l->from->loop);
    free(l);
}

static void *post_all(void *arg)
{
    struct poster *p = arg;

    for (int i = 1; i <= POSTS; i++) {
        struct letter *l = xmalloc(sizeof(*l));

        *l = (struct letter){p, i};
        loop_post(p->loop, deliver, l);
    }
    return NULL;
}

static void test_post(void **state)
{
    struct loop *loop = loop_new();
    struct poster posters[3];
    int finished = 0;

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(posters); i++) {
        posters[i] = (struct poster){.loop = loop, .finished = &finished};
        assert_int_equal(pthread_create(&posters[i].thread, NULL, post_all, &posters[i]), 0);
    }
    loop_run(loop);
    for (size_t i = 0; i < ARRAY_LEN(posters); i++)
        pthread_join(posters[i].thread, NULL);
    loop_free(&loop);
}

static void defer_more(void *arg)
{
    struct story *s = arg;

    note(s, 'd');
    if (s->len < 4)
        loop_defer(s->loop, defer_more, s);
    else
        loop_stop(s->loop);
}

static void test_defer(void **state)
{
    struct story *s = begin();

    (void) state;
    loop_defer(s->loop, note_a, s);
    loop_defer(s->loop, defer_more, s);
    loop_defer(s->loop, note_b, s);
    check_str("not inside the call", s->text, "");
    loop_run(s->loop);
    end(s, "adbd");
}

static void take_20_ms(void *arg)
{
    struct mono_time end = mono_after_ms(mono_now(), 20);

    while (mono_now().us < end.us)
        ;
    loop_stop(arg);
}

/* Of the turns alone, not the waiting between them; told once. */
static void test_longest_turn(void **state)
{
    struct loop *l = loop_new();
    struct loop_timer *t = loop_timer_new(l, take_20_ms, l);
    struct mono_time begun = mono_now();
    int64_t us;

    (void) state;
    assert_int_equal(loop_longest_us(l), 0);
    loop_timer_set(t, 300);
    loop_run(l);
    us = loop_longest_us(l);
    assert_true(us >= 20000);
    assert_true(us <= mono_diff_us(mono_now(), begun) - 299000);
    assert_int_equal(loop_longest_us(l), 0);
    loop_timer_free(&t);
    loop_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_and_hangup),
        cmocka_unit_test(test_write_and_set),
        cmocka_unit_test(test_free_in_callback),
        cmocka_unit_test(test_timers_in_order),
        cmocka_unit_test(test_timer_cancel),
        cmocka_unit_test(test_timer_of_zero),
        cmocka_unit_test(test_many_timers),
        cmocka_unit_test(test_post),
        cmocka_unit_test(test_defer),
        cmocka_unit_test(test_longest_turn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
