/* SPDX-License-Identifier: Apache-2.0 */
/*
 * damaged.h - a table file of many rows that is damaged as the input says, then opened, asked for its rows and listed, by our own code and
 * the library behind it.
 *
 * The damages are those that maps/README.md promises to survive: the file is cut off, blocks of a file system (4,096 bytes) are zeros,
 * the beginning is something else, bytes of the first page's head are anything. Not: bytes within other pages.
 *
 * Input: pieces of 6 bytes: what, where (3), how much, a byte.
 */
#ifndef PR_FUZZ_DAMAGED_H
#define PR_FUZZ_DAMAGED_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "maps/map_build.h"
#include "maps/map_int.h"

#define ROWS        800
#define PIECE       6
#define PIECES_MOST 8
#define BLOCK       4096

struct damaged_table {
    const struct map_type *type;
    size_t head; /* the bytes at the beginning that may be anything */
    struct buf good;
};

static struct config *damaged_cfg;
static struct map_env *damaged_env;
static char damaged_dir[] = "/dev/shm/fuzz-map-XXXXXX";
static char damaged_path[64], damaged_file[64];

static inline void damaged_clean_up(void)
{
    (void) unlink(damaged_file);
    (void) rmdir(damaged_dir);
}

static inline void damaged_row(unsigned i, char *key, char *value, size_t size)
{
    (void) snprintf(key, size, "user%u@domain%u.example", i, i % 7);
    (void) snprintf(value, size, "value %u of a row that takes some room", i);
}

static inline void damaged_build(struct damaged_table *t)
{
    struct map_build_job job = {.cfg = damaged_cfg, .bytes = 1};
    struct err err = ERR_INIT;
    void *builder;
    int fd;

    (void) unlink(damaged_file);
    fd = open(damaged_file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd == -1 || t->type->builder->create(damaged_file, &job, &builder, &err) == -1)
        abort();
    for (unsigned i = 0; i < ROWS; i++) {
        char key[100];
        char value[100];

        damaged_row(i, key, value, sizeof(key));
        if (t->type->builder->put(builder, slice_str(key), slice_str(value), false, &err) !=
            MAP_PUT_OK)
            abort();
    }
    if (t->type->builder->finish(builder, true, &err) == -1)
        abort();
    fd_close(&fd);
    t->good = BUF_INIT(1U << 24);
    if (file_read(damaged_file, &t->good, &err) == -1)
        abort();
}

static inline void damaged_begin(struct damaged_table *tables, size_t n)
{
    static const struct log_target quiet = {.syslog_name = "fuzz",
                                            .program = "map",
                                            .facility = "mail",
                                            .maillog_fd = -1,
                                            .no_syslog = true};
    static const char *const overrides[] = {"inet_interfaces=all"};
    struct err err = ERR_INIT;

    log_open(&quiet);
    if (config_load_text("/", SLICE_LIT("myhostname = h.test\n"), overrides, 1, NULL, &damaged_cfg,
                         &err) == -1)
        abort();
    damaged_env = map_env_new(damaged_cfg);
    if (mkdtemp(damaged_dir) == NULL || atexit(damaged_clean_up) != 0)
        abort();
    (void) snprintf(damaged_path, sizeof(damaged_path), "%s/t", damaged_dir);
    (void) snprintf(damaged_file, sizeof(damaged_file), "%s/t%s", damaged_dir,
                    tables[0].type->builder->suffix);
    for (size_t i = 0; i < n; i++)
        damaged_build(&tables[i]);
}

static inline void damage(const struct damaged_table *t, const uint8_t *p, char *bytes, size_t *len)
{
    size_t where = (size_t) (p[1] | p[2] << 8 | p[3] << 16);
    size_t block;

    switch (p[0] % 5) {
    case 0: /* cut off */
        *len = where % (*len + 1);
        break;
    case 1: /* blocks that were never written */
    case 2: /* or with something else in them, from the beginning on */
        block = p[0] % 5 == 2 ? 0 : where % (*len / BLOCK + 1);
        for (size_t i = block * BLOCK; i < *len && i < (block + 1 + p[4] % 16) * BLOCK; i++)
            bytes[i] = p[0] % 5 == 2 ? (char) p[5] : '\0';
        break;
    case 3: /* a byte of the head */
        if (*len > 0)
            bytes[where % (t->head < *len ? t->head : *len)] = (char) p[5];
        break;
    case 4: /* four of them */
        for (size_t i = 0; i < 4 && where % t->head + i < *len; i++)
            bytes[where % t->head + i] = (char) p[i < 2 ? 4 : 5];
        break;
    }
}

static inline bool damaged_count(struct slice key, struct slice value, void *arg)
{
    *(size_t *) arg += key.len + value.len;
    return true;
}

static inline void damaged_ask(const struct damaged_table *t, bool is_whole)
{
    struct err err = ERR_INIT;
    size_t sum = 0;
    void *impl;

    if (t->type->open(damaged_path, damaged_env, &impl, &err) == -1) {
        if (err.kind == ERR_NONE || err.text[0] == '\0' || is_whole)
            abort();
        return;
    }
    for (unsigned i = 0; i < ROWS; i += 23) {
        struct buf value = BUF_INIT(SIZE_MAX);
        char key[100];
        char wanted[100];
        enum map_result res;

        damaged_row(i, key, wanted, sizeof(key));
        err = ERR_INIT;
        res = t->type->lookup(impl, slice_str(key), &value, &err);
        if ((res != MAP_FOUND && value.len > 0) || (res == MAP_RETRY && err.text[0] == '\0'))
            abort();
        /* what is found is the row's own */
        if (res == MAP_FOUND && !slice_eq_str(buf_view(&value), wanted))
            abort();
        if (is_whole && res != MAP_FOUND)
            abort();
        buf_fini(&value);
    }
    if (t->type->each(impl, damaged_count, &sum, &err) == -1 && is_whole)
        abort();
    t->type->close(impl);
}

static inline void damaged_run(const struct damaged_table *t, const uint8_t *data, size_t size)
{
    size_t len = t->good.len;
    char *bytes = xmalloc(len);
    int fd;

    memcpy(bytes, t->good.ptr, len);
    for (size_t i = 0; i < PIECES_MOST && (i + 1) * PIECE <= size; i++)
        damage(t, data + i * PIECE, bytes, &len);
    (void) unlink(damaged_file);
    fd = open(damaged_file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd == -1 || fd_write_all(fd, bytes, len) == -1)
        abort();
    fd_close(&fd);
    damaged_ask(t, len == t->good.len && memcmp(bytes, t->good.ptr, len) == 0);
    free(bytes);
}

#endif
