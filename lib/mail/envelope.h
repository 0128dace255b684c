/* SPDX-License-Identifier: Apache-2.0 */
/*
 * envelope.h - what is known of a message beside its content. The same two structs travel from intake
 * to cleanup, lie in the queue, and go to the delivery agents. Slices are borrowed.
 */
#ifndef PR_MAIL_ENVELOPE_H
#define PR_MAIL_ENVELOPE_H

#include "base/msg.h"
#include "mail/dsn.h"

/* Bits of mail_envelope.flags. On disk and wire: never reused. */
enum {
    MAIL_8BITMIME = 1 << 0, /* BODY=8BITMIME was given */
    MAIL_SMTPUTF8 = 1 << 1, /* SMTPUTF8 was requested, or found to be needed */
    MAIL_LOCAL_ORIGIN =
        1 << 2, /* from sendmail(1) or made by the MTA: header rewriting as for local clients */
    MAIL_NO_HEADER_CHECKS = 1 << 3, /* header, body checks are not for this message */
    MAIL_NO_ADDRESS_MAPS = 1 << 4,  /* canonical, virtual alias, masquerading, bcc: done before */
    MAIL_NO_MILTERS = 1 << 5,
    MAIL_HOLD = 1 << 6,   /* goes to the hold queue */
    MAIL_BOUNCE = 1 << 7, /* a report of our own */
    MAIL_RECEIVED_DONE =
        1
        << 8, /* no Received: header is to be put in front (it has its own, or forwarded by rule) */
    MAIL_FORWARDED = 1 << 9, /* local(8) forwards it: owner and loops were seen to */
    /* state that a message brings from the queue of another system */
    MAIL_DELAY_WARNED = 1 << 10,  /* its sender knows of the delay */
    MAIL_FORCED_EXPIRE = 1 << 11, /* as after "postsuper -e" */
    /* what its sender asked for */
    MAIL_PROBE = 1 << 12,  /* nothing is delivered: its sender is told what would become of it */
    MAIL_TRACE = 1 << 13,  /* its sender is told what became of the first attempt */
    MAIL_NOTICE = 1 << 14, /* for the postmaster, of an SMTP session */
    /* facts about the content, filled by cleanup while scanning */
    MAIL_FACT_8BIT = 1 << 16, /* some byte above 127 in header or body */
    MAIL_FACT_DOT = 1 << 17,  /* some line starts with "." */
    MAIL_FACT_BARE_CR = 1 << 18,
    MAIL_FACT_NUL = 1 << 19,
    MAIL_FACT_8BIT_HEADER = 1 << 20, /* some byte above 127 in the header */
};

#define MAIL_ADDR_MAX       2048 /* bytes of an address in any internal message */
#define MAIL_RECIPIENTS_MAX 500000
#define MAIL_REASON_MAX     4096 /* bytes of a deferral's text */

struct mail_envelope {
    struct slice queue_id;
    struct slice sender; /* reverse-path without <>; empty: the null sender */
    uint64_t arrival_us; /* wall clock: when the message began to arrive */
    uint32_t flags;
    uint32_t dsn_ret; /* enum dsn_ret */
    struct slice dsn_envid;
    struct slice client_name; /* "unknown" without a verified name; empty for local mail */
    struct slice client_addr; /* without brackets */
    struct slice client_port;
    struct slice client_reverse_name;
    struct slice helo;
    struct slice protocol;    /* SMTP, ESMTP, ESMTPS, ESMTPSA ...; empty for local mail */
    struct slice tls_comment; /* "using TLSv1.3 ..." for Received:, or empty */
    struct slice sasl_method;
    struct slice sasl_username;
    struct slice sasl_sender;
    struct slice full_name;      /* sendmail -F */
    struct slice rewrite_domain; /* for header addresses of remote clients, or empty: as local */
    struct slice filter;         /* FILTER action: transport:nexthop for all recipients, or empty */
    struct slice redirect;       /* REDIRECT action: the only recipient, or empty */
    struct slice log_tag;        /* syslog_name part of the receiving service, or empty */
    /* filled by cleanup */
    uint64_t content_bytes; /* as it goes out, CRLF counted */
    uint32_t header_bytes;  /* up to and with the empty line */
    uint32_t longest_line;  /* without CRLF */
    uint32_t rcpt_count;
    struct slice message_id;
    uint64_t next_retry_us; /* it was tried and deferred elsewhere: wall clock; 0: it is new */
};

struct mail_rcpt {
    struct slice addr;   /* forward-path without <>; after rewriting: where it goes */
    struct slice orig;   /* as given by the client, before alias expansion; empty: the same */
    struct slice orcpt;  /* RFC 3461 ORCPT, still encoded, "rfc822;..." */
    uint32_t notify;     /* DSN_NOTIFY_ bits */
    uint32_t index;      /* number within the message, from 0; given by cleanup */
    struct slice code;   /* it was deferred elsewhere: enhanced status code, or empty */
    struct slice reason; /* and the text, or empty */
};

extern const struct msg_def msg_envelope; /* type PROTO_ENVELOPE */
extern const struct msg_def msg_rcpt;     /* type PROTO_RCPT */

#endif
