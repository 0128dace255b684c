/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address.h - mail addresses: the path in SMTP commands (RFC 5321 4.1.2), addresses in headers
 * (RFC 5322 3.4), quoting, extensions.
 */
#ifndef PR_MAIL_ADDRESS_H
#define PR_MAIL_ADDRESS_H

#include "base/buf.h"
#include "base/err.h"

/*
 * Internal form: unquoted local part, "@", domain ("joe smith@example.com"), as table lookups and logs
 * see it. The last @ divides.
 */
struct slice address_local(struct slice addr);  /* whole address when it has no domain */
struct slice address_domain(struct slice addr); /* empty when it has none */
/*
 * Parses the path after "MAIL FROM:" or "RCPT TO:" from the front of *text, leaves the rest (parameters).
 * <>, source routes (dropped), quoted local parts, domain literals; without <> too unless strict.
 * utf8: bytes above 127 are allowed. The internal form goes to out. Errors: err with 5.1.3/5.1.7 style code "5.5.4"/"5.1.3".
 */
NODISCARD int address_parse_path(struct slice *text, bool strict, bool utf8, struct buf *out,
                                 struct err *err);
/* External (RFC 5321) form: quotes the local part where needed. */
void address_quote(struct slice addr, struct buf *out);
/* The inverse of address_quote. Anything is accepted; what cannot be parsed is kept. */
void address_unquote(struct slice text, struct buf *out);
/* Splits user+ext by the first of delimiters (recipient_delimiter); "owner-..." "...-request" as Postfix with
 * delimiter '-'. False when there is no extension; then *user is local. */
bool address_split_extension(struct slice local, const char *delimiters, struct slice *user,
                             struct slice *ext);

/*
 * Header addresses: calls fn for each mailbox of a header's value (comments, groups, route-addrs
 * understood), with the slice of the address itself as written (to be replaced) and its internal form.
 * Never fails: what is no address is passed over.
 */
void address_header_each(struct slice value,
                         void (*fn)(struct slice raw, struct slice addr, void *arg), void *arg);
/* Copies value to out with each address replaced by what fn appends in external form; fn returns false to keep. */
void address_header_rewrite(struct slice value,
                            bool (*fn)(struct slice addr, struct buf *out, void *arg), void *arg,
                            struct buf *out);

bool hostname_valid(struct slice s);        /* RFC 1123 with underscores allowed, as Postfix */
bool address_literal_valid(struct slice s); /* inside of [..]: 1.2.3.4 or IPv6:... */

#endif
