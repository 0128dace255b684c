/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - where accepted mail is kept. An interface; the journal (journal_*.c) is the engine.
 *
 * Promises: (1) store_put_commit() reports success only after the message is durable; (2) whatever was
 * reported so is found again after any crash, until store_msg_remove() for it; (3) losing the last completion
 * records means a duplicate, never a loss; (4) damage is reported, set aside in corrupt/ and does not
 * hide what follows it.
 *
 * Two sides. Writers (cleanup): many processes, each with its own open segment. The owner (qmgr; a queue
 * command while the system is stopped): exactly one, under a lock on the queue.
 */
#ifndef PR_STORE_H
#define PR_STORE_H

#include <sys/types.h>

#include "base/arena.h"
#include "mail/envelope.h"
#include "postconf/config.h"

struct store_options {
    const char *queue_directory; /* "." in a worker */
    int64_t segment_bytes;       /* journal_segment_size (ours): default 16 MiB */
    int64_t
        large_bytes; /* journal_large_message_size (ours): content from here on goes to a file of its own; 1 MiB */
    int64_t min_free_bytes; /* queue_minfree */
};
extern const struct param_set
    store_params; /* of struct store_params_values, see store_options_from() */
NODISCARD int store_options_from(const struct config *cfg, struct store_options *out,
                                 struct err *err);
/* -1 if there are queue files of Postfix's below directory: err names one. They are not touched. */
NODISCARD int store_refuse_foreign(const char *directory, struct err *err);
/* Makes missing directories (journal, journal/free, large, deferred, hold, corrupt), as root owned by uid, gid. */
NODISCARD int store_make_directories(const char *queue_directory, uid_t uid, gid_t gid,
                                     struct err *err);

/* --- writers --------------------------------------------------------------------------------- */

struct store_writer; /* one for each process; thread-safe */
struct store_put;    /* one message on its way in; one thread at a time */

/* After each group commit, on the committing thread, before the messages' own callbacks: everything of
 * `source` before `end` is durable. cleanup passes it to qmgr (PROTO_COMMITTED). */
typedef void (*store_committed_fn)(void *arg, uint64_t source, uint64_t end);
/* result 0, or -1 with err: the message is not in the queue and will not come back. */
typedef void (*store_done_fn)(void *arg, int result, const struct err *err);

NODISCARD int store_writer_open(const struct store_options *opt, store_committed_fn fn, void *arg,
                                struct store_writer **out, struct err *err);
/* Commits what is pending. */
void store_writer_close(struct store_writer **w);
/* The source that is being written and its durable end: for a new connection to qmgr. */
void store_writer_position(struct store_writer *w, uint64_t *source, uint64_t *end);

NODISCARD struct store_put *store_put_begin(struct store_writer *w);
/* Content in wire form. -1: no space, file error (temporary; dsn 4.3.1 when the disk is full). */
NODISCARD int store_put_write(struct store_put *p, struct slice content, struct err *err);
/* Content bytes written so far. */
uint64_t store_put_bytes(const struct store_put *p);
/*
 * Appends envelope, recipients and content, and returns; done(arg, ...) is called once, on the committing thread, when
 * it is durable or has failed. *p is consumed in any case. Concurrent commits share one fdatasync. May block for a new segment and, with
 * large content, for the sync of its file. env->queue_id is required; env->content_bytes is taken from what was written.
 */
void store_put_commit(struct store_put **p, const struct mail_envelope *env,
                      const struct mail_rcpt *rcpts, size_t nrcpts, store_done_fn done, void *arg);
void store_put_abort(struct store_put **p);

/* --- owner ----------------------------------------------------------------------------------- */

struct store;
struct store_msg; /* a queued message: the handle lies in qmgr's index; small */

enum store_queue { STORE_JOURNAL, STORE_DEFERRED, STORE_HOLD, STORE_CORRUPT };

/* What the queue remembers of a message between attempts. */
struct store_state {
    uint32_t attempts;
    int64_t next_retry_us; /* wall clock; 0: now */
    bool warned;           /* delay warning sent */
    bool forced_expire;
    bool hold, remove, requeue; /* see store_msg_hold_later() */
};

/* Called on the owner's thread, from within store_recover, _committed, _writer_gone, _flush and _housekeeping. */
struct store_events {
    /* A message that is in the queue: at recovery, or new after store_committed(). Called once for each. */
    void (*found)(void *arg, struct store_msg *m);
    /* Damage: what was set aside and where. */
    void (*damaged)(void *arg, const char *text);
};

/* Takes the queue's lock (err: "the queue is in use by process N"). */
NODISCARD int store_open(const struct store_options *opt, const struct store_events *ev, void *arg,
                         struct store **out, struct err *err);
/* Without lock, to look only (postcat, mailq of a stopped system by a user who may). */
NODISCARD int store_open_readonly(const struct store_options *opt, const struct store_events *ev,
                                  void *arg, struct store **out, struct err *err);
void store_close(struct store **s); /* writes and syncs what was noted */
/* Finds everything: segments, their torn tails and completion records, files. */
NODISCARD int store_recover(struct store *s, struct err *err);
/* A writer says so. New messages come through found(). Reads page cache; idempotent. */
NODISCARD int store_committed(struct store *s, uint64_t source, uint64_t end, struct err *err);
/* The writer of source has gone: reads its segment to the last valid record. */
NODISCARD int store_writer_gone(struct store *s, uint64_t source, struct err *err);

