/* SPDX-License-Identifier: Apache-2.0 */
/* test_qmgr_suspend.c - suspensions: which mail they concern, how they are kept and read again, the times at which they end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "qmgr/postqueue_suspend.h"
#include "qmgr/qmgr_suspend.h"

static struct suspension *make(const char *kind, const char *name, const char *reason,
                               int64_t until_us, struct err *err)
{
    struct proto_suspension p = {
        .kind = slice_str(kind),
        .name = slice_str(name),
        .by = SLICE_LIT("ann"),
        .reason = slice_str(reason),
        .since_us = 1000000,
        .until_us = (uint64_t) until_us,
    };

    return suspension_new(&p, err);
}

static void add(struct vec *list, const char *kind, const char *name, const char *reason,
                int64_t until_us)
{
    struct err err = ERR_INIT;
    struct suspension *s = make(kind, name, reason, until_us, &err);

    if (s == NULL || suspension_add(list, s, &err) == -1)
        fail_msg("%s %s: %s", kind, name, err.text);
}

static void fini(struct vec *list)
{
    for (size_t i = 0; i < list->len; i++) {
        struct suspension *s = list->items[i];

        suspension_free(&s);
    }
    vec_fini(list);
}

/* --- which mail ----------------------------------------------------------------------------------- */

static const struct {
    const char *kind, *name, *transport, *nexthop, *sender, *addr;
    bool is_meant;
} mails[] = {
    {"destination", "x.test", "smtp", "x.test", "", "a@x.test", true},
    {"destination", "X.test", "smtp", "[relay]:25", "", "a@x.TEST", true},
    {"destination", "x.test", "smtp", "y.x.test", "", "a@y.x.test", false},
    {"destination", ".x.test", "smtp", "y.x.test", "", "a@y.x.test", true},
    {"destination", "[relay]:25", "smtp", "[Relay]:25", "", "a@x.test", true},
    {"destination", "[relay]", "smtp", "[relay]:25", "", "a@x.test", false},
    {"destination", "smtp", "smtp", "x.test", "", "a@x.test", false},
    {"sender", "<>", "smtp", "x.test", "", "a@x.test", true},
    {"sender", "<>", "smtp", "x.test", "b@y.test", "a@x.test", false},
    {"sender", "@y.test", "smtp", "x.test", "b@Y.test", "a@x.test", true},
    {"sender", "b@y.test", "smtp", "x.test", "bb@y.test", "a@x.test", false},
    {"sender", "a@x.test", "smtp", "x.test", "b@y.test", "a@x.test", false},
    {"transport", "smtp", "smtp", "x.test", "", "a@x.test", true},
    {"transport", "smt", "smtp", "x.test", "", "a@x.test", false},
    {"transport", "x.test", "smtp", "x.test", "", "a@x.test", false},
};

static void test_mails(void **state)
{
    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(mails); i++) {
        struct vec list = VEC_INIT;
        const struct suspension_mail m = {.transport = slice_str(mails[i].transport),
                                          .nexthop = slice_str(mails[i].nexthop),
                                          .addr = slice_str(mails[i].addr),
                                          .sender = slice_str(mails[i].sender),
                                          .has_sender = true};

        add(&list, mails[i].kind, mails[i].name, "r", 5);
        if ((suspension_find(&list, &m) != NULL) != mails[i].is_meant)
            fail_msg("%s %s and mail from <%s> to <%s>: wanted %d", mails[i].kind, mails[i].name,
                     mails[i].sender, mails[i].addr, mails[i].is_meant);
        fini(&list);
    }
}

static void test_longest(void **state)
{
    struct vec list = VEC_INIT;
    const struct suspension_mail m = {.transport = SLICE_LIT("smtp"),
                                      .addr = SLICE_LIT("a@x.test")};

    (void) state;
    add(&list, "destination", "x.test", "short", 5);
    add(&list, "transport", "smtp", "long", 9);
    assert_string_equal(suspension_find(&list, &m)->reason, "long");
    add(&list, "destination", "X.TEST", "longest", 10); /* in place of the first */
    assert_int_equal(list.len, 2);
    assert_string_equal(suspension_find(&list, &m)->reason, "longest");
    assert_int_equal(suspension_at(&list, SLICE_LIT("transport"), SLICE_LIT("smtp")), 1);
    assert_int_equal(suspension_at(&list, SLICE_LIT("transport"), SLICE_LIT("SMTP")), -1);
    assert_int_equal(suspension_at(&list, SLICE_LIT("sender"), SLICE_LIT("x.test")), -1);
    fini(&list);
}

