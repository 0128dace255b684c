/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_source.h - the options of a table that a file describes: memcache:/etc/postfix/cache.cf, mysql:/etc/postfix/aliases.cf.
 *
 * The file has main.cf's form, "name = value", without $name expansion. A NAME that does not begin with "/" or "." means
 * parameters NAME_option of main.cf instead, which are expanded. Source: mysql_table(5), "using main.cf".
 */
#ifndef PR_MAP_SOURCE_H
#define PR_MAP_SOURCE_H

#include "maps/map.h"
#include "postconf/param.h"

struct map_source;

/*
 * Fills *out from the rows (PARAM_STRING, _RAW, _INT, _BOOL, _TIME; .def NULL: the member is NULL). -1: the file cannot be read
 * (temporary), or has an error, which err tells with file and line. Strings live as long as the source. Options that no row
 * knows are ignored, as Postfix does; with map_open_is_strict() they are warned of.
 */
NODISCARD int map_source_open(const char *path, const struct map_env *env, const struct param *rows,
                              size_t nrows, void *out, struct map_source **source, struct err *err);
void map_source_free(struct map_source **s);
/* The file is another one now: a type's is_stale(). */
bool map_source_is_stale(const struct map_source *s, const char *path);
/* The option is there, if only empty. */
bool map_source_has(const struct map_source *s, const char *name);

#endif
