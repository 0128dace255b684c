/* SPDX-License-Identifier: Apache-2.0 */
/* test_postconf_check.c - defaults that are found out, and the findings about main.cf. */
#include "test_postconf.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mtime.h"

static void test_host_and_domain(void **state)
{
    static const struct {
        const char *text;
        const char *host;   /* NULL: not looked at */
        const char *domain; /* NULL: a loop */
    } rows[] = {
        {"myhostname = foo.bar.example\n", "foo.bar.example", "bar.example"},
        {"myhostname = a.b.c.d\n", "a.b.c.d", "b.c.d"},
        {"myhostname = foo\n", "foo", "localdomain"},
        {"myhostname = foo\nmydomain = x.y\n", "foo", "x.y"},
        {"myhostname = mail.$mydomain\nmydomain = x.y\n", "mail.x.y", "x.y"},
        {"myhostname = mail.$mydomain\n", NULL, NULL},
        {"mydomain = $mydomain\n", NULL, NULL},
    };
    char own[256];
    struct config *cfg;

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *domain;

        cfg = config_of(rows[i].text);
        domain = config_get(cfg, "mydomain");
        if (rows[i].host != NULL)
            check_str(rows[i].text, config_get(cfg, "myhostname"), rows[i].host);
        if (rows[i].domain != NULL)
            check_str(rows[i].text, domain, rows[i].domain);
        else
            check_int(rows[i].text, domain == NULL, true);
        config_unref(&cfg);
    }
    assert_int_equal(gethostname(own, sizeof(own)), 0);
    if (strchr(own, '.') == NULL) {
        struct buf wanted = BUF_INIT(1000);

        buf_printf(&wanted, "%s.x.y", own);
        cfg = config_of("mydomain = x.y\n");
        check_str("the host's name with mydomain", config_get(cfg, "myhostname"),
                  buf_cstr(&wanted));
        config_unref(&cfg);
        buf_fini(&wanted);
    }
}

static void test_networks(void **state)
{
    static const struct {
        const char *text;
        const char *wanted; /* NULL: an error */
    } rows[] = {
        {"mynetworks_style = host\ninet_interfaces = 127.0.0.1\n", "127.0.0.1/32"},
        {"mynetworks_style = subnet\ninet_interfaces = 127.0.0.1\n", "127.0.0.0/8"},
        {"mynetworks_style = class\ninet_interfaces = 127.0.0.1\n", "127.0.0.0/8"},
        {"mynetworks_style = host\ninet_interfaces = loopback-only\ninet_protocols = ipv4\n",
         "127.0.0.1/32"},
        {"mynetworks_style = bogus\n", NULL},
        {"mynetworks_style = $mynetworks\n", NULL},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config *cfg = config_of(rows[i].text);
        const char *got = config_get(cfg, "mynetworks");

        if (rows[i].wanted == NULL)
            check_int(rows[i].text, got == NULL, true);
        else
            check_str(rows[i].text, got, rows[i].wanted);
        config_unref(&cfg);
    }
}

static void test_facts(void **state)
{
    struct config *cfg = config_of("");
    struct buf pid = BUF_INIT(50);

    (void) state;
    buf_printf(&pid, "%d", (int) getpid());
    check_str("process_id", config_get(cfg, "process_id"), buf_cstr(&pid));
    check_str("process_name", config_get(cfg, "process_name"), program_invocation_short_name);
    check_str("config_directory", config_get(cfg, "config_directory"), "/nonexistent");
    check_str("mail_version", config_get(cfg, "mail_version"), "3.7.11");
    check_str("an old default", config_get(cfg, "mynetworks_style"), "subnet");
    buf_fini(&pid);
    config_unref(&cfg);
    cfg = config_of("compatibility_level = 3.6\n");
    check_str("a new default", config_get(cfg, "mynetworks_style"), "host");
    config_unref(&cfg);
}

