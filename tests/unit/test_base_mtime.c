/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_mtime.c - lib/base/mtime.h: saturation, and the three spellings of a stamp in several zones. */
#include "test_base.h"

#include <stdlib.h>
#include <time.h>

#include "base/mtime.h"

static void test_arithmetic(void **state)
{
    struct mono_time t = {1000000};

    (void) state;
    check_int("after", mono_after_ms(t, 5).us, 1005000);
    check_int("before", mono_after_ms(t, -5).us, 995000);
    check_int("never stays never", mono_after_ms(MONO_NEVER, 5).us, INT64_MAX);
    check_int("saturates", mono_after_ms(t, INT64_MAX).us, INT64_MAX);
    check_int("ms", mono_diff_ms((struct mono_time){5999}, (struct mono_time){1000}), 4);
    check_int("us", mono_diff_us((struct mono_time){5999}, (struct mono_time){1000}), 4999);
    check_int("difference saturates", mono_diff_us(MONO_NEVER, (struct mono_time){-5}), INT64_MAX);
}

static void test_poll_ms(void **state)
{
    struct mono_time now = mono_now();
    int ms;

    (void) state;
    check_int("never", mono_poll_ms(MONO_NEVER), -1);
    check_int("past", mono_poll_ms(now), 0);
    check_int("long past", mono_poll_ms((struct mono_time){0}), 0);
    check_int("very far", mono_poll_ms((struct mono_time){INT64_MAX - 1}), INT32_MAX);
    ms = mono_poll_ms(mono_after_ms(now, 10000));
    assert_in_range(ms, 5000, 10000);
    /* never early: a fraction of a millisecond is waited for */
    ms = mono_poll_ms((struct mono_time){mono_now().us + 900});
    assert_in_range(ms, 0, 1);
}

static void test_clocks(void **state)
{
    struct mono_time a = mono_now();
    struct wall_time w = wall_now();

    (void) state;
    assert_true(mono_now().us >= a.us);
    assert_true(wall_seconds(w) > 1600000000);
    check_int("seconds", wall_seconds((struct wall_time){1999999}), 1);
}

static void test_stamps(void **state)
{
    static const struct {
        const char *zone;
        int64_t seconds;
        const char *rfc5322, *syslog, *mailq;
    } rows[] = {
        {"UTC0", 1795436181, "Mon, 23 Nov 2026 12:16:21 +0000 (UTC)", "Nov 23 12:16:21",
         "Mon Nov 23 12:16:21"},
        {"UTC0", 0, "Thu,  1 Jan 1970 00:00:00 +0000 (UTC)", "Jan  1 00:00:00",
         "Thu Jan  1 00:00:00"},
        {"CET-1CEST,M3.5.0,M10.5.0/3", 1785585599, "Sat,  1 Aug 2026 13:59:59 +0200 (CEST)",
         "Aug  1 13:59:59", "Sat Aug  1 13:59:59"},
        {"XYZ3:30", 1795436181, "Mon, 23 Nov 2026 08:46:21 -0330 (XYZ)", "Nov 23 08:46:21",
         "Mon Nov 23 08:46:21"},
    };
    const struct {
        const char *name;
        void (*fn)(struct wall_time, struct buf *);
    } kinds[] = {{"rfc5322", wall_rfc5322}, {"syslog", wall_syslog}, {"mailq", wall_mailq}};

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *wanted[] = {rows[i].rfc5322, rows[i].syslog, rows[i].mailq};

        setenv("TZ", rows[i].zone, 1);
        tzset();
        for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
            struct buf b = BUF_INIT(100);

            kinds[k].fn((struct wall_time){rows[i].seconds * 1000000 + 999999}, &b);
            check_str(kinds[k].name, buf_cstr(&b), wanted[k]);
            buf_fini(&b);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arithmetic),
        cmocka_unit_test(test_poll_ms),
        cmocka_unit_test(test_clocks),
        cmocka_unit_test(test_stamps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
