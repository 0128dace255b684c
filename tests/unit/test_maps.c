/* SPDX-License-Identifier: Apache-2.0 */
/* test_maps.c - every table type by its rules, the keys that policies ask for, match lists, routing, with real files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "maps/map_build.h"
#include "maps/network.h"
#include "maps/policy.h"
#include "route/route.h"

static char dir[64];
static struct config *cfg;
static struct map_env *env;

static void put(const char *name, const char *text)
{
    struct buf path = BUF_INIT(256);
    struct err err = ERR_INIT;

    path_join(&path, dir, name);
    if (file_replace(buf_cstr(&path), slice_str(text), 0644, &err) == -1)
        fail_msg("%s", err.text);
    buf_fini(&path);
}

/* "@" in a specification stands for the test's directory. */
static char *spec(const char *text)
{
    struct buf out = BUF_INIT(4096);

    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '@')
            buf_puts(&out, dir);
        else
            buf_putc(&out, *p);
    }
    return buf_take(&out);
}

static int setup(void **state)
{
    struct err err = ERR_INIT;

    (void) state;
    (void) snprintf(dir, sizeof(dir), "/tmp/maps-test.XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    put("main.cf",
        "mydestination = local.test\nmyorigin = local.test\nmydomain = test\nmyhostname = h.test\n"
        "append_dot_mydomain = yes\nrelay_domains = relay.test\nrelayhost = [hop.test]:26\ninet_interfaces = 127.0.0.1\n"
        "virtual_alias_domains = alias.test\nvirtual_alias_maps = inline:{{x@alias.test = y@far.test}}\n"
        "virtual_mailbox_domains = box.test\nvirtual_mailbox_maps = inline:{{bob@box.test=bob/}}\n"
        "local_recipient_maps = inline:{{joe=x}}\nalias_maps =\nrecipient_delimiter = +\n"
        "transport_maps = inline:{{slow.test = slow:}, {.sub.test = smtp:[sub]}, {near.test = :[near]:27}, {u@far.test = error:5.7.1 no}}\n");
    if (config_load(dir, NULL, 0, NULL, &cfg, &err) == -1)
        return -1;
    env = map_env_new(cfg);
    return 0;
}

static int teardown(void **state)
{
    char *argv = spec("rm -r -- @");
    int ret = system(argv); /* NOLINT: a directory of our own */

    (void) state;
    map_env_free(&env);
    config_unref(&cfg);
    free(argv);
    return ret;
}

struct map_case {
    const char *key, *value; /* NULL: not found */
};

static void check_map(const char *name, const struct map_case *cases, size_t n)
{
    char *full = spec(name);
    struct map *m;
    struct err err = ERR_INIT;

    if (map_open(env, slice_str(full), &m, &err) == -1)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < n; i++) {
        struct buf value = BUF_INIT(4096);
        enum map_result res = map_lookup(m, slice_str(cases[i].key), &value, &err);

        if (res == MAP_RETRY)
            fail_msg("%s: %s: %s", name, cases[i].key, err.text);
        if ((res == MAP_FOUND) != (cases[i].value != NULL) ||
            (res == MAP_FOUND && strcmp(buf_cstr(&value), cases[i].value) != 0))
            fail_msg("%s: %s: got \"%s\", wanted \"%s\"", name, cases[i].key,
                     res == MAP_FOUND ? buf_cstr(&value) : "(none)",
                     cases[i].value != NULL ? cases[i].value : "(none)");
        buf_fini(&value);
    }
    free(full);
}

