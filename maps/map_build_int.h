/* SPDX-License-Identifier: Apache-2.0 */
/* map_build_int.h - what the files of the table builder share. */
#ifndef PR_MAP_BUILD_INT_H
#define PR_MAP_BUILD_INT_H

#include <sys/stat.h>
#include <sys/types.h>

#include "maps/map_build.h"

/* map_build_owner.c: root works on another user's files as that user. */
struct privileges {
    bool lowered;
    uid_t uid;
    gid_t gid;
    gid_t *groups;
    int ngroups;
};
/* Takes the user and group of st's file, if wanted and the process is root and st is not root's. before: for privileges_restore(). */
NODISCARD int privileges_lower(struct privileges *before, const struct stat *st, bool wanted,
                               struct err *err);
NODISCARD int privileges_restore(struct privileges *before, struct err *err);

/* map_build_value.c: -F. The content of the files that value names (commas, white space), a line feed between two, as base64. */
NODISCARD int map_value_of_files(struct slice value, struct buf *out, struct err *err);
/* Back again. -1: not base64. */
NODISCARD int map_value_decode(struct slice value, struct buf *out, struct err *err);

/* stat(2) of the file that path's table is. type has a builder. */
NODISCARD int map_table_stat(const struct map_type *type, const char *path, struct stat *st);

#endif
