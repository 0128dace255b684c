/* SPDX-License-Identifier: Apache-2.0 */
/* floor_conn.h - a blocking connection of the bare relay: lines, replies, content. */
#ifndef PR_BENCH_FLOOR_CONN_H
#define PR_BENCH_FLOOR_CONN_H

#include "base/buf.h"

enum { FLOOR_CONN_BYTES = 64 * 1024 };

struct floor_conn {
    int fd;
    size_t at, len; /* what is unread of data */
    char data[FLOOR_CONN_BYTES];
};

void floor_conn_init(struct floor_conn *c, int fd);
/* The next line without CRLF, valid until the next call. False: the end, an error, or too long a line. */
bool floor_conn_line(struct floor_conn *c, struct slice *line);
NODISCARD int floor_conn_say(struct floor_conn *c, struct slice text);
/* The last line of a reply has come; -1: the connection broke, or the first digit is not the one wanted. */
NODISCARD int floor_conn_reply(struct floor_conn *c, char wanted);
/* Appends the content as it came, with its end: up to and with the line ".". False: it did not come. */
bool floor_conn_content(struct floor_conn *c, struct buf *out);

#endif
