/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.c - see stream.h. One callback of the loop does what can be done: connect, shake hands, read, let
 * the owner work, and send what he put. The watched events follow from the state at its end.
 */
#include "stream.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"

enum {
    READ_BYTES = 64 * 1024,
    READ_MUCH_BYTES = 256 * 1024, /* from who has just sent so much that READ_BYTES were full */
    OUT_KEEP_BYTES = 256 * 1024   /* a larger buffer is given back once it is empty */
};

static void watch(struct stream *s)
{
    unsigned events = s->paused ? 0 : LOOP_READ;

    if (s->connecting || s->unsent)
        events |= LOOP_WRITE;
    loop_io_set(s->io, events | s->tls_wants);
}

/* EAGAIN as 0; errors and the end are remembered and are -1. */
static ssize_t tls_result(struct stream *s, int ret)
{
    int saved = errno;

    s->tls_wants = 0;
    if (ret > 0)
        return ret;
    switch (SSL_get_error(s->ssl, ret)) {
    case SSL_ERROR_WANT_READ:
        return 0;
    case SSL_ERROR_WANT_WRITE:
        s->tls_wants = LOOP_WRITE;
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        s->error = 0;
        return -1;
    case SSL_ERROR_SYSCALL:
        s->error = saved;
        return -1;
    default:
        s->error = -1;
        return -1;
    }
}

static ssize_t plain_result(struct stream *s, ssize_t ret)
{
    if (ret > 0)
        return ret;
    if (ret == -1 && (errno == EAGAIN || errno == EINTR))
        return 0;
    s->error = ret == -1 ? errno : 0;
    return -1;
}

static ssize_t read_some(struct stream *s)
{
    size_t size = s->sends_much ? READ_MUCH_BYTES : READ_BYTES;
    char *room = buf_reserve(&s->in, size);
    ssize_t n;

    if (s->ssl != NULL) {
        ERR_clear_error();
        n = tls_result(s, SSL_read(s->ssl, room, (int) size));
    } else {
        n = plain_result(s, read(s->fd, room, size));
    }
    if (n > 0)
        buf_advance(&s->in, (size_t) n);
    s->sends_much = n >= READ_BYTES;
    return n;
}

static ssize_t write_some(struct stream *s)
{
    struct slice head = slice_of(s->out.ptr + s->out_at, s->out.len - s->out_at);
    bool from_file = s->tail_fd != -1 && s->tail.len > 0 && s->ssl == NULL;
    struct iovec iov[2] = {{(void *) (uintptr_t) head.ptr, head.len},
                           {(void *) (uintptr_t) s->tail.ptr, s->tail.len}};
    struct msghdr msg = {.msg_iov = head.len > 0 ? iov : iov + 1,
                         .msg_iovlen = head.len > 0 && s->tail.len > 0 && !from_file ? 2 : 1};

    if (s->ssl != NULL) {
        struct slice next = head.len > 0 ? head : s->tail;

        ERR_clear_error();
        return tls_result(
            s, SSL_write(s->ssl, next.ptr, (int) (next.len < INT32_MAX ? next.len : INT32_MAX)));
    }
    if (from_file && head.len == 0) {
        off_t at = (off_t) (s->tail_bytes - s->tail.len);

        return plain_result(s, sendfile(s->fd, s->tail_fd, &at, s->tail.len));
    }
    return plain_result(s, sendmsg(s->fd, &msg, MSG_NOSIGNAL | (from_file ? MSG_MORE : 0)));
}

/* False: the connection is broken. */
static bool send_all(struct stream *s)
{
    bool any = stream_unsent(s);

    while (s->out_at < s->out.len || s->tail.len > 0) {
        ssize_t n = write_some(s);
        size_t sent = (size_t) n;
        size_t from_out = s->out.len - s->out_at;

        if (n == -1)
            return false;
        if (n == 0) {
            s->unsent = true;
            return true;
        }
        if (from_out > sent)
            from_out = sent;
        s->out_at += from_out;
        s->tail = slice_sub(s->tail, sent - from_out, s->tail.len);
    }
    if (any)
        s->sent = mono_now();
    s->unsent = false;
    s->out_at = 0;
    if (s->out.cap > OUT_KEEP_BYTES)
        buf_fini(&s->out);
    else
        buf_reset(&s->out);
    return true;
}

bool stream_flush(struct stream *s)
{
    if (s->connecting || s->handshake) {
        watch(s);
        return true;
    }
    if (!send_all(s)) {
        loop_io_set(s->io, 0);
        s->fn(s->arg, STREAM_CLOSED);
        return false;
    }
    watch(s);
    return true;
}

/* 1: goes on, 0: waits, -1: failed. */
static int finish_connect(struct stream *s, unsigned events)
{
    int error = 0;
    socklen_t len = sizeof(error);

    if ((events & (LOOP_WRITE | LOOP_HANGUP)) == 0)
        return 0;
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) == -1)
        error = errno;
    if (error != 0) {
        s->error = error;
        return -1;
    }
    s->connecting = false;
    return 1;
}

static int finish_handshake(struct stream *s)
{
    ERR_clear_error();
    ssize_t n = tls_result(s, s->server ? SSL_accept(s->ssl) : SSL_connect(s->ssl));

    if (n > 0)
        s->handshake = false;
    return n > 0 ? 1 : (int) n;
}

