/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_map_write.c - building tables in use, two at once, killed in the middle; rows added and removed; caches; damaged files;
 * counters.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/mtime.h"
#include "maps/map_build.h"

static char dir[64];
static struct config *cfg;
static struct map_env *env;
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

static char *in_dir(const char *text)
{
    struct buf b = BUF_INIT(4096);

    for (; *text != '\0'; text++)
        if (*text == '@')
            buf_puts(&b, dir);
        else
            buf_putc(&b, *text);
    return buf_take(&b);
}

static void put(const char *name, const char *text)
{
    struct buf path = BUF_INIT(256);
    struct err err = ERR_INIT;

    path_join(&path, dir, name);
    if (file_replace(buf_cstr(&path), slice_str(text), 0644, &err) == -1)
        fail_msg("%s", err.text);
    buf_fini(&path);
}

static int setup(void **state)
{
    struct err err = ERR_INIT;

    (void) state;
    log_open(&(struct log_target){
        .syslog_name = "test", .program = "maps", .maillog_fd = -1, .no_syslog = true});
    (void) snprintf(dir, sizeof(dir), "/tmp/map-write-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    put("main.cf", "compatibility_level = 3.6\n");
    if (config_load(dir, NULL, 0, NULL, &cfg, &err) == -1)
        return -1;
    env = map_env_new(cfg);
    return 0;
}

static int teardown(void **state)
{
    char *argv = in_dir("rm -r -- @");
    int ret = system(argv); /* NOLINT: a directory of our own */

    (void) state;
    map_env_free(&env);
    config_unref(&cfg);
    free(argv);
    return ret;
}

static const struct map_type *type_of(const char *name)
{
    const struct map_type *t = map_type_find(slice_str(name));

    if (t == NULL)
        fail_msg("no type %s", name);
    return t;
}

static void build(const char *type, const char *path)
{
    struct err err = ERR_INIT;

    if (map_build(type_of(type), path, &quiet, &err) == -1)
        fail_msg("%s: %s", type, err.text);
}

static struct map *open_table(const char *type, const char *path)
{
    struct buf spec = BUF_INIT(256);
    struct err err = ERR_INIT;
    struct map *m;

    buf_printf(&spec, "%s:%s", type, path);
    if (map_open(env, buf_view(&spec), &m, &err) == -1)
        fail_msg("%s", err.text);
    buf_fini(&spec);
    return m;
}

static void expect(struct map *m, const char *key, const char *wanted)
{
    struct buf value = BUF_INIT(4096);
    struct err err = ERR_INIT;
    enum map_result res = map_lookup(m, slice_str(key), &value, &err);

    if (res == MAP_RETRY)
        fail_msg("%s %s: %s", map_name(m), key, err.text);
    if ((res == MAP_FOUND) != (wanted != NULL) ||
        (res == MAP_FOUND && strcmp(buf_cstr(&value), wanted) != 0))
        fail_msg("%s %s: got \"%s\", wanted \"%s\"", map_name(m), key,
                 res == MAP_FOUND ? buf_cstr(&value) : "(none)",
                 wanted != NULL ? wanted : "(none)");
    buf_fini(&value);
}

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

static void many_rows(const char *name)
{
    struct buf text = BUF_INIT(SIZE_MAX);

    for (int i = 0; i < 20000; i++)
        buf_printf(&text, "key%d value%d\n", i, i);
    put(name, buf_cstr(&text));
    buf_fini(&text);
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

#define DAMAGES 40

/* --- caches whose process dies ----------------------------------------------------------------------- */

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
        (void) setrlimit(RLIMIT_CPU, &(struct rlimit){5, 6}); /* the library may go in circles */
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

/* --- combined tables, folding, counters -------------------------------------------------------------- */

static void test_combined(void **state)
{
    static const struct {
        const char *spec, *key, *value;
    } cases[] = {
        {"unionmap:{static:a,inline:{k=b}}", "K", "a,b"},
        {"unionmap:{static:a,inline:{k=b}}", "x", "a"},
        {"pipemap:{inline:{k=L},inline:{l=m}}", "K", "m"},
        {"pipemap:{inline:{k=L},inline:{x=m}}", "K", NULL},
        {"pipemap:{unionmap:{inline:{k=l}},inline:{l=m}}", "k", "m"},
        {"randmap:{v}", "x", "v"},
        {"debug:inline:{k=v}", "K", "v"},
        {"debug:inline:{k=v}", "l", NULL},
        {"internal:x", "k", NULL},
        {"inline:{\xc3\x89t\xc3\xa9=1}", "\xc3\xa9T\xc3\x89", "1"},
        {"inline:{stra\xc3\x9f"
         "e=1}",
         "STRASSE", "1"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = ERR_INIT;
        struct map *m;

        if (map_open(env, slice_str(cases[i].spec), &m, &err) == -1)
            fail_msg("%s: %s", cases[i].spec, err.text);
        expect(m, cases[i].key, cases[i].value);
    }
}

struct seen {
    int64_t found, notfound, retry, timed;
};

static void see(const char *name, int64_t value, void *arg)
{
    struct seen *s = arg;

    if (strcmp(name, "map.found unionmap:{static:counted}") == 0)
        s->found = value;
    else if (strcmp(name, "map.notfound inline:{counted=1}") == 0)
        s->notfound = value;
    else if (strcmp(name, "map.retry fail:counted") == 0)
        s->retry = value;
    else if (strstr(name, " unionmap:{static:counted}") != NULL)
        s->timed += value;
}

static void test_counters(void **state)
{
    struct seen s = {0};
    struct err err = ERR_INIT;
    struct buf value = BUF_INIT(100);
    struct map *m;

    (void) state;
    for (int i = 0; i < 16; i++) {
        assert_int_equal(map_open(env, SLICE_LIT("unionmap:{static:counted}"), &m, &err), 0);
        expect(m, "x", "counted");
        assert_int_equal(map_open(env, SLICE_LIT("inline:{counted=1}"), &m, &err), 0);
        expect(m, "x", NULL);
    }
    assert_int_equal(map_open(env, SLICE_LIT("fail:counted"), &m, &err), 0);
    assert_int_equal(map_lookup(m, SLICE_LIT("x"), &value, &err), MAP_RETRY);
    metrics_each(see, &s);
    assert_int_equal(s.found, 16);
    assert_int_equal(s.notfound, 16);
    assert_int_equal(s.retry, 1);
    assert_int_equal(s.timed, 16);
    buf_fini(&value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rebuild_in_use), cmocka_unit_test(test_two_at_once),
        cmocka_unit_test(test_killed),         cmocka_unit_test(test_add_remove),
        cmocka_unit_test(test_caches),         cmocka_unit_test(test_deaths),
        cmocka_unit_test(test_damaged),        cmocka_unit_test(test_combined),
        cmocka_unit_test(test_counters),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