static void test_refused(void **state)
{
    char name[MAIL_ADDR_MAX + 2];
    char reason[SUSPENSION_REASON_MAX + 2];
    struct err err = ERR_INIT;
    struct suspension *s;

    (void) state;
    memset(name, 'x', sizeof(name) - 1);
    memset(reason, 'r', sizeof(reason) - 1);
    name[sizeof(name) - 1] = reason[sizeof(reason) - 1] = '\0';
    const struct {
        const char *kind, *name, *reason;
        int64_t until_us;
    } wrong[] = {
        {"domain", "x.test", "r", 5},    {"", "x.test", "r", 5},
        {"sender", "", "r", 5},          {"sender", "a b", "r", 5},
        {"sender", "a\tb", "r", 5},      {"sender", "a\nb", "r", 5},
        {"sender", name, "r", 5},        {"transport", "retry", "r", 5},
        {"transport", "error", "r", 5},  {"sender", "a", "", 5},
        {"sender", "a", "r\nr", 5},      {"sender", "a", "r\tr", 5},
        {"sender", "a", reason, 5},      {"sender", "a", "r", 0},
        {"sender", "a", "r", INT64_MAX},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        err = (struct err) ERR_INIT;
        if (make(wrong[i].kind, wrong[i].name, wrong[i].reason, wrong[i].until_us, &err) != NULL)
            fail_msg("%s %s is taken", wrong[i].kind, wrong[i].name);
        assert_int_not_equal(err.text[0], '\0');
    }
    name[MAIL_ADDR_MAX] = reason[SUSPENSION_REASON_MAX] = '\0';
    s = make("sender", name, reason, SUSPENSION_UNTIL_MAX, &err);
    assert_non_null(s);
    suspension_free(&s);
}

static void test_too_many(void **state)
{
    struct vec list = VEC_INIT;
    struct err err = ERR_INIT;
    struct suspension *s;
    char name[32];

    (void) state;
    for (int i = 0; i < SUSPENSIONS_MAX; i++) {
        snprintf(name, sizeof(name), "d%d.test", i);
        add(&list, "destination", name, "r", 5);
    }
    s = make("destination", "more.test", "r", 5, &err);
    assert_int_equal(suspension_add(&list, s, &err), -1);
    suspension_free(&s);
    add(&list, "destination", "d7.test", "another", 6);
    fini(&list);
}

/* --- reasons -------------------------------------------------------------------------------------- */

static void test_reasons(void **state)
{
    struct arena *a = arena_new(0);
    struct vec list = VEC_INIT;
    const struct suspension *s;

    (void) state;
    add(&list, "destination", "x.test", "their host is down", 1800000000000000);
    add(&list, "destination", "x.test.org", "r", 5);
    s = list.items[0];
    assert_string_equal(suspension_text(s, a), "suspended destination x.test until "
                                               "2027-01-15T08:00:00Z by ann: their host is down");
    assert_string_equal(suspension_wait_text(s, a),
                        "suspended destination x.test by ann: their host is down");
    assert_ptr_equal(suspension_of_reason(&list, slice_str(suspension_text(s, a))), s);
    assert_ptr_equal(suspension_of_reason(&list, slice_str(suspension_text(list.items[1], a))),
                     list.items[1]);
    assert_null(suspension_of_reason(&list, SLICE_LIT("suspended sender x.test until x")));
    assert_null(suspension_of_reason(&list, SLICE_LIT("suspended destination x.test")));
    assert_null(suspension_of_reason(&list, SLICE_LIT("connection refused")));
    assert_null(suspension_of_reason(&list, SLICE_EMPTY));
    fini(&list);
    arena_free(&a);
}

/* --- kept ----------------------------------------------------------------------------------------- */

static unsigned damaged_lines;

