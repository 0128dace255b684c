/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.h - lines in, bytes out, over a socket that never blocks, in clear or with TLS.
 *
 * A stream lies in its owner's session and tells it by a callback what happened. The callback says whether
 * the stream is still there: after stream_fini() it returns false and nothing touches the stream again.
 */
#ifndef PR_BENCH_STREAM_H
#define PR_BENCH_STREAM_H

#include <openssl/ssl.h>

#include "base/buf.h"
#include "base/loop.h"

enum stream_event {
    STREAM_CONNECTED, /* after stream_init() with connecting: the peer is there */
    STREAM_TLS,       /* after stream_start_tls(): encrypted from here on */
    STREAM_INPUT,     /* bytes have come */
    STREAM_CLOSED,    /* the peer's end, or an error: stream_error() tells which */
};

typedef bool (*stream_fn)(void *arg, enum stream_event event); /* false: the stream is gone */

struct stream {
    struct loop *loop;
    struct loop_io *io;
    int fd;
    SSL *ssl;
    bool connecting, handshake, server, paused, unsent;
    unsigned tls_wants; /* LOOP_WRITE: TLS must write before it can go on reading */
    struct buf in;
    size_t in_at;
    struct buf out;
    size_t out_at;
    struct slice tail;     /* borrowed, sent after out */
    size_t tail_bytes;     /* what it was when it was put */
    int tail_fd;           /* a file with the same bytes, or -1 */
    bool sends_much;       /* the peer: the last read was full */
    struct mono_time sent; /* when all that was put had left for the last time */
    int error;             /* errno, 0 for an orderly end, -1 for a fault of TLS */
    stream_fn fn;
    void *arg;
};

/* Takes fd. */
void stream_init(struct stream *s, struct loop *l, int fd, bool connecting, stream_fn fn,
                 void *arg);
/* Closes, without a word to the peer beyond what was put and could be sent. May be called twice. */
void stream_fini(struct stream *s);

/* Output is collected, and sent when the callback that put it returns, or by stream_flush(). */
void stream_put(struct stream *s, struct slice data);
void stream_printf(struct stream *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
/*
 * Borrowed until stream_unsent() is false; one at a time, after something put, nothing is put meanwhile. fd: a file that has these bytes at
 * its begin, from which the kernel takes them without a copy; or -1.
 */
void stream_put_borrowed(struct stream *s, struct slice data, int fd);
bool stream_unsent(const struct stream *s);
/* For whoever puts outside of the callback (timers). False: it failed, and STREAM_CLOSED was told. */
bool stream_flush(struct stream *s);

/* The next line without its CRLF or LF, valid until the next call; false when there is none whole yet. */
bool stream_line(struct stream *s, struct slice *line);
/* What is there, whole lines or not; then stream_consume(). */
struct slice stream_view(const struct stream *s);
void stream_consume(struct stream *s, size_t len);
/* Paused, nothing is read. What had been read stays, and the owner goes on with it when he resumes. */
void stream_pause(struct stream *s, bool paused);
/* resume may be NULL. -1: TLS cannot be set up here. */
NODISCARD int stream_start_tls(struct stream *s, SSL_CTX *ctx, bool server, SSL_SESSION *resume);
const char *stream_error(const struct stream *s, char *buf, size_t len);

#endif
