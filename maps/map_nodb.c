/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_nodb.c - hash and btree where Berkeley DB is not there: the same sources make an LMDB file (or a CDB one), under its own
 * suffix; postmap says so.
 */
#include "maps/map_int.h"

#if !PR_HAVE_BDB && PR_HAVE_LMDB
#include "maps/map_build.h"
#include "maps/map_lmdb.h"

#define STAND_IN(type_name)                                                                        \
    {                                                                                              \
        .name = (type_name), .flags = MAP_FLAG_FIXED | MAP_FLAG_LOCAL, .open = lmdb_open,          \
        .close = lmdb_close, .lookup = lmdb_lookup, .is_stale = lmdb_is_stale,                     \
        .builder = &lmdb_builder, .each = lmdb_each, .writer = &lmdb_writer, .stand_in = "LMDB"    \
    }
#elif !PR_HAVE_BDB && PR_HAVE_CDB
#include "maps/map_build.h"
#include "maps/map_cdb.h"

#define STAND_IN(type_name)                                                                        \
    {                                                                                              \
        .name = (type_name), .flags = MAP_FLAG_FIXED | MAP_FLAG_LOCAL, .open = cdb_map_open,       \
        .close = cdb_map_close, .lookup = cdb_map_lookup, .is_stale = cdb_map_is_stale,            \
        .builder = &cdb_builder, .each = cdb_map_each, .stand_in = "CDB"                           \
    }
#endif

#ifdef STAND_IN
const struct map_type map_type_hash = STAND_IN("hash");
const struct map_type map_type_btree = STAND_IN("btree");
#endif
