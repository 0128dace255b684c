/* SPDX-License-Identifier: Apache-2.0 */
/*
 * master_control.c - requests of postfix(1) over private/control, and the end of the system.
 *
 * Stopping: workers are told; after stop_grace_time they get SIGTERM, then SIGKILL. Master ends when the last has gone.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "master/master_services.h"

#define WHY_MAX        65536
#define ANSWER_MAX     4000 /* a result's text */
#define BACKLOG        16
#define NEXT_SIGNAL_MS 2000

struct control {
    struct master *m;
    struct chan *chan;
    struct loop_io *io;
    struct table_ask *ask; /* under way for this client; NULL: none */
};

static size_t count_children(const struct master *m)
{
    size_t n = 0;

    for (size_t i = 0; i < m->services.len; i++)
        n += ((const struct service *) m->services.items[i])->children.len;
    for (size_t i = 0; i < m->leaving.len; i++)
        n += ((const struct service *) m->leaving.items[i])->children.len;
    return n;
}

void master_check_end(struct master *m)
{
    if (m->stopping && count_children(m) == 0)
        loop_stop(m->loop);
}

static void on_stop_timer(void *arg)
{
    struct master *m = arg;

    m->stop_signal = m->stop_signal == 0 ? SIGTERM : SIGKILL;
    for (size_t i = 0; i < m->services.len; i++)
        service_kill(m->services.items[i], m->stop_signal);
    for (size_t i = 0; i < m->leaving.len; i++)
        service_kill(m->leaving.items[i], m->stop_signal);
    loop_timer_set(m->stop_timer, NEXT_SIGNAL_MS);
}

void master_stop(struct master *m, bool now)
{
    if (!m->stopping) {
        m->stopping = true;
        manager_notify_send(m->notify, "STOPPING=1\nSTATUS=Workers finish");
        for (size_t i = 0; i < m->services.len; i++)
            service_drain(m->services.items[i], true);
        for (size_t i = 0; i < m->leaving.len; i++)
            service_drain(m->leaving.items[i], true);
        m->stop_timer = loop_timer_new(m->loop, on_stop_timer, m);
    }
    loop_timer_set(m->stop_timer, now ? 0 : m->gen->p.stop_grace_s * 1000);
    master_check_end(m);
}

static bool wake(struct master *m, struct slice name)
{
    bool found = false;

    for (size_t i = 0; i < m->services.len; i++) {
        struct service *s = m->services.items[i];

        if (!slice_eq_str(name, s->cf->name))
            continue;
        found = true;
        service_wake(s);
    }
    return found;
}

/* *fd: a descriptor that goes with the result, or -1; master's. */
static void handle(struct master *m, const struct proto_control *op, struct proto_result *result,
                   struct buf *text, int *fd)
{
    result->status = PROTO_OK;
    switch (op->op) {
    case CONTROL_RELOAD:
        if (master_reload(m, text) == -1)
            result->status = PROTO_PERMANENT;
        break;
    case CONTROL_STOP:
        master_stop(m, false);
        break;
    case CONTROL_STATUS:
        buf_printf(text, "generation %u, %zu services, %zu workers", m->generation_number,
                   m->services.len, count_children(m));
        result->count = count_children(m);
        break;
    case CONTROL_WAKE:
        if (!wake(m, op->arg)) {
            buf_printf(text, "there is no service %.*s", SLICE_FMT(op->arg));
            result->status = PROTO_NOT_FOUND;
        }
        break;
    case CONTROL_REOPEN_LOG:
        if (master_reopen_log(m, text) == -1)
            result->status = PROTO_TEMPORARY;
        break;
    case CONTROL_METRICS:
        *fd = m->metrics_fd;
        break;
    default:
        buf_printf(text, "unknown request %u", op->op);
        result->status = PROTO_PERMANENT;
        break;
    }
}

