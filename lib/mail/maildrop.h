/* SPDX-License-Identifier: Apache-2.0 */
/*
 * maildrop.h - the form of a message between sendmail, postdrop and pickup: a stream of frames as between processes
 * (4 length | 2 type | 2 flags, little-endian): ENVELOPE, RCPT..., DATA..., END. One file in maildrop/ is one such stream; it counts
 * only with its END. Its owner is who sent it.
 */
#ifndef PR_MAIL_MAILDROP_H
#define PR_MAIL_MAILDROP_H

#include "mail/proto.h"

/* Appends a frame to out. */
void maildrop_put(struct buf *out, uint16_t type, struct slice payload);
NODISCARD int maildrop_put_msg(struct buf *out, const struct msg_def *def, const void *m,
                               struct err *err);

struct maildrop_reader {
    int fd;
    struct buf in;
    size_t at;
};
void maildrop_reader_init(struct maildrop_reader *r, int fd); /* fd stays the caller's */
void maildrop_reader_fini(struct maildrop_reader *r);
/* 1: a frame (payload valid until the next call); 0: the end of the file; -1: cut off, or no such stream. */
NODISCARD int maildrop_read(struct maildrop_reader *r, struct frame *out, struct err *err);

#endif
