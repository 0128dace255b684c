/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.c - see frame.h.
 *
 * Input: bytes are read in large pieces into a buffer; descriptors that come along are queued in the order in which they
 * arrive, and given to the frames that carry the flag, in order. A descriptor without its frame, or a frame without its
 * descriptor, ends the channel.
 */
#include "base/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/blocking.h"
#include "base/file.h"
#include "base/mtime.h"

#define HEAD           8
#define FLAG_FD        1
#define READ_SIZE      65536
#define READ_SIZE_LONG 131072
#define FDS_MAX        32 /* received, not yet claimed by their frames */
#define OUT_FDS_MAX    64

struct out_fd {
    size_t at; /* offset in out of the frame it belongs to */
    int fd;
};

struct chan {
    int fd;
    struct buf in;
    size_t in_at;
    bool long_frames; /* there was one: more room is taken at once */
    int in_fds[FDS_MAX];
    size_t in_nfds;
    struct buf out;
    size_t out_at; /* written so far */
    struct out_fd out_fds[OUT_FDS_MAX];
    size_t out_nfds;
    size_t frame_start; /* of the frame that chan_put_begin() began */
    const char *broken; /* why the next flush or read fails; NULL: sound */
};

struct chan *chan_new(int fd)
{
    struct chan *c = xcalloc(1, sizeof(*c));

    c->fd = fd;
    buf_init(&c->in, 2 * (size_t) FRAME_PAYLOAD_MAX + READ_SIZE);
    buf_init(&c->out, SIZE_MAX);
    if (fd_set_nonblocking(fd, true) == -1)
        c->broken = "the descriptor cannot be made non-blocking";
    return c;
}

void chan_free(struct chan **chan)
{
    struct chan *c = *chan;

    if (c == NULL)
        return;
    for (size_t i = 0; i < c->in_nfds; i++)
        fd_close(&c->in_fds[i]);
    for (size_t i = 0; i < c->out_nfds; i++)
        fd_close(&c->out_fds[i].fd);
    fd_close(&c->fd);
    buf_fini(&c->in);
    buf_fini(&c->out);
    free(c);
    *chan = NULL;
}

int chan_fd(const struct chan *c)
{
    return c->fd;
}

int chan_take_fd(struct chan *c)
{
    int fd = c->fd;

    c->fd = -1;
    return fd;
}

void chan_trim(struct chan *c)
{
    if (c->in_at == c->in.len) {
        c->in_at = 0;
        c->long_frames = c->long_frames && c->in.len > READ_SIZE;
        buf_fini(&c->in);
    }
    if (c->out_at == c->out.len) {
        c->out_at = 0;
        buf_fini(&c->out);
    }
}

static void put_head(char *p, size_t len, uint16_t type, uint16_t flags)
{
    for (int i = 0; i < 4; i++)
        p[i] = (char) (unsigned char) (len >> (8 * i));
    p[4] = (char) (unsigned char) type;
    p[5] = (char) (unsigned char) (type >> 8);
    p[6] = (char) (unsigned char) flags;
    p[7] = (char) (unsigned char) (flags >> 8);
}

struct buf *chan_put_begin(struct chan *c, uint16_t type)
{
    char head[HEAD];

    if (c->out_at == c->out.len) {
        buf_reset(&c->out);
        c->out_at = 0;
    }
    c->frame_start = c->out.len;
    put_head(head, 0, type, 0);
    buf_put(&c->out, head, HEAD);
    return &c->out;
}

void chan_put_end(struct chan *c)
{
    size_t len = c->out.len - c->frame_start - HEAD;
    char *head = c->out.ptr + c->frame_start;
    uint16_t type = (uint16_t) ((unsigned char) head[4] | (unsigned char) head[5] << 8);

    if (len > FRAME_PAYLOAD_MAX)
        c->broken = "a frame to be sent is over the limit";
    put_head(head, len, type, 0);
}

