/* SPDX-License-Identifier: Apache-2.0 */
/* source_int.h - what the sessions of smtp-source share. */
#ifndef PR_BENCH_SOURCE_INT_H
#define PR_BENCH_SOURCE_INT_H

#include "source.h"
#include "stream.h"

struct source {
    const struct source_options *o;
    struct source_totals *totals;
    struct loop *loop;
    struct buf content; /* body, and the end of the message */
    int content_fd; /* the same as a file without name, or -1: where it is long, it is sent from there */
    int64_t claimed;   /* messages that a session has taken on */
    int64_t recipient; /* -N: the last number */
    int64_t active;    /* sessions that have something to do */
    char date[64];     /* of the header; the same for all */
    struct err *err;
    bool failed;
};

/* What is true in each, and where it leads: source_session.c. */
enum source_state {
    S_PAUSE,
    S_CONNECT,
    S_BANNER,
    S_HELLO,
    S_STARTTLS,
    S_MAIL,
    S_RCPT,
    S_DATA,
    S_FINAL,
    S_RSET,
    S_QUIT,
};

struct source_session {
    struct source *src;
    unsigned number;
    enum source_state state;
    struct stream stream;
    bool open, secure, can_pipeline, can_starttls;
    bool sent_ahead; /* the commands up to DATA have left together */
    int64_t connect_tries;
    size_t address; /* of the endpoint's, which is tried */
    bool has_message, refused;
    bool needs_reset, sent_one;
    int64_t message; /* its number, from 1 */
    int64_t rcpts_sent, rcpts_left, rcpts_taken, replies_left;
    struct mono_time began, heard;
    struct loop_timer *timer;
    SSL_SESSION *resume;
};

/* --- source_session.c --- */

struct source_session *source_session_new(struct source *src, unsigned number);
void source_session_free(struct source_session **s);
/* Takes on messages and sends them, until none is left; then source->active is one less. */
void source_session_start(struct source_session *s);
/* When the session last heard of its peer; MONO_NEVER while it waits for no one. */
struct mono_time source_session_heard(const struct source_session *s);

/* --- source.c --- */

/* Ends the run. */
void source_fail(struct source *src, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* --- source_say.c: put into the stream; the state is that in which the reply is waited for --- */

/* A command; without CRLF. */
void source_say(struct source_session *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
void source_say_hello(struct source_session *s);
/* MAIL, and with pipelining all up to DATA. */
void source_say_message(struct source_session *s);
/* The next recipient. */
void source_say_rcpt(struct source_session *s);
void source_say_content(struct source_session *s);

#endif
