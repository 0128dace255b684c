/* SPDX-License-Identifier: Apache-2.0 */
/* source_int.h - what the sessions of smtp-source share. */
#ifndef PR_BENCH_SOURCE_INT_H
#define PR_BENCH_SOURCE_INT_H

#include "source.h"
#include "stream.h"

struct source_session;

struct source {
    const struct source_options *o;
    struct source_totals *totals;
    struct loop *loop;
    struct buf content; /* body, and the end of the message */
    int64_t claimed;    /* messages that a session has taken on */
    int64_t recipient;  /* -N: the last number */
    int64_t active;     /* sessions that have something to do */
    char date[64];      /* of the header; the same for all */
    struct err *err;
    bool failed;
};

struct source_session *source_session_new(struct source *src, unsigned number);
void source_session_free(struct source_session **s);
/* Takes on messages and sends them, until none is left; then source->active is one less. */
void source_session_start(struct source_session *s);
/* When the session last heard of its peer; MONO_NEVER while it waits for no one. */
struct mono_time source_session_heard(const struct source_session *s);
/* Ends the run. */
void source_fail(struct source *src, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
