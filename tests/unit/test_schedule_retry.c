/* SPDX-License-Identifier: Apache-2.0 */
/* test_schedule_retry.c - when a deferred message is tried again, and what the queue's clock makes of jumps. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "qmgr/qmgr_clock_file.h"
#include "qmgr/qmgr_retry.h"

#define S 1000000LL

static void schedules(void **state)
{
    static const struct {
        const char *text;
        int ret;
        unsigned count;
        bool repeats;
    } cases[] = {
        {"1m 5m 15m 1h*", 0, 4, true},
        {"90", 0, 1, false},
        {" 1s,2s ", 0, 2, false},
        {"100d*", 0, 1, true},
        {"1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", 0, 32, false},
        {"1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", -1, 0, false},
        {"", -1, 0, false},
        {" ", -1, 0, false},
        {"*", -1, 0, false},
        {"1h* 2h", -1, 0, false},
        {"0", -1, 0, false},
        {"1m 0s", -1, 0, false},
        {"-1m", -1, 0, false},
        {"1y", -1, 0, false},
        {"101d", -1, 0, false},
        {"5m**", -1, 0, false},
    };

    (void) state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct retry_schedule s = {0};
        struct err err = ERR_INIT;
        int ret = retry_schedule_parse(slice_str(cases[i].text), &s, &err);

        if (ret != cases[i].ret || s.count != cases[i].count || s.repeats != cases[i].repeats)
            fail_msg("\"%s\": got %d %u %d, wanted %d %u %d (%s)", cases[i].text, ret, s.count,
                     s.repeats, cases[i].ret, cases[i].count, cases[i].repeats, err.text);
    }
}

/* The next attempt, as the message's age in seconds then; -1: none. */
static void attempts_of_a_schedule(void **state)
{
    static const struct {
        const char *text;
        int64_t age_s, wanted_s;
    } cases[] = {
        {"60 300 900", 0, 60},     {"60 300 900", 20, 60},
        {"60 300 900", 31, 360}, /* the first attempt took long: not again at once */
        {"60 300 900", 61, 360},   {"60 300 900", 361, 1260},
        {"60 300 900", 1000, -1},  {"60 300 900", 809, 1260},
        {"60 300 900", 1261, -1},  {"60 300*", 361, 660},
        {"60 300*", 10000, 10260}, {"60 300*", 10200, 10560},
        {"60*", 59, 120},          {"60*", 29, 60},
    };

    (void) state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct retry_schedule s;
        struct err err = ERR_INIT;
        int64_t got;
        int64_t late;

        assert_int_equal(retry_schedule_parse(slice_str(cases[i].text), &s, &err), 0);
        got = retry_schedule_us(&s, cases[i].age_s * S, 0);
        late = retry_schedule_us(&s, cases[i].age_s * S, UINT32_MAX);
        if (got != (cases[i].wanted_s == -1 ? -1 : (cases[i].wanted_s - cases[i].age_s) * S))
            fail_msg("\"%s\" at %lld: after %lld us, wanted at %lld s", cases[i].text,
                     (long long) cases[i].age_s, (long long) got, (long long) cases[i].wanted_s);
        /* jitter: a tenth of the step at most, and never earlier */
        if (got != -1 && (late <= got || late - got > 90 * S))
            fail_msg("\"%s\" at %lld: jitter of %lld us", cases[i].text, (long long) cases[i].age_s,
                     (long long) (late - got));
    }
}

static void backoff_by_age(void **state)
{
    static const struct {
        int64_t age_s, least_s, most_s; /* limits 300 and 4000 */
    } cases[] = {
        {0, 300, 330},      {300, 300, 330},    {310, 300, 341},      {1000, 900, 1100},
        {3900, 3510, 4000}, {4000, 3600, 4000}, {400000, 3600, 4000},
    };

    (void) state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t least = retry_backoff_us(cases[i].age_s * S, 300, 4000, 0);
        int64_t most = retry_backoff_us(cases[i].age_s * S, 300, 4000, UINT32_MAX);

        if (least != cases[i].least_s * S || most != cases[i].most_s * S)
            fail_msg("age %lld: %lld to %lld", (long long) cases[i].age_s, (long long) least,
                     (long long) most);
    }
}

/* What is deferred at once does not come back at once. */
static void jitter_spreads(void **state)
{
    uint64_t random = 1;
    unsigned tenth[10] = {0};

    (void) state;
    for (int i = 0; i < 10000; i++) {
        int64_t us = retry_backoff_us(1000 * S, 300, 4000, retry_random(&random));
        int64_t n = (us - 900 * S) / (20 * S);

        assert_in_range(us, 900 * S, 1100 * S);
        tenth[n == 10 ? 9 : n]++;
    }
    for (int i = 0; i < 10; i++)
        assert_in_range(tenth[i], 800, 1200);
}

