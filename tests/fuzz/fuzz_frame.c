/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_frame.c - bytes and descriptors of a hostile peer into a channel.
 *
 * The first byte steers the way of sending: its low six bits (plus 1) the size of the pieces, bit 6 a
 * descriptor with every second piece. The rest is what the peer writes. Whatever comes out must be within
 * bounds, in the right number, and nothing may stay open.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ssize_t send_piece(int fd, const uint8_t *data, size_t len, bool with_fd)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {(void *) (uintptr_t) data, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    const int any_fd =
        STDERR_FILENO; /* not the socket: the receiver would keep its own peer open */

    if (with_fd) {
        struct cmsghdr *cm;

        memset(&control, 0, sizeof(control));
        msg.msg_control = control.space;
        msg.msg_controllen = sizeof(control.space);
        cm = CMSG_FIRSTHDR(&msg);
        cm->cmsg_level = SOL_SOCKET;
        cm->cmsg_type = SCM_RIGHTS;
        cm->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cm), &any_fd, sizeof(int));
    }
    return sendmsg(fd, &msg, MSG_NOSIGNAL);
}

/* Takes what is there; false when the channel is at its end. */
static bool drain(struct chan *c, size_t *taken)
{
    for (;;) {
        struct err err = ERR_INIT;
        struct frame f;

        switch (chan_get(c, &f, &err)) {
        case CHAN_OK:
            if (f.payload.len > FRAME_PAYLOAD_MAX)
                abort();
            *taken += 8 + f.payload.len;
            for (size_t i = 0; i < f.payload.len; i += 4096)
                (void) *(const volatile char *) (f.payload.ptr + i);
            fd_close(&f.fd);
            break;
        case CHAN_AGAIN:
            if (chan_has_frame(c))
                abort();
            chan_trim(c);
            return true;
        case CHAN_EOF:
            return false;
        case CHAN_ERROR:
            if (err.kind == ERR_NONE || err.text[0] == '\0')
                abort();
            return false;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chan *c;
    int pair[2];
    int lowest = dup(STDERR_FILENO);
    int after;
    size_t taken = 0;
    size_t piece;
    bool fds;
    bool open = true;

    if (size == 0) {
        fd_close(&lowest);
        return 0;
    }
    piece = (size_t) (data[0] & 63) + 1;
    fds = (data[0] & 64) != 0;
    data++;
    size--;
    if (lowest != -1)
        (void) close(lowest);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1)
        abort();
    c = chan_new(pair[0]);
    for (size_t at = 0, n = 0; at < size && open; n++) {
        ssize_t sent = send_piece(pair[1], data + at, size - at < piece ? size - at : piece,
                                  fds && n % 2 == 0);

        if (sent <= 0)
            abort();
        at += (size_t) sent;
        open = drain(c, &taken);
        if (taken > at)
            abort();
    }
    (void) close(pair[1]);
    if (open && drain(c, &taken))
        abort();
    chan_free(&c);
    after = dup(STDERR_FILENO);
    if (after != lowest)
        abort(); /* a descriptor was left open */
    if (after != -1)
        (void) close(after);
    return 0;
}
