/* SPDX-License-Identifier: Apache-2.0 */
/* worker_status.c - a worker's talk with master, and accepting clients. */
#include "master/worker_int.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "base/file.h"
#include "base/log.h"

void worker_tell(struct worker *w, uint32_t capacity, bool ready)
{
    struct proto_worker_status msg = {
        .sessions = (uint32_t) atomic_load(&w->sessions), .capacity = capacity, .ready = ready};
    struct err err = ERR_INIT;

    /* a status that is lost is followed by another; a master that has gone is noticed when reading */
    if (proto_put(w->status, &msg_worker_status, &msg, -1, &err) == 0 &&
        chan_flush(w->status, &err) == CHAN_ERROR)
        log_debug("status to master: %s", err.text);
}

static void reload(struct worker *w)
{
    struct config *cfg = NULL;
    struct err err = ERR_INIT;

    if (w->service->reload == NULL)
        return;
    if (config_load(config_dir(w->cfg), w->overrides, w->noverrides, w->name, &cfg, &err) == -1 ||
        !w->service->reload(w, cfg, &err)) {
        log_error("reload: %s -- the old configuration goes on", err.text);
        config_unref(&cfg);
        return;
    }
    config_unref(&w->cfg);
    w->cfg = cfg;
}

bool worker_hear(struct worker *w)
{
    for (;;) {
        struct err err = ERR_INIT;
        struct frame f;

        switch (chan_get(w->status, &f, &err)) {
        case CHAN_AGAIN:
            return true;
        case CHAN_EOF:
        case CHAN_ERROR:
            atomic_store(&w->draining, true);
            return false;
        case CHAN_OK:
            break;
        }
        if (f.type == PROTO_WORKER_DRAIN)
            atomic_store(&w->draining, true);
        else if (f.type == PROTO_WORKER_RELOAD)
            reload(w);
        else if (f.type == PROTO_WORKER_WAKEUP && w->service->wakeup != NULL)
            w->service->wakeup(w);
    }
}

int worker_accept(struct worker *w, int listener, struct worker_client *out)
{
    int one = 1;

    out->peer_len = sizeof(out->peer);
    out->fd = accept4(listener, (struct sockaddr *) &out->peer, &out->peer_len,
                      SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (out->fd == -1) {
        if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
            return 0;
        log_warning("accept for service %s: errno %d", w->name, errno);
        return -1;
    }
    out->local_len = sizeof(out->local);
    if (!w->is_inet) {
        out->peer.ss_family = out->local.ss_family = AF_UNIX;
        return 1;
    }
    if (getsockname(out->fd, (struct sockaddr *) &out->local, &out->local_len) == -1)
        out->local_len = 0;
    (void) setsockopt(out->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return 1;
}
