/* SPDX-License-Identifier: Apache-2.0 */
/*
 * orcpt.h - the original recipient of RFC 3461, "type;address", on the wire: xtext for the types that are ASCII, for "utf-8"
 * the form of RFC 6533 that passes servers without SMTPUTF8 ("\x{F6}" for a character).
 */
#ifndef PR_MAIL_ORCPT_H
#define PR_MAIL_ORCPT_H

#include "base/buf.h"

/*
 * Takes one apart: *type is a view of text, the address (external form, decoded) goes to addr. -1: it is none.
 * With type "utf-8" characters may stand for themselves, too, as a client may write them that has said SMTPUTF8.
 */
NODISCARD int orcpt_parse(struct slice text, struct slice *type, struct buf *addr);
/* What stands for an address of which no original recipient was given: "rfc822;..." or "utf-8;...". addr: internal form. */
void orcpt_print(struct slice addr, struct buf *out);
bool orcpt_is_utf8(struct slice type);
/* An address in the ASCII form that goes with "utf-8". Bytes that are not UTF-8 become "?". */
void orcpt_encode_utf8(struct slice addr, struct buf *out);

#endif
