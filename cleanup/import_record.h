/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import_record.h - the records of a Postfix queue file, in the order in which they count.
 *
 * A record is a type (one byte), a length (seven bits a byte, the low ones first, the high bit says that more follow) and
 * data. A pointer record ('p', a decimal offset; 0: none yet) says where the next one stands: changes of a message are appended to the
 * file and linked in. What is read is not trusted: lengths and offsets are checked against the file, a pointer
 * is followed once, so that every file comes to an end. Source: postcat(1) and the files themselves.
 */
#ifndef PR_CLEANUP_IMPORT_RECORD_H
#define PR_CLEANUP_IMPORT_RECORD_H

#include "base/buf.h"
#include "base/err.h"

struct htable;

/* The types that matter here; others are passed on as they are. */
enum import_record_type {
    IMPORT_SIZE = 'C',
    IMPORT_TIME = 'T',
    IMPORT_FULL_NAME = 'F',
    IMPORT_SENDER = 'S',
    IMPORT_ATTRIBUTE = 'A',
    IMPORT_RCPT = 'R',
    IMPORT_RCPT_DONE = 'D',
    IMPORT_RCPT_CANCELED = '/',
    IMPORT_ORIGINAL_RCPT = 'O',
    IMPORT_ORCPT = 'o',
    IMPORT_NOTIFY = 'n',
    IMPORT_ENVID = 'i',
    IMPORT_RET = '<',
    IMPORT_FILTER = 'L',    /* in the envelope */
    IMPORT_LINE_PART = 'L', /* in the content: no line end behind it */
    IMPORT_LINE = 'N',      /* in the content */
    IMPORT_REDIRECT = '>',
    IMPORT_VERP = 'V',
    IMPORT_WARN_TIME = 'W',
    IMPORT_KILLED = 'K',
    IMPORT_CREATE_TIME = 'c',
    IMPORT_CONTENT = 'M',   /* the content begins */
    IMPORT_EXTRACTED = 'X', /* the envelope goes on */
    IMPORT_END = 'E',
    IMPORT_POINTER = 'p', /* never handed out */
    IMPORT_PADDING = 'w', /* never handed out */
};

#define IMPORT_RECORD_MAX (1U << 20) /* bytes of data */

struct import_record {
    unsigned char type;
    uint64_t at;       /* its offset in the file */
    struct slice data; /* until the next call */
};

struct import_reader {
    int fd; /* the caller's; -1: all of the file is in the window */
    uint64_t size;
    uint64_t at;
    struct buf window; /* bytes from window_at on */
    uint64_t window_at;
    struct htable *followed; /* pointers, by offset; NULL: none */
};

/* fd: a regular file of `size` bytes. */
void import_reader_init(struct import_reader *r, int fd, uint64_t size);
/* The same over bytes in memory, which are copied. */
void import_reader_init_bytes(struct import_reader *r, struct slice bytes);
void import_reader_fini(struct import_reader *r);

enum import_result { IMPORT_RECORD, IMPORT_EOF, IMPORT_ERROR };
/* IMPORT_ERROR: damage (permanent or bad input), or a file that cannot be read (temporary). */
NODISCARD enum import_result import_record_next(struct import_reader *r, struct import_record *out,
                                                struct err *err);

#endif
