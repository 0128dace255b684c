/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_owner_int.h - between the files of the owner's side (qmgr, queue commands).
 *
 * Threads: the index (s->index) is changed by the owner's thread alone. Everything else of a store, its segments and messages is
 * guarded by s->lock, because moves may run on a helper thread of the owner's. The store's own thread sees nothing but
 * its jobs: a job names what it needs, and what it names stays until its result has been taken over.
 */
#ifndef PR_QMGR_STORE_OWNER_INT_H
#define PR_QMGR_STORE_OWNER_INT_H

#include <pthread.h>

#include "base/mtime.h"
#include "qmgr/store_int.h"

struct segment {
    uint64_t number;
    uint64_t epoch;
    uint64_t bytes;
    int fd;
    int content_fd;   /* for reading only, to be given away; -1: not opened yet */
    uint64_t scanned; /* all before it has been read */
    bool sealed;      /* nothing will be added */
    bool keep;        /* holds damage that could not be set aside: never recycled by this process */
    bool recycling;   /* the job is under way */
    unsigned live;    /* messages that are in it, and nowhere else */
    unsigned pins;    /* messages whose content may be read through fd just now */
    unsigned jobs;    /* of the store's thread that use fd or companion_fd */
    uint64_t live_bytes;
    struct store_msg *first; /* the live ones */
    struct mono_time retry;  /* recycling: not before */
    /* companion */
    int companion_fd;       /* -1: not opened yet */
    uint64_t companion_end; /* written so far */
    struct buf notes;       /* to be written there */
    bool unsynced;
    bool name_synced;
    bool sync_job;
    struct vec
        large_done; /* char *: large files of removed messages, unlinked after a sync of the notes */
};

struct store_msg {
    char id[QUEUE_ID_MAX + 1];
    struct store_state state;
    void *data;
    struct segment *seg; /* STORE_JOURNAL */
    struct segment *pin; /* the segment that the content was given out from, or NULL */
    struct store_msg *prev,
        *next;       /* of seg->first; in a file: of s->dirty while pending is not NULL */
    uint64_t offset; /* of the record, in the segment or file */
    uint64_t length;
    uint64_t content_bytes;
    uint64_t large;
    uint64_t log_at; /* journal: offset of its last note, 0 none; file: where the next note goes */
    struct buf *pending; /* file: notes that are not written yet */
    uint32_t meta_bytes;
    uint32_t payload_crc;
    uint32_t content_crc; /* of the large file; known when the record has been read */
    uint8_t queue;        /* enum store_queue */
    bool announced;
    bool fresh;         /* its writer said that it is durable: not from a recovery */
    bool promoting;     /* a job makes its file */
    bool wanted;        /* in s->wanted */
    bool sync_file;     /* its pending notes have finished recipients, or what is wished for */
    bool unpromotable;  /* its record or its notes cannot be read */
    uint8_t unreadable; /* how often in a row the disk did not give it back */
};

enum job_type { JOB_SYNC, JOB_UNLINK, JOB_RECYCLE, JOB_PROMOTE, JOB_SYNC_FILE, JOB_SYNC_NAMES };

/* One message on its way from a segment to a file. */
struct promotion {
    char id[QUEUE_ID_MAX + 1];
    struct journal_record record; /* as in the segment */
    struct segment *seg;
    uint64_t log_at;   /* the notes up to here are in `notes` */
    uint64_t epoch;    /* of the file */
    struct buf notes;  /* encoded for the file */
    uint64_t file_end; /* result: of the file */
    int result;        /* 0, -1: temporary, 1: the record is damaged */
    struct err err;
    struct promotion *next;
};

struct job {
    struct job *next;
    enum job_type type;
    struct segment *seg;
    int fd;
    bool sync_name;
    struct vec paths;         /* char *: JOB_UNLINK, JOB_SYNC afterwards, JOB_SYNC_FILE */
    uint32_t dirs;            /* JOB_SYNC_NAMES: see dir_bit() */
    struct promotion *promos; /* JOB_PROMOTE */
    int result;
    struct err err;
};

#define CONTENT_SLOTS 16

