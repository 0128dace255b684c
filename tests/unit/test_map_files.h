/* SPDX-License-Identifier: Apache-2.0 */
/* test_map_files.h - what tests of table files share: a directory with a main.cf, the tables of an env, expectations. */
#ifndef PR_TEST_MAP_FILES_H
#define PR_TEST_MAP_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "maps/map_build.h"

static char dir[64];
static struct config *cfg;
static struct map_env *env;

/* "@" stands for the directory. The caller's. */
static inline char *in_dir(const char *text)
{
    struct buf b = BUF_INIT(4096);

    for (; *text != '\0'; text++)
        if (*text == '@')
            buf_puts(&b, dir);
        else
            buf_putc(&b, *text);
    return buf_take(&b);
}

static inline void put(const char *name, const char *text)
{
    struct buf path = BUF_INIT(256);
    struct err err = ERR_INIT;

    path_join(&path, dir, name);
    if (file_replace(buf_cstr(&path), slice_str(text), 0644, &err) == -1)
        fail_msg("%s", err.text);
    buf_fini(&path);
}

static inline void many_rows(const char *name)
{
    struct buf text = BUF_INIT(SIZE_MAX);

    for (int i = 0; i < 20000; i++)
        buf_printf(&text, "key%d value%d\n", i, i);
    put(name, buf_cstr(&text));
    buf_fini(&text);
}

static inline int setup(void **state)
{
    struct err err = ERR_INIT;

    (void) state;
    log_open(&(struct log_target){
        .syslog_name = "test", .program = "maps", .maillog_fd = -1, .no_syslog = true});
    (void) snprintf(dir, sizeof(dir), "/tmp/map-files-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    put("main.cf", "compatibility_level = 3.6\n");
    if (config_load(dir, NULL, 0, NULL, &cfg, &err) == -1)
        return -1;
    env = map_env_new(cfg);
    return 0;
}

static inline int teardown(void **state)
{
    char *argv = in_dir("rm -r -- @");
    int ret = system(argv); /* NOLINT: a directory of our own */

    (void) state;
    map_env_free(&env);
    config_unref(&cfg);
    free(argv);
    return ret;
}

static inline const struct map_type *type_of(const char *name)
{
    const struct map_type *t = map_type_find(slice_str(name));

    if (t == NULL)
        fail_msg("no type %s", name);
    return t;
}

static inline void build(const char *type, const char *path)
{
    static const struct map_build_options quiet = {
        .format = MAP_BUILD_POSTMAP, .folding = MAP_FOLD_UTF8, .ignore_duplicates = true};
    struct err err = ERR_INIT;

    if (map_build(type_of(type), path, &quiet, &err) == -1)
        fail_msg("%s: %s", type, err.text);
}

static inline struct map *open_table(const char *type, const char *path)
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

/* wanted NULL: not found */
static inline void expect(struct map *m, const char *key, const char *wanted)
{
    struct buf value = BUF_INIT(4096);
    struct err err = ERR_INIT;
    enum map_result res = map_lookup(m, slice_str(key), &value, &err);

    if (res == MAP_RETRY)
        fail_msg("%s %s: %s", map_name(m), key, err.text);
    if (wanted == NULL ? res == MAP_FOUND
                       : res != MAP_FOUND || strcmp(buf_cstr(&value), wanted) != 0)
        fail_msg("%s %s: got \"%s\", wanted \"%s\"", map_name(m), key,
                 res == MAP_FOUND ? buf_cstr(&value) : "(none)",
                 wanted != NULL ? wanted : "(none)");
    buf_fini(&value);
}

#endif
