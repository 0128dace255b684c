/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import_message.h - a message out of a Postfix queue file: its records, as our envelope and wire form. Where the bytes go is the
 * caller's affair; no other file is touched.
 */
#ifndef PR_CLEANUP_IMPORT_MESSAGE_H
#define PR_CLEANUP_IMPORT_MESSAGE_H

#include "base/arena.h"
#include "base/vec.h"
#include "cleanup/import_record.h"
#include "mail/content.h"
#include "mail/envelope.h"

struct import_rcpt {
    struct mail_rcpt r;
    uint64_t at;   /* offset of its record, as logfiles name it */
    bool done;     /* delivered, or failed */
    bool reported; /* false: failed, and its sender has not heard of it (import_log.h) */
};

struct import_message {
    struct arena *arena;      /* has all of it */
    struct mail_envelope env; /* without queue id */
    struct vec rcpts;         /* struct import_rcpt *; those that were taken back are left out */
    struct vec lost;          /* const char *: what our envelope cannot carry, each once, by name */
    bool killed;              /* it has another queue file */
    struct content_facts facts;
};

/* Content in wire form, in pieces. -1 ends the reading. */
typedef int (*import_content_fn)(void *arg, struct slice wire, struct err *err);

void import_message_init(struct import_message *m, struct arena *arena);
void import_message_fini(struct import_message *m);
/*
 * Reads all of r. -1: the file is damaged or incomplete (permanent, bad input), it cannot be read (temporary), or fn failed. What
 * m has then is of no use.
 */
NODISCARD int import_message_read(struct import_message *m, struct import_reader *r,
                                  import_content_fn fn, void *arg, struct err *err);
/* Notes that something is not carried over. */
void import_message_lose(struct import_message *m, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