/* A client that is slow to read gets the rest when it can take it. */
static void send_queued(struct control *c)
{
    struct err err = ERR_INIT;

    switch (chan_flush(c->chan, &err)) {
    case CHAN_OK:
        loop_io_set(c->io, LOOP_READ);
        break;
    case CHAN_AGAIN:
        loop_io_set(c->io, LOOP_READ | LOOP_WRITE);
        break;
    case CHAN_EOF:
    case CHAN_ERROR:
        log_debug("answer to a command: %s", err.text);
        break;
    }
}

static void on_said(const struct proto_table_said *said, void *arg)
{
    struct control *c = arg;
    struct err err = ERR_INIT;

    if (proto_put(c->chan, &msg_table_said, said, -1, &err) == -1)
        log_warning("what a table says: %s", err.text);
}

static void on_all_said(void *arg)
{
    struct control *c = arg;

    table_ask_free(&c->ask);
    proto_put_empty(c->chan, PROTO_END);
    send_queued(c);
}

/* One question at a time: a second one takes the place of the first. */
static void ask_table(struct control *c, const struct frame *f)
{
    struct proto_table_ask ask;
    struct err err = ERR_INIT;

    table_ask_free(&c->ask);
    if (proto_decode(f, &msg_table_ask, &ask, &err) == 0) {
        c->ask = table_ask_new(c->m, ask.table, ask.key, on_said, on_all_said, c);
        return;
    }
    log_warning("request of a command: %s", err.text);
    proto_put_empty(c->chan, PROTO_END);
    send_queued(c);
}

static void answer(struct control *c, const struct frame *f)
{
    struct buf text = BUF_INIT(WHY_MAX);
    struct proto_result result = {.status = PROTO_PERMANENT};
    struct proto_control op;
    struct err err = ERR_INIT;
    int fd = -1;

    if (proto_decode(f, &msg_control, &op, &err) == -1)
        buf_puts(&text, err.text);
    else
        handle(c->m, &op, &result, &text, &fd);
    result.text = slice_sub(buf_view(&text), 0, ANSWER_MAX);
    if (proto_put(c->chan, &msg_result, &result, fd, &err) == -1)
        log_warning("answer to postfix(1): %s", err.text);
    send_queued(c);
    buf_fini(&text);
}

static void on_request(void *arg, unsigned events)
{
    struct control *c = arg;
    enum chan_result res;
    struct err err = ERR_INIT;
    struct frame f;

    if ((events & LOOP_WRITE) != 0)
        send_queued(c);
    while ((res = chan_get(c->chan, &f, &err)) == CHAN_OK) {
        if (f.fd != -1)
            fd_close(&f.fd);
        if (f.type == PROTO_TABLE_ASK)
            ask_table(c, &f);
        else if (f.type != PROTO_HELLO)
            answer(c, &f);
        else if (proto_check_hello(&f, &err) == -1)
            break;
    }
    if (res == CHAN_AGAIN)
        return;
    table_ask_free(&c->ask);
    loop_io_free(&c->io);
    chan_free(&c->chan);
    free(c);
}

struct control_listener {
    struct master *m;
    struct loop_io *io;
    int fd;
};

static void on_client(void *arg, unsigned events)
{
    const struct control_listener *l = arg;
    int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct control *c;
    uid_t uid;

    (void) events;
    if (fd == -1)
        return;
    if (unix_peer_uid(fd, &uid) == -1 || (uid != 0 && uid != geteuid())) {
        fd_close(&fd);
        return;
    }
    c = xcalloc(1, sizeof(*c));
    c->m = l->m;
    c->chan = chan_new(fd);
    proto_hello(c->chan, "master");
    c->io = loop_io_new(l->m->loop, fd, LOOP_READ, on_request, c);
}

int control_listen(struct master *m, struct err *err)
{
    static struct control_listener listener; /* as long as the process */

    listener.m = m;
    listener.fd = unix_listen("private/control", 0600, BACKLOG, err);
    if (listener.fd == -1)
        return -1;
    listener.io = loop_io_new(m->loop, listener.fd, LOOP_READ, on_client, &listener);
    return 0;
}
