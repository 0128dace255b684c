/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_ask.c - many lookups in one process, for tests that break things meanwhile: map_ask CONFIG_DIR THREADS TYPE:NAME [write].
 *
 * Input: a key in hexadecimal on each line. Output, a line each in any order: KEY MICROSECONDS found VALUE | notfound | retry TEXT (key
 * and value in hexadecimal). With "write" also: "+KEY VALUE" puts a row, "-KEY" removes one, "!" syncs, "*" lists: "found", with
 * all rows, key and value, one after the other.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mtime.h"
#include "base/num.h"
#include "maps/map.h"

static struct map *map;
static bool writes;

static int unhex(const char *text, size_t len, struct buf *out)
{
    for (size_t i = 0; i + 1 < len; i += 2) {
        uint64_t byte;

        if (num_parse_u64_base(slice_of(text + i, 2), 16, 255, &byte, NULL) == -1)
            return -1;
        buf_putc(out, (char) byte);
    }
    return len % 2 == 0 ? 0 : -1;
}

static void print_hex(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        printf("%02x", (unsigned char) s.ptr[i]);
}

static bool add_row(struct slice key, struct slice value, void *arg)
{
    buf_put_slice(arg, key);
    buf_put_slice(arg, value);
    return true;
}

static enum map_result run_command(char what, struct slice key, struct slice value, struct buf *out,
                                   struct err *err)
{
    int ret;

    switch (what) {
    case '+':
        ret = map_update(map, key, value, err);
        break;
    case '!':
        ret = map_sync(map, err);
        break;
    case '*':
        ret = map_each(map, add_row, out, err);
        break;
    case '-':
        return map_delete(map, key, err);
    default:
        return map_lookup(map, key, out, err);
    }
    return ret == 0 ? MAP_FOUND : MAP_RETRY;
}

static void ask(char what, struct slice key, struct slice new_value)
{
    struct buf value = BUF_INIT(MAP_VALUE_MAX);
    struct mono_time begun = mono_now();
    struct err err = ERR_INIT;
    enum map_result res = run_command(what, key, new_value, &value, &err);
    int64_t took = mono_diff_us(mono_now(), begun);

    flockfile(stdout);
    print_hex(key);
    printf(" %lld ", (long long) took);
    switch (res) {
    case MAP_FOUND:
        printf("found ");
        print_hex(buf_view(&value));
        break;
    case MAP_NOTFOUND:
        printf("notfound");
        break;
    case MAP_RETRY:
        printf("retry %s", err.text);
        break;
    }
    printf("\n");
    (void) fflush(stdout);
    funlockfile(stdout);
    buf_fini(&value);
}

static void *run(void *arg)
{
    struct buf key = BUF_INIT(SIZE_MAX);
    struct buf value = BUF_INIT(SIZE_MAX);
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;

    while ((len = getline(&line, &cap, stdin)) > 0) {
        struct slice rest = slice_trim(slice_of(line, (size_t) len), "\n");
        char what = writes && rest.len > 0 && slice_find(SLICE_LIT("+-!*"), rest.ptr[0]) != -1
                        ? rest.ptr[0]
                        : '?';
        ptrdiff_t space;

        if (what != '?')
            rest = slice_sub(rest, 1, rest.len);
        space = slice_find(rest, ' ');
        if (space == -1)
            space = (ptrdiff_t) rest.len;
        buf_reset(&key);
        buf_reset(&value);
        if (unhex(rest.ptr, (size_t) space, &key) == -1 ||
            ((size_t) space < rest.len &&
             unhex(rest.ptr + space + 1, rest.len - (size_t) space - 1, &value) == -1))
            fatal("a key or value is not hexadecimal");
        ask(what, buf_view(&key), buf_view(&value));
    }
    free(line);
    buf_fini(&key);
    buf_fini(&value);
    return arg;
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct config *cfg;
    struct map_env *env;
    pthread_t threads[64];
    int64_t n;

    log_open(&(struct log_target){.syslog_name = "postfix",
                                  .program = "map_ask",
                                  .maillog_fd = -1,
                                  .to_stderr = true,
                                  .no_syslog = true});
    writes = argc == 5 && strcmp(argv[4], "write") == 0;
    if (argc != 4 + writes ||
        num_parse_i64(slice_str(argv[2]), 1, (int64_t) ARRAY_LEN(threads), &n, NULL) == -1)
        fatal("usage: map_ask CONFIG_DIR THREADS TYPE:NAME [write]");
    if (config_load(argv[1], NULL, 0, NULL, &cfg, &err) == -1)
        fatal("%s", err.text);
    env = map_env_new(cfg);
    if ((writes ? map_open_writable(env, slice_str(argv[3]), &map, &err)
                : map_open(env, slice_str(argv[3]), &map, &err)) == -1)
        fatal("%s", err.text);
    for (int64_t i = 1; i < n; i++)
        if (pthread_create(&threads[i], NULL, run, NULL) != 0)
            fatal("cannot start a thread");
    (void) run(NULL);
    for (int64_t i = 1; i < n; i++)
        pthread_join(threads[i], NULL);
    map_env_free(&env);
    config_unref(&cfg);
    return 0;
}
