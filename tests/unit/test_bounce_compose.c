/* SPDX-License-Identifier: Apache-2.0 */
/* test_bounce_compose.c - the text of reports: RFC 3464's fields, UTF-8, and nothing foreign that begins a line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "qmgr/bounce_int.h"

static struct bounce bounce = {.p = {.mail_name = "Postfix",
                                     .myhostname = "mx.example.org",
                                     .myorigin = "example.org",
                                     .template_file = ""}};

static struct proto_report_rcpt rcpt = {
    .addr = SLICE_LIT("user@example.net"),
    .outcome = OUTCOME_BOUNCED,
    .code = SLICE_LIT("5.1.1"),
    .text = SLICE_LIT("host mx.example.net[192.0.2.1] said: 550 5.1.1 no such user (in reply to "
                      "RCPT TO command)"),
    .diag_type = SLICE_LIT("smtp"),
    .diag_text = SLICE_LIT("550 5.1.1 no such user"),
    .mta_name = SLICE_LIT("mx.example.net"),
};

static struct slice message_id;

static char *compose(enum report_kind kind, uint32_t flags, struct bounce_notice *n,
                     const struct proto_report_rcpt *r)
{
    struct proto_report_rcpt copy = *r;
    struct bounce_request req = {
        .r = {.kind = (uint32_t) kind,
              .queue_id = SLICE_LIT("ABCDEF0123"),
              .sender = SLICE_LIT("sender@example.com"),
              .flags = flags,
              .arrival_us = 1700741781000000,
              .expires_us = 1701173781000000,
              .dsn_envid = SLICE_LIT("id+1"),
              .message_id = message_id},
        .rcpts = &copy,
        .nrcpts = 1,
        .fd = -1,
    };
    struct buf out = BUF_INIT(1 << 20);

    if (n->to == NULL)
        n->to = "sender@example.com";
    memcpy(n->boundary, "BOUNDARY", 9);
    bounce_compose_head(&bounce, &req, n, &out);
    bounce_compose_tail(n, &out);
    return buf_take(&out);
}

static void has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("wanted \"%s\" in:\n%s", part, text);
}

static void has_not(const char *text, const char *part)
{
    if (strstr(text, part) != NULL)
        fail_msg("did not want \"%s\" in:\n%s", part, text);
}

/* CRLF everywhere, no line over RFC 5322's limit, no other control bytes than TAB. */
static void is_clean(const char *text)
{
    size_t line = 0;

    for (const char *s = text; *s != '\0'; s++) {
        if (*s == '\r') {
            assert_int_equal(s[1], '\n');
            continue;
        }
        if (*s == '\n') {
            assert_int_equal(s[-1], '\r');
            line = 0;
            continue;
        }
        assert_true((unsigned char) *s >= 32 || *s == '\t');
        assert_true(++line <= 998);
    }
}

static void failure(void **state)
{
    struct bounce_notice n = {.full = true};
    char *t = compose(REPORT_FAILURE, 0, &n, &rcpt);

    (void) state;
    is_clean(t);
    has(t, "From: Mail Delivery System <MAILER-DAEMON>\r\n"
           "Subject: Undelivered Mail Returned to Sender\r\nTo: sender@example.com\r\n"
           "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
           "Content-Type: multipart/report; report-type=delivery-status;\r\n"
           "\tboundary=\"BOUNDARY\"\r\n");
    has_not(t, "Content-Transfer-Encoding");
    has(t, "\r\n--BOUNDARY\r\nContent-Description: Notification\r\n"
           "Content-Type: text/plain; charset=us-ascii\r\n\r\n");
    has(t, "\r\n<user@example.net>: host mx.example.net[192.0.2.1] said: 550 5.1.1 no such user\r\n"
           "    (in reply to RCPT TO command)\r\n");
    has(t, "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.org\r\n"
           "Original-Envelope-Id: id+1\r\nX-Postfix-Queue-ID: ABCDEF0123\r\n"
           "X-Postfix-Sender: rfc822; sender@example.com\r\nArrival-Date: ");
    has(t, "\r\n\r\nFinal-Recipient: rfc822; user@example.net\r\n"
           "Original-Recipient: rfc822;user@example.net\r\nAction: failed\r\n"
           "Status: 5.1.1\r\nRemote-MTA: dns; mx.example.net\r\n"
           "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n");
    has(t, "Content-Description: Undelivered Message\r\nContent-Type: message/rfc822\r\n\r\n"
           "Return-Path: <sender@example.com>\r\n");
    has(t, "\r\n--BOUNDARY--\r\n");
    free(t);
}

