/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mime_7bit.h - a message with 8-bit text for a server without 8BITMIME (RFC 6152): parts whose Content-Transfer-Encoding is 8bit or
 * binary become quoted-printable, what contains them 7bit (RFC 2045, RFC 2046). What does not say that it is 8-bit stays as it is.
 */
#ifndef PR_MAIL_MIME_7BIT_H
#define PR_MAIL_MIME_7BIT_H

#include "base/buf.h"

struct mime_7bit;
NODISCARD struct mime_7bit *mime_7bit_new(void);
void mime_7bit_free(struct mime_7bit **m);
/* The message in wire form (CRLF, dots not stuffed), in pieces of any size; what comes out of them is appended to out. */
void mime_7bit_feed(struct mime_7bit *m, struct slice piece, struct buf *out);
void mime_7bit_end(struct mime_7bit *m, struct buf *out);

#endif
