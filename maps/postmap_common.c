/* SPDX-License-Identifier: Apache-2.0 */
/* postmap_common.c - the commands postmap(1) and postalias(1): their options; building and changing tables. */
#include "maps/postmap_common.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "maps/map_int.h"
#include "maps/postmap_int.h"

#define POSTMAP_OPTIONS "bc:d:fFhijmNnopq:rsuUvw"
enum { OPTION_LIVE = 256 };
#define POSTALIAS_OPTIONS "c:d:fijNnopq:rsuvw"

NORETURN static void usage(const struct command *c)
{
    fatal("usage: %s [-%s] [--live] [-c config_dir] [-d key] [-q key] [map_type:]file...",
          c->program, c->build.format == MAP_BUILD_ALIASES ? "Nfijnoprsuvw" : "bfFhijmnNoprsuUvw");
}

static void build(const struct command *c, const char *spec)
{
    struct err err = ERR_INIT;
    const struct map_type *type;
    const char *path;
    int ret;

    if (map_spec_split(c->cfg, spec, &type, &path, &err) == -1)
        fatal("%s", err.text);
    if (c->add)
        ret = map_build_add(type, path, STDIN_FILENO, &c->build, &err);
    else
        ret = map_build(type, path, &c->build, &err);
    if (ret == -1)
        fatal("%s", err.text);
    if (type->stand_in != NULL)
        log_info("%s:%s: made as %s file %s%s: this system has no Berkeley DB", type->name, path,
                 type->stand_in, path, type->builder->suffix);
}

/* -d: keys as heap strings, so that each table gets all of them */
struct keys {
    struct vec lines;
    size_t at;
};

static bool next_key(struct slice *key, void *arg)
{
    struct keys *k = arg;

    if (k->at == k->lines.len)
        return false;
    *key = slice_str(k->lines.items[k->at++]);
    return true;
}

/* 0: a key was there; 1: none. */
static int remove_keys(const struct command *c, int n, char **specs)
{
    struct vec keys = VEC_INIT;
    bool any = false;

    if (strcmp(c->remove, "-") != 0) {
        vec_push(&keys, xstrdup(c->remove));
    } else {
        char *line = NULL;
        size_t cap = 0;
        struct slice key;

        while (postmap_read_line(stdin, &line, &cap, &key))
            vec_push(&keys, slice_dup(key));
        free(line);
    }
    for (int i = 0; i < n; i++) {
        struct keys k = {.lines = keys};
        struct err err = ERR_INIT;
        const struct map_type *type;
        const char *path;
        bool found = false;

        if (map_spec_split(c->cfg, specs[i], &type, &path, &err) == -1 ||
            map_build_remove(type, path, next_key, &k, &c->build, &found, &err) == -1)
            fatal("%s", err.text);
        any |= found;
    }
    vec_clear(&keys, free);
    vec_fini(&keys);
    return any ? 0 : 1;
}

static void take_option(struct command *c, int option, const char **dir)
{
    switch (option) {
    case 'b':
        c->body = true;
        break;
    case 'c':
        *dir = optarg;
        break;
    case 'd':
        if (c->remove != NULL || c->query != NULL || c->list)
            fatal("specify only one of -s -q or -d");
        c->remove = optarg;
        break;
    case 'f':
        c->build.folding = MAP_FOLD_NONE;
        break;
    case 'F':
        c->build.file_values = true;
        break;
    case 'h':
        c->headers = true;
        break;
    case 'i':
        c->add = true;
        break;
    case 'j':
        c->json = true;
        break;
    case 'm':
        c->mime = true;
        break;
    case 'N':
        c->build.nul = MAP_NUL_WITH;
        break;
    case 'n':
        c->build.nul = MAP_NUL_WITHOUT;
        break;
    case 'o':
        c->build.keep_privileges = true;
        break;
    case 'p':
        c->build.default_mode = true;
        break;
    case 'q':
        if (c->remove != NULL || c->query != NULL || c->list)
            fatal("specify only one of -s -q or -d");
        c->query = optarg;
        break;
    case 'r':
        c->build.replace_duplicates = true;
        break;
    case 's':
        if (c->remove != NULL || c->query != NULL)
            fatal("specify only one of -s -q or -d");
        c->list = true;
        break;
    case 'u':
        c->utf8 = false;
        break;
    case 'v':
        log_verbose(log_verbosity() + 1);
        break;
    case 'w':
        c->build.ignore_duplicates = true;
        break;
    default:
        usage(c);
    }
}

static bool is_yes(const struct config *cfg, const char *name)
{
    const char *value = config_get(cfg, name);

    return value != NULL && strcmp(value, "yes") == 0;
}

int postmap_run(int argc, char **argv, enum map_build_format format)
{
    struct command c = {.program = format == MAP_BUILD_ALIASES ? "postalias" : "postmap",
                        .build = {.format = format, .folding = MAP_FOLD_UTF8},
                        .utf8 = true};
    static const struct option long_options[] = {{"live", no_argument, NULL, OPTION_LIVE},
                                                 {NULL, 0, NULL, 0}};
    bool force_utf8 = false; /* -U */
    struct err err = ERR_INIT;
    const char *dir = NULL;
    int option;
    int ret = 0;

    log_open(&(struct log_target){.syslog_name = "postfix",
                                  .program = c.program,
                                  .maillog_fd = -1,
                                  .to_stderr = true,
                                  .no_syslog = true});
    while ((option = getopt_long(argc, argv,
                                 format == MAP_BUILD_ALIASES ? POSTALIAS_OPTIONS : POSTMAP_OPTIONS,
                                 long_options, NULL)) != -1) {
        if (option == 'U')
            force_utf8 = true;
        else if (option == OPTION_LIVE)
            c.live = true;
        else
            take_option(&c, option, &dir);
    }
    if (optind == argc)
        usage(&c);
    if ((c.headers || c.body || c.mime) && (c.query == NULL || strcmp(c.query, "-") != 0))
        fatal("specify -b -h or -m only with \"-q -\"");
    if (c.live && (c.query == NULL || c.headers || c.body || c.build.file_values))
        fatal("--live goes with -q alone");
    if (c.mime && !c.headers && !c.body)
        log_warning("ignoring -m option without -b or -h");
    if (config_load(dir, NULL, 0, NULL, &c.cfg, &err) == -1)
        fatal("%s", err.text);
    /* message text is what it is, unless -U */
    c.utf8 = c.utf8 && is_yes(c.cfg, "smtputf8_enable") && ((!c.headers && !c.body) || force_utf8);
    c.env = map_env_new(c.cfg);
    if (c.build.folding != MAP_FOLD_NONE)
        c.build.folding = c.utf8 ? MAP_FOLD_UTF8 : MAP_FOLD_ASCII;
    map_env_set_folding(c.env, c.build.folding);
    c.build.cfg = c.cfg;
    c.build.utf8_only = c.utf8;
    c.build.progress = isatty(STDERR_FILENO) == 1;
    if (c.live) {
        ret = postmap_live(&c, argc - optind, argv + optind);
    } else if (c.query != NULL) {
        ret = postmap_query(&c, argc - optind, argv + optind);
    } else if (c.remove != NULL) {
        ret = remove_keys(&c, argc - optind, argv + optind);
    } else {
        for (int i = optind; i < argc; i++) {
            if (c.list)
                postmap_list(&c, argv[i]);
            else
                build(&c, argv[i]);
        }
    }
    map_env_free(&c.env);
    config_unref(&c.cfg);
    return ret;
}