void chan_put(struct chan *c, uint16_t type, struct slice payload, int fd)
{
    buf_put_slice(chan_put_begin(c, type), payload);
    chan_put_end(c);
    if (fd == -1)
        return;
    if (c->out_nfds == OUT_FDS_MAX) {
        c->broken = "too many descriptors in flight";
        return;
    }
    c->out.ptr[c->frame_start + 6] = FLAG_FD;
    c->out_fds[c->out_nfds].at = c->frame_start;
    c->out_fds[c->out_nfds].fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (c->out_fds[c->out_nfds].fd == -1)
        c->broken = "a descriptor cannot be duplicated";
    else
        c->out_nfds++;
}

bool chan_has_output(const struct chan *c)
{
    return c->out_at < c->out.len;
}

size_t chan_output_len(const struct chan *c)
{
    return c->out.len - c->out_at;
}

enum chan_result chan_flush(struct chan *c, struct err *err)
{
    if (c->broken != NULL) {
        err_temporary(err, "%s", c->broken);
        return CHAN_ERROR;
    }
    while (c->out_at < c->out.len) {
        union {
            struct cmsghdr align;
            char space[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec iov = {c->out.ptr + c->out_at, c->out.len - c->out_at};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        bool with_fd = c->out_nfds > 0 && c->out_fds[0].at == c->out_at;
        ssize_t n;

        /* a descriptor goes with the first byte of its frame; what comes before is sent up to there */
        if (with_fd) {
            struct cmsghdr *cm;

            memset(&control, 0, sizeof(control));
            msg.msg_control = control.space;
            msg.msg_controllen = sizeof(control.space);
            cm = CMSG_FIRSTHDR(&msg);
            cm->cmsg_level = SOL_SOCKET;
            cm->cmsg_type = SCM_RIGHTS;
            cm->cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(cm), &c->out_fds[0].fd, sizeof(int));
            if (c->out_nfds > 1)
                iov.iov_len = c->out_fds[1].at - c->out_at;
        } else if (c->out_nfds > 0) {
            iov.iov_len = c->out_fds[0].at - c->out_at;
        }
        n = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
        if (n == -1) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN)
                return CHAN_AGAIN;
            err_sys(err, "send");
            return CHAN_ERROR;
        }
        if (with_fd && n > 0) {
            fd_close(&c->out_fds[0].fd);
            c->out_nfds--;
            memmove(c->out_fds, c->out_fds + 1, c->out_nfds * sizeof(c->out_fds[0]));
        }
        c->out_at += (size_t) n;
    }
    buf_reset(&c->out);
    c->out_at = 0;
    return CHAN_OK;
}

/* CHAN_OK: the events are there. */
static enum chan_result wait_for(struct chan *c, short events, struct mono_time deadline,
                                 struct err *err)
{
    for (;;) {
        struct pollfd p = {.fd = c->fd, .events = events};
        int n;

        blocking_begin();
        n = poll(&p, 1, mono_poll_ms(deadline));
        blocking_end();
        if (n > 0)
            return CHAN_OK;
        if (n == 0)
            return CHAN_AGAIN;
        if (errno != EINTR) {
            err_sys(err, "poll");
            return CHAN_ERROR;
        }
    }
}

static struct mono_time deadline_of(int timeout_ms)
{
    return timeout_ms < 0 ? MONO_NEVER : mono_after_ms(mono_now(), timeout_ms);
}

enum chan_result chan_flush_wait(struct chan *c, int timeout_ms, struct err *err)
{
    struct mono_time deadline = {-1};

    for (;;) {
        enum chan_result res = chan_flush(c, err);

        if (res != CHAN_AGAIN)
            return res;
        if (deadline.us == -1)
            deadline = deadline_of(timeout_ms);
        res = wait_for(c, POLLOUT, deadline, err);
        if (res != CHAN_OK)
            return res;
    }
}

enum chan_result chan_send_wait(struct chan *c, uint16_t type, struct slice payload, int timeout_ms,
                                struct err *err)
{
    struct mono_time deadline = deadline_of(timeout_ms);
    enum chan_result res = CHAN_OK;
    char head[HEAD];

