/* SPDX-License-Identifier: Apache-2.0 */
/* test_map_damaged.c - table files that are not whole: cut off, something else, with blocks of zeros in them. */
#include "test_map_files.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

/* --- damaged files ----------------------------------------------------------------------------------- */

/* Try again with a message; never not found, never a crash; and it serves again when it is mended. */
static void test_damaged(void **state)
{
    static const struct {
        const char *what;
        off_t keep;       /* bytes of the good file; -1: all */
        const char *over; /* written at its begin */
    } cases[] = {
        {"empty", 0, ""},
        {"text", 0, "this is no database, but text that is long enough to look at"},
        {"cut in the head", 100, ""},
        {"cut in the middle", 9000, ""},
    };
    static const char *const types[] = {
        "hash",
        "btree",
#if PR_HAVE_LMDB
        "lmdb",
#endif
#if PR_HAVE_CDB
        "cdb",
#endif
    };
    char *path = in_dir("@/damaged");

    (void) state;
    many_rows("damaged");
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        struct buf file = BUF_INIT(256);
        struct buf spec = BUF_INIT(256);

        buf_printf(&file, "%s%s", path, type_of(types[t])->builder->suffix);
        buf_printf(&spec, "%s:%s", types[t], path);
        for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
            struct map_env *own = map_env_new(cfg);
            struct buf value = BUF_INIT(256);
            struct err err = ERR_INIT;
            enum map_result worst = MAP_FOUND;
            struct map *m;
            int fd;

            build(types[t], path);
            if (cases[c].keep >= 0)
                assert_int_equal(truncate(buf_cstr(&file), cases[c].keep), 0);
            fd = open(buf_cstr(&file), O_WRONLY | O_CLOEXEC);
            assert_int_not_equal(fd, -1);
            assert_int_equal(fd_pwrite_all(fd, cases[c].over, strlen(cases[c].over), 0), 0);
            close(fd);
            assert_int_equal(map_open(own, buf_view(&spec), &m, &err), 0);
            for (int k = 0; k < 20000 && worst != MAP_RETRY; k += 97) {
                char key[32];
                enum map_result res;

                (void) snprintf(key, sizeof(key), "key%d", k);
                res = map_lookup(m, slice_str(key), &value, &err);
                if (res == MAP_NOTFOUND)
                    fail_msg("%s, %s: %s is not found", types[t], cases[c].what, key);
                if (res == MAP_RETRY)
                    worst = res;
            }
            if (worst != MAP_RETRY || strstr(err.text, path) == NULL || err.kind != ERR_TEMPORARY)
                fail_msg("%s, %s: result %d, \"%s\"", types[t], cases[c].what, (int) worst,
                         err.text);
            buf_fini(&value);
            map_env_free(&own);
        }
        build(types[t], path);
        expect(open_table(types[t], path), "key19999", "value19999");
        buf_fini(&file);
        buf_fini(&spec);
    }
    free(path);
}

/* --- blocks of zeros -------------------------------------------------------------------------------- */

#define BLOCK      4096 /* of a file system */
#define SOME_ROWS  1500
#define CIRCLES_US 2000000 /* of the processor, in the library behind the table */

static void row(int i, char key[64], char value[128])
{
    (void) snprintf(key, 64, "user%d@domain%d.example", i, i % 7);
    /* some are longer than a page holds beside others */
    (void) snprintf(
        value, 128, "value %d%.*s", i, i % 10 * 9,
        "................................................................................"
        ".........");
}

/* What the child process says when it ends. */
enum { WHOLE, TRY_AGAIN, SOME_MISSING, WRONG_VALUE, NOT_OPENED };

/* Asks the table for all rows. */
static int ask_all(const char *spec)
{
    struct map_env *own = map_env_new(cfg);
    struct err err = ERR_INIT;
    int worst = WHOLE;
    struct map *m;

    if (map_open(own, slice_str(spec), &m, &err) == -1)
        return NOT_OPENED;
    for (int i = 0; i < SOME_ROWS; i++) {
        struct buf value = BUF_INIT(4096);
        char key[64];
        char wanted[128];
        int said = WHOLE;

        row(i, key, wanted);
        switch (map_lookup(m, slice_str(key), &value, &err)) {
        case MAP_FOUND:
            said = slice_eq_str(buf_view(&value), wanted) ? WHOLE : WRONG_VALUE;
            break;
        case MAP_NOTFOUND:
            said = SOME_MISSING;
            break;
        case MAP_RETRY:
            said = TRY_AGAIN;
            break;
        }
        if (said > worst)
            worst = said;
        buf_fini(&value);
    }
    map_env_free(&own);
    return worst;
}