static void test_overrides(void **state)
{
    static const char *const good[] = {"relayhost=a", "{ myorigin = b c }", "relayhost = d", "x="};
    static const char *const bad[] = {"relayhost"};
    struct config *cfg = NULL;
    struct err err = ERR_INIT;

    (void) state;
    check_int(
        "good",
        config_load_text("/nonexistent", SLICE_LIT("relayhost = z\n"), good, 4, "smtp", &cfg, &err),
        0);
    check_str("the last counts", config_get(cfg, "relayhost"), "d");
    check_str("in braces", config_get(cfg, "myorigin"), "b c");
    check_str("empty", config_get(cfg, "x"), "");
    check_str("service_name", config_get(cfg, "service_name"), "smtp");
    check_int("no line of main.cf", config_line(cfg, "relayhost"), 0);
    config_unref(&cfg);
    check_int("bad", config_load_text("/nonexistent", SLICE_EMPTY, bad, 1, NULL, &cfg, &err), -1);
    check_contains("bad", err.text, "-o relayhost");
}

static void collect(enum config_finding kind, const char *file, int line, const char *text,
                    void *arg)
{
    buf_printf(arg, "%s:%s:%d:%s\n", kind == CONFIG_FATAL ? "fatal" : "warning",
               file != NULL ? strrchr(file, '/') + 1 : "", line, text);
}

static const char master_cf[] =
    "smtp inet n - n - - smtpd\n"
    "relay unix - - n - - smtp\n"
    "submission inet n - n - - smtpd -o smtpd_client_restrictions=$mua\n";

static void check_findings(const char *dir, const char *name, const char *text, const char *wanted)
{
    struct config *cfg = config_of_in(dir, text);
    struct buf got = BUF_INIT(65536);

    config_check(cfg, collect, &got);
    if (wanted[0] == '\0')
        check_str(name, buf_cstr(&got), "");
    else
        check_contains(name, buf_cstr(&got), wanted);
    buf_fini(&got);
    config_unref(&cfg);
}

static void test_findings(void **state)
{
    static const struct {
        const char *text;
        const char *wanted; /* "": no finding at all */
    } rows[] = {
        {"", ""},
        {"relayhost = [a]\n", ""},
        {"\nrelayhots = a\n",
         "warning:main.cf:2:unknown parameter relayhots: did you mean relayhost?"},
        {"zzzzzzzzzzzz = a\n", "warning:main.cf:1:unknown parameter zzzzzzzzzzzz\n"},
        {"mine = a\nrelayhost = $mine\n", ""},
        {"mine = a\nrelayhost = ${mine?b}\n", ""},
        {"mua = permit\n", ""}, /* master.cf refers to it */
        {"muu = permit\n", "unknown parameter muu"},
        {"smtpd_restriction_classes = greylist\ngreylist = permit\n", ""},
        {"relayhost = a\n\nrelayhost = b\n",
         "warning:main.cf:3:overriding earlier entry: relayhost=a\n"},
        {"  stray\nrelayhost = b\n", "warning:main.cf:1:ignored: begins with white space"},
        {"\n\nsmtpd_tls_loglevel = 1\n",
         "warning:main.cf:3:parameter smtpd_tls_loglevel is not yet effective"},
        {"enable_long_queue_ids = maybe\n", "fatal::0:/"},
        {"enable_long_queue_ids = maybe\n", "main.cf, line 1: enable_long_queue_ids"},
        {"myorigin =\n", "main.cf, line 1: myorigin: must not be empty"},
        {"\nmyorigin = $myorigin\n", "main.cf, line 2: myorigin: a parameter refers to itself"},
        {"mine = ${\nrelayhost = ${mine?x}\n", "fatal:main.cf:1:mine: "},
        {"relay_destination_concurrency_limit = 3\n", ""},
        {"relay_destination_concurrency_limit = many\n",
         "line 1: relay_destination_concurrency_limit"},
        {"other_destination_concurrency_limit = 3\n", "master.cf has no such delivery service"},
        {"relay_destination_concurency_limit = 3\n",
         "unknown parameter relay_destination_concurency_limit: did you mean "
         "relay_destination_concurrency_limit?\n"},
        {"_destination_concurency_limit = 3\n", "parameter _destination_concurency_limit\n"},
        {"users_size_limit = 3\n", "unknown parameter users_size_limit\n"},
    };
    char dir[] = "/tmp/test_postconf_check.XXXXXX";
    struct buf path = BUF_INIT(1000);
    struct err err = ERR_INIT;

    (void) state;
    assert_non_null(mkdtemp(dir));
    path_join(&path, dir, "master.cf");
    if (file_replace(buf_cstr(&path), slice_str(master_cf), 0600, &err) == -1)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_findings(dir, rows[i].text, rows[i].text, rows[i].wanted);
    assert_int_equal(unlink(buf_cstr(&path)), 0);
    assert_int_equal(rmdir(dir), 0);
    buf_fini(&path);
    check_findings("/nonexistent", "without master.cf any service may be meant",
                   "other_destination_concurrency_limit = 3\n", "");
}

