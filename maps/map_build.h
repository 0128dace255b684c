/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_build.h - building table files, for postmap, postalias and newaliases: beside the old one, then renamed.
 */
#ifndef PR_MAP_BUILD_H
#define PR_MAP_BUILD_H

#include <sys/types.h>

#include "maps/map.h"

/* How a type builds its file. */
struct map_builder_type {
    const char *suffix; /* ".db" */
    int (*create)(const char *path, mode_t mode, void **builder, struct err *err);
    /* 1: the key is there already (and stays, unless replace) */
    int (*put)(void *builder, struct slice key, struct slice value, bool replace, struct err *err);
    /* Closes; the file is complete and synced. */
    int (*finish)(void *builder, struct err *err);
};

enum map_build_format { MAP_BUILD_POSTMAP, MAP_BUILD_ALIASES };
struct map_build_options {
    enum map_build_format format;
    bool keep_case;          /* -f: keys as they are */
    bool replace_duplicates; /* -r */
    bool ignore_duplicates;  /* -w: no warning */
    bool default_mode;       /* -p: do not copy the source's mode */
    const char *program;     /* for warnings */
};
/* Builds path's table of the type from the text in file path (or fd, if not -1). Warnings go to the log with file and line. */
NODISCARD int map_build(const struct map_type *type, const char *path, int source_fd,
                        const struct map_build_options *opt, struct err *err);
/* NULL: no such type. */
const struct map_type *map_type_find(struct slice name);
/* newaliases: "type:path" (or a path of default_database_type). */
NODISCARD int postalias_build(const struct config *cfg, const char *spec, struct err *err);

#endif
