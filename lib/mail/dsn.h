/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dsn.h - delivery outcomes, enhanced status codes (RFC 3463) and DSN requests (RFC 3461).
 */
#ifndef PR_MAIL_DSN_H
#define PR_MAIL_DSN_H

#include "base/buf.h"
#include "base/err.h"

/* Values go over sockets and to disk: never reused. */
enum outcome {
    OUTCOME_SENT = 1,
    OUTCOME_DEFERRED = 2,
    OUTCOME_BOUNCED = 3,
    OUTCOME_EXPIRED = 4,
    OUTCOME_UNCERTAIN =
        5, /* final dot sent, no reply read: retried like a deferral, logged as such */
};

/* RFC 3461 NOTIFY, as bits. 0: not given. */
enum { DSN_NOTIFY_NEVER = 1, DSN_NOTIFY_SUCCESS = 2, DSN_NOTIFY_FAILURE = 4, DSN_NOTIFY_DELAY = 8 };
enum dsn_ret { DSN_RET_NONE = 0, DSN_RET_FULL = 1, DSN_RET_HDRS = 2 };

#define DSN_CODE_MAX 11 /* "5.999.999" and a bit */

/* What became of one recipient. Slices are borrowed from whoever filled it. */
struct dsn_status {
    enum outcome outcome;
    struct slice code;      /* "2.0.0" */
    struct slice text;      /* one line, "host h[a] said: 550 ..." */
    struct slice diag_type; /* "smtp", "x-unix" or "" */
    struct slice diag_text; /* the remote reply, or "" */
    struct slice mta_name;  /* remote host, or "" */
    struct slice relay;     /* who was asked, as logged; only where a report tells it */
    bool
        notify_passed; /* SENT: the remote host was asked (RFC 3461 NOTIFY) and reports success itself */
};

bool dsn_code_valid(struct slice s);
/* The X.Y.Z at the front of text (RFC 2034), or the empty slice; *rest gets what follows it. */
struct slice dsn_code_split(struct slice text, struct slice *rest);
const char *outcome_name(
    enum outcome o); /* "sent", "deferred", "bounced", "expired"; uncertain is "deferred" */
/* "SUCCESS,FAILURE" and so on; -1 with err for bad words or NEVER with others. */
NODISCARD int dsn_notify_parse(struct slice s, uint32_t *bits, struct err *err);
void dsn_notify_print(uint32_t bits, struct buf *out);
/* RFC 3461 xtext. Decoding fails on bad input. */
void xtext_encode(struct slice s, struct buf *out);
NODISCARD int xtext_decode(struct slice s, struct buf *out);

#endif
