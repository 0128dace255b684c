/* SPDX-License-Identifier: Apache-2.0 */
/* test_qmgr_print.c - mailq's text and postqueue's JSON, to the byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "qmgr/postqueue_print.h"

struct entry {
    struct proto_queue_item item;
    struct proto_queue_rcpt rcpts[4];
};

#define ITEM(q, id, from, us, bytes, forced)                                                       \
    {                                                                                              \
        .queue = SLICE_LIT(q), .queue_id = SLICE_LIT(id), .sender = SLICE_LIT(from),               \
        .arrival_us = (us), .size = (bytes), .forced_expire = (forced)                             \
    }
#define RCPT(a, r)                                                                                 \
    {                                                                                              \
        SLICE_LIT(a), SLICE_LIT(r)                                                                 \
    }
#define WHEN 1700741781000000 /* Thu Nov 23 12:16:21 2023, UTC */

static const struct entry entries[] = {
    {ITEM("active", "0123456789", "s@example.org", WHEN, 1234, 0), {RCPT("a@example.org", "")}},
    {ITEM("hold", "ABCDEF0123", "", WHEN, 1, 1), {RCPT("b@example.org", "")}},
    {ITEM("deferred", "5F00", "s@example.org", WHEN, 12345678, 0),
     {RCPT("c@example.org", "connect to x: Connection refused"),
      RCPT("d@example.org", "connect to x: Connection refused"),
      RCPT("e@example.org", "other \"quoted\" \\ and \001 \xff \xc3\xa4")}},
};

static char *print(bool json, bool long_ids, size_t count)
{
    char *text = NULL;
    size_t len = 0;
    struct queue_printer p = {.out = open_memstream(&text, &len),
                              .json = json,
                              .long_ids = long_ids,
                              .null_sender = "MAILER-DAEMON"};

    for (size_t i = 0; i < count; i++) {
        queue_print_item(&p, &entries[i].item);
        for (size_t r = 0; r < 4 && entries[i].rcpts[r].addr.len > 0; r++)
            queue_print_rcpt(&p, &entries[i].rcpts[r]);
    }
    assert_int_equal(queue_print_end(&p), 0);
    fclose(p.out);
    return text;
}

static void check(bool json, bool long_ids, size_t count, const char *wanted)
{
    char *got = print(json, long_ids, count);

    assert_string_equal(got, wanted);
    free(got);
}

static void text(void **state)
{
    (void) state;
    check(false, false, 0, "Mail queue is empty\n");
    check(false, false, 1,
          "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n"
          "0123456789*    1234 Thu Nov 23 12:16:21  s@example.org\n"
          "                                         a@example.org\n"
          "\n"
          "-- 2 Kbytes in 1 Request.\n");
    check(
        false, false, 3,
        "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n"
        "0123456789*    1234 Thu Nov 23 12:16:21  s@example.org\n"
        "                                         a@example.org\n"
        "\n"
        "ABCDEF0123!#       1 Thu Nov 23 12:16:21  MAILER-DAEMON\n"
        "                                         b@example.org\n"
        "\n"
        "5F00        12345678 Thu Nov 23 12:16:21  s@example.org\n"
        "                                            (connect to x: Connection refused)\n"
        "                                         c@example.org\n"
        "                                         d@example.org\n"
        "                                                 (other \"quoted\" \\ and ? \xff \xc3\xa4)\n"
        "                                         e@example.org\n"
        "\n"
        "-- 12058 Kbytes in 3 Requests.\n");
}

static void long_ids(void **state)
{
    (void) state;
    check(false, true, 1,
          "----Queue ID----- --Size-- ---Arrival Time---- -Sender/Recipient-------\n"
          "0123456789*           1234 Thu Nov 23 12:16:21 s@example.org\n"
          "                                               a@example.org\n"
          "\n"
          "-- 2 Kbytes in 1 Request.\n");
}

static void json(void **state)
{
    (void) state;
    check(true, false, 0, "");
    check(
        true, false, 3,
        "{\"queue_name\": \"active\", \"queue_id\": \"0123456789\", \"arrival_time\": 1700741781, "
        "\"message_size\": 1234, \"forced_expire\": false, \"sender\": \"s@example.org\", "
        "\"recipients\": [{\"address\": \"a@example.org\"}]}\n"
        "{\"queue_name\": \"hold\", \"queue_id\": \"ABCDEF0123\", \"arrival_time\": 1700741781, "
        "\"message_size\": 1, \"forced_expire\": true, \"sender\": \"MAILER-DAEMON\", "
        "\"recipients\": [{\"address\": \"b@example.org\"}]}\n"
        "{\"queue_name\": \"deferred\", \"queue_id\": \"5F00\", \"arrival_time\": 1700741781, "
        "\"message_size\": 12345678, \"forced_expire\": false, \"sender\": \"s@example.org\", "
        "\"recipients\": [{\"address\": \"c@example.org\", \"delay_reason\": \"connect to x: "
        "Connection refused\"}, {\"address\": \"d@example.org\", \"delay_reason\": \"connect to x: "
        "Connection refused\"}, {\"address\": \"e@example.org\", \"delay_reason\": \"other "
        "\\\"quoted\\\" \\\\ and \\u0001 \\u00FF \xc3\xa4\"}]}\n");
}

static int utc(void **state)
{
    static char zone[] = "TZ=UTC0";

    (void) state;
    putenv(zone);
    tzset(); /* NOLINT(concurrency-mt-unsafe): no threads */
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text),
        cmocka_unit_test(long_ids),
        cmocka_unit_test(json),
    };

    return cmocka_run_group_tests(tests, utc, NULL);
}
