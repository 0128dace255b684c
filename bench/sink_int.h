/* SPDX-License-Identifier: Apache-2.0 */
/* sink_int.h - what the files of smtp-sink share. */
#ifndef PR_BENCH_SINK_INT_H
#define PR_BENCH_SINK_INT_H

#include "sink.h"
#include "stream.h"

struct sink_session;

struct sink {
    const struct sink_options *o;
    struct loop *loop;
    struct loop_io *listener, *signals;
    struct loop_timer *watchdog, *counters;
    int listen_fd, signal_fd;
    int64_t open, sessions, quits, messages, recipients;
    struct mono_time last; /* when the last message was taken */
    bool counters_due, full;
    struct sink_session *first;  /* of those that are open */
    struct sink_session *closed; /* to be freed at the end of the turn */
};

/* --- sink.c --- */
/* A counter has changed. */
void sink_counted(struct sink *sink);
void sink_session_closed(struct sink *sink);

/* --- sink_session.c: one connection, its lines, its pauses --- */

enum sink_wait {
    SINK_WAIT_NONE,
    SINK_WAIT_COMMAND, /* the held command is obeyed when the time is over */
    SINK_WAIT_READ,    /* then the content is read */
    SINK_WAIT_ABORT,   /* then the client is told 550, and hung up on */
};

struct sink_session {
    struct sink *sink;
    struct sink_session *next, **link; /* in sink->first */
    struct stream stream;
    bool open;
    char peer[64];
    enum sink_wait wait;
    struct loop_timer *timer; /* of the wait; made when it is needed first */
    enum sink_verb held;
    struct buf held_args;
    struct mono_time heard;
    /* the conversation */
    const char *protocol;
    struct buf helo, mail, rcpts; /* arguments, for dumps; rcpts: one a line */
    bool has_mail, in_content, mid_line;
    int64_t rcpt_count;
    int auth_lines; /* of an AUTH dialogue that are still to come */
    struct sink_dump *dump;
};

void sink_session_new(struct sink *sink, int fd, const char *peer);
void sink_session_close(struct sink_session *s);
void sink_sessions_bury(void *arg); /* a struct sink: frees those that are closed */
/* Nothing is read for so long; then what `wait` says. */
void sink_session_wait(struct sink_session *s, enum sink_wait wait, int64_t seconds);

/* --- sink_command.c: what a command does --- */

void sink_command_line(struct sink_session *s, struct slice line);
/* After the delay that the verb's rule asks for, if any: */
void sink_command_run(struct sink_session *s, enum sink_verb verb, struct slice args);
/* Without it. */
void sink_command_obey(struct sink_session *s, enum sink_verb verb, struct slice args);

/* --- sink_dump.c: mail transactions as files --- */

struct sink_dump;

struct sink_envelope {
    const char *client, *protocol;
    struct slice helo; /* empty: none */
    struct slice mail;
    struct slice rcpts; /* one a line */
};

NODISCARD int sink_dump_open(const struct sink_options *o, const struct sink_envelope *e,
                             struct sink_dump **out, struct err *err);
/* Bytes of the content as they are to stand there. */
void sink_dump_put(struct sink_dump *d, struct slice data);
/* whole: the message's end was seen; a single dump of less is removed. -1: not all could be written. */
NODISCARD int sink_dump_close(struct sink_dump **d, bool whole, struct err *err);

#endif
