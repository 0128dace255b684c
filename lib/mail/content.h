/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content.h - one pass over a message's bytes: lines, header fields, facts. Content is in wire form
 * (CRLF line ends, dots not stuffed).
 */
#ifndef PR_MAIL_CONTENT_H
#define PR_MAIL_CONTENT_H

#include "base/buf.h"

/* Gathered while bytes pass; feed in any pieces. */
struct content_facts {
    uint32_t flags; /* MAIL_FACT_ bits */
    uint32_t longest_line;
    uint64_t bytes;
    /* private: state between pieces */
    uint32_t line_len;
    bool at_line_start;
    bool last_cr;
};
void content_facts_init(struct content_facts *f);
void content_facts_scan(struct content_facts *f,
                        struct slice piece); /* less than the time of a copy */
void content_facts_end(struct content_facts *f);

/* text begins where a line does: how many bytes of whole lines follow that end in CRLF and do not begin with a dot. */
size_t content_plain_lines(struct slice text);

/* LF or CRLF text (sendmail's input) into wire form; feed in pieces, state in *last_cr (false at first). */
void content_to_wire(struct slice piece, bool *last_cr, struct buf *out);
/* Wire form into LF text (mailbox, Maildir), appended to out. Feed whole or in pieces. */
void content_to_unix(struct slice piece, bool *last_cr, struct buf *out);
/* Adds SMTP's dot stuffing; *at_line_start true at first. */
void content_dot_stuff(struct slice piece, bool *at_line_start, struct buf *out);

/* One header field with its continuation lines: cut from the front of *rest. False at the empty line, at
 * the end, or at a line that is no header (body begins). name without ":", value after it (unfolded not). */
bool header_next(struct slice *rest, struct slice *field, struct slice *name, struct slice *value);
/* Is this line the begin of a header field (RFC 5322 ftext ":")? */
bool header_is_field(struct slice line, struct slice *name);

#endif
