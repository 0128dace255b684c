/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postcat.h - a queued message in human-readable form, as postcat(1) shows it.
 */
#ifndef PR_QMGR_POSTCAT_H
#define PR_QMGR_POSTCAT_H

#include <stdio.h>

#include "qmgr/journal.h"

struct postcat_options {
    bool envelope, header, body;
    bool offsets;      /* the place of each record in its file */
    bool types;        /* the decimal type of each record, by Postfix's numbers */
    bool record_names; /* what kind of text each line of the content is */
    bool record_order; /* recipients as recorded; what was noted later follows the message */
};

/* One message and where its parts are. */
struct postcat_message {
    const char *name; /* in the headings */
    uint64_t record_at;
    struct mail_envelope env;
    const struct store_rcpt *rcpts;
    size_t nrcpts;
    const struct store_state *state; /* NULL: none is known */
    int fd;                          /* of the content */
    uint64_t content_at, content_bytes;
};

/* Prints to out. -1: the content cannot be read, or written. */
NODISCARD int postcat_print(const struct postcat_options *opt, const struct postcat_message *m,
                            FILE *out, struct err *err);

/*
 * Prints every message of the file (a message file, a journal segment, a record from corrupt/) that begins at
 * or after skip. queue_directory: where large content lies. -1: not such a file, or damaged; what could be read is printed.
 */
NODISCARD int postcat_file(const struct postcat_options *opt, const char *queue_directory,
                           const char *path, int fd, uint64_t skip, FILE *out, struct err *err);

#endif