static int ask_in_child(const char *spec)
{
    static const int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGPROF};
    pid_t child = fork();
    int status;

    if (child == 0) {
        /* cmocka has handlers that go on with the next test */
        for (size_t i = 0; i < ARRAY_LEN(deadly); i++)
            (void) signal(deadly[i], SIG_DFL);
        (void) setitimer(ITIMER_PROF,
                         &(struct itimerval){.it_value = {.tv_sec = CIRCLES_US / 1000000,
                                                          .tv_usec = CIRCLES_US % 1000000}},
                         NULL);
        (void) alarm(100); /* it waits for something */
        _exit(ask_all(spec));
    }
    assert_int_not_equal(child, -1);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

/* Each block of the file in turn, one or two of them: nothing worse than `worst`; the process lives, and comes to an end. */
static void zeros_in(const char *type, int worst)
{
    static const char zeros[2 * BLOCK];
    char *path = in_dir("@/zeros");
    struct buf text = BUF_INIT(SIZE_MAX);
    struct buf file = BUF_INIT(256);
    struct buf spec = BUF_INIT(256);
    struct buf good = BUF_INIT(SIZE_MAX);
    struct err err = ERR_INIT;
    int count[NOT_OPENED + 1] = {0};
    int fd;

    for (int i = 0; i < SOME_ROWS; i++) {
        char key[64];
        char value[128];

        row(i, key, value);
        buf_printf(&text, "%s %s\n", key, value);
    }
    put("zeros", buf_cstr(&text));
    build(type, path);
    buf_printf(&file, "%s%s", path, type_of(type)->builder->suffix);
    buf_printf(&spec, "%s:%s", type, path);
    assert_int_equal(file_read(buf_cstr(&file), &good, &err), 0);
    assert_int_equal(ask_in_child(buf_cstr(&spec)), 0);
    fd = open(buf_cstr(&file), O_WRONLY | O_CLOEXEC);
    assert_int_not_equal(fd, -1);
    for (size_t blocks = 1; blocks <= 2; blocks++)
        for (size_t at = 0; at + blocks * BLOCK <= good.len; at += BLOCK) {
            int status;

            assert_int_equal(fd_pwrite_all(fd, zeros, blocks * BLOCK, (off_t) at), 0);
            status = ask_in_child(buf_cstr(&spec));
            if (!WIFEXITED(status) || WEXITSTATUS(status) > worst)
                fail_msg("%s: %zu blocks of zeros at %zu: status 0x%x", type, blocks, at,
                         (unsigned) status);
            count[WEXITSTATUS(status)]++;
            assert_int_equal(fd_pwrite_all(fd, good.ptr + at, blocks * BLOCK, (off_t) at), 0);
        }
    fd_close(&fd);
    assert_int_equal(ask_in_child(buf_cstr(&spec)), 0);
    print_message("%s: %d times whole, %d try again, %d rows missing, %d wrong values\n", type,
                  count[WHOLE], count[TRY_AGAIN], count[SOME_MISSING], count[WRONG_VALUE]);
    assert_true(count[worst] > 0);
    free(path);
    buf_fini(&text);
    buf_fini(&file);
    buf_fini(&spec);
    buf_fini(&good);
}

static void test_zeros(void **state)
{
    (void) state;
#if PR_HAVE_BDB
    zeros_in("hash", SOME_MISSING); /* zeros are buckets that nothing was put into */
    zeros_in("btree", TRY_AGAIN);
#endif
#if PR_HAVE_LMDB
    zeros_in("lmdb", TRY_AGAIN);
#endif
#if PR_HAVE_CDB
    zeros_in("cdb", WRONG_VALUE); /* there is nothing between rows that could tell */
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_zeros),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