static void test_types(void **state)
{
    static const struct map_case fixed[] = {
        {"a", "one"}, {"A", "one"}, {"\"b c\"", "two words"}, {"long", "x  y"}, {"none", NULL}};
    static const char rows[] = "# comment\na one\n\"b c\" two words\nlong x\n  y\n";
    static const struct map_build_options opt = {.format = MAP_BUILD_POSTMAP,
                                                 .folding = MAP_FOLD_UTF8};
    static const char *const built[] = {"hash", "btree"};

    (void) state;
    put("text", rows);
    check_map("texthash:@/text", fixed, ARRAY_LEN(fixed));
    for (size_t i = 0; i < ARRAY_LEN(built); i++) {
        char *path = spec("@/text");
        char *name = spec(i == 0 ? "hash:@/text" : "btree:@/text");
        struct err err = ERR_INIT;

        if (map_build(map_type_find(slice_str(built[i])), path, &opt, &err) == -1)
            fail_msg("%s", err.text);
        check_map(name, fixed, ARRAY_LEN(fixed));
        free(path);
        free(name);
    }
    check_map("inline:{a=1, {b = two words}}",
              (const struct map_case[]){{"a", "1"}, {"B", "two words"}, {"c", NULL}}, 3);
    check_map("static:x y", (const struct map_case[]){{"anything", "x y"}}, 1);
    check_map("static:{ braces }", (const struct map_case[]){{"anything", "braces"}}, 1);
}

static void test_patterns(void **state)
{
    static const struct map_case cases[] = {
        {"user-x@a.test", "x at a.test"},
        {"USER-X@A.TEST", "X at A.TEST"},
        {"nothing", "not b"},
        {"b", NULL},
        {"inside b one", "in one"},
        {"price b", "$5"},
        {"inside b", NULL},
    };
    static const char rules[] =
        "/^user-(.*)@(.*)$/ ${1} at $2\n/^price b/ $$5\nif /b/\n/ONE/ in one\n!/b/ never\nendif\n!/b/ not b\n";

    (void) state;
    put("re", rules);
    check_map("regexp:@/re", cases, ARRAY_LEN(cases));
    check_map("pcre:@/re", cases, ARRAY_LEN(cases));
    put("re2", "/case/i fits\n");
    check_map("regexp:@/re2", (const struct map_case[]){{"case", "fits"}, {"CASE", NULL}}, 2);
    check_map("pcre:@/re2", (const struct map_case[]){{"case", "fits"}, {"CASE", NULL}}, 2);
}

/* A table whose results name commands or transports has no rule that puts a part of the key there; the same file serves others as it is. */
static void test_plain(void **state)
{
    static const char *const types[] = {"regexp", "pcre", "unionmap:{pcre"};
    static const struct {
        const char *key, *value, *plain;
    } cases[] = {{"to-x", "relay:x", NULL},
                 {"dollar", "$", "$"},
                 {"other", "smtp:other", "smtp:other"},
                 {"not", "smtp:not", "smtp:not"}};

    (void) state;
    put("plain",
        "/^to-(.*)$/ relay:$1\n/^dollar/ $$\n/^other/ smtp:other\n!/o/ never\n/^not/ smtp:not\n");
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct map_list *both[2] = {NULL, NULL};
        struct err err = ERR_INIT;
        char spec[512];

        (void) snprintf(spec, sizeof(spec), "%s:%s/plain%s", types[i], dir, i == 2 ? "}" : "");
        assert_int_equal(map_list_open(env, spec, &both[0], &err), 0);
        assert_int_equal(map_list_open_plain(env, spec, &both[1], &err), 0);
        for (size_t k = 0; k < ARRAY_LEN(cases) * 2; k++) {
            const char *wanted = k % 2 == 0 ? cases[k / 2].value : cases[k / 2].plain;
            struct buf got = BUF_INIT(4096);
            enum map_result res =
                map_list_lookup(both[k % 2], slice_str(cases[k / 2].key), 0, &got, NULL, &err);

            if (res != (wanted != NULL ? MAP_FOUND : MAP_NOTFOUND) ||
                (wanted != NULL && strcmp(buf_cstr(&got), wanted) != 0))
                fail_msg("%s, key %s, plain %zu: %d \"%s\"", spec, cases[k / 2].key, k % 2, res,
                         buf_cstr(&got));
            buf_fini(&got);
        }
        map_list_free(&both[0]);
        map_list_free(&both[1]);
    }
}

