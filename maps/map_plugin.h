/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_plugin.h - table types that stand in modules of their own, so that a system without their libraries can leave them out.
 *
 * The type NAME is the file postrider-NAME.so in $shlib_directory, or else in the directory of the daemons. It is loaded when a
 * table of the type is first opened, and stays. Which names may be modules is fixed: ldap, mysql, pgsql, sqlite.
 *
 * A module is one file below maps/plugins/; it ends with MAP_PLUGIN(its type), and takes what it needs of this code from the
 * program that loads it.
 */
#ifndef PR_MAP_PLUGIN_H
#define PR_MAP_PLUGIN_H

#include "maps/map.h"

/* Raised when a module of before would not work any more. */
#define MAP_PLUGIN_VERSION 1

struct map_plugin {
    uint32_t version;
    uint32_t type_size; /* of struct map_type */
    const struct map_type *type;
};

#define MAP_PLUGIN(t)                                                                              \
    extern const struct map_plugin postrider_map_plugin;                                           \
    const struct map_plugin postrider_map_plugin = {MAP_PLUGIN_VERSION, sizeof(struct map_type),   \
                                                    &(t)}

/* Is it a type that may come as a module, present or not? */
bool map_plugin_is_name(struct slice name);
/*
 * The type of a module. NULL: it is not there, or cannot be loaded; err says why. cfg names the directory; NULL: the daemons' only,
 * which is also all that a set-gid program looks at. Any thread.
 */
NODISCARD const struct map_type *map_plugin_load(const struct config *cfg, struct slice name,
                                                 struct err *err);
/* The names of the modules that are there, sorted; none is loaded. */
void map_plugin_each(const struct config *cfg, void (*fn)(const char *name, void *arg), void *arg);

#endif
