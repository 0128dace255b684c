/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_map_reopen.c - tables whose files change are opened beside the lookups. A file that nobody writes to the end (a FIFO) stands
 * for one that takes long to open.
 */
#include "test_map_files.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base/mtime.h"

#define LONG_MS 60000 /* a deadline: nothing takes so long */

/* An env whose tables are opened aside, or not. */
static struct map_env *env_of(bool aside)
{
    struct map_env *e = map_env_new(cfg);

    if (aside)
        map_env_open_aside(e);
    return e;
}

static struct map *open_in(struct map_env *e, const char *spec_text)
{
    char *spec = in_dir(spec_text);
    struct err err = ERR_INIT;
    struct map *m;

    if (map_open(e, slice_str(spec), &m, &err) == -1)
        fail_msg("%s: %s", spec, err.text);
    free(spec);
    return m;
}

/* Asked again and again it says `wanted` in the end, and until then `before`. */
static void becomes(struct map *m, const char *key, const char *before, const char *wanted)
{
    struct mono_time begun = mono_now();

    for (bool done = false; !done; usleep(1000)) {
        struct buf value = BUF_INIT(4096);
        struct err err = ERR_INIT;

        if (map_lookup(m, slice_str(key), &value, &err) != MAP_FOUND)
            fail_msg("%s %s: not found, %s", map_name(m), key, err.text);
        done = slice_eq_str(buf_view(&value), wanted);
        if (!done && !slice_eq_str(buf_view(&value), before))
            fail_msg("%s %s: \"%s\"", map_name(m), key, buf_cstr(&value));
        if (mono_diff_ms(mono_now(), begun) > LONG_MS)
            fail_msg("%s: the new content does not serve", map_name(m));
        buf_fini(&value);
    }
}

/* Puts a FIFO in the place of the file. */
static void put_fifo(const char *name)
{
    struct buf path = BUF_INIT(256);
    struct buf beside = BUF_INIT(256);

    path_join(&path, dir, name);
    path_join(&beside, dir, "fifo");
    assert_int_equal(mkfifo(buf_cstr(&beside), 0600), 0);
    assert_int_equal(rename(buf_cstr(&beside), buf_cstr(&path)), 0);
    buf_fini(&path);
    buf_fini(&beside);
}

/* Its writing end, as soon as somebody reads; meanwhile `m` serves. */
static int wait_for_reader(const char *name, struct map *m, const char *value)
{
    struct buf path = BUF_INIT(256);
    struct mono_time begun = mono_now();
    int fd;

    path_join(&path, dir, name);
    while ((fd = open(buf_cstr(&path), O_WRONLY | O_NONBLOCK | O_CLOEXEC)) == -1) {
        assert_int_equal(errno, ENXIO);
        if (m != NULL)
            expect(m, "key", value);
        if (mono_diff_ms(mono_now(), begun) > LONG_MS)
            fail_msg("nobody opens %s", name);
        usleep(1000);
    }
    buf_fini(&path);
    return fd;
}

/* The reader gets the text; the next one finds a file with it. */
static void finish(int fd, const char *name, const char *text)
{
    put(name, text);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
    fd_close(&fd);
}

/* While the new file is being opened, as long as that takes, each lookup has the old one's answer; then the new one's. */
static void test_old_one_serves(void **state)
{
    static const char *const types[] = {"pcre", "regexp", "texthash"};
    static const char *const texts[][2] = {{"/^key$/ old\n", "/^key$/ new\n"},
                                           {"/^key$/ old\n", "/^key$/ new\n"},
                                           {"key old\n", "key new\n"}};

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct map_env *e = env_of(true);
        struct buf spec = BUF_INIT(64);
        struct map *m;
        struct map *other;
        int fd;

        put("slow", texts[i][0]);
        put("other", "key old\n");
        buf_printf(&spec, "%s:@/slow", types[i]);
        m = open_in(e, buf_cstr(&spec));
        other = open_in(e, "texthash:@/other");
        put_fifo("slow");
        fd = wait_for_reader("slow", m, "old");
        for (int k = 0; k < 2000; k++)
            expect(m, "key", "old");
        /* one at a time: the other table waits for its turn, and serves */
        put("other", "key new\n");
        assert_false(map_env_tend(e));
        for (int k = 0; k < 2000; k++)
            expect(other, "key", "old");
        finish(fd, "slow", texts[i][1]);
        becomes(m, "key", "old", "new");
        becomes(other, "key", "old", "new");
        put("slow", texts[i][0]); /* and again, by another thread */
        becomes(m, "key", "new", "old");
        buf_fini(&spec);
        map_env_free(&e);
    }
}

