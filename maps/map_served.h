/* SPDX-License-Identifier: Apache-2.0 */
/* map_served.h - what tables share that are described by options (map_source.h) and answered by servers (map_servers.h). */
#ifndef PR_MAP_SERVED_H
#define PR_MAP_SERVED_H

#include "base/vec.h"
#include "maps/map_servers.h"
#include "maps/map_source.h"

/* A table of such a type begins with it. */
struct map_served {
    char *name; /* "mysql:/etc/postfix/aliases.cf" */
    struct map_source *source;
    struct map_servers *servers;
};

struct map_served_type {
    const char *name;
    const struct param *rows;
    size_t nrows;
    const struct map_servers_ops *ops; /* arg: the table */
    /*
     * Looks at the options, which are there. Puts the names of the servers into *servers, heap strings, and into *c what is to be other than
     * main.cf says. -1: err tells which option is wrong.
     */
    int (*configure)(void *table, struct map_env *env, struct map_servers_config *c,
                     struct vec *servers, struct err *err);
};

/* Fills the table that begins with *s, and its *options. -1: to be closed, as far as it is filled. */
NODISCARD int map_served_open(const struct map_served_type *type, const char *path,
                              struct map_env *env, struct map_served *s, void *options,
                              struct err *err);
/* The connections, which may refer to what else the table has: first of all. */
void map_served_disconnect(struct map_served *s);
void map_served_close(struct map_served *s);
/* A type's is_stale(). */
bool map_served_is_stale(void *table, const char *path);

#endif