struct store {
    struct store_options opt;
    char *directory;
    const struct io_ops *io;
    struct store_events events;
    void *arg;
    bool readonly;
    bool had_damage; /* lock: some record was damaged, so what it named is not known */
    bool
        left_unread; /* lock: some could not be read and stays where it is, as does what it may name */
    int lock_fd;
    struct htable *index; /* id -> struct store_msg; the owner's thread */

    struct lock lock;
    bool probe_failed;       /* store_probe(), the last time */
    struct vec segments;     /* struct segment * */
    struct vec fresh;        /* struct store_msg *: found, not yet announced; entries may be NULL */
    struct vec damages;      /* char *: to be reported */
    struct vec wanted;       /* struct store_msg *: to be promoted; entries may be NULL */
    struct store_msg *dirty; /* files with pending notes */
    struct buf scan;         /* scanning's window */
    struct {
        struct store_msg *m;
        int fd;
    } content[CONTENT_SLOTS];
    unsigned content_next;
    struct mono_time next_sync, next_look;

    /* the store's thread */
    bool helper_started;
    pthread_t helper;
    struct lock helper_lock;
    pthread_cond_t helper_work, helper_idle;
    struct job *jobs, **jobs_tail;       /* helper_lock */
    struct job *results, **results_tail; /* helper_lock */
    bool helper_busy, helper_stop;       /* helper_lock */
    uint32_t unlinked_dirs; /* lock: of unlinked, since the last JOB_SYNC_NAMES: see dir_bit() */
    bool unlinked;          /* lock: names of message files were removed */
    unsigned promotions;    /* jobs under way; lock */

    /* lock: what the disk does not take just now */
    struct vec unremoved; /* char *: files that could not be removed */
    bool removal_failed;  /* of a finished message: it would come back after a crash */
    bool sync_failed;     /* of notes */
    struct err trouble;   /* why, of these two */
    struct mono_time promote_retry;
    bool said_promote, said_recycle, said_look, said_sync_file; /* reported, not over yet */
};

