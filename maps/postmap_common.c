/* SPDX-License-Identifier: Apache-2.0 */
/* postmap_common.c - the commands postmap(1) and postalias(1): build, query, list. */
#include "maps/postmap_common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

struct command {
    const char *program;
    struct config *cfg;
    struct map_env *env;
    struct map_build_options build;
    const char *query; /* -q */
    bool list, from_stdin;
};

NORETURN static void usage(const struct command *c)
{
    fatal("usage: %s [-c config_dir] [-fiNoprsuvw] [-q key|-] [file_type:]file_name ...",
          c->program);
}

/* "type:path", or a path of default_database_type. */
static const struct map_type *split(const struct command *c, const char *spec, const char **path,
                                    struct buf *full)
{
    struct slice s = slice_str(spec);
    ptrdiff_t colon = slice_find(s, ':');
    struct slice name;
    const struct map_type *type;

    if (colon > 0 && s.ptr[0] != '/') {
        name = slice_sub(s, 0, (size_t) colon);
        *path = spec + colon + 1;
    } else {
        name = slice_str(config_get(c->cfg, "default_database_type"));
        *path = spec;
    }
    type = map_type_find(name);
    if (type == NULL)
        fatal("unsupported dictionary type: %.*s", SLICE_FMT(name));
    buf_printf(full, "%s:%s", type->name, *path);
    return type;
}

/* 1: found and printed; 0: not. Trouble ends the program. */
static int ask(struct map *m, struct slice key, bool with_key)
{
    struct buf value = BUF_INIT(MAP_VALUE_MAX);
    struct err err = ERR_INIT;
    int found = 0;

    switch (map_lookup(m, key, &value, &err)) {
    case MAP_FOUND:
        if (with_key)
            printf("%.*s\t%.*s\n", SLICE_FMT(key), SLICE_FMT(buf_view(&value)));
        else
            printf("%.*s\n", SLICE_FMT(buf_view(&value)));
        found = 1;
        break;
    case MAP_NOTFOUND:
        break;
    case MAP_RETRY:
        fatal("%s", err.text);
    }
    buf_fini(&value);
    return found;
}

static struct map *open_map(const struct command *c, const char *spec)
{
    struct buf full = BUF_INIT(8192);
    struct err err = ERR_INIT;
    const char *path;
    struct map *m;

    (void) split(c, spec, &path, &full);
    if (map_open(c->env, buf_view(&full), &m, &err) == -1)
        fatal("%s", err.text);
    buf_fini(&full);
    return m;
}

/* The first table that has the key answers. */
static int query(const struct command *c, int n, char **specs)
{
    int found = 0;

    if (strcmp(c->query, "-") != 0) {
        for (int i = 0; i < n && found == 0; i++)
            found = ask(open_map(c, specs[i]), slice_str(c->query), false);
        return found > 0 ? 0 : 1;
    }
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    bool any = false;

    while ((len = getline(&line, &cap, stdin)) > 0) {
        struct slice key = slice_trim(slice_of(line, (size_t) len), "\r\n");

        found = 0;
        for (int i = 0; i < n && found == 0 && key.len > 0; i++)
            found = ask(open_map(c, specs[i]), key, true);
        any |= found > 0;
    }
    free(line);
    return any ? 0 : 1;
}

static bool print_row(struct slice key, struct slice value, void *arg)
{
    (void) arg;
    printf("%.*s\t%.*s\n", SLICE_FMT(key), SLICE_FMT(value));
    return true;
}

static void list(const struct command *c, const char *spec)
{
    struct buf full = BUF_INIT(8192);
    struct err err = ERR_INIT;
    const char *path;
    const struct map_type *type = split(c, spec, &path, &full);
    void *impl;

    if (type->each == NULL)
        fatal("table %s cannot be listed", buf_cstr(&full));
    if (type->open(path, c->env, &impl, &err) == -1 ||
        type->each(impl, print_row, NULL, &err) == -1)
        fatal("table %s: %s", buf_cstr(&full), err.text);
    type->close(impl);
    buf_fini(&full);
}

static void build(const struct command *c, const char *spec)
{
    struct buf full = BUF_INIT(8192);
    struct err err = ERR_INIT;
    const char *path;
    const struct map_type *type = split(c, spec, &path, &full);

    if (map_build(type, path, c->from_stdin ? 0 : -1, &c->build, &err) == -1)
        fatal("%s", err.text);
    buf_fini(&full);
}

int postmap_run(int argc, char **argv, enum map_build_format format)
{
    struct command c = {.program = format == MAP_BUILD_ALIASES ? "postalias" : "postmap",
                        .build = {.format = format}};
    struct err err = ERR_INIT;
    const char *dir = NULL;
    int option;
    int ret = 0;

    c.build.program = c.program;
    log_open(&(struct log_target){.syslog_name = "postfix",
                                  .program = c.program,
                                  .maillog_fd = -1,
                                  .to_stderr = true,
                                  .no_syslog = true});
    while ((option = getopt(argc, argv, "c:d:fiNopq:rsuvw")) != -1) {
        switch (option) {
        case 'c':
            dir = optarg;
            break;
        case 'f':
            c.build.keep_case = true;
            break;
        case 'i':
            c.from_stdin = true;
            break;
        case 'q':
            c.query = optarg;
            break;
        case 'p':
            c.build.default_mode = true;
            break;
        case 'r':
            c.build.replace_duplicates = true;
            break;
        case 's':
            c.list = true;
            break;
        case 'v':
            log_verbose(log_verbosity() + 1);
            break;
        case 'w':
            c.build.ignore_duplicates = true;
            break;
        case 'N':
        case 'o':
        case 'u':
            break; /* -N is what is always done; -o, -u: no privilege is given up, none is had; UTF-8 keys are bytes */
        case 'd':
            fatal(
                "-d: rows cannot be removed one by one; change the text and build the table again");
        default:
            usage(&c);
        }
    }
    if (optind == argc)
        usage(&c);
    if (config_load(dir, NULL, 0, NULL, &c.cfg, &err) == -1)
        fatal("%s", err.text);
    c.env = map_env_new(c.cfg);
    if (c.query != NULL) {
        ret = query(&c, argc - optind, argv + optind);
    } else {
        for (int i = optind; i < argc; i++) {
            if (c.list)
                list(&c, argv[i]);
            else
                build(&c, argv[i]);
        }
    }
    map_env_free(&c.env);
    config_unref(&c.cfg);
    return ret;
}
