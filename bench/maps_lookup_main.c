/* SPDX-License-Identifier: Apache-2.0 */
/*
 * maps_lookup_main.c - maps-lookup: what a lookup costs, in CPU time of the thread that asks: maps-lookup CONFIG_DIR TYPE:NAME FILE.
 *
 * FILE: a key on each line. All are asked once before the clock starts, then over and over for SECONDS_MIN of CPU time.
 * Output: "load_ms N", until the table answers; "load_mib N", what the process grew by; "lookup_us N"; "found N", of the keys.
 */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "maps/map.h"

#define SECONDS_MIN 0.3
#define KEYS_MAX    (256U << 20)

static double cpu_seconds(void)
{
    struct timespec t;
    struct err err = ERR_INIT;

    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == -1) {
        err_sys(&err, "clock of the thread's CPU time");
        fatal("%s", err.text);
    }
    return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static double resident_mib(void)
{
    struct buf text = BUF_INIT(1024);
    struct slice rest;
    struct slice pages = SLICE_EMPTY;
    struct err err = ERR_INIT;
    uint64_t n;

    if (file_read("/proc/self/statm", &text, &err) == -1)
        fatal("%s", err.text);
    rest = buf_view(&text);
    if (!slice_token(&rest, " ", &pages) || !slice_token(&rest, " ", &pages) ||
        num_parse_u64_base(pages, 10, UINT32_MAX, &n, &err) == -1)
        fatal("/proc/self/statm: %s", err.text);
    buf_fini(&text);
    return (double) n * (double) sysconf(_SC_PAGESIZE) / 1048576;
}

/* Asks for every line of keys; how many, and how many were found. */
static size_t ask(struct map *m, struct slice keys, size_t *found)
{
    struct buf value = BUF_INIT(MAP_VALUE_MAX);
    size_t n = 0;

    *found = 0;
    for (; keys.len > 0; n++) {
        ptrdiff_t end = slice_find(keys, '\n');
        size_t len = end == -1 ? keys.len : (size_t) end;
        struct slice key = slice_sub(keys, 0, len);
        struct err err = ERR_INIT;

        keys = slice_sub(keys, len + 1, keys.len);

        buf_reset(&value);
        switch (map_lookup(m, key, &value, &err)) {
        case MAP_FOUND:
            ++*found;
            break;
        case MAP_NOTFOUND:
            break;
        case MAP_RETRY:
            fatal("%s: %s", map_name(m), err.text);
        }
    }
    buf_fini(&value);
    return n;
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct buf keys = BUF_INIT(KEYS_MAX);
    struct config *cfg;
    struct map_env *env;
    struct map *m;
    double begun;
    double taken;
    double before;
    size_t asked = 0;
    size_t found;

    log_open(&(struct log_target){.syslog_name = "postfix",
                                  .program = "maps-lookup",
                                  .maillog_fd = -1,
                                  .to_stderr = true,
                                  .no_syslog = true});
    if (argc != 4)
        fatal("usage: maps-lookup CONFIG_DIR TYPE:NAME FILE");
    if (config_load(argv[1], NULL, 0, NULL, &cfg, &err) == -1 ||
        file_read(argv[3], &keys, &err) == -1)
        fatal("%s", err.text);
    env = map_env_new(cfg);
    before = resident_mib();
    begun = cpu_seconds();
    if (map_open(env, slice_str(argv[2]), &m, &err) == -1)
        fatal("%s", err.text);
    printf("load_ms %.3f\n", (cpu_seconds() - begun) * 1e3);
    printf("load_mib %.1f\n", resident_mib() - before);
    if (ask(m, buf_view(&keys), &found) == 0)
        fatal("%s: no keys", argv[3]);
    begun = cpu_seconds();
    do {
        asked += ask(m, buf_view(&keys), &found);
        taken = cpu_seconds() - begun;
    } while (taken < SECONDS_MIN);
    printf("lookup_us %.4f\nfound %zu\n", taken / (double) asked * 1e6, found);
    map_env_free(&env);
    config_unref(&cfg);
    buf_fini(&keys);
    return 0;
}
