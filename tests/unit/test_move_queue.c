/* SPDX-License-Identifier: Apache-2.0 */
/* test_move_queue.c - postqueue --move-to: next hops that make sense, which messages are meant, what is said at the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "qmgr/next_hop.h"
#include "qmgr/postqueue_move.h"
#include "qmgr/qmgr_int.h"
#include "qmgr/queue_select.h"

static void next_hops(void **state)
{
    static const struct {
        const char *text, *why; /* NULL: it is one */
    } cases[] = {
        {"mx.example.test", NULL},
        {"mx.example.test:2525", NULL},
        {"mx.example.test:submission", NULL},
        {"localhost", NULL},
        {"[mx.example.test]", NULL},
        {"[mx.example.test]:25", NULL},
        {"[192.0.2.1]", NULL},
        {"[192.0.2.1]:65535", NULL},
        {"[2001:db8::1]", NULL},
        {"[2001:db8::1]:25", NULL},
        {"", "is not the name of a host"},
        {"[]", "is not the name of a host"},
        {":25", "is not the name of a host"},
        {"[mx.example.test", "has no ]"},
        {"192.0.2.1", "an address stands in brackets: [192.0.2.1]"},
        {"192.0.2.1:25", "an address stands in brackets: [192.0.2.1]:25"},
        {"2001:db8::1", "an address stands in brackets: [2001:db8::1]"},
        {"mx.example.test:0", "a colon and a port"},
        {"mx.example.test:65536", "a colon and a port"},
        {"mx.example.test:", "a colon and a port"},
        {"mx.example.test:25:25", "a colon and a port"},
        {"mx.example.test:smtp ", "a colon and a port"},
        {"[mx.example.test]25", "a colon and a port"},
        {"[mx.example.test]:25]", "a colon and a port"},
        {"a.test, b.test", "is not the name of a host"},
        {"a.test b.test", "is not the name of a host"},
        {"smtp:[a.test]", "a colon and a port"},
        {"-a.test", "is not the name of a host"},
        {"a..test", "is not the name of a host"},
        {"user@a.test", "is not the name of a host"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = ERR_INIT;
        int ret = next_hop_check(slice_str(cases[i].text), &err);

        if ((ret == 0) != (cases[i].why == NULL) ||
            (ret == -1 && strstr(err.text, cases[i].why) == NULL))
            fail_msg("\"%s\": %d %s, wanted %s", cases[i].text, ret, err.text,
                     cases[i].why == NULL ? "none" : cases[i].why);
    }
    struct err err = ERR_INIT;
    assert_int_equal(next_hop_check(slice_of("[a\0b]", 5), &err), -1);
}

