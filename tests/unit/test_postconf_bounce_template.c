/* SPDX-License-Identifier: Apache-2.0 */
/* test_postconf_bounce_template.c - bounce(5) files: what is taken, what is refused and how, and $name in the texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "postconf/bounce_template.h"

static char path[64];

static void collect(const char *text, void *arg)
{
    buf_printf(arg, "%s\n", text + strlen(path)); /* the file's name is another one in each run */
}

static struct bounce_templates *load(const char *text, struct buf *warnings)
{
    struct bounce_templates *t = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(file_replace(path, slice_str(text), 0600, &err), 0);
    if (bounce_templates_load(path, collect, warnings, &t, &err) == -1)
        fail_msg("%s", err.text);
    return t;
}

#define F "failure_template = <<EOF\n"

static void files(void **state)
{
    static const struct {
        const char *name, *text;
        const char *warning; /* "" for none */
        const char *subject; /* of the failure template; NULL: the built-in one */
        const char *body;    /* NULL: the built-in one */
    } cases[] = {
        {"empty", "", "", NULL, NULL},
        {"comments", "# x\n \t\n  # y\n", "", NULL, NULL},
        {"text only", F "hello\nEOF\n", "", "Undelivered Mail Returned to Sender", "hello\n"},
        {"headers", F "Subject:  s t \nCHARSET: utf-8\n\n b\n\nc\nEOF\n", "", "s t", " b\n\nc\n"},
        {"no empty line", F "Subject: s\nno header here\nEOF\n", "", "s", "no header here\n"},
        {"other word", "failure_template=<<  XX\nhello\nEOF\nXX\n", "",
         "Undelivered Mail Returned to Sender", "hello\nEOF\n"},
        {"carriage returns", F "Subject: s\r\n\r\nt\r\nEOF\r\n", "", "s", "t\r\n"},
        {"dollar", F "$$ $x\nEOF\n", "", "Undelivered Mail Returned to Sender", "$$ $x\n"},
        {"unknown", "bogus_template = <<E\nx\nE\n" F "y\nEOF\n",
         ", line 1: unknown template name: bogus_template -- ignoring this template\n",
         "Undelivered Mail Returned to Sender", "y\n"},
        {"assignment", "\nfoo = bar\n",
         ", line 2: unknown template name: foo -- ignoring this template\n", NULL, NULL},
        {"no marker", "delay_template = x\n",
         ", line 1: missing '<<marker' after \"delay_template =\" -- ignoring this template\n",
         NULL, NULL},
        {"empty marker", "delay_template = <<\n",
         ", line 1: missing marker after '<<' -- ignoring this template\n", NULL, NULL},
        {"no equal sign", "x\n",
         ", line 1: missing '=' after template name -- ignoring this line\n", NULL, NULL},
        {"no end", F "x\n", ", line 1: missing \"EOF\" end marker\n",
         "Undelivered Mail Returned to Sender", "x\n"},
        {"label", F "Foo: x\n\ny\nEOF\n",
         ": unknown \"Foo\" header label in failure template -- ignoring this template\n", NULL,
         NULL},
        {"no value", F "Subject:\n\ny\nEOF\n",
         ": missing \"Subject\" header value in failure template -- ignoring this template\n", NULL,
         NULL},
        {"no text", F "Subject: x\n\nEOF\n",
         ": missing message text in failure template -- ignoring this template\n", NULL, NULL},
        {"8-bit header", F "Subject: \xc3\xa4\n\ny\nEOF\n",
         ": non-ASCII text in \"Subject\" header of failure template -- ignoring this template\n",
         NULL, NULL},
        {"8-bit text", F "\xc3\xa4\nEOF\n",
         ": 8-bit message text in failure template -- ignoring this template\n"
         ": please specify a charset value other than us-ascii\n",
         NULL, NULL},
        {"8-bit text with charset", F "Charset: utf-8\n\n\xc3\xa4\nEOF\n", "",
         "Undelivered Mail Returned to Sender", "\xc3\xa4\n"},
        {"not for this one", "success_template = <<E\nPostmaster-Subject: x\n\ny\nE\n",
         ": \"Postmaster-Subject\" header label not applicable in success template -- ignoring this "
         "template\n",
         NULL, NULL},
    };
    struct bounce_templates *plain;

    (void) state;
    assert_int_equal(bounce_templates_load("", collect, NULL, &plain, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf warnings = BUF_INIT(4096);
        struct bounce_templates *t = load(cases[i].text, &warnings);
        const struct bounce_template *b = bounce_templates_get(t, BOUNCE_TEMPLATE_FAILURE);
        const struct bounce_template *d = bounce_templates_get(plain, BOUNCE_TEMPLATE_FAILURE);

        if (strcmp(buf_cstr(&warnings), cases[i].warning) != 0)
            fail_msg("%s: warned \"%s\", wanted \"%s\"", cases[i].name, buf_cstr(&warnings),
                     cases[i].warning);
        if (strcmp(b->subject, cases[i].subject != NULL ? cases[i].subject : d->subject) != 0)
            fail_msg("%s: subject \"%s\"", cases[i].name, b->subject);
        if (strcmp(b->text, cases[i].body != NULL ? cases[i].body : d->text) != 0)
            fail_msg("%s: text \"%s\"", cases[i].name, b->text);
        bounce_templates_free(&t);
        buf_fini(&warnings);
    }
    bounce_templates_free(&plain);
}

static void unreadable(void **state)
{
    struct bounce_templates *t = NULL;
    struct err err = ERR_INIT;

    (void) state;
    assert_int_equal(bounce_templates_load("/nonexistent/b.cf", collect, NULL, &t, &err), -1);
    assert_string_equal(err.text, "open /nonexistent/b.cf: No such file or directory");
    assert_int_equal(file_replace(path, SLICE_LIT("a\0b"), 0600, &err), 0);
    assert_int_equal(bounce_templates_load(path, collect, NULL, &t, &err), -1);
    assert_int_equal(err.kind, ERR_BAD_INPUT);
    assert_null(t);
}

/* What -t prints is a file that says the same. */
static void round_trip(void **state)
{
    struct bounce_templates *plain;
    struct bounce_templates *again;
    struct buf text = BUF_INIT(65536);
    struct buf second = BUF_INIT(65536);

    (void) state;
    assert_int_equal(bounce_templates_load("", collect, NULL, &plain, NULL), 0);
    for (int i = 0; i < BOUNCE_TEMPLATE_KINDS; i++)
        bounce_template_print(plain, (enum bounce_template_kind) i, &text);
    again = load(buf_cstr(&text), NULL);
    for (int i = 0; i < BOUNCE_TEMPLATE_KINDS; i++)
        bounce_template_print(again, (enum bounce_template_kind) i, &second);
    assert_string_equal(buf_cstr(&second), buf_cstr(&text));
    bounce_templates_free(&plain);
    bounce_templates_free(&again);
    buf_fini(&text);
    buf_fini(&second);
}

static void expansion(void **state)
{
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"at $myhostname.", "at mx.example.org."},
        {"$$5 ${mydomain} $(mydomain)", "$5 example.org example.org"},
        {"$delay_warning_time_minutes ${delay_warning_time_hours} $(delay_warning_time_seconds)",
         "90 1 5400"},
        {"$maximal_queue_lifetime_weeks $maximal_queue_lifetime_days", "1 7"},
        {"$$delay_warning_time_hours", "$delay_warning_time_hours"},
        {"${delay_warning_time_hours", NULL},
    };
    struct config *cfg;

    (void) state;
    assert_int_equal(config_load_text("/nonexistent",
                                      SLICE_LIT("myhostname = mx.example.org\n"
                                                "delay_warning_time = 90m\n"
                                                "maximal_queue_lifetime = 7\n"),
                                      NULL, 0, NULL, &cfg, NULL),
                     0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bounce_template t = {.text = cases[i].text};
        struct buf out = BUF_INIT(4096);
        struct err err = ERR_INIT;
        int ret = bounce_template_expand(&t, cfg, &out, &err);

        if (ret != (cases[i].wanted == NULL ? -1 : 0) ||
            (ret == 0 && strcmp(buf_cstr(&out), cases[i].wanted) != 0))
            fail_msg("%s: %d, \"%s\" %s", cases[i].text, ret, buf_cstr(&out), err.text);
        buf_fini(&out);
    }
    config_unref(&cfg);
}

static int setup(void **state)
{
    int fd;

    (void) state;
    (void) snprintf(path, sizeof(path), "/tmp/test-bounce-XXXXXX");
    fd = mkstemp(path);
    if (fd == -1)
        return -1;
    return close(fd);
}

static int teardown(void **state)
{
    (void) state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(files), cmocka_unit_test(unreadable),
                                       cmocka_unit_test(round_trip), cmocka_unit_test(expansion)};

    return cmocka_run_group_tests(tests, setup, teardown);
}