    if (payload.len > FRAME_PAYLOAD_MAX)
        c->broken = "a frame to be sent is over the limit";
    if (c->out_nfds > 0 || c->broken != NULL) { /* descriptors keep to their frames there */
        res = chan_flush_wait(c, timeout_ms, err);
        if (res != CHAN_OK)
            return res;
    }
    put_head(head, payload.len, type, 0);
    buf_put(&c->out, head, HEAD);
    while (c->out_at < c->out.len || payload.len > 0) {
        struct iovec iov[2] = {{c->out.ptr + c->out_at, c->out.len - c->out_at},
                               {(void *) (uintptr_t) payload.ptr, payload.len}};
        struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
        ssize_t n = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
        size_t from_out;

        if (n == -1 && errno == EINTR)
            continue;
        if (n == -1 && errno != EAGAIN) {
            err_sys(err, "send");
            res = CHAN_ERROR;
        } else if (n == -1) {
            res = wait_for(c, POLLOUT, deadline, err);
        }
        if (res != CHAN_OK) {
            c->broken = "a frame was sent in part";
            return res;
        }
        if (n == -1)
            continue;
        from_out = (size_t) n < iov[0].iov_len ? (size_t) n : iov[0].iov_len;
        c->out_at += from_out;
        payload = slice_sub(payload, (size_t) n - from_out, payload.len);
    }
    buf_reset(&c->out);
    c->out_at = 0;
    return CHAN_OK;
}

static size_t payload_len(const char *head)
{
    size_t len = 0;

    for (int i = 0; i < 4; i++)
        len |= (size_t) (unsigned char) head[i] << (8 * i);
    return len;
}

bool chan_has_frame(const struct chan *c)
{
    size_t have = c->in.len - c->in_at;

    return have >= HEAD && have - HEAD >= payload_len(c->in.ptr + c->in_at);
}

static enum chan_result take_fds(struct chan *c, struct msghdr *msg, struct err *err)
{
    bool flood = false;

    for (struct cmsghdr *cm = CMSG_FIRSTHDR(msg); cm != NULL; cm = CMSG_NXTHDR(msg, cm)) {
        size_t n;

        if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
            continue;
        n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int), sizeof(int));
            if (c->in_nfds < FDS_MAX) {
                c->in_fds[c->in_nfds++] = fd;
            } else {
                fd_close(&fd);
                flood = true;
            }
        }
    }
    if (flood || (msg->msg_flags & MSG_CTRUNC) != 0) {
        err_input(err, "more descriptors than frames that carry one");
        return CHAN_ERROR;
    }
    return CHAN_OK;
}

/* Reads what is there. */
static enum chan_result fill(struct chan *c, struct err *err)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * 8)];
    } control;
    struct iovec iov;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof(control.space)};
    size_t size = READ_SIZE;
    size_t room;
    ssize_t n;

    if (c->in_at > 0) {
        buf_consume(&c->in, c->in_at);
        c->in_at = 0;
    }
    /* The rest of a long frame is read to its end and no further: nothing of the next one has to be moved to the front. */
    if (c->in.len >= HEAD && payload_len(c->in.ptr) > READ_SIZE - HEAD) {
        size = HEAD + payload_len(c->in.ptr) - c->in.len;
        if (size > READ_SIZE_LONG) /* a length alone gets no more room than this */
            size = READ_SIZE_LONG;
        c->long_frames = true;
    }
    room = c->in.len == 0 && c->long_frames ? READ_SIZE_LONG - 1 : size;
    iov.iov_base = buf_reserve(&c->in, room);
    iov.iov_len = size;
    if (iov.iov_base == NULL) {
        err_input(err, "frame is too long");
        return CHAN_ERROR;
    }
    do
        n = recvmsg(c->fd, &msg, MSG_CMSG_CLOEXEC);
    while (n == -1 && errno == EINTR);
    if (n == -1) {
        if (errno == EAGAIN)
            return CHAN_AGAIN;
        if (errno == ECONNRESET && c->in.len == 0)
            return CHAN_EOF;
        err_sys(err, "receive");
        return CHAN_ERROR;
    }
    if (n == 0) {
        if (c->in.len == 0)
            return CHAN_EOF;
        err_temporary(err, "the connection ended in the middle of a frame");
        return CHAN_ERROR;
    }
    buf_advance(&c->in, (size_t) n);
    return take_fds(c, &msg, err);
}