/* What the events allow; false when the stream is gone or its owner was told of its end. */
static bool work(struct stream *s, unsigned events)
{
    int done;

    if (s->connecting) {
        done = finish_connect(s, events);
        if (done != 1)
            return done == 0 || s->fn(s->arg, STREAM_CLOSED);
        if (!s->fn(s->arg, STREAM_CONNECTED))
            return false;
    }
    if (s->handshake) {
        done = finish_handshake(s);
        if (done != 1)
            return done == 0 || s->fn(s->arg, STREAM_CLOSED);
        if (!s->fn(s->arg, STREAM_TLS))
            return false;
    }
    if (s->unsent && !send_all(s))
        return s->fn(s->arg, STREAM_CLOSED);
    if (s->paused && (events & LOOP_HANGUP) != 0) /* it would be reported for ever */
        return s->fn(s->arg, STREAM_CLOSED);
    do {
        ssize_t n;

        if (s->paused || s->handshake)
            return true;
        n = read_some(s);
        if (n == 0)
            return true;
        if (!s->fn(s->arg, n > 0 ? STREAM_INPUT : STREAM_CLOSED))
            return false;
        if (n == -1)
            return true;
    } while (s->ssl !=
             NULL); /* the loop sees the socket, not what TLS holds: until it has no more */
    return true;
}

static void on_io(void *arg, unsigned events)
{
    struct stream *s = arg;
    bool began;

    do {
        bool shaking = s->handshake;

        if (!work(s, events))
            return;
        began = s->handshake && !shaking; /* the side that speaks first has to be called once */
    } while (began);
    if (s->error != 0)
        loop_io_set(s->io, 0);
    else
        stream_flush(s);
}

void stream_init(struct stream *s, struct loop *l, int fd, bool connecting, stream_fn fn, void *arg)
{
    *s = (struct stream){
        .loop = l, .fd = fd, .tail_fd = -1, .connecting = connecting, .fn = fn, .arg = arg};
    buf_init(&s->in, SIZE_MAX);
    buf_init(&s->out, SIZE_MAX);
    s->io = loop_io_new(l, fd, connecting ? LOOP_WRITE : LOOP_READ, on_io, s);
}

void stream_fini(struct stream *s)
{
    if (s->io == NULL)
        return;
    if (s->error == 0 && !s->connecting && !s->handshake && send_all(s) && s->ssl != NULL)
        (void) SSL_shutdown(s->ssl); /* our word of the end; the peer's is not waited for */
    loop_io_free(&s->io);
    SSL_free(s->ssl);
    s->ssl = NULL;
    fd_close(&s->fd);
    buf_fini(&s->in);
    buf_fini(&s->out);
}

void stream_put(struct stream *s, struct slice data)
{
    buf_put_slice(&s->out, data);
}

void stream_printf(struct stream *s, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&s->out, fmt, ap);
    va_end(ap);
}

void stream_put_borrowed(struct stream *s, struct slice data, int fd)
{
    s->tail = data;
    s->tail_bytes = data.len;
    s->tail_fd = fd;
}

bool stream_unsent(const struct stream *s)
{
    return s->out_at < s->out.len || s->tail.len > 0;
}

struct slice stream_view(const struct stream *s)
{
    return slice_of(s->in.ptr + s->in_at, s->in.len - s->in_at);
}

void stream_consume(struct stream *s, size_t len)
{
    s->in_at += len;
    if (s->in_at == s->in.len) {
        s->in_at = 0;
        buf_reset(&s->in);
    } else if (s->in_at >= READ_BYTES) {
        buf_consume(&s->in, s->in_at);
        s->in_at = 0;
    }
}

bool stream_line(struct stream *s, struct slice *line)
{
    const char *start = s->in.ptr + s->in_at;
    size_t len = s->in.len - s->in_at;
    const char *nl = len > 0 ? memchr(start, '\n', len) : NULL;

    if (nl == NULL)
        return false;
    *line = slice_of(start, (size_t) (nl - start));
    if (line->len > 0 && line->ptr[line->len - 1] == '\r')
        line->len--;
    s->in_at += (size_t) (nl - start) + 1;
    if (s->in_at == s->in.len) { /* the bytes stay where they are until more is read */
        s->in_at = 0;
        s->in.len = 0;
    }
    return true;
}

void stream_pause(struct stream *s, bool paused)
{
    s->paused = paused;
    watch(s);
}

int stream_start_tls(struct stream *s, SSL_CTX *ctx, bool server, SSL_SESSION *resume)
{
    if (!s->connecting && (!send_all(s) || s->unsent)) /* the reply to STARTTLS goes in clear */
        return -1;
    s->in_at = 0; /* what was sent in clear after STARTTLS is not what was meant */
    s->in.len = 0;
    s->ssl = SSL_new(ctx);
    if (s->ssl == NULL || SSL_set_fd(s->ssl, s->fd) != 1)
        return -1;
    SSL_set_mode(s->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                             SSL_MODE_RELEASE_BUFFERS);
    if (resume != NULL && SSL_set_session(s->ssl, resume) != 1)
        return -1;
    s->handshake = true;
    s->server = server;
    return 0;
}

const char *stream_error(const struct stream *s, char *buf, size_t len)
{
    char why[128];

    if (s->error > 0)
        return err_errno_text(s->error, buf, len);
    if (s->error == -1)
        ERR_error_string_n(ERR_peek_last_error(), why, sizeof(why));
    else
        (void) snprintf(why, sizeof(why), "closed by the peer");
    (void) snprintf(buf, len, "%s", why);
    return buf;
}
