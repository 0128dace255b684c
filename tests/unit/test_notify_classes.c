/* SPDX-License-Identifier: Apache-2.0 */
/* test_notify_classes.c - the words of notify_classes, and what the check of a configuration says of them. */
#include "test_postconf.h"

#include "postconf/findings.h"
#include "qmgr/notify_classes.h"

static void note(bool is_fatal, const char *text, void *arg)
{
    buf_printf(arg, "%c %s\n", is_fatal ? 'F' : 'W', text);
}

static void test_parse(void **state)
{
    static const struct {
        const char *value;
        unsigned classes;
        const char *error; /* NULL: none */
    } rows[] = {
        {"", 0, NULL},
        {" ,\t", 0, NULL},
        {"resource, software", NOTIFY_RESOURCE | NOTIFY_SOFTWARE, NULL},
        {"data policy,protocol", NOTIFY_DATA | NOTIFY_POLICY | NOTIFY_PROTOCOL, NULL},
        {"2bounce", NOTIFY_2BOUNCE, NULL},
        {"bounce", NOTIFY_BOUNCE | NOTIFY_2BOUNCE, NULL},
        {"delay,resource\t2bounce", NOTIFY_DELAY | NOTIFY_RESOURCE | NOTIFY_2BOUNCE, NULL},
        {"bounce, POLICY", 0, "unknown class \"POLICY\": did you mean policy?"},
        {"bounces", 0, "unknown class \"bounces\": did you mean bounce?"},
        {"dely", 0, "unknown class \"dely\": did you mean delay?"},
        {"everything", 0, "unknown class \"everything\""},
        {"a-word-that-is-longer-than-any-class-is", 0,
         "unknown class \"a-word-that-is-longer-than-any-class-is\""},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err err = ERR_INIT;
        unsigned classes = 77;
        int ret = notify_classes_parse(rows[i].value, &classes, &err);

        check_int(rows[i].value, ret, rows[i].error != NULL ? -1 : 0);
        check_int(rows[i].value, classes, rows[i].error != NULL ? 77 : rows[i].classes);
        if (rows[i].error != NULL)
            check_str(rows[i].value, err.text, rows[i].error);
    }
}

static void test_findings(void **state)
{
    static const struct {
        const char *text, *wanted;
    } rows[] = {
        {"myhostname = a.test\n", ""},
        {"notify_classes =\n", ""},
        {"notify_classes = bounce, 2bounce, delay, policy, protocol\n", ""},
        {"\nnotify_classes = resource, bounce, data\n", ""},
        {"notify_classes = bounce, polcy\n",
         "F /nonexistent/main.cf, line 1: notify_classes: unknown class \"polcy\": did you mean "
         "policy?\n"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config *cfg = config_of(rows[i].text);
        struct buf said = BUF_INIT(65536);
        struct findings *f = findings_new(cfg, false, note, &said);

        notify_classes_check(NULL, f);
        check_str(rows[i].text, buf_cstr(&said), rows[i].wanted);
        findings_free(&f);
        config_unref(&cfg);
        buf_fini(&said);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_parse),
                                       cmocka_unit_test(test_findings)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
