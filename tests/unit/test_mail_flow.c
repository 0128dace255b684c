/* SPDX-License-Identifier: Apache-2.0 */
/* test_mail_flow.c - who pauses while there is a backlog. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>

#include <cmocka.h>

#include "mail/flow.h"

static void nothing_pauses_without_backlog(void **state)
{
    (void) state;
    assert_false(flow_must_pause());
    flow_left(); /* counts for nothing */
    flow_set_backlog(true);
    assert_true(flow_must_pause());
    flow_set_backlog(false);
    assert_false(flow_must_pause());
}

static void one_enters_for_one_that_leaves(void **state)
{
    (void) state;
    flow_set_backlog(true);
    flow_left();
    flow_left();
    flow_set_backlog(true); /* says nothing new */
    assert_false(flow_must_pause());
    assert_false(flow_must_pause());
    assert_true(flow_must_pause());
    assert_true(flow_must_pause());
    flow_left();
    assert_false(flow_must_pause());
    flow_left();
    flow_set_backlog(false);
    flow_set_backlog(true); /* a new backlog begins without tokens */
    assert_true(flow_must_pause());
    flow_set_backlog(false);
}

static void tokens_are_bounded(void **state)
{
    int n = 0;

    (void) state;
    flow_set_backlog(true);
    for (int i = 0; i < 5000; i++)
        flow_left();
    while (!flow_must_pause())
        n++;
    assert_int_equal(n, 1000);
    flow_set_backlog(false);
}

static atomic_int entered;

static void *enter(void *arg)
{
    (void) arg;
    for (int i = 0; i < 20000; i++)
        if (!flow_must_pause())
            atomic_fetch_add(&entered, 1);
    return NULL;
}

static void threads_share_tokens(void **state)
{
    pthread_t t[4];

    (void) state;
    flow_set_backlog(true);
    for (int i = 0; i < 500; i++)
        flow_left();
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, enter, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    /* two that meet at the last token may both pause; nobody enters without one */
    assert_in_range(atomic_load(&entered), 490, 500);
    flow_set_backlog(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_pauses_without_backlog),
        cmocka_unit_test(one_enters_for_one_that_leaves),
        cmocka_unit_test(tokens_are_bounded),
        cmocka_unit_test(threads_share_tokens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
