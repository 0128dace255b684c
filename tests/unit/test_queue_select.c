/* SPDX-License-Identifier: Apache-2.0 */
/* test_queue_select.c - which messages "postqueue --sender ..." means. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "qmgr/queue_select.h"

struct a_case {
    const char *what; /* q: queues, i: id, s: sender, r: recipient, d: domain, t: reason's text */
    const char *wanted;
    const char *value; /* the message's */
    bool is_meant;
};

static const struct a_case cases[] = {
    {"q", "deferred", "deferred", true},
    {"q", "hold,deferred", "deferred", true},
    {"q", "hold, deferred", "deferred", true},
    {"q", "hold", "deferred", false},
    {"q", "defer", "deferred", false},
    {"i", "ABCDEF0123", "ABCDEF0123", true},
    {"i", "ABCDEF0123", "ABCDEF01234", false},
    {"s", "a@x.test", "A@X.TEST", true},
    {"s", "a@x.test", "ba@x.test", false},
    {"s", "<>", "", true},
    {"s", "<>", "a@x.test", false},
    {"s", "a@x.test", "", false},
    {"s", "@x.test", "\"b@c\"@X.test", true},
    {"s", "@x.test", "b@y.x.test", false},
    {"s", "@x.test", "local", false},
    {"r", "a@x.test", "a@x.test", true},
    {"r", "a@x.test", "a@x.tes", false},
    {"r", "@x.test", "b@x.test", true},
    {"d", "x.test", "a@X.test", true},
    {"d", "x.test", "a@y.x.test", false},
    {"d", ".x.test", "a@y.x.test", true},
    {"d", ".x.test", "a@x.test", true},
    {"d", ".x.test", "a@yx.test", false},
    {"d", "x.test", "a", false},
    {"t", "refused", "connect to a: Connection Refused", true},
    {"t", "connect", "connect", true},
    {"t", "connect to", "connect", false},
    {"t", "timed out", "Connection refused", false},
    {"t", "x", "", false},
};

static void test_cases(void **state)
{
    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct a_case *c = &cases[i];
        struct proto_queue_select s = {0};
        struct slice wanted = slice_str(c->wanted);
        struct slice value = slice_str(c->value);
        bool got = false;

        switch (c->what[0]) {
        case 'q':
            s.queues = wanted;
            got = queue_select_name(&s, c->value, SLICE_LIT("ABCDEF"));
            break;
        case 'i':
            s.queue_id = wanted;
            got = queue_select_name(&s, "hold", value);
            break;
        case 's':
            s.sender = wanted;
            got = queue_select_envelope(&s, value, 1);
            break;
        case 'r':
            s.recipient = wanted;
            got = queue_select_rcpt(&s, value, SLICE_EMPTY);
            break;
        case 'd':
            s.domain = wanted;
            got = queue_select_rcpt(&s, value, SLICE_EMPTY);
            break;
        default:
            s.reason = wanted;
            got = queue_select_rcpt(&s, SLICE_LIT("a@x.test"), value);
            break;
        }
        if (got != c->is_meant)
            fail_msg("%s \"%s\", of the message \"%s\": got %d", c->what, c->wanted, c->value, got);
    }
}

static void test_age(void **state)
{
    const struct proto_queue_select any = {0};
    const struct proto_queue_select old = {.arrived_to_us = 100};

    (void) state;
    assert_true(queue_select_envelope(&any, SLICE_EMPTY, UINT64_MAX));
    assert_true(queue_select_envelope(&old, SLICE_EMPTY, 100));
    assert_false(queue_select_envelope(&old, SLICE_EMPTY, 101));
}

static void test_combined(void **state)
{
    /* all of one recipient, not each of some */
    const struct proto_queue_select s = {.domain = SLICE_LIT("x.test"),
                                         .reason = SLICE_LIT("refused")};

    (void) state;
    assert_true(queue_select_asks_rcpt(&s));
    assert_true(queue_select_rcpt(&s, SLICE_LIT("a@x.test"), SLICE_LIT("refused")));
    assert_false(queue_select_rcpt(&s, SLICE_LIT("a@x.test"), SLICE_LIT("timed out")));
    assert_false(queue_select_rcpt(&s, SLICE_LIT("a@y.test"), SLICE_LIT("refused")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_age),
        cmocka_unit_test(test_combined),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
