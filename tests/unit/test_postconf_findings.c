/* SPDX-License-Identifier: Apache-2.0 */
/* test_postconf_findings.c - findings with their places, each said once; main.cf's lines that are whole. */
#include "test_postconf.h"

#include "postconf/findings.h"

struct said {
    struct buf text; /* "F ..." and "W ...", a line each */
};

static void note(bool is_fatal, const char *text, void *arg)
{
    struct said *s = arg;

    buf_printf(&s->text, "%c %s\n", is_fatal ? 'F' : 'W', text);
}

static void test_places(void **state)
{
    static const char *const overrides[] = {"relayhost=b", NULL};
    static const char main_cf[] = "# comment\nmyhostname = a\n  .b\nmine = x\nrelayhost = a\n";
    struct said said = {BUF_INIT(65536)};
    struct config *cfg = config_of(main_cf);
    struct config *service = NULL;
    struct findings *f = findings_new(cfg, false, note, &said);
    struct err err = ERR_INIT;

    (void) state;
    assert_int_equal(
        config_load_text("/nonexistent", slice_str(main_cf), overrides, 1, "smtp", &service, &err),
        0);
    findings_warn(f, "myhostname", "odd %d", 1);
    findings_error(f, "mine", "wrong");
    findings_warn(f, "mydestination", "by default");
    findings_warn(f, "myhostname", "odd %d", 1); /* said already */
    findings_of_service(f, service, "MASTER, line 7: service smtp");
    findings_warn(f, "myhostname", "odd %d", 1); /* the same for the service */
    findings_warn(f, "myhostname", "odd here");
    findings_error(f, "relayhost", "bad");
    check_int("main.cf's value", findings_knows(f, "myhostname"), true);
    check_int("the service's value", findings_knows(f, "relayhost"), false);
    check_int("an unknown name", findings_knows(f, "nosuch"), false);
    check_str("the service's view", config_get(findings_config(f), "relayhost"), "b");
    findings_of_service(f, NULL, NULL);
    check_str("main.cf's view", config_get(findings_config(f), "relayhost"), "a");
    check_int("known without a service", findings_knows(f, "myhostname"), false);
    findings_error(f, "relayhost", "again");
    check_int("network", findings_may_ask_network(f), false);
    check_str("all", buf_cstr(&said.text),
              "W /nonexistent/main.cf, line 2: myhostname: odd 1\n"
              "F /nonexistent/main.cf, line 4: mine: wrong\n"
              "W /nonexistent/main.cf: mydestination: by default\n"
              "W MASTER, line 7: service smtp: /nonexistent/main.cf, line 2: myhostname: odd here\n"
              "F MASTER, line 7: service smtp: relayhost: bad\n"
              "F /nonexistent/main.cf, line 5: relayhost: again\n");
    findings_free(&f);
    findings_free(&f); /* nothing is left to be freed */
    config_unref(&cfg);
    config_unref(&service);
    buf_fini(&said.text);
}

static void test_salvage(void **state)
{
    static const struct {
        const char *name, *text, *wanted;
    } rows[] = {
        {"whole", "a = b\n# c\nd = e\n f\n", "a = b\n# c\nd = e\n f\n"},
        {"no equals sign", "a = b\nbad\nc = d\n", "a = b\nc = d\n"},
        {"with what continues it", "bad\n more\na = b\n", "a = b\n"},
        {"no name", "= x\na = b", "a = b"},
        {"all of it", "bad", ""},
        {"nothing", "", ""},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = BUF_INIT(4096);

        config_text_salvage(slice_str(rows[i].text), &out);
        check_str(rows[i].name, buf_cstr(&out), rows[i].wanted);
        buf_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_places),
                                       cmocka_unit_test(test_salvage)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
