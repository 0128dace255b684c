/* SPDX-License-Identifier: Apache-2.0 */
/* map_cdb.h - the members of the type cdb; hash and btree are these where there is neither Berkeley DB nor LMDB. */
#ifndef PR_MAP_CDB_H
#define PR_MAP_CDB_H

#include "maps/map_int.h"

#define CDB_SUFFIX ".cdb"

NODISCARD int cdb_map_open(const char *path, struct map_env *env, void **impl, struct err *err);
void cdb_map_close(void *impl);
NODISCARD enum map_result cdb_map_lookup(void *impl, struct slice key, struct buf *value,
                                         struct err *err);
bool cdb_map_is_stale(void *impl, const char *path);
NODISCARD int cdb_map_each(void *impl, bool (*fn)(struct slice key, struct slice value, void *arg),
                           void *arg, struct err *err);
struct map_builder_type;
extern const struct map_builder_type cdb_builder;

#endif