enum chan_result chan_get(struct chan *c, struct frame *out, struct err *err)
{
    if (c->broken != NULL) {
        err_temporary(err, "%s", c->broken);
        return CHAN_ERROR;
    }
    for (;;) {
        size_t have = c->in.len - c->in_at;
        enum chan_result res;

        if (have >= HEAD) {
            const char *head = c->in.ptr + c->in_at;
            size_t len = payload_len(head);
            unsigned flags = (unsigned char) head[6] | (unsigned) (unsigned char) head[7] << 8;

            if (len > FRAME_PAYLOAD_MAX) {
                err_input(err, "frame of %zu bytes is over the limit", len);
                return CHAN_ERROR;
            }
            if (have - HEAD >= len) {
                out->type = (uint16_t) ((unsigned char) head[4] | (unsigned char) head[5] << 8);
                out->payload = slice_of(head + HEAD, len);
                out->fd = -1;
                if ((flags & FLAG_FD) != 0) {
                    if (c->in_nfds == 0) {
                        err_input(err, "frame without its descriptor");
                        return CHAN_ERROR;
                    }
                    out->fd = c->in_fds[0];
                    c->in_nfds--;
                    memmove(c->in_fds, c->in_fds + 1, c->in_nfds * sizeof(c->in_fds[0]));
                }
                c->in_at += HEAD + len;
                return CHAN_OK;
            }
        }
        res = fill(c, err);
        if (res != CHAN_OK)
            return res;
    }
}

enum chan_result chan_get_wait(struct chan *c, struct frame *out, int timeout_ms, struct err *err)
{
    struct mono_time deadline = {-1};

    for (;;) {
        enum chan_result res = chan_get(c, out, err);

        if (res != CHAN_AGAIN || timeout_ms == 0)
            return res;
        if (deadline.us == -1)
            deadline = deadline_of(timeout_ms);
        res = wait_for(c, POLLIN, deadline, err);
        if (res != CHAN_OK)
            return res;
    }
}

static int unix_address(const char *path, struct sockaddr_un *un, struct err *err)
{
    size_t len = strlen(path);

    memset(un, 0, sizeof(*un));
    un->sun_family = AF_UNIX;
    if (len >= sizeof(un->sun_path))
        return err_input(err, "socket path %.100s... is longer than %zu bytes", path,
                         sizeof(un->sun_path) - 1);
    memcpy(un->sun_path, path, len + 1);
    return 0;
}

int unix_connect(const char *path, int timeout_ms, struct err *err)
{
    struct mono_time deadline = deadline_of(timeout_ms);
    struct sockaddr_un un;
    int fd;

    if (unix_address(path, &un, err) == -1)
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd == -1)
        return err_sys(err, "socket");
    /* EAGAIN: the listener's queue is full; there is nothing to poll for */
    while (connect(fd, (struct sockaddr *) &un, sizeof(un)) == -1) {
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN && mono_poll_ms(deadline) != 0) {
            (void) poll(NULL, 0, 2);
            continue;
        }
        err_sys(err, "connect to %s", path);
        fd_close(&fd);
        return -1;
    }
    return fd;
}

int unix_listen(const char *path, mode_t mode, int backlog, struct err *err)
{
    struct sockaddr_un un;
    int fd;

    if (unix_address(path, &un, err) == -1)
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd == -1)
        return err_sys(err, "socket");
    if (unlink(path) == -1 && errno != ENOENT) {
        err_sys(err, "remove the old %s", path);
        goto fail;
    }
    if (bind(fd, (struct sockaddr *) &un, sizeof(un)) == -1) {
        err_sys(err, "bind %s", path);
        goto fail;
    }
    if (chmod(path, mode) == -1) {
        err_sys(err, "chmod %s", path);
        goto fail;
    }
    if (listen(fd, backlog) == -1) {
        err_sys(err, "listen on %s", path);
        goto fail;
    }
    return fd;
fail:
    fd_close(&fd);
    return -1;
}

int unix_peer_uid(int fd, uid_t *uid)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == -1)
        return -1;
    *uid = cred.uid;
    return 0;
}
