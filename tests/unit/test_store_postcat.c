/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_store_postcat.c - what postcat prints. The wanted texts were compared with those of Postfix's postcat for the same message.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include "base/file.h"
#include "qmgr/postcat.h"

static const char content[] =
    "Subject: hi\r\nX-Y: a\r\n folded\r\n\r\nbody line\r\n.dot\r\n\r\nlast\r\n";

#define HEADER "Subject: hi\nX-Y: a\n folded\n"
#define BODY   "\nbody line\n.dot\n\nlast\n"

static char *print(const struct postcat_options *opt, const char *text,
                   const struct store_rcpt *rcpts, size_t n)
{
    FILE *f = tmpfile();
    struct postcat_message m = {
        .name = "hold/ABCDEF", .record_at = 64, .rcpts = rcpts, .nrcpts = n};
    char *out = NULL;
    size_t len;
    FILE *mem = open_memstream(&out, &len);
    struct err err;

    assert_true(f != NULL && mem != NULL);
    m.env.queue_id = SLICE_LIT("ABCDEF");
    m.env.sender = SLICE_LIT("me@example.com");
    m.env.arrival_us = 1700000000000000;
    m.env.full_name = SLICE_LIT("Joe");
    m.env.flags = MAIL_LOCAL_ORIGIN;
    m.fd = fileno(f);
    m.content_bytes = strlen(text);
    assert_int_equal(fd_write_all(m.fd, text, strlen(text)), 0);
    if (postcat_print(opt, &m, mem, &err) == -1)
        fail_msg("%s", err.text);
    fclose(mem);
    fclose(f);
    return out;
}

static void test_parts(void **state)
{
    static const struct {
        const char *name;
        struct postcat_options opt;
        const char *content;
        const char *wanted;
    } cases[] = {
        {"-bh", {.body = true, .header = true}, content, HEADER BODY},
        {"-b", {.body = true}, content, BODY},
        {"-h", {.header = true}, content, HEADER},
        {"nothing", {.body = true, .header = true}, "", ""},
        {"no newline at the end", {.body = true, .header = true}, "A: b\r\n\r\nx", "A: b\n\nx\n"},
        {"no header", {.header = true}, "no header here\r\nA: b\r\n", ""},
        {"no header, body", {.body = true}, "no header here\r\nA: b\r\n", "no header here\nA: b\n"},
        {"begins folded", {.header = true}, " x\r\nA: b\r\n", ""},
        {"a CR alone stays", {.body = true}, "\r\na\rb\r\n", "\na\rb\n"},
        {"offsets and types",
         {.header = true, .offsets = true, .types = true},
         content,
         "        0  78 Subject: hi\n       13  78 X-Y: a\n       21  78  folded\n"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *got = print(&cases[i].opt, cases[i].content, NULL, 0);

        if (strcmp(got, cases[i].wanted) != 0)
            fail_msg("%s: got \"%s\", wanted \"%s\"", cases[i].name, got, cases[i].wanted);
        free(got);
    }
}

static void test_envelope(void **state)
{
    static char utc[] = "TZ=UTC";
    static const struct store_rcpt rcpts[] = {
        {.r = {.addr = {"a@example.org", 13}, .orig = {"alias@example.org", 17}}, .done = true},
        {.r = {.addr = {"b@example.org", 13}}, .reason = {"not now", 7}},
    };
    struct postcat_options opt = {.envelope = true, .header = true, .body = true};
    char *got;

    (void) state;
    putenv(utc);
    got = print(&opt, content, rcpts, 2);
    assert_string_equal(
        got,
        "*** ENVELOPE RECORDS hold/ABCDEF ***\n"
        "message_size:              57               0               2               0              57\n"
        "message_arrival_time: Tue Nov 14 22:13:20 2023\n"
        "named_attribute: log_ident=ABCDEF\n"
        "named_attribute: rewrite_context=local\n"
        "sender_fullname: Joe\n"
        "sender: me@example.com\n"
        "original_recipient: alias@example.org\n"
        "done_recipient: a@example.org\n"
        "recipient: b@example.org\n"
        "named_attribute: deferred_reason=not now\n"
        "*** MESSAGE CONTENTS hold/ABCDEF ***\n" HEADER BODY
        "*** HEADER EXTRACTED hold/ABCDEF ***\n"
        "*** MESSAGE FILE END hold/ABCDEF ***\n");
    free(got);
    opt = (struct postcat_options){.envelope = true, .record_order = true};
    got = print(&opt, content, rcpts, 2);
    assert_non_null(
        strstr(got, "recipient: a@example.org\nrecipient: b@example.org\n*** MESSAGE CONTENTS"));
    assert_non_null(
        strstr(got, "HEADER EXTRACTED hold/ABCDEF ***\ndone_recipient: a@example.org\n"));
    free(got);
}

static void test_no_queue_file(void **state)
{
    static const char *const inputs[] = {"", "x", "Subject: this is a mail, not a queue file\n",
                                         "PRJ1", "PRM1\1\0\0\0"};
    struct postcat_options opt = {.envelope = true};

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(inputs); i++) {
        FILE *f = tmpfile();
        struct err err;

        assert_non_null(f);
        assert_int_equal(fd_write_all(fileno(f), inputs[i], strlen(inputs[i])), 0);
        assert_int_equal(postcat_file(&opt, ".", "FILE", fileno(f), 0, stdout, &err), -1);
        assert_string_equal(err.text, "FILE: input is not a valid queue file");
        fclose(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_envelope),
        cmocka_unit_test(test_no_queue_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
