/* SPDX-License-Identifier: Apache-2.0 */
/* map_lmdb.h - what map_lmdb.c (asking) and map_lmdb_write.c (building, writing) share of LMDB. */
#ifndef PR_MAP_LMDB_H
#define PR_MAP_LMDB_H

#include "maps/map_int.h"

#include <lmdb.h>
#include <setjmp.h>

#define LMDB_SUFFIX  ".lmdb"
#define LMDB_WAIT_MS 10000 /* for whoever writes the file just now */

struct lmdb_map {
    struct lock lock; /* one lookup at a time: they share the lock on the file, and txn */
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *txn; /* read-only, reset between lookups; NULL in a writable table */
    int fd;       /* of the file, for locks */
    char *file;
    struct file_stamp stamp;
    uintptr_t at;               /* where it is mapped ... */
    uint64_t size;              /* ... and its size, as of the last transaction's begin */
    jmp_buf *escape;            /* out of the library, if it finds a page that cannot be */
    bool is_damaged;            /* it did */
    bool with_nul, without_nul; /* what may still be tried; the first hit decides */
};

/* -1. Permanent when the file is damaged. */
int lmdb_error(int code, const char *what, const char *file, struct err *err);
void lmdb_close(void *impl);
/* file exists; it is locked by the caller, shared or (flags without MDB_RDONLY) exclusively. map_size: bytes, or 0. */
NODISCARD int lmdb_open_env(const char *file, unsigned flags, uint64_t map_size,
                            struct lmdb_map **out, struct err *err);
/* The members of the type; hash and btree are these without Berkeley DB. */
NODISCARD int lmdb_open(const char *path, struct map_env *env, void **impl, struct err *err);
NODISCARD enum map_result lmdb_lookup(void *impl, struct slice key, struct buf *value,
                                      struct err *err);
bool lmdb_is_stale(void *impl, const char *path);
NODISCARD int lmdb_each(void *impl, bool (*fn)(struct slice key, struct slice value, void *arg),
                        void *arg, struct err *err);

struct map_builder_type;
struct map_writer_type;
extern const struct map_builder_type lmdb_builder;
extern const struct map_writer_type lmdb_writer;
#endif
