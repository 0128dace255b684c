/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal.h - how mail lies on disk: heads, message records, notes. Bytes in, structs out: no file is
 * touched here, nothing is trusted. Internal to the store, postcat and their tests.
 *
 * Three kinds of file, all numbers little-endian:
 *   segment       journal/NUMBER: head, 4096 bytes; then message records, 8-aligned, one behind the other
 *   companion     journal/NUMBER.done: head, 40 bytes; then notes on the segment's messages
 *   message file  deferred/H/ID, hold/ID: head, 40 bytes, padded to 64; one message record; notes on it
 *
 * Head: 0 magic | 4 version | 8 epoch | 16 number | 24 bytes | 32 zero | 36 CRC32C of all before it.
 * The epoch is a random number, new for each use of a file: what lies behind the last record of this use has
 * another one, and nobody can send a mail that contains something like a record of this segment.
 *
 * Message record: 0 magic "PRR1" | 4 type | 8 epoch | 16 own offset | 24 length of all, a multiple of 8 |
 * 32 content bytes | 40 large: number of the file large/NUMBER that has the content, or 0 | 48 meta bytes |
 * 52 CRC32C of what follows the record's head | 56 CRC32C of the content in the large file | 60 CRC32C of all before it |
 * 64 meta | zeros to a multiple of 8 | content | zeros to a multiple of 8.
 * Meta: 4 length, envelope; 4 count of recipients; for each: 4 length, recipient (base/msg.h, mail/envelope.h).
 *
 * Note: 0 CRC32C of epoch and all that follows | 4 length of all, a multiple of 8 | 8 message: offset of its record |
 * 16 prev: offset of the note on the same message before this one, or 0 | 24 type | 28 index | then by type:
 * STATE: 4 attempts, 4 flags, 8 next retry; DEFERRED: 4 length, code; 4 length, reason.
 */
#ifndef PR_QMGR_JOURNAL_H
#define PR_QMGR_JOURNAL_H

#include "qmgr/store.h"

#define JOURNAL_HEAD_BYTES    40
#define JOURNAL_SEGMENT_START 4096 /* of the first record */
#define JOURNAL_FILE_START    64   /* of the record in a message file */
#define JOURNAL_RECORD_BYTES  64   /* head of a record; a seal has nothing else */
#define JOURNAL_NOTE_BYTES    32
#define JOURNAL_NOTE_MAX      8192 /* bytes of a note; longer reasons are cut */
#define JOURNAL_META_MAX      (1ULL << 31)
#define JOURNAL_RECORD_MAX    (1ULL << 40)

/* The four bytes as they lie on disk. */
enum journal_magic {
    JOURNAL_SEGMENT = 0x314a5250,
    JOURNAL_COMPANION = 0x31435250,
    JOURNAL_FILE = 0x314d5250
};

struct journal_head {
    uint32_t magic;
    uint64_t epoch;
    uint64_t number; /* of the segment; 0 in a message file */
    uint64_t bytes;  /* of the segment file; 0 elsewhere */
};

void journal_head_put(const struct journal_head *h, unsigned char out[JOURNAL_HEAD_BYTES]);
/* False: damaged, too short, another magic or version. */
bool journal_head_get(const void *data, size_t len, uint32_t magic, struct journal_head *out);
/* A new epoch; never 0. */
uint64_t journal_new_epoch(void);

enum journal_type {
    JOURNAL_MESSAGE = 1,
    JOURNAL_SEAL = 2, /* the writer has moved on: nothing follows */
};

struct journal_record {
    uint32_t type;
    uint64_t epoch;
    uint64_t offset;
    uint64_t length;
    uint64_t content_bytes;
    uint64_t large;
    uint32_t meta_bytes;
    uint32_t payload_crc;
    uint32_t content_crc;
};

static inline uint64_t journal_align(uint64_t n)
{
    return (n + 7) & ~7ULL;
}
/* Where the content begins, from the record's start. */
static inline uint64_t journal_content_at(const struct journal_record *r)
{
    return JOURNAL_RECORD_BYTES + journal_align(r->meta_bytes);
}
void journal_record_put(const struct journal_record *r, unsigned char out[JOURNAL_RECORD_BYTES]);
/* The head of a record at `offset` of a file with this epoch: false unless all of it is sound. */
bool journal_record_get(const void *data, size_t len, uint64_t epoch, uint64_t offset,
                        struct journal_record *out);
/* The same without knowing the epoch: for a segment whose head is lost. */
bool journal_record_get_any(const void *data, size_t len, uint64_t offset,
                            struct journal_record *out);
/* payload: the length - JOURNAL_RECORD_BYTES bytes behind the head. */
bool journal_payload_ok(const struct journal_record *r, const void *payload);
/*
 * The first offset in [from, len) of data where the head of a record of this epoch stands, or len. data begins at `base` of the
 * file; 8-aligned offsets only.
 */
size_t journal_find(const void *data, size_t from, size_t len, uint64_t epoch, uint64_t base);

/* Envelope and recipients. */
NODISCARD int journal_meta_put(const struct mail_envelope *env, const struct mail_rcpt *rcpts,
                               size_t nrcpts, struct buf *out, struct err *err);
/* Slices borrow from meta. *rcpts: the part that journal_rcpt_next() walks; *nrcpts how many. */
NODISCARD int journal_meta_get(struct slice meta, struct mail_envelope *env, struct slice *rcpts,
                               uint32_t *nrcpts, struct err *err);
/* Cuts one from the front of *rcpts. */
NODISCARD int journal_rcpt_next(struct slice *rcpts, struct mail_rcpt *out, struct err *err);

enum journal_note_type {
    NOTE_REMOVED = 1,   /* the message is finished, and so is its large file */
    NOTE_RCPT_DONE = 2, /* index */
    NOTE_DEFERRED = 3,  /* index, code, reason */
    NOTE_STATE = 4,     /* state */
    NOTE_MOVED = 5, /* the message lives in a file of its own now; its large file belongs to that */
};

struct journal_note {
    uint64_t message;
    uint64_t prev;
    uint32_t type;
    uint32_t index;
    struct store_state state;
    struct slice code, reason;
};

/* Appends the note. */
void journal_note_put(const struct journal_note *n, uint64_t epoch, struct buf *out);
/* The note at the front of data; slices borrow from it. Its length, or 0 when none is sound. */
size_t journal_note_get(const void *data, size_t len, uint64_t epoch, struct journal_note *out);

#endif