static void kinds(void **state)
{
    static const struct {
        const char *name;
        enum report_kind kind;
        bool postmaster;
        const char *subject, *action;
    } cases[] = {
        {"failure", REPORT_FAILURE, false, "Subject: Undelivered Mail Returned to Sender\r\n",
         "Action: failed\r\n"},
        {"copy", REPORT_FAILURE, true, "Subject: Postmaster Copy: Undelivered Mail\r\n",
         "Action: failed\r\n"},
        {"delay", REPORT_DELAY, false, "Subject: Delayed Mail (still being retried)\r\n",
         "Action: delayed\r\n"},
        {"delay copy", REPORT_DELAY, true, "Subject: Postmaster Warning: Delayed Mail\r\n",
         "Will-Retry-Until: "},
        {"success", REPORT_SUCCESS, false, "Subject: Successful Mail Delivery Report\r\n",
         "Action: relayed\r\n"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bounce_notice n = {.is_postmaster = cases[i].postmaster};
        struct proto_report_rcpt r = rcpt;
        char *t;

        if (cases[i].kind == REPORT_SUCCESS)
            r.outcome = OUTCOME_SENT;
        t = compose(cases[i].kind, 0, &n, &r);
        is_clean(t);
        has(t, cases[i].subject);
        has(t, cases[i].action);
        has(t, "Content-Type: text/rfc822-headers\r\n");
        free(t);
    }
}

static void originals(void **state)
{
    static const struct {
        const char *orcpt, *orig, *wanted;
    } cases[] = {
        {"rfc822;a+2Bb@example.org", "x@example.org",
         "Original-Recipient: rfc822;a+b@example.org\r\n"},
        {"", "", "Original-Recipient: rfc822;"},
        {"", "alias@example.org", "Original-Recipient: rfc822;alias@example.org\r\n"},
        {"rfc822;bad+zz", "alias@example.org", "Original-Recipient: rfc822;alias@example.org\r\n"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bounce_notice n = {0};
        struct proto_report_rcpt r = rcpt;
        char *t;

        r.orcpt = slice_str(cases[i].orcpt);
        r.orig = slice_str(cases[i].orig);
        t = compose(REPORT_FAILURE, 0, &n, &r);
        has(t, cases[i].wanted);
        if (cases[i].orig[0] != '\0')
            has(t, "(expanded from <");
        free(t);
    }
}

static void utf8(void **state)
{
    struct bounce_notice n = {.utf8 = true, .full = true, .to = "s\xc3\xa4@example.org"};
    struct proto_report_rcpt r = rcpt;
    char *t;

    (void) state;
    r.addr = SLICE_LIT("\xc3\xbc@example.net");
    t = compose(REPORT_FAILURE, MAIL_SMTPUTF8, &n, &r);
    has(t, "report-type=delivery-status");
    has(t, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n");
    has(t, "Content-Type: message/global-delivery-status\r\n");
    has(t, "Final-Recipient: utf-8; \xc3\xbc@example.net\r\n");
    has(t, "Content-Type: message/global\r\n");
    free(t);
}

/* Of a message that was sent without SMTPUTF8: the status is ASCII, the letter is not. */
static void utf8_in_addresses(void **state)
{
    struct bounce_notice n = {.full = true, .to = "s\xc3\xa4@example.org"};
    struct proto_report_rcpt r = rcpt;
    char *t;

    (void) state;
    r.addr = SLICE_LIT("\xc3\xbc@example.net");
    r.orig = SLICE_LIT("\xff@example.net");
    r.orcpt = SLICE_LIT("utf-8;\\x{F6}@example.net");
    t = compose(REPORT_FAILURE, 0, &n, &r);
    has(t, "To: s\xc3\xa4@example.org\r\n");
    has(t, "report-type=delivery-status");
    has(t, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n");
    has(t, "<\xc3\xbc@example.net> (expanded from <?@example.net>): host");
    has(t, "Content-Type: message/delivery-status\r\n\r\n");
    has(t, "Final-Recipient: utf-8; \\x{FC}@example.net\r\n");
    has(t, "Original-Recipient: utf-8;\\x{F6}@example.net\r\n");
    has(t, "Content-Type: message/rfc822\r\n");
    free(t);
    r.orcpt = SLICE_EMPTY;
    t = compose(REPORT_FAILURE, 0, &n, &r);
    has(t, "Original-Recipient: utf-8;?@example.net\r\n");
    free(t);
    n.utf8 = true;
    r.orcpt = SLICE_LIT("rfc822;+C3+B6@example.net");
    t = compose(REPORT_FAILURE, MAIL_SMTPUTF8, &n, &r);
    has(t, "Original-Recipient: utf-8;\xc3\xb6@example.net\r\n");
    free(t);
}

static void hostile_text(void **state)
{
    struct bounce_notice n = {0};
    struct proto_report_rcpt r = rcpt;
    char longword[3001];
    char *t;

    (void) state;
    r.text = SLICE_LIT("550 a\r\nSubject: injected\r\n\r\n--BOUNDARY\r\n.\r\n\001\x7f\xff");
    r.diag_text = r.text;
    r.mta_name = SLICE_LIT("x\r\nX-Evil: 1");
    t = compose(REPORT_FAILURE, 0, &n, &r);
    is_clean(t);
    has_not(t, "\r\nSubject: injected");
    has_not(t, "\r\nX-Evil");
    has_not(t, "a\r\n--BOUNDARY");
    free(t);
    memset(longword, 'x', 3000);
    longword[3000] = '\0';
    r.text = r.diag_text = slice_str(longword);
    t = compose(REPORT_FAILURE, 0, &n, &r);
    is_clean(t);
    free(t);
}

/* Without a file the built-in templates, with what this main.cf says. */
static int load(void **state)
{
    struct config *cfg;

    (void) state;
    if (config_load_text("/nonexistent", SLICE_LIT("myhostname = mx.example.org\n"), NULL, 0, NULL,
                         &cfg, NULL) == -1 ||
        bounce_letters_load(&bounce, cfg, NULL) == -1)
        return -1;
    config_unref(&cfg);
    return 0;
}

static int unload(void **state)
{
    (void) state;
    bounce_letters_free(&bounce);
    return 0;
}

/* A letter in another character set goes out as it is, and the report says 8bit. */
static void letters(void **state)
{
    struct bounce_notice n = {0};
    char *saved = bounce.letters[BOUNCE_TEMPLATE_FAILURE];
    char own[] = "Gr\xc3\xbc\xc3\x9f"
                 "e\n.\n\001\n";
    char *t;

    (void) state;
    bounce.letters[BOUNCE_TEMPLATE_FAILURE] = own;
    t = compose(REPORT_FAILURE, 0, &n, &rcpt);
    bounce.letters[BOUNCE_TEMPLATE_FAILURE] = saved;
    has(t, "Content-Transfer-Encoding: 8bit\r\n\r\nThis is a MIME");
    has(t, "Content-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9f"
           "e\r\n.\r\n?\r\n");
    is_clean(t);
    free(t);
}

static void threads(void **state)
{
    static const struct {
        struct slice id;
        bool is_reference;
    } rows[] = {
        {SLICE_LIT("<a.b+c@d>"), true},
        {SLICE_LIT(""), false},
        {SLICE_LIT("<>"), false},
        {SLICE_LIT("a@b"), false},
        {SLICE_LIT("<a b@c>"), false},
        {SLICE_LIT("<a@b> <c@d>"), false},
        {SLICE_LIT("<a\r\nBcc:x@b>"), false},
        {SLICE_LIT("<\xc3\xa9@b>"), false},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (int on = 0; on < 2; on++) {
            struct bounce_notice n = {.full = true};
            struct buf wanted = BUF_INIT(1000);
            char *t;

            message_id = rows[i].id;
            bounce.p.threaded = on != 0;
            t = compose(REPORT_DELAY, 0, &n, &rcpt);
            is_clean(t);
            buf_printf(&wanted,
                       "To: sender@example.com\r\nReferences: %.*s\r\nIn-Reply-To: %.*s\r\nAuto",
                       SLICE_FMT(rows[i].id), SLICE_FMT(rows[i].id));
            if (on && rows[i].is_reference) {
                has(t, buf_cstr(&wanted));
            } else {
                has_not(t, "References:");
                has_not(t, "In-Reply-To:");
            }
            buf_fini(&wanted);
            free(t);
        }
    }
    message_id = SLICE_EMPTY;
    bounce.p.threaded = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failure),      cmocka_unit_test(kinds),
        cmocka_unit_test(threads),      cmocka_unit_test(originals),
        cmocka_unit_test(utf8),         cmocka_unit_test(utf8_in_addresses),
        cmocka_unit_test(hostile_text), cmocka_unit_test(letters),
    };

    return cmocka_run_group_tests(tests, load, unload);
}
