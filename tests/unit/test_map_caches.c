/* SPDX-License-Identifier: Apache-2.0 */
/* test_map_caches.c - tables that a process writes: rows, damaged files, files that processes die of, many threads. */
#include "test_map_files.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

/* --- caches ------------------------------------------------------------------------------------------ */

static bool count_row(struct slice key, struct slice value, void *arg)
{
    (void) key;
    (void) value;
    ++*(int *) arg;
    return true;
}

static void check_cache(const char *spec_text, const char *file_text)
{
    char *spec = in_dir(spec_text);
    char *file = in_dir(file_text);
    struct err err = ERR_INIT;
    struct map_env *own = map_env_new(cfg);
    struct map *m;
    int rows = 0;

    if (map_open_writable(own, slice_str(spec), &m, &err) == -1)
        fail_msg("%s: %s", spec, err.text);
    expect(m, "x", NULL);
    for (int i = 0; i < 500; i++) {
        char key[32];

        (void) snprintf(key, sizeof(key), "Key%d", i);
        if (map_update(m, slice_str(key), slice_str("v1"), &err) == -1 ||
            map_update(m, slice_str(key), slice_str(key), &err) == -1)
            fail_msg("%s: %s", spec, err.text);
    }
    expect(m, "key499", "Key499");
    assert_int_equal(map_delete(m, SLICE_LIT("KEY499"), &err), MAP_FOUND);
    assert_int_equal(map_delete(m, SLICE_LIT("key499"), &err), MAP_NOTFOUND);
    expect(m, "key499", NULL);
    assert_int_equal(map_each(m, count_row, &rows, &err), 0);
    assert_int_equal(rows, 499);
    assert_int_equal(map_sync(m, &err), 0);
    map_env_free(&own);
    if (*file != '\0') {
        struct buf aside = BUF_INIT(256);
        struct stat st;

        /* what was written is there again */
        own = map_env_new(cfg);
        assert_int_equal(map_open_writable(own, slice_str(spec), &m, &err), 0);
        expect(m, "key1", "Key1");
        map_env_free(&own);
        /* a damaged file is set aside */
        assert_int_equal(file_replace(file, SLICE_LIT("not a database at all"), 0600, &err), 0);
        own = map_env_new(cfg);
        if (map_open_writable(own, slice_str(spec), &m, &err) == -1)
            fail_msg("%s: %s", spec, err.text);
        expect(m, "key1", NULL);
        assert_int_equal(map_update(m, SLICE_LIT("new"), SLICE_LIT("row"), &err), 0);
        expect(m, "new", "row");
        buf_printf(&aside, "%s.corrupt", file);
        assert_int_equal(stat(buf_cstr(&aside), &st), 0);
        buf_fini(&aside);
        map_env_free(&own);
    }
    free(spec);
    free(file);
}

static void test_caches(void **state)
{
    struct err err = ERR_INIT;
    struct map *m;

    (void) state;
#if PR_HAVE_BDB
    check_cache("btree:@/cache1", "@/cache1.db");
    check_cache("hash:@/cache2", "@/cache2.db");
#endif
#if PR_HAVE_LMDB
    check_cache("lmdb:@/cache3", "@/cache3.lmdb");
#endif
    check_cache("internal:cache4", "");
    assert_int_equal(map_open_writable(env, SLICE_LIT("static:x"), &m, &err), -1);
    assert_int_equal(map_open_writable(env, SLICE_LIT("nosuch:x"), &m, &err), -1);
}

/* --- caches whose process dies ----------------------------------------------------------------------- */

#define DAMAGES 40
#define CIRCLES_US                                                                                 \
    300000 /* of the processor: who takes longer for a few rows goes round in circles in the library */

#if PR_HAVE_BDB || PR_HAVE_LMDB
static struct map *open_cache(struct map_env *own, const char *spec)
{
    struct err err = ERR_INIT;
    struct map *m;

    if (map_open_writable(own, slice_str(spec), &m, &err) == -1)
        fail_msg("%s: %s", spec, err.text);
    return m;
}

/* A process opens the cache, puts rows, looks all up, and ends: closing it, or not. Returns its status. */
static int use_cache(const char *spec, int rows, bool closes)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        struct err err = ERR_INIT;
        struct map_env *own = map_env_new(cfg);
        struct map *m;

        /* cmocka has handlers that go on with the next test */
        (void) signal(SIGSEGV, SIG_DFL);
        (void) signal(SIGBUS, SIG_DFL);
        (void) signal(SIGABRT, SIG_DFL);
        (void) alarm(20);
        (void) signal(SIGPROF, SIG_DFL);
        (void) setitimer(ITIMER_PROF, &(struct itimerval){.it_value = {.tv_usec = CIRCLES_US}},
                         NULL);
        if (map_open_writable(own, slice_str(spec), &m, &err) == -1)
            _exit(1);
        for (int i = 0; i < rows; i++) {
            struct buf value = BUF_INIT(256);
            char key[32];

            (void) snprintf(key, sizeof(key), "key%d", i);
            if (map_lookup(m, slice_str(key), &value, &err) == MAP_RETRY ||
                map_update(m, slice_str(key), slice_str(key), &err) == -1)
                _exit(2);
            buf_fini(&value);
        }
        if (map_sync(m, &err) == -1)
            _exit(3);
        if (closes)
            map_env_free(&own);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static bool is_there(const char *file)
{
    return access(file, F_OK) == 0;
}