static void test_cidr(void **state)
{
    static const struct map_case cases[] = {
        {"10.1.2.3", "host"},   {"10.1.2.4", "net"}, {"10.2.0.1", "other"}, {"::1", "six"},
        {"2001:db8::5", "doc"}, {"9.9.9.9", "rest"}, {"name", NULL},        {"8.8.8.8", NULL},
    };

    (void) state;
    put("cidr",
        "10.1.2.3 host\n10.1.0.0/16 net\n10.0.0.0/8 other\n::1 six\n[2001:db8::]/32 doc\nif 9.0.0.0/8\n0.0.0.0/0 rest\nendif\n");
    check_map("cidr:@/cidr", cases, ARRAY_LEN(cases));
}

static void test_wrong_rows(void **state)
{
    static const struct {
        const char *name, *text, *error;
    } cases[] = {
        {"regexp:@/bad", "/(/ x\n", "line 1"},
        {"regexp:@/bad", "/a/ ok\n/b\n", "line 2"},
        {"pcre:@/bad", "\n/(/ x\n", "line 2"},
        {"pcre:@/bad", "if /a/\n/b/ x\n", "if without"},
        {"regexp:@/bad", "endif\n", "endif without if"},
        {"cidr:@/bad", "10.0.0.1/8 x\n", "non-null host"},
        {"cidr:@/bad", "10.0.0.0/33 x\n", "line 1"},
        {"texthash:@/bad", "keyonly\n", "line 1"},
        {"hash:@/missing", "", "missing"},
        {"regexp:@/bad", "/a/q x\n", "flag"},
        {"regexp:@/bad", "/a/ x\n/a++++++++++++++++++++++++++++++++++++++++/ x\n", "line 2"},
        {"regexp:@/bad", "/a{0,4000}/ x\n/b{0,4000}/ x\n/c{0,4000}/ x\n", "line 3"},
        {"nosuch:x", "", "unsupported dictionary type"},
        {"static", "", "type:name"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *full = spec(cases[i].name);
        struct err err = ERR_INIT;

        put("bad", cases[i].text);
        if (map_check(env, slice_str(full), &err) == 0)
            fail_msg("%s: accepted: %s", full, cases[i].text);
        if (strstr(err.text, cases[i].error) == NULL)
            fail_msg("%s: got \"%s\", wanted \"%s\" in it", full, err.text, cases[i].error);
        free(full);
    }
}

/* What a check finds wrong is a warning for who asks the table, whose other rows serve, before and after. */
static void test_check_and_open(void **state)
{
    static const char *const names[] = {"texthash:@/half", "unionmap:{texthash:@/half}"};

    (void) state;
    put("half", "keyonly\nk 1\n");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *full = spec(names[i]);
        struct err err = ERR_INIT;
        struct buf value = BUF_INIT(100);
        struct map *m;

        assert_int_equal(map_check(env, slice_str(full), &err), -1);
        assert_int_equal(map_open(env, slice_str(full), &m, &err), 0);
        assert_int_equal(map_lookup(m, SLICE_LIT("k"), &value, &err), MAP_FOUND);
        assert_string_equal(buf_cstr(&value), "1");
        assert_int_equal(map_check(env, slice_str(full), &err), -1);
        buf_fini(&value);
        free(full);
    }
}

/* A table that is missing is trouble, not "not found"; it answers when it is there, and serves new content when that changes. */
static void test_reload(void **state)
{
    char *full = spec("texthash:@/later");
    struct map *m;
    struct err err = ERR_INIT;
    struct buf value = BUF_INIT(100);

    (void) state;
    assert_int_equal(map_open(env, slice_str(full), &m, &err), 0);
    assert_int_equal(map_lookup(m, SLICE_LIT("k"), &value, &err), MAP_RETRY);
    assert_non_null(strstr(err.text, "later"));
    put("later", "k 1\n");
    usleep(1100000);
    assert_int_equal(map_lookup(m, SLICE_LIT("k"), &value, &err), MAP_FOUND);
    put("later", "k 22\n");
    usleep(1100000);
    buf_reset(&value);
    assert_int_equal(map_lookup(m, SLICE_LIT("k"), &value, &err), MAP_FOUND);
    assert_string_equal(buf_cstr(&value), "22");
    buf_fini(&value);
    free(full);
}

