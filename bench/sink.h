/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink.h - smtp-sink: takes SMTP or LMTP sessions and throws their messages away.
 */
#ifndef PR_BENCH_SINK_H
#define PR_BENCH_SINK_H

#include <openssl/ssl.h>

#include "base/err.h"

/* What can be made to fail, to wait, or be logged: the commands, and two moments that are none. */
enum sink_verb {
    SINK_CONNECT,
    SINK_HELO,
    SINK_EHLO,
    SINK_LHLO,
    SINK_STARTTLS,
    SINK_XCLIENT,
    SINK_XFORWARD,
    SINK_AUTH,
    SINK_MAIL,
    SINK_RCPT,
    SINK_VRFY,
    SINK_DATA,
    SINK_DOT, /* the end of the content */
    SINK_RSET,
    SINK_NOOP,
    SINK_QUIT,
    SINK_VERBS
};

enum sink_fate { SINK_OBEY, SINK_SOFT, SINK_HARD, SINK_421, SINK_DROP };

struct sink_rule {
    enum sink_fate fate;
    bool log;
    int64_t delay_s;
    int odds; /* 1..99: the delay is multiplied by how often a die of 100 falls below; 0: once */
};

struct sink_options {
    const char *hostname, *soft_reply, *hard_reply;
    struct sink_rule rules[SINK_VERBS];
    bool lmtp, no_esmtp, pix, verbose, counters;
    bool no_8bitmime, no_auth, no_xclient, no_xforward, no_dsn, no_enhanced, no_pipelining;
    int64_t abort_after_s; /* -1: not; else seconds after DATA's reply to 550 and the end */
    int64_t read_delay_s;  /* before the content is read */
    int64_t timeout_s;
    int64_t max_sessions;
    int64_t quit_messages, quit_sessions; /* 0: never */
    const char *dump_one, *dump_all;      /* templates for strftime(3); NULL */
    struct slice dump_start;
    SSL_CTX *tls_context; /* NULL: none */
    bool tls_wrapped;
};

/* -1: no such verb. */
int sink_verb_parse(struct slice name);

/* Serves listen_fd, which it takes, until told to end by SIGTERM or SIGINT, or as many messages or sessions are done. */
NODISCARD int sink_run(const struct sink_options *o, int listen_fd, struct err *err);

#endif