/* --- store.c */
struct segment *store_segment_find(struct store *s, uint64_t number);
/* Into the index and to be announced. A file's twin in the journal counts as removed; another message of the same id gets a new one. */
void store_index_add_locked(struct store *s, struct store_msg *m) REQUIRES(s->lock);
void store_segment_link_locked(struct store *s, struct store_msg *m) REQUIRES(s->lock);
void store_segment_unlink_locked(struct store *s, struct store_msg *m) REQUIRES(s->lock);
void store_damage_locked(struct store *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Calls found() and damaged(). The lock is not held. */
void store_announce(struct store *s);
void store_segment_free(struct store *s, struct segment *seg);
void store_unpin_locked(struct store *s, struct store_msg *m) REQUIRES(s->lock);
void store_content_forget_locked(struct store *s, const struct store_msg *m) REQUIRES(s->lock);

/* --- store_scan.c */
/* Opens journal/NUMBER. 0; 1: not there (any more); -1: err. */
NODISCARD int store_segment_open(struct store *s, uint64_t number, struct segment **out,
                                 struct err *err);
/*
 * Reads on from seg->scanned and appends the messages to out (struct store_msg *, not in the index yet).
 * limit: what is known to be durable, or UINT64_MAX. live: its writer may be writing, so what is not valid is not there yet.
 */
NODISCARD int store_segment_scan_locked(struct store *s, struct segment *seg, uint64_t limit,
                                        bool live, struct vec *out, struct err *err)
    REQUIRES(s->lock);
/* Asks whether the writer lives, scans all there is, adds what is new to the index. */
NODISCARD int store_segment_look_locked(struct store *s, struct segment *seg, struct err *err)
    REQUIRES(s->lock);
/* Opens and looks at every segment in journal/ that is not known yet. */
NODISCARD int store_look_for_segments_locked(struct store *s, struct err *err) REQUIRES(s->lock);

/* --- store_salvage.c: what the disk does not give back, and what is damaged */
/* pread(), but pages that the disk does not give back (EIO) are zeros. *lost_to is raised to the end of the last of them. -1: another error. */
ssize_t store_pread_salvage(const struct io_ops *io, int fd, void *data, size_t len,
                            uint64_t offset, uint64_t *lost_to);
enum set_aside {
    ASIDE_DONE,
    ASIDE_BEFORE, /* it was there already */
    ASIDE_PART,   /* not all of it could be read: the original must stay */
    ASIDE_FAILED
};
/* Writes [from, to) of fd to corrupt/NAME, durably, unless that exists. */
NODISCARD enum set_aside store_set_aside(struct store *s, int fd, uint64_t from, uint64_t to,
                                         const char *name, struct err *err);
/* Sets [from, to) of the segment aside, says so, and keeps the segment if it is still needed for that. */
void store_report_damage(struct store *s, struct segment *seg, uint64_t from, uint64_t to)
    REQUIRES(s->lock);

/* --- store_notes.c */
/* Reads the companion and applies it to msgs (ascending offsets); removed ones are freed, their places NULL. */
NODISCARD int store_companion_load_locked(struct store *s, struct segment *seg, struct vec *msgs,
                                          struct err *err) REQUIRES(s->lock);
void store_note_locked(struct store *s, struct store_msg *m, struct journal_note *n)
    REQUIRES(s->lock);
/* NOTE_REMOVED or NOTE_MOVED for the journal copy of a message: it does not count any more. */
void store_note_gone_locked(struct store *s, struct segment *seg, uint64_t offset,
                            enum journal_note_type type) REQUIRES(s->lock);
/* Calls fn for each note on m, oldest first, that is newer than `after` (log_at; 0: all). Journal messages. */
NODISCARD int store_notes_each_locked(struct store *s, const struct store_msg *m, uint64_t after,
                                      void (*fn)(const struct journal_note *n, void *arg),
                                      void *arg, struct err *err) REQUIRES(s->lock);
/* The same for a message file: fd, epoch of its head. *end: where the next note goes. */
NODISCARD int store_file_notes_each(struct store *s, int fd, uint64_t epoch, uint64_t from,
                                    void (*fn)(const struct journal_note *n, void *arg), void *arg,
                                    uint64_t *end, struct err *err);
NODISCARD int store_flush_locked(struct store *s, struct err *err) REQUIRES(s->lock);
/* The notes on a file that are not written yet. */
void store_pending_each_locked(const struct store_msg *m,
                               void (*fn)(const struct journal_note *n, void *arg), void *arg);
void store_pending_drop_locked(struct store *s, struct store_msg *m) REQUIRES(s->lock);

/* --- store_file.c */
/* Reads head and record head of a message file. Damage: -1, permanent. */
NODISCARD int store_file_head(const struct io_ops *io, int fd, uint64_t *epoch,
                              struct journal_record *r, struct err *err);
/* Makes q/ID from the record at src, with p->notes; its name is not synced. p->result, p->err. */
void store_file_make(const struct io_ops *io, const char *directory, enum store_queue q,
                     struct promotion *p);
/* What is needed to make m's file. */
NODISCARD int store_promotion_begin_locked(struct store *s, struct store_msg *m,
                                           struct promotion **out, struct err *err)
    REQUIRES(s->lock);
/* The file is there and durable: m lives in it from now on. */
NODISCARD int store_promotion_end_locked(struct store *s, struct store_msg *m, enum store_queue q,
                                         struct promotion *p, struct err *err) REQUIRES(s->lock);
void store_promotion_free(struct promotion **p);

/* --- store_helper.c */
struct job *store_job_new(enum job_type type);
void store_job_free(struct job *j);
/* Without helper (readonly, never): jobs are for owners. */
void store_job_run(struct store *s, struct job *j);
/* Waits until the store's thread has nothing to do. */
void store_helper_wait(struct store *s);
void store_helper_stop(struct store *s);
/* Adopts path. What cannot be removed is tried again until the store is closed. */
void store_unlink_later(struct store *s, char *path) REQUIRES(s->lock);
/* Directories of message files, a bit each: those whose names are to be made durable. */
void store_sync_directories(struct store *s, uint32_t which);

/* --- store_housekeeping.c */
/* Takes the results over. */
void store_jobs_take_locked(struct store *s) REQUIRES(s->lock);
/* Waits until all is done and durable. */
void store_finish_jobs(struct store *s);

#endif
