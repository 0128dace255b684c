/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source.h - smtp-source: sessions that send messages side by side, until all are sent.
 */
#ifndef PR_BENCH_SOURCE_H
#define PR_BENCH_SOURCE_H

#include <openssl/ssl.h>

#include "base/err.h"
#include "endpoint.h"
#include "histogram.h"

enum source_tls { SOURCE_CLEAR, SOURCE_STARTTLS, SOURCE_WRAPPED };

struct source_options {
    struct endpoint to;
    const char *sender, *recipient, *hostname, *subject; /* subject: NULL for none */
    struct slice body;                                   /* ready for the wire; borrowed */
    bool body_is_message;                                /* it brings its own header */
    int64_t messages, sessions, recipients;
    int64_t domains; /* 0: the recipient's own; else d0. to dN-1. before it */
    int64_t connect_tries;
    int64_t wait_s, random_wait_s; /* between a session's messages */
    int window;                    /* bytes, 0 for the system's own */
    bool lmtp, old, keep_connection, number_all, carry_on, verbose, pipelining, ehlo;
    enum source_tls tls;
    SSL_CTX *tls_context; /* NULL in clear */
    bool tls_resume;
    void (*progress)(void *arg); /* called after each message that is done; may be NULL */
    void *progress_arg;
};

struct source_totals {
    int64_t accepted, refused; /* messages */
    int64_t recipients;        /* accepted in accepted messages */
    int64_t refused_recipients;
    int64_t connections, resumed; /* resumed: TLS sessions that were */
    struct histogram
        message; /* from its connection, or from MAIL on one that is kept, to the last reply */
    struct histogram final; /* from the last byte sent to the last reply */
    char first_refusal[256];
};

/*
 * Sends all messages. totals is written as they are done, so that progress() can look at it.
 * -1: a connection failed, or (without carry_on) a reply was not the one hoped for.
 */
NODISCARD int source_run(const struct source_options *o, struct source_totals *totals,
                         struct err *err);

#endif
