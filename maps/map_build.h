/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_build.h - building table files, for postmap, postalias and newaliases: beside the old one, then renamed.
 */
#ifndef PR_MAP_BUILD_H
#define PR_MAP_BUILD_H

#include <sys/types.h>

#include "maps/map.h"

enum map_build_nul { MAP_NUL_DEFAULT, MAP_NUL_WITH, MAP_NUL_WITHOUT };

/* What a builder is told of its table. */
struct map_build_job {
    const struct config *cfg;
    uint64_t bytes; /* of the rows that come, about */
    enum map_build_nul nul;
};

enum map_put_result {
    MAP_PUT_OK,
    MAP_PUT_DUPLICATE, /* the key is there already; the row stays as it is, unless replace */
    MAP_PUT_BAD_ROW,   /* the type cannot hold it: err says why; the others go on */
    MAP_PUT_ERROR,
};

/* How a type builds its file. One thread. */
struct map_builder_type {
    const char *suffix; /* ".db" */
    /* Begins an empty table in file: there, empty, locked by the caller. */
    int (*create)(const char *file, const struct map_build_job *job, void **builder,
                  struct err *err);
    /* Begins to change the table in file. NULL: tables of this type cannot be changed, only built anew. */
    int (*change)(const char *file, const struct map_build_job *job, void **builder,
                  struct err *err);
    /* change() works in the file itself, in one step for its readers; else it gets a copy that is renamed afterwards. */
    bool in_place;
    enum map_put_result (*put)(void *builder, struct slice key, struct slice value, bool replace,
                               struct err *err);
    enum map_result (*remove)(void *builder, struct slice key, struct err *err);
    /* Completes the file (commit: else gives it up) and frees the builder. The caller syncs it. */
    int (*finish)(void *builder, bool commit, struct err *err);
};

enum map_build_format { MAP_BUILD_POSTMAP, MAP_BUILD_ALIASES };
struct map_build_options {
    const struct config *cfg; /* NULL: defaults */
    enum map_build_format format;
    enum map_folding folding;
    enum map_build_nul nul;  /* -N, -n */
    bool utf8_only;          /* rows that are not UTF-8 are warned of and left out */
    bool replace_duplicates; /* -r */
    bool ignore_duplicates;  /* -w: no warning */
    bool default_mode;       /* -p: do not copy the source's mode */
    bool keep_privileges;    /* -o: root stays root; else root works as the source's owner */
    bool file_values;        /* -F: a value names files; their content in base64 is the value */
    bool progress;           /* a line on standard error that counts, when that is a terminal */
};
/*
 * Builds path's table of the type from the text in file path. Wrong rows are warnings in the log, with file and line. Two at once
 * take turns; a crash leaves the old table, and at most a file with ".tmp" at its end that the next one uses.
 */
NODISCARD int map_build(const struct map_type *type, const char *path,
                        const struct map_build_options *opt, struct err *err);
/* -i: adds the rows from fd to path's table, which is made when it is missing. Readers see all of them at once. */
NODISCARD int map_build_add(const struct map_type *type, const char *path, int fd,
                            const struct map_build_options *opt, struct err *err);
/* -d: calls next for each key that goes; *found: any was there. */
NODISCARD int map_build_remove(const struct map_type *type, const char *path,
                               bool (*next)(struct slice *key, void *arg), void *arg,
                               const struct map_build_options *opt, bool *found, struct err *err);
/* A built-in type. NULL: no such. */
const struct map_type *map_type_find(struct slice name);
/* "type:path" or a path of default_database_type: the type, and path in spec. -1: no such type. */
NODISCARD int map_spec_split(const struct config *cfg, const char *spec,
                             const struct map_type **type, const char **path, struct err *err);
/* newaliases: "type:path" (or a path of default_database_type). */
NODISCARD int postalias_build(const struct config *cfg, const char *spec, struct err *err);

#endif
