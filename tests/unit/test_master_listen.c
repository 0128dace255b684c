/* SPDX-License-Identifier: Apache-2.0 */
/* test_master_listen.c - sockets of services: which are opened, shared, refused, given back; and generations. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "master/master_int.h"

static char dir[64];
static int free_port;

static void put(const char *name, const char *text)
{
    struct buf path = BUF_INIT(4096);
    struct err err = ERR_INIT;

    path_join(&path, dir, name);
    assert_int_equal(file_replace(buf_cstr(&path), slice_str(text), 0644, &err), 0);
    buf_fini(&path);
}

static int setup(void **state)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(in);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct err err = ERR_INIT;

    (void) state;
    (void) snprintf(dir, sizeof(dir), "/tmp/test-listen-XXXXXX");
    if (mkdtemp(dir) == NULL || chdir(dir) == -1 || dir_make("public", 0755, &err) == -1 ||
        dir_make("private", 0755, &err) == -1 || bind(fd, (struct sockaddr *) &in, len) == -1 ||
        getsockname(fd, (struct sockaddr *) &in, &len) == -1)
        return -1;
    free_port = ntohs(in.sin_port);
    return close(fd);
}

static int teardown(void **state)
{
    static const char *const names[] = {"main.cf", "master.cf", "public", "private"};

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (remove(names[i]) == -1)
            return -1;
    return chdir("/") == 0 ? rmdir(dir) : -1;
}

static struct generation *generation(const char *main_cf, const char *master_cf)
{
    struct generation *g = NULL;
    struct err err = ERR_INIT;
    struct buf text = BUF_INIT(65536);

    put("main.cf", main_cf);
    /* PORT stands for a free one */
    for (const char *p = master_cf; *p != '\0'; p++) {
        if (strncmp(p, "PORT", 4) == 0) {
            buf_printf(&text, "%d", free_port);
            p += 3;
        } else {
            buf_putc(&text, *p);
        }
    }
    put("master.cf", buf_cstr(&text));
    buf_fini(&text);
    if (generation_load(dir, &g, &err) == -1)
        fail_msg("%s", err.text);
    return g;
}

static const char *const loopback = "inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n";

static void test_keys(void **state)
{
    static const struct {
        const char *line, *main_cf, *key; /* NULL: refused */
    } rows[] = {
        {"127.0.0.1:PORT inet n - n - - x", "", "inet [127.0.0.1]:"},
        {"PORT inet n - n - - x", "inet_interfaces = 127.0.0.1\n", "inet [127.0.0.1]:"},
        {"PORT inet n - n - - x", "inet_interfaces = [127.0.0.1]\n", "inet [127.0.0.1]:"},
        {"PORT inet n - n - - x", "inet_interfaces = loopback-only\ninet_protocols = ipv4\n",
         "inet [127.0.0.1]:"},
        {"PORT inet n - n - - x", "inet_interfaces = all\ninet_protocols = ipv4\n",
         "inet [0.0.0.0]:"},
        {"127.0.0.1:nosuchport inet n - n - - x", "", NULL},
        {"nosuchhost.invalid:PORT inet n - n - - x", "", NULL},
        {"192.0.2.1:PORT inet n - n - - x", "", NULL},
        {"one unix - - n - - x", "", "unix private/one"},
        {"one unix n - n - - x", "", "unix public/one"},
        {"one fifo n - n - - x", "", "unix public/one"},
        {"no/such/place unix n - n - - x", "", NULL},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct generation *g = generation(rows[i].main_cf, rows[i].line);
        struct vec set = VEC_INIT;
        struct listeners l;
        struct err err = ERR_INIT;
        int ret = listeners_open(g, g->cf->services.items[0], &set, &l, &err);

        if (rows[i].key == NULL) {
            assert_int_equal(ret, -1);
            assert_non_null(strstr(err.text, "master.cf, line 1: service "));
            assert_int_equal(set.len, 0);
        } else {
            if (ret == -1)
                fail_msg("%s: %s", rows[i].line, err.text);
            assert_int_equal(l.count, 1);
            if (strncmp(l.items[0]->key, rows[i].key, strlen(rows[i].key)) != 0)
                fail_msg("%s: got %s, wanted %s", rows[i].line, l.items[0]->key, rows[i].key);
            listeners_release(&l);
            assert_int_equal(set.len, 0);
        }
        vec_fini(&set);
        generation_unref(&g);
    }
}

static void test_named_ports(void **state)
{
    struct buf main_cf = BUF_INIT(4096);
    struct generation *g;
    struct vec set = VEC_INIT;
    struct listeners l;
    struct err err = ERR_INIT;

    (void) state;
    buf_printf(&main_cf, "%sknown_tcp_ports = smtp=25, odd=weird=%d\n", loopback, free_port);
    g = generation(buf_cstr(&main_cf), "weird inet n - n - - x");
    assert_int_equal(listeners_open(g, g->cf->services.items[0], &set, &l, &err), 0);
    assert_int_equal(l.count, 1);
    listeners_release(&l);
    vec_fini(&set);
    buf_fini(&main_cf);
    generation_unref(&g);
}

