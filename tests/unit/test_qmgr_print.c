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
        .addr = SLICE_LIT(a), .reason = SLICE_LIT(r)                                               \
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

/* What it waits for stands behind all that Postfix prints. */
static const struct proto_queue_item waiting = {
    .queue = SLICE_LIT("deferred"),
    .queue_id = SLICE_LIT("5F00"),
    .sender = SLICE_LIT("s@example.org"),
    .arrival_us = WHEN,
    .size = 10,
    .waits_for = SLICE_LIT("retry"),
    .waits_text = SLICE_LIT("next attempt"),
    .waits_until_us = WHEN + 300000000,
};
static const struct proto_queue_rcpt waiting_rcpts[] = {
    {.addr = SLICE_LIT("a@x.test"),
     .reason = SLICE_LIT("refused"),
     .waits_for = SLICE_LIT("dead"),
     .waits_text = SLICE_LIT("destination x.test is not \001 tried")},
    {.addr = SLICE_LIT("b@x.test"),
     .reason = SLICE_LIT("refused"),
     .waits_for = SLICE_LIT("dead"),
     .waits_text = SLICE_LIT("destination x.test is not \001 tried")},
    {.addr = SLICE_LIT("c@y.test")},
};

static void check_waiting(bool json, const char *wanted)
{
    char *text = NULL;
    size_t len = 0;
    struct queue_printer p = {
        .out = open_memstream(&text, &len), .json = json, .null_sender = "MAILER-DAEMON"};

    queue_print_item(&p, &waiting);
    for (size_t i = 0; i < ARRAY_LEN(waiting_rcpts); i++)
        queue_print_rcpt(&p, &waiting_rcpts[i]);
    queue_print_item(&p, &entries[0].item); /* nothing is left for the next one */
    assert_int_equal(queue_print_end(&p), 0);
    fclose(p.out);
    assert_string_equal(text, wanted);
    free(text);
}

static void waits(void **state)
{
    (void) state;
    check_waiting(false,
                  "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n"
                  "5F00             10 Thu Nov 23 12:16:21  s@example.org\n"
                  "                                                                     (refused)\n"
                  "                                         a@x.test\n"
                  "                                         b@x.test\n"
                  "                                         c@y.test\n"
                  "                               (waits until Thu Nov 23 12:21:21: next attempt)\n"
                  "                                    (waits: destination x.test is not ? tried)\n"
                  "\n"
                  "0123456789*    1234 Thu Nov 23 12:16:21  s@example.org\n"
                  "\n"
                  "-- 2 Kbytes in 2 Requests.\n");
    check_waiting(
        true,
        "{\"queue_name\": \"deferred\", \"queue_id\": \"5F00\", \"arrival_time\": 1700741781, "
        "\"message_size\": 10, \"forced_expire\": false, \"sender\": \"s@example.org\", "
        "\"recipients\": [{\"address\": \"a@x.test\", \"delay_reason\": \"refused\", "
        "\"waits_for\": \"dead\", \"waits_text\": \"destination x.test is not \\u0001 tried\"}, "
        "{\"address\": \"b@x.test\", \"delay_reason\": \"refused\", "
        "\"waits_for\": \"dead\", \"waits_text\": \"destination x.test is not \\u0001 tried\"}, "
        "{\"address\": \"c@y.test\"}], \"waits_for\": \"retry\", \"waits_text\": \"next "
        "attempt\", \"waits_until\": 1700742081}\n"
        "{\"queue_name\": \"active\", \"queue_id\": \"0123456789\", \"arrival_time\": "
        "1700741781, \"message_size\": 1234, \"forced_expire\": false, \"sender\": "
        "\"s@example.org\", \"recipients\": []}\n");
}

static void long_ids(void **state)
{
    (void) state;
    check(false, true, 1,
          "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n"
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
        cmocka_unit_test(waits),
    };

    return cmocka_run_group_tests(tests, utc, NULL);
}
