/* SPDX-License-Identifier: Apache-2.0 */
/*
 * message.h - the content that smtp-source sends: made up to a length, or taken from a file. Ready for the wire:
 * lines end with CRLF, dots are doubled.
 */
#ifndef PR_BENCH_MESSAGE_H
#define PR_BENCH_MESSAGE_H

#include "base/buf.h"
#include "base/err.h"

/* Appends length bytes, line ends included, in lines of at most 78 characters; the first two are
 * numbered. 1 counts as 2. */
void message_fill(struct buf *out, size_t length);
/* Appends the lines of a file, with or without CR. */
NODISCARD int message_read(const char *path, struct buf *out, struct err *err);

#endif