static void test_address_keys(void **state)
{
    static const struct {
        const char *table, *addr;
        bool local;
        const char *value, *ext;
    } cases[] = {
        {"inline:{u+e@d=1}", "u+e@d", false, "1", ""},
        {"inline:{u@d=1}", "u+e@d", false, "1", "e"},
        {"inline:{u+e=1}", "u+e@d", true, "1", ""},
        {"inline:{u=1}", "u+e@d", true, "1", "e"},
        {"inline:{u=1}", "u+e@d", false, NULL, ""},
        {"inline:{@d=1}", "u+e@d", false, "1", ""},
        {"inline:{{@d=2},{u@d=1}}", "u@d", false, "1", ""},
        {"inline:{d=1}", "u@d", false, NULL, ""},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct map_list *l;
        struct err err = ERR_INIT;
        struct buf value = BUF_INIT(100);
        struct buf ext = BUF_INIT(100);
        enum map_result res;

        assert_int_equal(map_list_open(env, cases[i].table, &l, &err), 0);
        res = map_address_lookup(l, slice_str(cases[i].addr),
                                 MAP_KEY_FULL | MAP_KEY_NOEXT | MAP_KEY_LOCAL_FULL | MAP_KEY_LOCAL |
                                     MAP_KEY_AT_DOMAIN,
                                 "+", cases[i].local, false, &value, &ext, &err);
        if ((res == MAP_FOUND) != (cases[i].value != NULL) ||
            !slice_eq_str(buf_view(&ext), cases[i].ext))
            fail_msg("%s: %s: result %d, extension \"%s\"", cases[i].table, cases[i].addr, res,
                     buf_cstr(&ext));
        buf_fini(&value);
        buf_fini(&ext);
        map_list_free(&l);
    }
}

static void test_match_lists(void **state)
{
    static const struct {
        enum match_kind kind;
        const char *list, *name, *addr;
        bool parents, wanted;
    } cases[] = {
        {MATCH_HOST, "10.0.0.0/8, !10.1.0.0/16", "", "10.1.2.3", false, true},
        {MATCH_HOST, "!10.1.0.0/16 10.0.0.0/8", "", "10.1.2.3", false, false},
        {MATCH_HOST, "[::1]", "", "::1", false, true},
        {MATCH_HOST, "example.com", "a.example.com", "1.2.3.4", false, false},
        {MATCH_HOST, "example.com", "a.example.com", "1.2.3.4", true, true},
        {MATCH_HOST, ".example.com", "a.example.com", "1.2.3.4", false, true},
        {MATCH_HOST, "1.2.3.4", "", "1.2.3.4", false, true},
        {MATCH_HOST, "cidr:@/cidr", "", "10.1.2.3", false, true},
        {MATCH_DOMAIN, "a.test, B.test", "b.TEST", NULL, false, true},
        {MATCH_DOMAIN, "b.test", "notb.test", NULL, true, false},
        {MATCH_DOMAIN, "", "x", NULL, false, false},
        {MATCH_STRING, "static:all", "x", NULL, false, true},
        {MATCH_DOMAIN, "inline:{x.test=1}", "x.test", NULL, false, true},
    };

    (void) state;
    put("cidr", "10.1.2.3 host\n");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *text = spec(cases[i].list);
        struct match_list *l;
        struct err err = ERR_INIT;
        enum map_result res;

        if (match_list_open(env, cases[i].kind, text, cases[i].parents, &l, &err) == -1)
            fail_msg("%s: %s", text, err.text);
        res = cases[i].kind == MATCH_HOST
                  ? match_list_host(l, slice_str(cases[i].name), slice_str(cases[i].addr), &err)
                  : match_list_string(l, slice_str(cases[i].name), &err);
        if ((res == MAP_FOUND) != cases[i].wanted)
            fail_msg("case %zu: %s against \"%s\": %d", i, cases[i].name, text, res);
        match_list_free(&l);
        free(text);
    }
}