/* A process that nobody asks has the new content, too. */
static void test_tended(void **state)
{
    struct map_env *e = env_of(true);
    struct map *m;
    struct mono_time begun = mono_now();
    struct wall_time since;
    int fd;

    (void) state;
    assert_true(map_env_wants_tending(e));
    put("tended", "key old\n");
    m = open_in(e, "texthash:@/tended");
    since = map_loaded(m);
    put_fifo("tended");
    for (struct buf path = BUF_INIT(256);; buf_reset(&path)) {
        assert_false(map_env_tend(e));
        path_join(&path, dir, "tended");
        fd = open(buf_cstr(&path), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd != -1 || mono_diff_ms(mono_now(), begun) > LONG_MS) {
            buf_fini(&path);
            break;
        }
        usleep(1000);
    }
    assert_int_not_equal(fd, -1);
    finish(fd, "tended", "key new\n");
    while (memcmp(&since, &(struct wall_time[1]){map_loaded(m)}, sizeof(since)) == 0) {
        if (mono_diff_ms(mono_now(), begun) > LONG_MS)
            fail_msg("the table is not loaded anew");
        usleep(1000);
    }
    expect(m, "key", "new");
    map_env_free(&e);
}

/* Without a thread of its own: who asks gets the new content at once. */
static void test_at_once(void **state)
{
    struct map_env *e = env_of(false);
    struct map *m;

    (void) state;
    assert_false(map_env_wants_tending(e));
    put("once", "/^key$/ old\n");
    m = open_in(e, "pcre:@/once");
    expect(m, "key", "old");
    put("once", "/^key$/ new\n");
    usleep(300000); /* tables are looked at four times a second */
    expect(m, "key", "new");
    map_env_free(&e);
}

/* What goes wrong is said once; the old table goes on, and rules beside wrong ones serve. */
static void test_errors(void **state)
{
    struct map_env *e = env_of(true);
    char *log_path = in_dir("@/log");
    char *table = in_dir("@/errors");
    struct buf text = BUF_INIT(SIZE_MAX);
    struct err err = ERR_INIT;
    struct map *m;
    int fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const char *first;

    (void) state;
    put("errors", "/^key$/ old\n");
    m = open_in(e, "pcre:@/errors");
    log_open(&(struct log_target){
        .syslog_name = "test", .program = "maps", .maillog_fd = fd, .no_syslog = true});
    put("errors", "/^key$/ new\n/(/ wrong\n/^other$/ there\n");
    becomes(m, "key", "old", "new");
    expect(m, "other", "there");
    /* a directory: it cannot be read */
    assert_int_equal(unlink(table), 0);
    assert_int_equal(mkdir(table, 0700), 0);
    for (struct mono_time begun = mono_now(); buf_reset(&text), true; usleep(1000)) {
        expect(m, "key", "new");
        assert_int_equal(file_read(log_path, &text, &err), 0);
        if (strstr(buf_cstr(&text), "the old table goes on") != NULL)
            break;
        if (mono_diff_ms(mono_now(), begun) > LONG_MS)
            fail_msg("no warning: %s", buf_cstr(&text));
    }
    assert_int_equal(rmdir(table), 0);
    put("errors", "/^key$/ newest\n");
    becomes(m, "key", "new", "newest");
    buf_reset(&text);
    assert_int_equal(file_read(log_path, &text, &err), 0);
    first = strstr(buf_cstr(&text), "errors, line 2: ");
    if (first == NULL || strstr(first + 1, "errors, line 2: ") != NULL)
        fail_msg("the rule is to be reported once: %s", buf_cstr(&text));
    first = strstr(buf_cstr(&text), "the old table goes on");
    if (first == NULL || strstr(first + 1, "the old table goes on") != NULL)
        fail_msg("the table is to be reported once: %s", buf_cstr(&text));
    log_open(&(struct log_target){
        .syslog_name = "test", .program = "maps", .maillog_fd = -1, .no_syslog = true});
    fd_close(&fd);
    free(log_path);
    free(table);
    buf_fini(&text);
    map_env_free(&e);
}

