/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_status.c - a worker's talk with master, and accepting clients.
 *
 * The channel is used under the worker's lock: any thread may tell that the worker is full. It never blocks there; a status
 * that does not fit into the socket is written with the next one.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "master/worker_int.h"

#define PASS_WAIT_MS 2000

void worker_tell_locked(struct worker *w)
{
    bool leaving = atomic_load(&w->draining);
    struct proto_worker_status msg = {
        .sessions = (uint32_t) w->sessions,
        .served = w->served,
        .ready = 1,
        .leaving = leaving,
        .shape = 1 + (uint32_t) w->service->shape,
    };
    struct err err = ERR_INIT;

    if (!leaving && w->sessions < w->capacity)
        msg.capacity = (uint32_t) (w->capacity - w->sessions);
    w->told_full = msg.capacity == 0;
    /* master's going away is noticed when reading */
    if (proto_put(w->status, &msg_worker_status, &msg, -1, &err) == -1 ||
        chan_flush(w->status, &err) == CHAN_ERROR)
        log_debug("status to master: %s", err.text);
}

void worker_tell(struct worker *w)
{
    lock_take(&w->lock);
    worker_tell_locked(w);
    lock_release(&w->lock);
}

static void take_log(struct worker *w, int fd)
{
    bool has_log = fd != -1;

    /* the new file takes the old one's number: other threads may be writing */
    if (has_log && dup3(fd, WORKER_FD_LOG, O_CLOEXEC) == -1)
        log_warning("the new log file cannot be taken: errno %d", errno);
    else if (atomic_exchange(&w->has_log, has_log) != has_log)
        worker_open_log(w);
}

/* loop: on its one thread. */
static void reload(struct worker *w, int fd)
{
    struct buf text = BUF_INIT(SIZE_MAX);
    struct config *cfg = NULL;
    struct config_common common;
    struct worker_params params;
    struct err err = ERR_INIT;

    if (worker_read_config(fd, &text, &err) == -1 ||
        config_load_text(config_dir(w->cfg), buf_view(&text), w->overrides, w->noverrides, w->name,
                         &cfg, &err) == -1 ||
        config_bind(cfg, &config_common_params, &common, &err) == -1 ||
        config_bind(cfg, &worker_params, &params, &err) == -1 ||
        (w->service->reload != NULL && !w->service->reload(w, cfg, &err))) {
        log_error("reload: %s -- the old configuration goes on", err.text);
        config_unref(&cfg);
    } else {
        /* the old one's strings may be in use where the service kept them until now */
        config_unref(&w->cfg);
        w->cfg = cfg;
        w->common = common;
        w->p = params;
        worker_open_log(w);
    }
    buf_fini(&text);
}

static void handle(struct worker *w, struct frame *f)
{
    struct proto_worker_status grant;
    struct err err = ERR_INIT;

    switch (f->type) {
    case PROTO_WORKER_DRAIN_ALL:
        atomic_store(&w->serve_pending, true);
        atomic_store(&w->draining, true);
        break;
    case PROTO_WORKER_DRAIN:
        atomic_store(&w->draining, true);
        break;
    case PROTO_WORKER_STOP:
        atomic_store(&w->stopping, true);
        atomic_store(&w->draining, true);
        break;
    case PROTO_WORKER_RELOAD:
        if (w->service->shape == WORKER_LOOP)
            reload(w, f->fd);
        break;
    case PROTO_WORKER_WAKEUP:
        if (w->service->wakeup != NULL && !atomic_load(&w->draining))
            w->service->wakeup(w);
        break;
    case PROTO_WORKER_LOG:
        take_log(w, f->fd);
        break;
    case PROTO_TABLE_ASK:
        worker_table_ask(w, f);
        break;
    case PROTO_WORKER_STATUS:
        if (proto_decode(f, &msg_worker_status, &grant, &err) == -1) {
            log_warning("from master: %s", err.text);
            break;
        }
        lock_take(&w->lock);
        if ((int) grant.capacity > w->capacity)
            w->capacity = (int) grant.capacity;
        worker_tell_locked(w);
        lock_release(&w->lock);
        break;
    default:
        break; /* of a later version */
    }
    if (f->fd != -1)
        fd_close(&f->fd);
}