static void damaged(void *arg, unsigned line, const char *why)
{
    (void) arg;
    assert_true(line <= 3 && why[0] != '\0');
    damaged_lines |= 1U << line;
}

static void test_kept(void **state)
{
    struct vec list = VEC_INIT;
    struct buf text = BUF_INIT(SIZE_MAX);
    struct buf again = BUF_INIT(SIZE_MAX);
    size_t second;

    (void) state;
    add(&list, "destination", "x.test", "their host is down", 1800000000000000);
    add(&list, "sender", "<>", "m\xc3\xbcll", 5);
    add(&list, "transport", "smtp", "r", 7);
    suspension_write(&list, &text);
    fini(&list);
    list = VEC_INIT;
    damaged_lines = 0;
    suspension_read(&list, buf_view(&text), damaged, NULL);
    assert_int_equal(damaged_lines, 0);
    suspension_write(&list, &again);
    assert_true(slice_eq(buf_view(&text), buf_view(&again)));
    fini(&list);

    /* one byte changed, each in turn, in the second line: the other two are read all the same */
    second = (size_t) slice_find(buf_view(&text), '\n') + 1;
    for (size_t i = second; text.ptr[i] != '\n'; i++) {
        char was = text.ptr[i];

        text.ptr[i] = was == 'q' ? 'r' : 'q';
        list = VEC_INIT;
        damaged_lines = 0;
        suspension_read(&list, buf_view(&text), damaged, NULL);
        assert_int_equal(damaged_lines, 1U << 2);
        assert_int_equal(list.len, 2);
        fini(&list);
        text.ptr[i] = was;
    }
    /* torn anywhere: what is whole counts, nothing else is made of it */
    for (size_t len = 0; len < text.len; len++) {
        list = VEC_INIT;
        damaged_lines = 0;
        suspension_read(&list, slice_sub(buf_view(&text), 0, len), damaged, NULL);
        assert_true(list.len <= 3);
        for (size_t i = 0; i < list.len; i++)
            assert_int_equal(((struct suspension *) list.items[i])->kind, i);
        fini(&list);
    }
    buf_fini(&text);
    buf_fini(&again);
}

/* --- times ---------------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    int64_t until_s; /* 0: refused */
} times[] = {
    {"30m", 1000 + 1800},
    {"2h", 1000 + 7200},
    {"3d", 1000 + 3 * 86400},
    {"1s", 1001},
    {"0s", 0},
    {"2", 0},
    {"2030", 0},
    {"", 0},
    {"2 h", 0},
    {"-2h", 0},
    {"2x", 0},
    {"999999999w", 0},
    {"2027-01-15T08:00:00Z", 1800000000},
    {"2027-01-15t08:00:00z", 1800000000},
    {"2027-01-15T09:00:00+01:00", 1800000000},
    {"2027-01-15T05:30:00-02:30", 1800000000},
    {"2028-02-29T00:00:00Z", 1835395200},
    {"2027-02-29T00:00:00Z", 0},
    {"2027-13-01T00:00:00Z", 0},
    {"2027-01-15T24:00:00Z", 0},
    {"2027-01-15T08:00:00", 0},
    {"2027-01-15T08:00:00+0100", 0},
    {"2027-01-15T08:00:00+01:60", 0},
    {"2027-01-15T08:00:00Zx", 0},
    {"2027-01-15", 0},
    {"2027-1-15T08:00:00Z", 0},
    {"1969-01-01T00:00:00Z", 0},
    {"9999-12-31T23:59:59Z", 253402300799},
};

static void test_times(void **state)
{
    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        struct err err = ERR_INIT;
        int64_t got = 0;
        int ret = postqueue_until(slice_str(times[i].text), 1000000000, &got, &err);

        if ((ret == 0) != (times[i].until_s != 0) ||
            (ret == 0 && got != times[i].until_s * 1000000))
            fail_msg("\"%s\": got %d, %lld, wanted %lld", times[i].text, ret, (long long) got,
                     (long long) times[i].until_s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mails),   cmocka_unit_test(test_longest),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_reasons), cmocka_unit_test(test_kept),
        cmocka_unit_test(test_times),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