struct clocks {
    struct qmgr_clock c;
    int64_t mono_s, wall_s;
};

static int64_t go(struct clocks *w, int64_t mono_s, int64_t wall_s)
{
    w->mono_s += mono_s;
    w->wall_s += wall_s;
    return qmgr_clock_compare(&w->c, (struct mono_time){w->mono_s * S},
                              (struct wall_time){w->wall_s * S});
}

static int64_t ours(const struct clocks *w)
{
    return qmgr_clock_us(&w->c, (struct wall_time){w->wall_s * S}) / S;
}

static int64_t age(const struct clocks *w, int64_t arrival_s)
{
    return qmgr_clock_age_us(&w->c, arrival_s * S, (struct wall_time){w->wall_s * S}) / S;
}

static void clock_jumps(void **state)
{
    struct clocks w = {.mono_s = 50, .wall_s = 1000};

    (void) state;
    qmgr_clock_init(&w.c, (struct mono_time){50 * S}, (struct wall_time){1000 * S});
    assert_int_equal(go(&w, 10, 10), 0);
    assert_int_equal(ours(&w), 1010);
    assert_int_equal(age(&w, 1000), 10);
    assert_int_equal(go(&w, 1, 30), 0); /* a correction: followed */
    assert_int_equal(ours(&w), 1040);
    /* an hour forward: time goes on as before */
    assert_int_equal(go(&w, 1, 3601), 3600 * S);
    assert_int_equal(ours(&w), 1041);
    assert_int_equal(age(&w, 1000), 41); /* from before the jump */
    assert_int_equal(age(&w, 4641), 0);  /* from now */
    assert_int_equal(go(&w, 9, 9), 0);
    assert_int_equal(age(&w, 4641), 9);
    assert_int_equal(age(&w, 1000), 50);
    /* a day back */
    assert_int_equal(go(&w, 1, 1 - 86400), -86400 * S);
    assert_int_equal(ours(&w), 1051);
    assert_int_equal(age(&w, w.wall_s), 0);
    assert_int_equal(age(&w, w.wall_s + 100), 0); /* from the future: no negative age */
    assert_int_equal(go(&w, 5, 5), 0);
    assert_int_equal(ours(&w), 1056);
    /* more jumps than are remembered do no harm */
    for (int i = 0; i < 20; i++)
        (void) go(&w, 1, i % 2 == 0 ? 1001 : -999);
    assert_int_equal(ours(&w), 1076);
    assert_int_equal(age(&w, w.wall_s), 0);
}

/* Kept over a restart: of the same run of the machine, and whole. */
static void clock_file(void **state)
{
    static const char boot[BOOT_ID_MAX] = "this run";
    static const char other[BOOT_ID_MAX] = "another run";
    static const char unknown[BOOT_ID_MAX] = "";
    char path[] = "/tmp/postrider-clock.XXXXXX";
    struct clocks w = {.mono_s = 50, .wall_s = 1000};
    struct qmgr_clock back = {0};
    struct err err = ERR_INIT;
    int fd = mkstemp(path);
    unsigned char byte;

    (void) state;
    assert_int_not_equal(fd, -1);
    qmgr_clock_init(&w.c, (struct mono_time){50 * S}, (struct wall_time){1000 * S});
    (void) go(&w, 1, 3601);
    assert_int_equal(qmgr_clock_save(path, boot, &w.c, &err), 0);
    assert_false(qmgr_clock_load(path, other, &back));
    assert_false(qmgr_clock_load(path, unknown, &back));
    assert_false(qmgr_clock_load("/tmp/postrider-no-such-file", boot, &back));
    assert_int_equal(back.nsteps, 0);
    assert_true(qmgr_clock_load(path, boot, &back));
    /* ten seconds later, in which the clock was set back by the hour: the next one notices, and goes on */
    w.c = back;
    assert_int_equal(go(&w, 10, 10 - 3600), -3600 * S);
    assert_int_equal(ours(&w), 1011);
    assert_int_equal(age(&w, 1000), 11);
    (void) close(fd);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, 60), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 60), 1);
    assert_false(qmgr_clock_load(path, boot, &back));
    assert_int_equal(ftruncate(fd, 20), 0);
    assert_false(qmgr_clock_load(path, boot, &back));
    (void) close(fd);
    (void) unlink(path);
}

static void boot_ids(void **state)
{
    char a[BOOT_ID_MAX];
    char b[BOOT_ID_MAX];

    (void) state;
    qmgr_clock_boot_id(a);
    qmgr_clock_boot_id(b);
    assert_int_equal(strlen(a), 36);
    assert_string_equal(a, b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedules),      cmocka_unit_test(attempts_of_a_schedule),
        cmocka_unit_test(backoff_by_age), cmocka_unit_test(jitter_spreads),
        cmocka_unit_test(clock_jumps),    cmocka_unit_test(clock_file),
        cmocka_unit_test(boot_ids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