void worker_hear(struct worker *w)
{
    for (;;) {
        struct err err = ERR_INIT;
        struct frame f;
        enum chan_result res;

        lock_take(&w->lock);
        res = chan_get(w->status, &f, &err);
        lock_release(&w->lock);
        if (res == CHAN_AGAIN)
            return;
        if (res != CHAN_OK) {
            /* master has gone: nobody will give us clients, or takes our log lines */
            log_leave_ring();
            atomic_store(&w->stopping, true);
            atomic_store(&w->draining, true);
            return;
        }
        /* the payload is read before the next chan_get(), and telling does not touch it */
        handle(w, &f);
    }
}

/*
 * Type pass: whoever connects hands over a client, as one byte with a descriptor (SCM_RIGHTS), and may go. It is a process of this host that
 * may write to the socket; still it is not waited for longer than a moment. -1: there was none.
 */
static int receive_client(const struct worker *w, int from)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    char byte;
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof(control.space)};
    struct pollfd p = {.fd = from, .events = POLLIN};
    struct cmsghdr *cm;
    int fd = -1;

    if (poll(&p, 1, PASS_WAIT_MS) == 1 && recvmsg(from, &msg, MSG_CMSG_CLOEXEC) == 1 &&
        (cm = CMSG_FIRSTHDR(&msg)) != NULL && cm->cmsg_level == SOL_SOCKET &&
        cm->cmsg_type == SCM_RIGHTS && cm->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(&fd, CMSG_DATA(cm), sizeof(int));
    if (fd == -1) {
        log_warning("service %s: no client was handed over", w->name);
    } else if (fd_set_nonblocking(fd, true) == -1) {
        log_warning("service %s: what was handed over is no socket: errno %d", w->name, errno);
        fd_close(&fd);
    }
    return fd;
}

/* Whose connection was handed over, and to which address it came. */
static int name_client(const struct worker *w, struct worker_client *out)
{
    out->peer_len = sizeof(out->peer);
    out->local_len = sizeof(out->local);
    if (getpeername(out->fd, (struct sockaddr *) &out->peer, &out->peer_len) == 0 &&
        getsockname(out->fd, (struct sockaddr *) &out->local, &out->local_len) == 0)
        return 1;
    /* a client that has gone meanwhile is no news */
    if (errno != ENOTCONN)
        log_warning("service %s: what was handed over is no connection: errno %d", w->name, errno);
    fd_close(&out->fd);
    return 0;
}

int worker_accept(struct worker *w, int index, struct worker_client *out)
{
    const struct worker_client *name = &w->listen_names[index];

    out->peer_len = sizeof(out->peer);
    out->fd = accept4(WORKER_FD_LISTEN + index, (struct sockaddr *) &out->peer, &out->peer_len,
                      SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (out->fd == -1) {
        if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED || errno == EPROTO)
            return 0;
        log_warning("accept for service %s: errno %d", w->name, errno);
        return -1;
    }
    if (w->is_pass) {
        int from = out->fd;

        out->fd = receive_client(w, from);
        (void) close(from);
        return out->fd == -1 ? 0 : name_client(w, out);
    }
    if (!w->is_inet) {
        out->peer.ss_family = out->local.ss_family = AF_UNIX;
        out->local_len = sizeof(sa_family_t);
        return 1;
    }
    out->local = name->local;
    out->local_len = name->local_len;
    if (out->local_len == 0) {
        out->local_len = sizeof(out->local);
        if (getsockname(out->fd, (struct sockaddr *) &out->local, &out->local_len) == -1)
            out->local_len = 0;
    }
    return 1;
}