/* Facts kept with the handle. */
struct slice store_msg_id(const struct store_msg *m);
enum store_queue store_msg_queue(const struct store_msg *m);
const struct store_state *store_msg_state(const struct store_msg *m);
uint64_t store_msg_bytes(const struct store_msg *m);
void *store_msg_data(const struct store_msg *m); /* the owner's pointer */
void store_msg_set_data(struct store_msg *m, void *data);
struct store_msg *store_find(struct store *s, struct slice queue_id);
/* How many messages, and each of them in no order. */
size_t store_count(const struct store *s);
void store_each(struct store *s, bool (*fn)(struct store_msg *m, void *arg), void *arg);

/* One recipient as the queue remembers it. */
struct store_rcpt {
    struct mail_rcpt r;
    bool done;           /* delivered, or reported as failed */
    struct slice reason; /* last deferral's text, or empty */
    struct slice code;   /* its enhanced status code */
};
/* Reads and checks the record (checksum). Everything lives in arena. Damage: -1, permanent; call store_msg_corrupt(). */
NODISCARD int store_msg_read(struct store *s, struct store_msg *m, struct arena *arena,
                             struct mail_envelope *env, struct store_rcpt **rcpts, size_t *nrcpts,
                             struct err *err);
/*
 * The same in parts, for messages whose recipients are not to be in memory all at once. _first reads and checks the whole record once,
 * _next only the recipients' bytes of the part. What the disk does not give back is a temporary error STORE_READ_TRIES - 1 times in a row,
 * then damage. _first also checks the content of a large message that does not come fresh from its writer
 * (the whole file is read). Both leave out those that are done. At most `max` (1 or more) in a part; none: there are no
 * more. _next knows of no reasons that came after the message. What was noted since _first is not looked at.
 */
#define STORE_READ_TRIES 3
struct store_cursor {
    uint32_t total; /* recipients of the message, done ones too */
    uint32_t next;  /* index of the first one that was in no part yet */
    uint64_t meta_at;
    unsigned char *done; /* a bit each, in the arena `keep`; NULL: all are in the first part */
};
NODISCARD int store_msg_read_first(struct store *s, struct store_msg *m, struct arena *arena,
                                   struct arena *keep, size_t max, struct mail_envelope *env,
                                   struct store_cursor *c, struct store_rcpt **rcpts,
                                   size_t *nrcpts, struct err *err);
NODISCARD int store_msg_read_next(struct store *s, struct store_msg *m, struct arena *arena,
                                  size_t max, struct store_cursor *c, struct store_rcpt **rcpts,
                                  size_t *nrcpts, struct err *err);
static inline bool store_cursor_at_end(const struct store_cursor *c)
{
    return c->next == c->total;
}
/*
 * The content: a descriptor, for reading only, that the store keeps, and where in it the content lies. Use, dup or pass it at once: it is valid
 * until the content of some other messages was asked for, or this one is removed or changes queue. The bytes
 * stay where they are, for duplicates too, until store_msg_set_state() (the attempt is over) or store_msg_remove().
 */
NODISCARD int store_msg_content(struct store *s, struct store_msg *m, int *fd, uint64_t *offset,
                                uint64_t *bytes, struct err *err);

/* Records; batched and written by store_flush() (or by itself when many have gathered). */
void store_rcpt_done(struct store *s, struct store_msg *m, uint32_t rcpt_index);
void store_rcpt_deferred(struct store *s, struct store_msg *m, uint32_t rcpt_index,
                         struct slice code, struct slice reason);
void store_msg_set_state(struct store *s, struct store_msg *m, const struct store_state *state);
/* Finished: the handle is gone after this. */
void store_msg_remove(struct store *s, struct store_msg **m);
/* Writes what was noted, and calls found() and damaged() for what is to be said. The owner's thread. -1: some of what was noted would
 * be lost in a crash: it cannot be written, or a finished message's file not be removed, or an earlier sync failed. All of it is kept and tried again, by
 * this call and store_housekeeping(). Until it is well again, what is delivered would be delivered twice after a crash. */
NODISCARD int store_flush(struct store *s, struct err *err);
/* Could anything be noted now? Writes a few bytes, which change nothing. After a -1 store_flush() fails, too, until it could. */
NODISCARD int store_probe(struct store *s, struct err *err);

/* Moves: durable when they return 0. Blocking (file and directory sync): for a helper thread, or a command. Other threads may use other
 * messages meanwhile, but not this one. hold, release: a message that the store is just promoting gives a temporary error. A corrupt
 * one is not in the queue any more: its bytes lie in corrupt/ID, its handle lives until store_msg_remove(), which leaves them there. Of one in the journal that
 * the disk does not give back, corrupt/ID.part has what could be read, and its segment stays for the next start. */
NODISCARD int store_msg_hold(struct store *s, struct store_msg *m, struct err *err);
/*
 * What is wanted of a message when its use is over. Noted like a state, which says so until then, without ending the use. What is to be removed
 * or held a recovery sees to; to queue a message anew, or to return it, is the owner's.
 */
void store_msg_hold_later(struct store *s, struct store_msg *m);
void store_msg_remove_later(struct store *s, struct store_msg *m);
void store_msg_requeue_later(struct store *s, struct store_msg *m);
void store_msg_expire_later(struct store *s, struct store_msg *m);
NODISCARD int store_msg_release(struct store *s, struct store_msg *m,
                                struct err *err); /* hold -> deferred, retry now */
NODISCARD int store_msg_corrupt(struct store *s, struct store_msg *m, const char *why,
                                struct err *err);
/*
 * Housekeeping, a bounded bit of work for each call; true when there is more to do now: promotes mail that keeps a nearly finished
 * segment from being recycled (or was deferred several times) to deferred/, recycles finished segments. Promotion's syncs
 * run on the store's own thread.
 */
bool store_housekeeping(struct store *s);

#endif