static void messages(void **state)
{
    const struct store_rcpt rcpts[] = {
        {.r = {.addr = SLICE_LIT("one@a.test")}, .done = true},
        {.r = {.addr = SLICE_LIT("two@b.test")}, .reason = SLICE_LIT("Connection refused")},
        {.r = {.addr = SLICE_LIT("three@c.test")}, .reason = SLICE_LIT("timed out")},
    };
    static const struct {
        struct proto_queue_select select;
        bool is_meant;
    } cases[] = {
        {{.arrived_to_us = 0}, true},
        {{.sender = SLICE_LIT("me@x.test")}, true},
        {{.sender = SLICE_LIT("you@x.test")}, false},
        {{.arrived_to_us = 1000}, true},
        {{.arrived_to_us = 999}, false},
        {{.domain = SLICE_LIT("a.test")}, false}, /* it has got it */
        {{.domain = SLICE_LIT("b.test")}, true},
        {{.domain = SLICE_LIT("b.test"), .reason = SLICE_LIT("refused")}, true},
        {{.domain = SLICE_LIT("c.test"), .reason = SLICE_LIT("refused")}, false},
        {{.sender = SLICE_LIT("you@x.test"), .domain = SLICE_LIT("b.test")}, false},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (queue_select_message(&cases[i].select, SLICE_LIT("me@x.test"), 1000, rcpts, 3) !=
            cases[i].is_meant)
            fail_msg("case %zu", i);
}

static void names(void **state)
{
    const struct proto_queue_select s = {.queues = SLICE_LIT("hold, deferred")};
    const struct proto_queue_select all = {0};

    (void) state;
    assert_true(queue_select_names(&s, "hold"));
    assert_true(queue_select_names(&s, "deferred"));
    assert_false(queue_select_names(&s, "incoming"));
    assert_false(queue_select_names(&all, "hold"));
}

/* --- walks that end with what was there ------------------------------------------------------------------ */

#define MANY 6

/* Messages as they stand in the list alone. */
struct walk {
    struct queue q;
    struct queued list[MANY];
};

static void walk_begin(struct walk *w, struct queue_cursor *c, size_t n)
{
    *w = (struct walk){0};
    queue_init(&w->q);
    for (size_t i = 0; i < n; i++)
        TAILQ_INSERT_TAIL(&w->q.all, &w->list[i], all);
    queue_cursor_begin(&w->q, c);
}

static void add(struct walk *w, size_t i)
{
    TAILQ_INSERT_TAIL(&w->q.all, &w->list[i], all);
}

/* As queue_forget() does, which frees. */
static void forget(struct walk *w, size_t i)
{
    struct queued *copy = xcalloc(1, sizeof(*copy));
    struct queued *old = &w->list[i];
    struct queue_cursor *c;

    *copy = *old;
    copy->where = IN_MOVING;
    TAILQ_INSERT_AFTER(&w->q.all, old, copy, all);
    TAILQ_FOREACH(c, &w->q.cursors, list)
    {
        c->next = c->next == old ? copy : c->next;
        c->last = c->last == old ? copy : c->last;
    }
    TAILQ_REMOVE(&w->q.all, old, all);
    queue_forget(&w->q, &copy);
}

static void expect(struct walk *w, struct queue_cursor *c, const char *what, const char *wanted)
{
    char got[MANY + 1] = "";
    struct queued *qd;

    for (size_t i = 0; (qd = queue_cursor_next(c)) != NULL; i++)
        got[i] = (char) ('0' + (qd - w->list));
    if (strcmp(got, wanted) != 0)
        fail_msg("%s: visits %s, wanted %s", what, got, wanted);
    queue_cursor_end(&w->q, c);
}

static void bounded_walks(void **state)
{
    struct walk w;
    struct queue_cursor c;

    (void) state;
    walk_begin(&w, &c, 3);
    add(&w, 3);
    expect(&w, &c, "without bound", "0123");

    walk_begin(&w, &c, 3);
    queue_cursor_bound(&w.q, &c);
    add(&w, 3);
    expect(&w, &c, "new at the end", "012");

    walk_begin(&w, &c, 3);
    queue_cursor_bound(&w.q, &c);
    forget(&w, 2);
    add(&w, 3);
    expect(&w, &c, "the last goes", "01");

    walk_begin(&w, &c, 3);
    queue_cursor_bound(&w.q, &c);
    assert_ptr_equal(queue_cursor_next(&c), &w.list[0]);
    forget(&w, 0);
    forget(&w, 1);
    add(&w, 3);
    expect(&w, &c, "the next goes", "2");

    walk_begin(&w, &c, 2);
    queue_cursor_bound(&w.q, &c);
    assert_ptr_equal(queue_cursor_next(&c), &w.list[0]);
    forget(&w, 1);
    add(&w, 3);
    expect(&w, &c, "the last is the next, and goes", "");

    walk_begin(&w, &c, 1);
    queue_cursor_bound(&w.q, &c);
    forget(&w, 0);
    add(&w, 3);
    expect(&w, &c, "all go", "");

    walk_begin(&w, &c, 0);
    queue_cursor_bound(&w.q, &c);
    add(&w, 3);
    expect(&w, &c, "none was there", "");
}

/* --- the last line ------------------------------------------------------------------------------------------ */

static void sums(void **state)
{
    static const struct {
        struct proto_queue_moved n;
        const char *why, *text;
    } cases[] = {
        {{.meant = 0}, "", "moved 0 of 0 messages to h\n"},
        {{.meant = 1, .moved = 1}, "", "moved 1 of 1 message to h\n"},
        {{.meant = 3, .moved = 1, .stayed = 1, .elsewhere = 1, .held = 1, .arrived = 1},
         "",
         "moved 1 of 3 messages to h; 1 stays; 1 was delivered or dealt with otherwise meanwhile; "
         "1 on hold was left (--held); 1 has arrived since and was left\n"},
        {{.meant = 9, .stayed = 2, .untried = 7, .held = 2, .arrived = 3},
         "no\033[2J route",
         "moved 0 of 9 messages to h; 2 stay; 7 were not tried; 2 on hold were left (--held); "
         "3 have arrived since and were left\nended early: no?[2J route\n"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *text = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&text, &len);

        assert_non_null(out);
        postqueue_move_sum(out, "h", &cases[i].n, slice_str(cases[i].why));
        fclose(out);
        assert_string_equal(text, cases[i].text);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(next_hops),     cmocka_unit_test(messages), cmocka_unit_test(names),
        cmocka_unit_test(bounded_walks), cmocka_unit_test(sums),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
