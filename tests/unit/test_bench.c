/* SPDX-License-Identifier: Apache-2.0 */
/* test_bench.c - bench/: percentiles, made-up messages, addresses. */
#include "test_base.h"

#include <netinet/in.h>

#include "bench/endpoint.h"
#include "bench/histogram.h"
#include "bench/message.h"

/* Each percentile of known samples is at most 1/64 above the right one, and never below it. */
static void test_percentiles(void **state)
{
    static const struct {
        double share;
        int64_t wanted;
    } rows[] = {{0, 1},        {0.00001, 1},   {0.5, 50000}, {0.9, 90000},
                {0.99, 99000}, {0.999, 99900}, {1, 100000}};
    static struct histogram h;

    (void) state;
    for (int64_t us = 100000; us >= 1; us--)
        histogram_add(&h, us);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t got = histogram_at(&h, rows[i].share);

        if (got < rows[i].wanted || got > rows[i].wanted + rows[i].wanted / 64)
            fail_msg("share %g: got %lld, wanted %lld", rows[i].share, (long long) got,
                     (long long) rows[i].wanted);
    }
}

static void test_extremes(void **state)
{
    static const int64_t values[] = {0,        1, 63, 64, 65, 127, 128, 1000000, INT64_C(1) << 40,
                                     INT64_MAX};

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        static struct histogram h;

        h = (struct histogram){0};
        histogram_add(&h, values[i]);
        assert_int_equal(h.max_us, values[i]);
        if (values[i] < INT64_C(1) << 41) /* alone, it is every percentile */
            assert_int_equal(histogram_at(&h, 0.5), values[i]);
    }
    static struct histogram none;

    assert_int_equal(histogram_at(&none, 0.5), 0);
    histogram_add(&none, -5); /* a clock that stood still, not a reason to write before the array */
    assert_int_equal(histogram_at(&none, 1), 0);
}

static void test_made_up_messages(void **state)
{
    (void) state;
    for (size_t length = 0; length < 500; length++) {
        struct buf b = BUF_INIT(SIZE_MAX);
        struct slice rest;

        message_fill(&b, length);
        assert_int_equal(b.len, length == 1 ? 2 : length);
        rest = buf_view(&b);
        while (rest.len > 0) { /* whole lines, none too long, none that SMTP could misread */
            ptrdiff_t nl = slice_find(rest, '\n');

            assert_true(nl >= 1 && nl < 80);
            assert_int_equal(rest.ptr[nl - 1], '\r');
            assert_true(nl == 1 || rest.ptr[0] != '.');
            rest = slice_sub(rest, (size_t) nl + 1, rest.len);
        }
        buf_fini(&b);
    }
}

static void test_addresses(void **state)
{
    static const struct {
        const char *text;
        bool listens;
        int port; /* 0: refused */
    } rows[] = {
        {"127.0.0.1", false, 25},
        {"inet:127.0.0.1:26", false, 26},
        {"[127.0.0.1]:27", false, 27},
        {"::1", false, 25},
        {"[::1]:28", false, 28},
        {"[::1]", false, 25},
        {":29", true, 29},
        {"127.0.0.1:30", true, 30},
        {"127.0.0.1", true, 0},
        {":29", false, 0},
        {"", false, 0},
        {"", true, 0},
        {"[::1", false, 0},
        {"[::1]x", false, 0},
        {"[::1]:", false, 0},
        {"127.0.0.1:", false, 0},
        {"127.0.0.1:65536", false, 0},
        {"inet:", false, 0},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct endpoint e;
        struct err err = ERR_INIT;
        int ret = endpoint_parse(rows[i].text, AF_UNSPEC, rows[i].listens, &e, &err);

        if (ret != (rows[i].port == 0 ? -1 : 0))
            fail_msg("%s: got %d (%s)", rows[i].text, ret, err.text);
        if (ret == -1) {
            assert_string_not_equal(err.text, "");
            continue;
        }
        const struct sockaddr_in *in4 = (const struct sockaddr_in *) (const void *) &e.addr[0];

        /* sin6_port lies where sin_port does */
        assert_int_equal(ntohs(in4->sin_port), rows[i].port);
    }
}

static void test_unix_paths(void **state)
{
    char text[200] = "unix:";
    struct endpoint e;
    struct err err = ERR_INIT;

    (void) state;
    memset(text + 5, 'x', 107);
    assert_int_equal(endpoint_parse(text, AF_UNSPEC, true, &e, &err), 0);
    memset(text + 5, 'x', 108);
    assert_int_equal(endpoint_parse(text, AF_UNSPEC, true, &e, &err), -1);
    assert_int_equal(endpoint_parse("unix:", AF_UNSPEC, true, &e, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percentiles),      cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_made_up_messages), cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_unix_paths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
