/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_writer_int.h - between store_writer.c (segments, commits) and store_put.c (one message).
 */
#ifndef PR_QMGR_STORE_WRITER_INT_H
#define PR_QMGR_STORE_WRITER_INT_H

#include <pthread.h>

#include "base/mtime.h"
#include "qmgr/store_int.h"

struct wsegment {
    struct store_segment_file file;
    uint64_t tail;    /* w->lock: where the next record goes */
    uint64_t durable; /* w->lock */
    unsigned refs;    /* w->lock: current or next, and each queued entry */
    bool failed;      /* w->lock: given up */
};

/* One message, or a seal (done NULL), that waits for the committer. */
struct entry {
    struct entry *next;
    struct wsegment *seg; /* NULL: has failed before it was written, err says why */
    uint64_t end;
    store_done_fn done;
    void *arg;
    struct err *err;
    int large_fd; /* of its large file, locked until the record is there; or -1 */
    uint64_t large;
};

struct store_writer {
    struct store_options opt;
    char *directory;
    const struct io_ops *io;
    store_committed_fn committed;
    void *committed_arg;
    pthread_t committer, preparer;
    bool preparer_started; /* lock */

    struct lock lock;
    pthread_cond_t work;     /* queue is not empty, or closing */
    pthread_cond_t prepare;  /* want_next, or closing */
    pthread_cond_t prepared; /* prepare_count has grown, or closing */
    /* all below: lock */
    bool closing;
    struct wsegment *current, *next;
    struct entry *queue, **queue_tail;
    bool want_next;
    uint64_t want_bytes;
    uint64_t prepare_count;
    struct err prepare_err;
    struct err prepare_err_new; /* the preparer's own */
    struct mono_time prepare_retry;
    uint64_t durable_source, durable_end;
    struct mono_time space_checked;
    bool space_full;
};

/*
 * Appends a record and queues e, or -1: nothing was queued. iov[0] is filled here with the record's head; r has
 * everything but epoch and offset.
 */
NODISCARD int store_writer_append(struct store_writer *w, struct journal_record *r,
                                  struct iovec *iov, int count, struct entry *e, struct err *err);
/* For a message that failed before: its done is called by the committer all the same. */
void store_writer_queue_failure(struct store_writer *w, struct entry *e);
/* The lock is held. Has a segment prepared, of at least `bytes`, unless one is. */
void store_writer_want_segment(struct store_writer *w, uint64_t bytes) REQUIRES(w->lock);
NODISCARD int store_writer_check_space(struct store_writer *w, struct err *err);
/* Tells the message's owner, and frees e. */
void store_entry_finish(struct store_writer *w, struct entry *e, int result, const struct err *err);

#endif
