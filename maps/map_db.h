/* SPDX-License-Identifier: Apache-2.0 */
/* map_db.h - what map_db.c (asking) and map_db_write.c (building, writing) share of Berkeley DB. */
#ifndef PR_MAP_DB_H
#define PR_MAP_DB_H

#include "maps/map_int.h"

#include <db.h>

struct db_map {
    struct lock lock; /* a handle is for one thread at a time */
    DB *db;
    struct file_stamp stamp;
    bool with_nul, without_nul; /* what may still be tried; the first hit decides */
    char *file;
    int fd; /* of a writable table: holds the lock on the file; else -1 */
};

/* -1. Permanent when the file is damaged. */
int db_error(int code, const char *what, const char *file, struct err *err);
void db_map_close(void *impl);
/* fd: of the file, for its stamp; flags: DB_RDONLY ... */
NODISCARD int db_map_open(const char *file, int fd, DBTYPE type, uint32_t flags, uint32_t cache,
                          struct db_map **out, struct err *err);

/* Has the file all its pages, each in its place? -1: permanent if not. Of an open file that nobody writes. */
NODISCARD int db_check_pages(int fd, const char *file, struct err *err);

struct map_builder_type;
struct map_writer_type;
extern const struct map_builder_type db_hash_builder, db_btree_builder;
extern const struct map_writer_type db_hash_writer, db_btree_writer;

#endif