/* Whatever is written over a page: after a few processes at most the cache is used again. */
static void damage_and_use(const char *spec, const char *file, unsigned seed, int *most)
{
    struct stat st;
    int fd = open(file, O_RDWR | O_CLOEXEC);
    unsigned first = seed;
    int ends = 0;
    int status;
    char junk[64];

    assert_int_not_equal(fd, -1);
    assert_int_equal(fstat(fd, &st), 0);
    for (int n = 0; n < 8; n++) {
        seed = seed * 1103515245 + 12345;
        memset(junk, (int) (seed >> 16 & 0xff), sizeof(junk));
        assert_int_equal(fd_pwrite_all(fd, junk, 1 + seed % sizeof(junk),
                                       (off_t) ((seed >> 4) % (unsigned) st.st_size)),
                         0);
    }
    close(fd);
    while ((status = use_cache(spec, 300, true)) != 0)
        if (++ends > 5)
            fail_msg("%s, seed %u: process after process ends, status %x", spec, first,
                     (unsigned) status);
    if (ends > *most)
        *most = ends;
}

static void check_deaths(const char *spec_text, const char *file_text)
{
    char *spec = in_dir(spec_text);
    char *file = in_dir(file_text);
    char *aside = in_dir(file_text);
    struct map_env *own;
    int most = 0;

    aside = xrealloc(aside, strlen(aside) + 10);
    memcpy(aside + strlen(aside), ".corrupt", 9);
    /* one that is whole is kept, twice */
    for (int n = 0; n < 2; n++)
        assert_int_equal(use_cache(spec, 300, false), 0);
    own = map_env_new(cfg);
    expect(open_cache(own, spec), "key7", "key7");
    map_env_free(&own);
    assert_false(is_there(aside));
    /* closed: it begins to count anew; the third in a row is one too many, whatever can be read */
    for (int n = 0; n < 3; n++)
        assert_int_equal(use_cache(spec, 300, false), 0);
    own = map_env_new(cfg);
    expect(open_cache(own, spec), "key7", NULL);
    map_env_free(&own);
    assert_true(is_there(aside));
    for (unsigned n = 0; n < DAMAGES; n++)
        damage_and_use(spec, file, n * 7919, &most);
    print_message("%s: %d processes ended in a row, at most\n", spec, most);
    free(spec);
    free(file);
    free(aside);
}

#endif

static void test_deaths(void **state)
{
    (void) state;
#if PR_HAVE_BDB
    check_deaths("btree:@/died1", "@/died1.db");
    check_deaths("hash:@/died2", "@/died2.db");
#endif
#if PR_HAVE_LMDB
    check_deaths("lmdb:@/died3", "@/died3.lmdb");
#endif
}

/* --- many threads ---------------------------------------------------------------------------------- */

#define THREADS 4
#define ROWS    150 /* of each */

struct user {
    struct map *m;
    int number;
    char wrong[200]; /* what went wrong; cmocka is for one thread */
};

static void *use_rows(void *arg)
{
    struct user *u = arg;
    struct err err = ERR_INIT;

    for (int i = 0; i < ROWS && u->wrong[0] == '\0'; i++) {
        struct buf value = BUF_INIT(256);
        char key[32];
        int rows = 0;

        (void) snprintf(key, sizeof(key), "t%d-%d", u->number, i);
        if (map_update(u->m, slice_str(key), slice_str(key), &err) == -1 ||
            map_lookup(u->m, slice_str(key), &value, &err) != MAP_FOUND ||
            !slice_eq_str(buf_view(&value), key) ||
            (i % 3 == 0 && map_delete(u->m, slice_str(key), &err) != MAP_FOUND) ||
            (i % 50 == 0 && map_sync(u->m, &err) == -1) ||
            (i % 50 == 1 && (map_each(u->m, count_row, &rows, &err) == -1 || rows == 0)))
            (void) snprintf(u->wrong, sizeof(u->wrong), "%s: %.150s", key, err.text);
        buf_fini(&value);
    }
    return NULL;
}

static void share_cache(const char *spec_text)
{
    char *spec = in_dir(spec_text);
    struct map_env *own = map_env_new(cfg);
    struct user users[THREADS] = {0};
    pthread_t threads[THREADS];
    struct err err = ERR_INIT;
    struct map *m;
    int rows = 0;

    if (map_open_writable(own, slice_str(spec), &m, &err) == -1)
        fail_msg("%s: %s", spec, err.text);
    for (int i = 0; i < THREADS; i++) {
        users[i].m = m;
        users[i].number = i;
        assert_int_equal(pthread_create(&threads[i], NULL, use_rows, &users[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        if (users[i].wrong[0] != '\0')
            fail_msg("%s: %s", spec, users[i].wrong);
    }
    assert_int_equal(map_each(m, count_row, &rows, &err), 0);
    assert_int_equal(rows, THREADS * ROWS * 2 / 3);
    map_env_free(&own);
    free(spec);
}

static void test_threads(void **state)
{
    (void) state;
#if PR_HAVE_BDB
    share_cache("btree:@/shared1");
    share_cache("hash:@/shared2");
#endif
#if PR_HAVE_LMDB
    share_cache("lmdb:@/shared3");
#endif
    share_cache("internal:shared4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_caches),
        cmocka_unit_test(test_deaths),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
