/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.h - frames over a UNIX stream socket: a header, a payload, and at most one descriptor.
 *
 * Wire, little-endian: 4 payload length | 2 type | 2 flags (1: a descriptor comes along). A channel
 * buffers both ways; its descriptor is always non-blocking. One thread at a time uses a channel.
 * Nothing that a peer sends may do worse than end the channel.
 */
#ifndef PR_FRAME_H
#define PR_FRAME_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

#define FRAME_PAYLOAD_MAX                                                                          \
    (1U << 20) /* bytes; larger things travel as several frames, or by descriptor */

struct frame {
    uint16_t type;
    struct slice payload; /* borrowed, valid until the next chan_get* on the channel */
    int fd;               /* -1, or the receiver's to close */
};

enum chan_result {
    CHAN_OK,
    CHAN_AGAIN, /* would block; for the waiting calls: the time is up */
    CHAN_EOF,   /* the peer closed between two frames */
    CHAN_ERROR, /* broken connection or broken frame; err tells; only chan_free() is left */
};

struct chan;

/* Adopts fd (made non-blocking). */
NODISCARD struct chan *chan_new(int fd);
void chan_free(struct chan **c); /* closes the descriptor, drops what was not flushed */
int chan_fd(const struct chan *c);
int chan_take_fd(struct chan *c); /* the caller's now; chan_free() closes nothing */
/* Releases I/O buffers that are empty: for a channel that waits. */
void chan_trim(struct chan *c);

/* Queues a frame; nothing is written yet. fd: -1, or a descriptor that is duplicated here (the caller
 * keeps his). payload up to FRAME_PAYLOAD_MAX. */
void chan_put(struct chan *c, uint16_t type, struct slice payload, int fd);
/* The same, the payload built in place: append to the returned buffer, then chan_put_end(). */
struct buf *chan_put_begin(struct chan *c, uint16_t type);
void chan_put_end(struct chan *c);
bool chan_has_output(const struct chan *c);
size_t chan_output_len(const struct chan *c);
/* Writes what the socket takes: CHAN_OK when all is out, CHAN_AGAIN when some is left. */
NODISCARD enum chan_result chan_flush(struct chan *c, struct err *err);
/* Waits up to timeout_ms (-1: for ever) until all is out. */
NODISCARD enum chan_result chan_flush_wait(struct chan *c, int timeout_ms, struct err *err);

/* Sends all that was put, and a frame behind it whose payload is taken from where it lies; waits as chan_flush_wait(). After anything but
 * CHAN_OK the channel is broken: part of the frame may be out. */
NODISCARD enum chan_result chan_send_wait(struct chan *c, uint16_t type, struct slice payload,
                                          int timeout_ms, struct err *err);

/* The next whole frame, reading as needed, without waiting. */
NODISCARD enum chan_result chan_get(struct chan *c, struct frame *out, struct err *err);
/* Waits up to timeout_ms (-1: for ever) for one. */
NODISCARD enum chan_result chan_get_wait(struct chan *c, struct frame *out, int timeout_ms,
                                         struct err *err);
/* True if a whole frame is already buffered (an epoll wait would not report it). */
bool chan_has_frame(const struct chan *c);

/* Connects to a UNIX stream socket. ENOENT, ECONNREFUSED, EAGAIN are temporary. timeout_ms as above. */
NODISCARD int unix_connect(const char *path, int timeout_ms, struct err *err);
/* Listening socket, close-on-exec, non-blocking; an old socket file is replaced. */
NODISCARD int unix_listen(const char *path, mode_t mode, int backlog, struct err *err);
/* Effective uid of the peer. */
NODISCARD int unix_peer_uid(int fd, uid_t *uid);

#endif
