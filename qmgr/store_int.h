/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_int.h - what the store's files share. No other folder includes it.
 */
#ifndef PR_QMGR_STORE_INT_H
#define PR_QMGR_STORE_INT_H

#include "base/htable.h"
#include "base/lock.h"
#include "base/vec.h"
#include "mail/queue_id.h"
#include "qmgr/journal.h"
#include "qmgr/store_io.h"

#define STORE_FILE_MODE     0600
#define STORE_DIR_MODE      0700
#define STORE_FREE_SEGMENTS 8 /* kept for reuse; more are removed */

/* --- store_paths.c: names. Each returns buf's NUL-terminated text. ---------------------------- */

const char *store_path(struct buf *out, const char *queue_directory, const char *name);
const char *store_path_segment(struct buf *out, const char *queue_directory, uint64_t number);
const char *store_path_companion(struct buf *out, const char *queue_directory, uint64_t number);
const char *store_path_free(struct buf *out, const char *queue_directory, uint64_t number);
const char *store_path_large(struct buf *out, const char *queue_directory, uint64_t number);
/* The directory, or the file, of a message in STORE_DEFERRED, STORE_HOLD, STORE_CORRUPT. */
const char *store_path_dir(struct buf *out, const char *queue_directory, enum store_queue q,
                           struct slice id);
const char *store_path_message(struct buf *out, const char *queue_directory, enum store_queue q,
                               struct slice id);
/* 16 hex digits, nothing else. */
bool store_parse_number(struct slice name, uint64_t *number);
/* Full disk is 4.3.1, all else 4.3.0; errno is read. Returns -1. */
int store_err_sys(struct err *err, const char *what, const char *path);
/* The same for a read. What the disk does not give back (EIO) is worth another attempt; its code tells it from other trouble. */
#define STORE_UNREADABLE "5.3.0"
int store_err_read(struct err *err, const char *what);

/* --- for postcat ------------------------------------------------------------------------------- */

/* Like store_recover() on a store that is open to look only, for one message: cheap when it has a file. */
NODISCARD int store_recover_id(struct store *s, struct slice id, struct err *err);
/* Where in its file the message's record begins. */
uint64_t store_msg_record_at(const struct store_msg *m);

/* --- store_segment.c: segments come and go ---------------------------------------------------- */

struct store_segment_file {
    int fd; /* locked: io->lock() */
    uint64_t number;
    uint64_t epoch;
    uint64_t bytes;
};
/*
 * A segment with room for `bytes` in all, ours alone: from journal/free/ if one of this size is there, else made: written with
 * zeros, so that later syncs concern data only. Durable under its new name in journal/ when this returns 0.
 */
NODISCARD int store_segment_acquire(const struct io_ops *io, const char *queue_directory,
                                    uint64_t bytes, struct store_segment_file *out,
                                    struct err *err);
/*
 * The segment is finished: under a new epoch to journal/free/, or removed. fd is open for writing. 1: its writer still lives,
 * nothing done. See store_segment.c for what a crash leaves behind.
 */
NODISCARD int store_segment_recycle(const struct io_ops *io, const char *queue_directory, int fd,
                                    uint64_t number, uint64_t standard_bytes, struct err *err);
/* Leftovers of segments that were being made by someone who has died. */
void store_segment_sweep_free(const struct io_ops *io, const char *queue_directory);

#endif