static void test_route(void **state)
{
    static const struct {
        const char *rcpt, *transport, *nexthop, *result;
    } cases[] = {
        {"joe@local.test", "local", "h.test", "joe@local.test"},
        {"joe", "local", "h.test", "joe@local.test"},
        {"x@relay.test", "relay", "[hop.test]:26", "x@relay.test"},
        {"x@far.test", "smtp", "[hop.test]:26", "x@far.test"},
        {"bob@box.test", "virtual", "box.test", "bob@box.test"},
        {"z@alias.test", "error", "5.1.1 User unknown in virtual alias table", "z@alias.test"},
        {"x@slow.test", "slow", "slow.test", "x@slow.test"},
        {"x@a.sub.test", "smtp", "[sub]", "x@a.sub.test"},
        {"x@near.test", "smtp", "[near]:27", "x@near.test"},
        {"u@far.test", "error", "5.7.1 no", "u@far.test"},
        {"u+ext@far.test", "error", "5.7.1 no", "u+ext@far.test"},
        {"joe@[127.0.0.1]", "local", "h.test", "joe@[127.0.0.1]"},
        {"x@host", "smtp", "[hop.test]:26", "x@host.test"},
        {"a%b.test@", "smtp", "[hop.test]:26", NULL},
        {"", "local", "h.test", "MAILER-DAEMON@local.test"},
    };
    static const struct {
        const char *rcpt;
        enum map_result exists, authorized;
    } known[] = {
        {"joe@local.test", MAP_FOUND, MAP_FOUND},
        {"joe+x@local.test", MAP_FOUND, MAP_FOUND},
        {"jim@local.test", MAP_NOTFOUND, MAP_FOUND},
        {"postmaster@local.test", MAP_FOUND, MAP_FOUND},
        {"bob@box.test", MAP_FOUND, MAP_FOUND},
        {"tom@box.test", MAP_NOTFOUND, MAP_FOUND},
        {"x@alias.test", MAP_FOUND, MAP_FOUND},
        {"q@alias.test", MAP_NOTFOUND, MAP_FOUND},
        {"any@relay.test", MAP_FOUND, MAP_FOUND},
        {"any@far.test", MAP_FOUND, MAP_NOTFOUND},
        {"a@b@relay.test", MAP_FOUND, MAP_NOTFOUND},
    };
    struct route *r;
    struct err err = ERR_INIT;
    struct route_result res;

    (void) state;
    if (route_new(env, &r, &err) == -1)
        fail_msg("%s", err.text);
    assert_true(route_is_local_only(r));
    route_result_init(&res);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (route_resolve(r, SLICE_LIT("s@x"), slice_str(cases[i].rcpt), &res, &err) != MAP_FOUND)
            fail_msg("%s: %s", cases[i].rcpt, err.text);
        if (cases[i].result == NULL)
            continue;
        if (strcmp(buf_cstr(&res.transport), cases[i].transport) != 0 ||
            strcmp(buf_cstr(&res.nexthop), cases[i].nexthop) != 0 ||
            strcmp(buf_cstr(&res.recipient), cases[i].result) != 0)
            fail_msg("%s: got %s:%s for %s", cases[i].rcpt, buf_cstr(&res.transport),
                     buf_cstr(&res.nexthop), buf_cstr(&res.recipient));
    }
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        const char *table = "";
        enum map_result exists = route_recipient_exists(r, slice_str(known[i].rcpt), &table, &err);
        enum map_result authorized =
            route_is_authorized_destination(r, slice_str(known[i].rcpt), &err);

        if (exists != known[i].exists || authorized != known[i].authorized)
            fail_msg("%s: exists %d, authorized %d", known[i].rcpt, exists, authorized);
    }
    route_result_fini(&res);
    route_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),       cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_plain),       cmocka_unit_test(test_cidr),
        cmocka_unit_test(test_wrong_rows),  cmocka_unit_test(test_check_and_open),
        cmocka_unit_test(test_reload),      cmocka_unit_test(test_address_keys),
        cmocka_unit_test(test_match_lists), cmocka_unit_test(test_route),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