/* The next generation has the same sockets, not others at the same place; a refused one leaves none behind. */
static void test_generations_share(void **state)
{
    struct generation *first = generation(loopback, "PORT inet n - n - - x\na unix n - n - - x\n");
    struct generation *second =
        generation(loopback, "a unix n - n - - x\nPORT inet n - n - - y\nb unix n - n - - x\n");
    struct vec set = VEC_INIT;
    struct listeners old[2];
    struct listeners new[3];
    struct err err = ERR_INIT;

    (void) state;
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(listeners_open(first, first->cf->services.items[i], &set, &old[i], &err),
                         0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(listeners_open(second, second->cf->services.items[i], &set, &new[i], &err),
                         0);
    assert_ptr_equal(old[0].items[0], new[1].items[0]);
    assert_ptr_equal(old[1].items[0], new[0].items[0]);
    assert_int_equal(set.len, 3);
    assert_int_equal(access("public/b", F_OK), 0);
    for (size_t i = 0; i < 3; i++) /* given up: what it had alone is gone, the rest is as before */
        listeners_release(&new[i]);
    assert_int_equal(set.len, 2);
    assert_int_equal(access("public/b", F_OK), -1);
    assert_int_equal(access("public/a", F_OK), 0);
    for (size_t i = 0; i < 2; i++)
        listeners_release(&old[i]);
    assert_int_equal(set.len, 0);
    assert_int_equal(access("public/a", F_OK), -1);
    vec_fini(&set);
    generation_unref(&first);
    generation_unref(&second);
}

static void test_one_address_one_service(void **state)
{
    struct generation *g =
        generation(loopback, "PORT inet n - n - - x\n127.0.0.1:PORT inet n - n - - y\n");
    struct vec set = VEC_INIT;
    struct listeners l;
    struct listeners other;
    struct err err = ERR_INIT;

    (void) state;
    assert_int_equal(listeners_open(g, g->cf->services.items[0], &set, &l, &err), 0);
    assert_int_equal(listeners_open(g, g->cf->services.items[1], &set, &other, &err), -1);
    assert_non_null(strstr(err.text, "another service's already"));
    listeners_release(&l);
    vec_fini(&set);
    generation_unref(&g);
}

static void test_environment(void **state)
{
    struct generation *g =
        generation("import_environment = MAIL_CONFIG NOT_THERE_AT_ALL A=b { C = d e }\n", "");
    char **env = daemon_environment(g);
    struct buf all = BUF_INIT(4096);
    struct buf wanted = BUF_INIT(4096);

    (void) state;
    for (char **e = env; *e != NULL; e++)
        buf_printf(&all, "%s\n", *e);
    buf_printf(&wanted, "MAIL_CONFIG=%s\nPATH=/bin:/usr/bin:/sbin:/usr/sbin\nA=b\nC=d e\n", dir);
    assert_string_equal(buf_cstr(&all), buf_cstr(&wanted));
    daemon_environment_free(&env);
    buf_fini(&all);
    buf_fini(&wanted);
    generation_unref(&g);
}

static void test_kinds(void **state)
{
    static const struct {
        const char *line;
        enum service_kind kind;
    } rows[] = {
        {"a unix - - n - - tlsmgr", SERVICE_ABSORBED},
        {"a unix - - n - - trivial-rewrite", SERVICE_ABSORBED},
        {"postlog unix-dgram n - n - 1 postlogd", SERVICE_ABSORBED},
        {"a unix - - n - - nosuch", SERVICE_MISSING},
        {"a unix - - n - - true", SERVICE_RUN},
        {"a fifo - - n - - true", SERVICE_RUN},
        {"a pass - - n - - true", SERVICE_RUN},
        {"a unix-dgram - - n - - true", SERVICE_NO_TYPE},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct generation *g = generation("daemon_directory = /bin\n", rows[i].line);
        enum service_kind kind = service_kind(g, g->cf->services.items[0]);

        if (kind != rows[i].kind)
            fail_msg("%s: got %d, wanted %d", rows[i].line, (int) kind, (int) rows[i].kind);
        generation_unref(&g);
    }
}

static void test_maillog_prefixes(void **state)
{
    static const struct {
        const char *prefixes, *file;
        bool wanted;
    } rows[] = {
        {"/tmp", "/log", true},         {"/tmp/", "/log", true}, {"/", "/log", true},
        {"/tm", "/log", false},         {"/var", "/log", false}, {"/var, /tmp", "/log", true},
        {"/dev/stdout", "/log", false},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf text = BUF_INIT(4096);
        struct buf path = BUF_INIT(4096);
        struct err err = ERR_INIT;
        struct generation *g;
        struct stat st;
        int fd = -1;
        int ret;

        buf_printf(&path, "%s%s", dir, rows[i].file);
        buf_printf(&text,
                   "maillog_file = %s\nmaillog_file_prefixes = %s\n"
                   "maillog_file_permissions = 0640\n",
                   buf_cstr(&path), rows[i].prefixes);
        g = generation(buf_cstr(&text), "");
        ret = maillog_open(g, &fd, &err);
        if ((ret == 0) != rows[i].wanted)
            fail_msg("%s: got %d (%s)", rows[i].prefixes, ret, err.text);
        if (ret == 0) {
            assert_int_equal(fstat(fd, &st), 0);
            assert_int_equal(st.st_mode & 0777, 0640);
            fd_close(&fd);
            assert_int_equal(unlink(buf_cstr(&path)), 0);
        }
        generation_unref(&g);
        buf_fini(&text);
        buf_fini(&path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_named_ports),
        cmocka_unit_test(test_generations_share),
        cmocka_unit_test(test_one_address_one_service),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_maillog_prefixes),
    };

    (void) umask(0);
    return cmocka_run_group_tests(tests, setup, teardown);
}
