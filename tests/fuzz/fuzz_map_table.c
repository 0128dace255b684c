/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_map_table.c - any bytes as the file of a pattern table or a text table, as a table that is written in the
 * configuration, or as the options of a networked one: it opens or says what is wrong, and the same question has the same
 * answer twice.
 *
 * Input: a letter that chooses the type, the key up to a NUL, the text. It is kept short: how the libraries for regular
 * expressions fare with huge ones is their matter.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "maps/map.h"
#include "maps/map_source.h"

#define TEXT_MAX 400

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct options {
    const char *text;
    int64_t number, seconds;
    bool yes;
};

static const struct param rows[] = {
    PARAM_STRING("text", struct options, text, .def = "x"),
    PARAM_INT("number", struct options, number, .def = "1", .min = 1, .max = 1000),
    PARAM_TIME("seconds", struct options, seconds, .def = "1s", .min = 1),
    PARAM_BOOL("yes", struct options, yes, .def = "no"),
};

static const char *const types[] = {
    "regexp", "pcre", "cidr", "texthash", "inline", "unionmap", "pipemap", "randmap", "static",
};

/* a wrong row is a warning, and most are wrong */
static const struct log_target quiet = {.syslog_name = "fuzz",
                                        .program = "map",
                                        .facility = "mail",
                                        .maillog_fd = -1,
                                        .no_syslog = true};

static struct config *cfg;

static void begin(void)
{
    static const char *const overrides[] = {"inet_interfaces=all"};
    struct err err = ERR_INIT;

    log_open(&quiet);
    if (config_load_text("/", SLICE_LIT("myhostname = h.test\n"), overrides, 1, NULL, &cfg, &err) ==
        -1)
        abort();
}

/* Tables inside a table would open any file, or talk to any server, that the input names. */
static bool is_harmless(struct slice text)
{
    static const char *const inner[] = {"inline:", "static:", "fail:", "randmap:"};
    struct slice rest = text;
    ptrdiff_t colon;

    while ((colon = slice_find(rest, ':')) != -1) {
        bool known = false;

        for (size_t i = 0; i < ARRAY_LEN(inner); i++) {
            size_t n = strlen(inner[i]);
            size_t end = (size_t) colon + 1;

            known |= end >= n && memcmp(rest.ptr + end - n, inner[i], n) == 0;
        }
        if (!known)
            return false;
        rest = slice_sub(rest, (size_t) colon + 1, rest.len);
    }
    return true;
}

/* Also within a table made of others. */
static bool is_random(struct slice spec)
{
    return memmem(spec.ptr, spec.len, "randmap:", 8) != NULL;
}

static void ask(struct map_env *env, struct slice spec, struct slice key)
{
    struct buf first = BUF_INIT(MAP_VALUE_MAX);
    struct buf second = BUF_INIT(MAP_VALUE_MAX);
    struct err err = ERR_INIT;
    struct map *m;

    if (map_check(env, spec, &err) == -1 && err.text[0] == '\0')
        abort(); /* refused without a reason */
    if (map_open(env, spec, &m, &err) == 0) {
        enum map_result res = map_lookup(m, key, &first, &err);

        if (res == MAP_RETRY && err.text[0] == '\0')
            abort();
        if (res != MAP_FOUND && first.len > 0)
            abort();
        if (!is_random(spec) && (map_lookup(m, key, &second, &err) != res ||
                                 !slice_eq(buf_view(&first), buf_view(&second))))
            abort();
    }
    buf_fini(&first);
    buf_fini(&second);
}

static void read_options(struct map_env *env, const char *path)
{
    struct map_source *source = NULL;
    struct options o;
    struct err err = ERR_INIT;

    if (map_source_open(path, env, rows, ARRAY_LEN(rows), &o, &source, &err) == -1) {
        if (err.text[0] == '\0')
            abort();
        return;
    }
    if (o.number < 1 || o.number > 1000 || o.seconds < 1 || o.text == NULL)
        abort();
    map_source_free(&source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice input = slice_of((const char *) data, size);
    struct slice text;
    struct slice key;
    struct map_env *env;
    struct buf spec = BUF_INIT(65536);
    char path[64];
    ptrdiff_t nul;
    size_t choice;
    int fd;

    if (cfg == NULL)
        begin();
    nul = slice_find(input, '\0');
    if (nul < 1 || size - (size_t) nul > TEXT_MAX)
        return 0;
    choice = (size_t) data[0] % (ARRAY_LEN(types) + 1);
    key = slice_sub(input, 1, (size_t) nul);
    text = slice_sub(input, (size_t) nul + 1, size);
    env = map_env_new(cfg);
    if (choice >= 4 && choice < ARRAY_LEN(types)) {
        buf_printf(&spec, "%s:", types[choice]);
        buf_put_slice(&spec, text);
        if (is_harmless(text) && slice_find(text, '\0') == -1)
            ask(env, buf_view(&spec), key);
    } else {
        fd = memfd_create("table", MFD_CLOEXEC);
        if (fd == -1 || write(fd, text.ptr, text.len) != (ssize_t) text.len)
            abort();
        (void) snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (choice == ARRAY_LEN(types)) {
            read_options(env, path);
        } else {
            buf_printf(&spec, "%s:%s", types[choice], path);
            ask(env, buf_view(&spec), key);
        }
        (void) close(fd);
    }
    map_env_free(&env);
    buf_fini(&spec);
    return 0;
}
