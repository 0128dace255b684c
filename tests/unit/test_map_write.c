/* SPDX-License-Identifier: Apache-2.0 */
/* test_map_write.c - building tables in use, two at once, killed in the middle; rows added and removed. */
#include "test_map_files.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/mtime.h"

static const struct map_build_options quiet = {
    .format = MAP_BUILD_POSTMAP, .folding = MAP_FOLD_UTF8, .ignore_duplicates = true};

/* Types that are built here and can be changed row by row; cdb is only built. */
static const char *const changeable[] = {
#if PR_HAVE_BDB || PR_HAVE_LMDB
    "hash",
    "btree",
#endif
#if PR_HAVE_LMDB
    "lmdb",
#endif
    NULL,
};

/* --- a table that is rebuilt while it is asked ------------------------------------------------------- */

struct asking {
    struct map *m;
    atomic_bool stop;
    atomic_uint asked, failed;
};

static void *ask_in_loop(void *arg)
{
    struct asking *a = arg;

    while (!atomic_load(&a->stop)) {
        struct buf value = BUF_INIT(4096);
        struct err err = ERR_INIT;

        if (map_lookup(a->m, SLICE_LIT("always"), &value, &err) != MAP_FOUND)
            atomic_fetch_add(&a->failed, 1);
        atomic_fetch_add(&a->asked, 1);
        buf_fini(&value);
    }
    return NULL;
}

static void rebuild_in_use(const char *type)
{
    char *path = in_dir("@/used");
    struct asking a = {.m = NULL};
    pthread_t threads[2];
    struct mono_time built;
    char text[64];

    put("used", "always there\nn 0\n");
    build(type, path);
    a.m = open_table(type, path);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_in_loop, &a), 0);
    for (int n = 1; n <= 100; n++) {
        (void) snprintf(text, sizeof(text), "always there\nn %d\n", n);
        put("used", text);
        build(type, path);
    }
    built = mono_now();
    for (;;) { /* the last content within a second */
        struct buf value = BUF_INIT(100);
        struct err err = ERR_INIT;
        bool last = map_lookup(a.m, SLICE_LIT("n"), &value, &err) == MAP_FOUND &&
                    strcmp(buf_cstr(&value), "100") == 0;

        buf_fini(&value);
        if (last)
            break;
        if (mono_diff_ms(mono_now(), built) > 10000)
            fail_msg("%s: the new content does not serve", type);
        usleep(10000);
    }
    atomic_store(&a.stop, true);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(atomic_load(&a.asked) > 100);
    assert_int_equal(atomic_load(&a.failed), 0);
    free(path);
}

static void test_rebuild_in_use(void **state)
{
    (void) state;
    for (size_t i = 0; changeable[i] != NULL; i++)
        rebuild_in_use(changeable[i]);
#if PR_HAVE_CDB
    rebuild_in_use("cdb");
#endif
}

/* --- several builders, and one that is killed -------------------------------------------------------- */

static pid_t build_in_child(const char *type, const char *path, int times)
{
    pid_t child = fork();

    if (child == 0) {
        int ret = 0;

        for (int i = 0; i < times && ret == 0; i++)
            ret = map_build(type_of(type), path, &quiet, NULL);
        _exit(ret == 0 ? 0 : 1);
    }
    return child;
}

static void test_two_at_once(void **state)
{
    char *path = in_dir("@/both");

    (void) state;
    for (size_t i = 0; changeable[i] != NULL; i++) {
        pid_t children[4];

        many_rows("both");
        for (size_t c = 0; c < ARRAY_LEN(children); c++)
            children[c] = build_in_child(changeable[i], path, 3);
        for (size_t c = 0; c < ARRAY_LEN(children); c++) {
            int status;

            assert_int_equal(waitpid(children[c], &status, 0), children[c]);
            assert_int_equal(status, 0);
        }
        expect(open_table(changeable[i], path), "key19999", "value19999");
    }
    free(path);
}

static void test_killed(void **state)
{
    char *path = in_dir("@/killed");

    (void) state;
    for (size_t i = 0; changeable[i] != NULL; i++) {
        const struct map_type *t = type_of(changeable[i]);
        struct buf left = BUF_INIT(256);
        struct stat st;

        put("killed", "old row\n");
        build(changeable[i], path);
        many_rows("killed");
        buf_printf(&left, "%s%s.tmp", path, t->builder->suffix);
        for (int n = 0; n < 20; n++) {
            pid_t child = build_in_child(changeable[i], path, 1000);
            struct mono_time begun = mono_now();
            int status;

            while (stat(buf_cstr(&left), &st) == -1 && mono_diff_ms(mono_now(), begun) < 10000)
                usleep(100);
            usleep((useconds_t) (n * 700));
            assert_int_equal(kill(child, SIGKILL), 0);
            assert_int_equal(waitpid(child, &status, 0), child);
            /* whole: the old one or the new one */
            struct map_env *fresh = map_env_new(cfg);
            struct buf spec = BUF_INIT(256);
            struct buf value = BUF_INIT(256);
            struct err err = ERR_INIT;
            struct map *m;

            buf_printf(&spec, "%s:%s", changeable[i], path);
            assert_int_equal(map_open(fresh, buf_view(&spec), &m, &err), 0);
            if (map_lookup(m, SLICE_LIT("old"), &value, &err) != MAP_FOUND &&
                map_lookup(m, SLICE_LIT("key19999"), &value, &err) != MAP_FOUND)
                fail_msg("%s: after a kill: %s", buf_cstr(&spec), err.text);
            buf_fini(&spec);
            buf_fini(&value);
            map_env_free(&fresh);
        }
        /* what is left over is in nobody's way */
        if (stat(buf_cstr(&left), &st) == -1) {
            struct err err = ERR_INIT;

            assert_int_equal(file_replace(buf_cstr(&left), SLICE_LIT("left over"), 0600, &err), 0);
        }
        build(changeable[i], path);
        expect(open_table(changeable[i], path), "key19999", "value19999");
        assert_int_equal(stat(buf_cstr(&left), &st), -1);
        buf_fini(&left);
    }
    free(path);
}

/* --- adding, removing -------------------------------------------------------------------------------- */

static int pipe_with(const char *text)
{
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    assert_int_equal(fd_write_all(fds[1], text, strlen(text)), 0);
    close(fds[1]);
    return fds[0];
}

static bool one_key(struct slice *key, void *arg)
{
    const char **next = arg;

    if (*next == NULL)
        return false;
    *key = slice_str(*next);
    *next = NULL;
    return true;
}

static void test_add_remove(void **state)
{
    char *path = in_dir("@/changed");

    (void) state;
    for (size_t i = 0; changeable[i] != NULL; i++) {
        const struct map_type *t = type_of(changeable[i]);
        struct err err = ERR_INIT;
        struct map *m;
        const char *key = "A";
        bool found = false;
        int fd;

        put("changed", "a 1\nb 2\n");
        build(changeable[i], path);
        fd = pipe_with("b 9\nc 3\n");
        assert_int_equal(map_build_add(t, path, fd, &quiet, &err), 0);
        close(fd);
        assert_int_equal(map_build_remove(t, path, one_key, &key, &quiet, &found, &err), 0);
        assert_true(found);
        key = "nosuch";
        assert_int_equal(map_build_remove(t, path, one_key, &key, &quiet, &found, &err), 0);
        assert_false(found);
        m = open_table(changeable[i], path);
        expect(m, "a", NULL);
        expect(m, "b", "2");
        expect(m, "C", "3");
    }
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rebuild_in_use),
        cmocka_unit_test(test_two_at_once),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_add_remove),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