/* The env goes while a table is being opened, and others wait for their turn. */
static void test_freed_meanwhile(void **state)
{
    (void) state;
    for (int n = 0; n < 20; n++) {
        struct map_env *e = env_of(true);
        struct buf text = BUF_INIT(SIZE_MAX);

        put("a", "/^key$/ old\n");
        put("b", "/^key$/ old\n");
        open_in(e, "pcre:@/a");
        open_in(e, "pcre:@/b");
        for (int i = 0; i < 1000; i++)
            buf_printf(&text, "/^key%d (a|b)$/ new\n", i);
        put("a", buf_cstr(&text));
        put("b", buf_cstr(&text));
        usleep((useconds_t) (250000 + n * 500));
        assert_false(map_env_tend(e));
        map_env_free(&e);
        buf_fini(&text);
    }
}

/* --- many threads, one table ------------------------------------------------------------------------- */

#define RULES   300
#define THREADS 8

static void put_rules(const char *name, int generation)
{
    struct buf text = BUF_INIT(SIZE_MAX);

    for (int i = 0; i < RULES;
         i++) /* $1: the library is asked, and compiled when the first key comes */
        buf_printf(&text, "/^(k[e]y) no%d$/ $1 %d\n", i, generation);
    put(name, buf_cstr(&text));
    buf_fini(&text);
}

struct asking {
    struct map *m;
    unsigned seed;
    int highest; /* generation seen */
};

static atomic_bool all_stop;

static void *ask_on(void *arg)
{
    struct asking *a = arg;

    while (!atomic_load(&all_stop)) {
        struct buf value = BUF_INIT(100);
        struct err err = ERR_INIT;
        char key[32];
        int generation;

        a->seed = a->seed * 1103515245 + 12345;
        (void) snprintf(key, sizeof(key), "key no%u", a->seed / 65536 % RULES);
        if (map_lookup(a->m, slice_str(key), &value, &err) != MAP_FOUND ||
            strncmp(buf_cstr(&value), "key ", 4) != 0) {
            print_message("%s: %s: \"%s\" %s\n", map_name(a->m), key, buf_cstr(&value), err.text);
            a->highest = -1;
            buf_fini(&value);
            break;
        }
        generation = (int) strtol(buf_cstr(&value) + 4, NULL, 10);
        if (generation < a->highest) {
            print_message("generation %d after %d\n", generation, a->highest);
            a->highest = -1;
            buf_fini(&value);
            break;
        }
        a->highest = generation;
        buf_fini(&value);
    }
    return NULL;
}

static void ask_by_many(const char *type, bool aside)
{
    struct map_env *e = env_of(aside);
    struct buf spec = BUF_INIT(64);
    struct asking a[THREADS];
    pthread_t threads[THREADS];
    struct map *m;

    put_rules("many", 1);
    buf_printf(&spec, "%s:@/many", type);
    m = open_in(e, buf_cstr(&spec));
    atomic_store(&all_stop, false);
    for (unsigned i = 0; i < THREADS; i++) {
        a[i] = (struct asking){m, i * 7919, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, ask_on, &a[i]), 0);
    }
    for (int generation = 2; generation <= 4; generation++) {
        char wanted[32];
        char before[32];

        (void) snprintf(wanted, sizeof(wanted), "key %d", generation);
        (void) snprintf(before, sizeof(before), "key %d", generation - 1);
        put_rules("many", generation);
        becomes(m, "key no7", before, wanted);
    }
    atomic_store(&all_stop, true);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_in_range(a[i].highest, 1, 4);
    }
    buf_fini(&spec);
    map_env_free(&e);
}

static void test_many_threads(void **state)
{
    (void) state;
    ask_by_many("pcre", true);
    ask_by_many("pcre", false);
    ask_by_many("regexp", true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_old_one_serves),  cmocka_unit_test(test_tended),
        cmocka_unit_test(test_at_once),         cmocka_unit_test(test_errors),
        cmocka_unit_test(test_freed_meanwhile), cmocka_unit_test(test_many_threads),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
