/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_smtp_sink.c - any bytes to a session of smtp-sink. The first byte chooses LMTP, and into how small pieces the rest is
 * cut; what is replied must not depend on the pieces, must be replies, and no more messages are taken than there are ends.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "bench/sink_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 60000 }; /* below the length at which a command's line ends the session */

struct client {
    struct loop *loop;
    struct loop_io *io;
    int fd;
    struct slice rest;
    size_t piece;
    struct buf replies;
    bool heard_all;
};

static void on_client(void *arg, unsigned events)
{
    struct client *c = arg;
    char chunk[4096];
    ssize_t n;

    if ((events & LOOP_READ) != 0) {
        while ((n = read(c->fd, chunk, sizeof(chunk))) > 0)
            buf_put(&c->replies, chunk, (size_t) n);
        if (n == 0 || (n == -1 && errno == ECONNRESET)) { /* reset: it left some of ours unread */
            c->heard_all = true;
            loop_stop(c->loop);
            return;
        }
    }
    if ((events & LOOP_WRITE) == 0)
        return;
    n = c->rest.len > 0 ? send(c->fd, c->rest.ptr, c->rest.len < c->piece ? c->rest.len : c->piece,
                               MSG_NOSIGNAL)
                        : 0;
    if (n > 0)
        c->rest = slice_sub(c->rest, (size_t) n, c->rest.len);
    if (c->rest.len == 0 || (n == -1 && errno == EPIPE)) { /* said all, or hung up on */
        loop_io_set(c->io, LOOP_READ);
        (void) shutdown(c->fd, SHUT_WR);
    }
}

/* The replies to the input in pieces of that size; messages taken. */
static int64_t converse(const struct sink_options *o, struct slice input, size_t piece,
                        struct buf *replies)
{
    struct sink sink = {.o = o, .loop = loop_new()};
    struct client c = {.loop = sink.loop, .rest = input, .piece = piece};
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == -1)
        abort();
    buf_init(&c.replies, SIZE_MAX);
    c.fd = fds[0];
    c.io = loop_io_new(sink.loop, c.fd, LOOP_READ | LOOP_WRITE, on_client, &c);
    sink.open = 1;
    sink_session_new(&sink, fds[1], "unix");
    loop_run(sink.loop);
    if (!c.heard_all || sink.first != NULL || sink.open != 0 || sink.sessions != 1)
        abort();
    sink_sessions_bury(&sink);
    loop_io_free(&c.io);
    fd_close(&c.fd);
    loop_free(&sink.loop);
    *replies = c.replies;
    return sink.messages;
}

static void check_replies(struct slice text)
{
    while (text.len > 0) {
        ptrdiff_t nl = slice_find(text, '\n');

        if (nl < 5 || text.ptr[nl - 1] != '\r' || text.ptr[0] < '2' || text.ptr[0] > '5' ||
            !ascii_is_digit(text.ptr[1]) || !ascii_is_digit(text.ptr[2]) ||
            (text.ptr[3] != ' ' && text.ptr[3] != '-'))
            abort();
        text = slice_sub(text, (size_t) nl + 1, text.len);
    }
}

static int64_t count_ends(struct slice text)
{
    struct slice line;
    int64_t ends = 0;

    while (slice_token(&text, "\n", &line))
        ends += slice_eq_str(line, ".") || slice_eq_str(line, ".\r") ? 1 : 0;
    return ends;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sink_options o = {.hostname = "sink",
                             .soft_reply = "450 4.3.0 no",
                             .hard_reply = "550 5.3.0 no",
                             .abort_after_s = -1,
                             .timeout_s = 100,
                             .max_sessions = 1};
    struct buf whole;
    struct buf pieces;

    if (size == 0 || size > INPUT_MAX)
        return 0;
    o.lmtp = (data[0] & 1) != 0;
    o.rules[SINK_DOT].fate = (data[0] & 2) != 0 ? SINK_SOFT : SINK_OBEY;
    struct slice input = slice_of((const char *) data + 1, size - 1);
    int64_t messages = converse(&o, input, INPUT_MAX, &whole);

    if (converse(&o, input, 1 + (data[0] >> 2), &pieces) != messages)
        abort();
    if (messages > count_ends(input) || !slice_eq(buf_view(&whole), buf_view(&pieces)))
        abort();
    check_replies(buf_view(&whole));
    buf_fini(&whole);
    buf_fini(&pieces);
    return 0;
}