static void append(struct slice element, void *arg)
{
    buf_printf(arg, "<%.*s>", SLICE_FMT(element));
}

static void test_list(void **state)
{
    static const struct {
        const char *text;
        const char *wanted;
    } rows[] = {
        {"", ""},
        {" , ", ""},
        {"a", "<a>"},
        {"a, b c,d", "<a><b><c><d>"},
        {"a {b, c} d", "<a><{b, c}><d>"},
        {"inline:{x=1, y=2} e", "<inline:{x=1, y=2}><e>"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf got = BUF_INIT(1000);

        config_list_each(rows[i].text, append, &got);
        check_str(rows[i].text, buf_cstr(&got), rows[i].wanted);
        buf_fini(&got);
    }
}

/* Every worker does this when it starts. The bound is far above what it takes, for sanitizers and busy machines. */
static void test_is_fast(void **state)
{
    struct mono_time begin;
    int64_t took;

    (void) state;
    begin = mono_now();
    for (int i = 0; i < 20; i++) {
        struct config *cfg = config_of("relayhost = [a]\nmydestination = $myhostname, localhost\n");
        struct config_common common;
        struct err err = ERR_INIT;

        if (config_bind(cfg, &config_common_params, &common, &err) == -1)
            fail_msg("%s", err.text);
        config_unref(&cfg);
    }
    took = mono_diff_ms(mono_now(), begin);
    if (took > 20 * 50)
        fail_msg("20 times load and bind took %lld ms", (long long) took);
}

/* myorigin = /etc/mailname, as Debian installs it: the first line of the file. */
static void test_value_from_file(void **state)
{
    static const struct {
        const char *name;
        const char *content; /* NULL: there is no such file */
        const char *wanted;  /* NULL: an error */
    } rows[] = {
        {"a line", "host.example\n", "host.example"},
        {"spaces, more lines", " host.example \r\nother\n", "host.example"},
        {"no line end", "host.example", "host.example"},
        {"empty line", "\nhost.example\n", NULL},
        {"empty", "", NULL},
        {"no file", NULL, NULL},
    };
    char path[] = "/tmp/test_postconf_mailname.XXXXXX";
    struct buf text = BUF_INIT(1024);
    int fd = mkstemp(path);

    (void) state;
    assert_true(fd != -1);
    (void) close(fd);
    buf_printf(&text, "myorigin = %s\nuser_defined = $myorigin\n", path);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config *cfg = config_of(buf_cstr(&text));
        struct config_common common;
        struct err err = ERR_INIT;

        if (rows[i].content != NULL)
            assert_int_equal(file_replace(path, slice_str(rows[i].content), 0600, &err), 0);
        else
            assert_int_equal(unlink(path), 0);
        check_int(rows[i].name, config_bind(cfg, &config_common_params, &common, &err),
                  rows[i].wanted != NULL ? 0 : -1);
        if (rows[i].wanted != NULL) {
            check_str(rows[i].name, common.myorigin, rows[i].wanted);
            check_str(rows[i].name, config_get(cfg, "myorigin"), rows[i].wanted);
        } else {
            check_contains(rows[i].name, err.text, path);
        }
        /* in another value it is what was written, as with Debian's */
        check_str(rows[i].name, config_get(cfg, "user_defined"), path);
        config_unref(&cfg);
    }
    buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_value_from_file),
        cmocka_unit_test(test_host_and_domain),
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_findings),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_is_fast),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
