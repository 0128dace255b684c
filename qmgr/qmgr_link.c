/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_link.c - see qmgr_link.h.
 *
 * A link is idle (in the pool's idle list, newest first) or busy (has a request). Frames that come while it is idle, but for the
 * hello, and the end of the connection make it go away quietly.
 */
#include "qmgr/qmgr_link.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "base/file.h"

#define FRAMES_A_TURN 256 /* of one connection, before others have their turn */

TAILQ_HEAD(link_list, link);

struct link {
    struct link_pool *pool;
    struct chan *chan;
    struct loop_io *io;
    void *request;
    bool is_reused;         /* served a request before */
    bool answered;          /* something of this request was answered */
    bool greeted;           /* the peer's hello was fine */
    bool in_events;         /* its callback is on the stack */
    bool dead;              /* to be freed when that ends */
    bool continuing;        /* link_continue() is posted */
    struct mono_time since; /* idle: since when; busy: the deadline */
    TAILQ_ENTRY(link) list;
};

struct link_pool {
    struct loop *loop;
    char *path;
    char *service;
    struct link_events events;
    struct link_list idle, busy;
};

static void on_io(void *arg, unsigned events);

struct link_pool *link_pool_new(struct loop *l, const char *path, const char *service,
                                const struct link_events *events)
{
    struct link_pool *p = xcalloc(1, sizeof(*p));

    p->loop = l;
    p->path = xstrdup(path);
    p->service = xstrdup(service);
    p->events = *events;
    TAILQ_INIT(&p->idle);
    TAILQ_INIT(&p->busy);
    return p;
}

/* Out of its list and closed; the memory stays while a callback of it is on the stack or posted. */
static void link_close(struct link *l)
{
    struct link_pool *p = l->pool;

    if (l->dead)
        return;
    TAILQ_REMOVE(l->request != NULL ? &p->busy : &p->idle, l, list);
    loop_io_free(&l->io);
    chan_free(&l->chan);
    l->request = NULL;
    l->dead = true;
    if (!l->in_events && !l->continuing)
        free(l);
}

void link_pool_free(struct link_pool **pool, void (*forget)(void *request))
{
    struct link_pool *p = *pool;
    struct link *l;

    if (p == NULL)
        return;
    while ((l = TAILQ_FIRST(&p->idle)) != NULL)
        link_close(l);
    while ((l = TAILQ_FIRST(&p->busy)) != NULL) {
        if (forget != NULL)
            forget(l->request);
        link_close(l);
    }
    free(p->path);
    free(p->service);
    free(p);
    *pool = NULL;
}

struct link *link_take(struct link_pool *p, void *request, struct err *err)
{
    struct link *l = TAILQ_FIRST(&p->idle);

    if (l != NULL) {
        TAILQ_REMOVE(&p->idle, l, list);
    } else {
        int fd = unix_connect(p->path, 0, err);

        if (fd == -1)
            return NULL;
        l = xcalloc(1, sizeof(*l));
        l->pool = p;
        l->chan = chan_new(fd);
        proto_hello(l->chan, p->service);
        l->io = loop_io_new(p->loop, fd, LOOP_READ, on_io, l);
    }
    l->request = request;
    l->answered = false;
    l->since = MONO_NEVER;
    TAILQ_INSERT_TAIL(&p->busy, l, list);
    return l;
}

struct chan *link_chan(struct link *l)
{
    return l->chan;
}

static void give_up(struct link *l, const char *why)
{
    void *request = l->request;
    struct link_pool *p = l->pool;
    bool fresh = l->is_reused && !l->answered;

    link_close(l);
    if (request != NULL)
        p->events.broken(request, fresh, why);
}

static void send_more(struct link *l)
{
    struct err err = ERR_INIT;

    switch (chan_flush(l->chan, &err)) {
    case CHAN_OK:
        loop_io_set(l->io, LOOP_READ);
        return;
    case CHAN_AGAIN:
        loop_io_set(l->io, LOOP_READ | LOOP_WRITE);
        return;
    case CHAN_EOF:
    case CHAN_ERROR:
        /* whatever came back before shows itself on reading; nothing more will be written */
        loop_io_set(l->io, LOOP_READ);
        l->since = mono_after_ms(loop_now(l->pool->loop), 100);
        return;
    }
}

void link_send(struct link *l, int64_t timeout_ms)
{
    l->since = mono_after_ms(loop_now(l->pool->loop), timeout_ms);
    send_more(l);
}

void link_release(struct link **lp)
{
    struct link *l = *lp;

    *lp = NULL;
    TAILQ_REMOVE(&l->pool->busy, l, list);
    TAILQ_INSERT_HEAD(&l->pool->idle, l, list);
    l->request = NULL;
    l->is_reused = true;
    l->since = loop_now(l->pool->loop);
}

void link_drop(struct link **lp)
{
    link_close(*lp);
    *lp = NULL;
}

bool link_pool_has_idle(const struct link_pool *p)
{
    return !TAILQ_EMPTY(&p->idle);
}

/* One frame. False: the link is given up. */
static bool take_frame(struct link *l, struct frame *f)
{
    struct err err = ERR_INIT;
    bool ok;

    if (f->type == PROTO_HELLO) {
        ok = proto_check_hello(f, &err) == 0;
        l->greeted = ok;
    } else if (!l->greeted || l->request == NULL) {
        ok = false;
        err_input(&err, "frame of type %u out of turn", f->type);
    } else {
        l->answered = true;
        ok = l->pool->events.frame(l->request, f, &err);
    }
    if (f->fd != -1)
        fd_close(&f->fd);
    if (!ok && !l->dead)
        give_up(l, err.text);
    return ok && !l->dead;
}

static void read_frames(struct link *l);

static void link_continue(void *arg)
{
    struct link *l = arg;

    l->continuing = false;
    if (l->dead)
        free(l);
    else
        read_frames(l);
}

static void read_frames(struct link *l)
{
    struct err err = ERR_INIT;
    struct frame f;

    l->in_events = true;
    for (int i = 0; !l->dead; i++) {
        if (i == FRAMES_A_TURN) {
            if (!l->continuing)
                loop_defer(l->pool->loop, link_continue, l);
            l->continuing = true;
            break;
        }
        enum chan_result res = chan_get(l->chan, &f, &err);

        if (res == CHAN_AGAIN)
            break;
        if (res == CHAN_EOF) {
            give_up(l, "the connection was closed");
        } else if (res == CHAN_ERROR) {
            give_up(l, err.text);
        } else if (!take_frame(l, &f)) {
            break;
        }
    }
    l->in_events = false;
    if (l->dead && !l->continuing)
        free(l);
}

static void on_io(void *arg, unsigned events)
{
    struct link *l = arg;

    if ((events & LOOP_WRITE) != 0)
        send_more(l);
    if ((events & (LOOP_READ | LOOP_HANGUP)) != 0)
        read_frames(l);
}

void link_pool_tick(struct link_pool *p, struct mono_time now, int64_t idle_ms)
{
    struct link *l;
    struct link *next;

    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): what is freed has left the list */
    while ((l = TAILQ_LAST(&p->idle, link_list)) != NULL && mono_diff_ms(now, l->since) > idle_ms)
        link_close(l);
    for (l = TAILQ_FIRST(&p->busy); l != NULL; l = next) {
        next = TAILQ_NEXT(l, list);
        if (now.us >= l->since.us) {
            give_up(l, "it took too long");
            break; /* broken() may have changed the list; the others' turn comes with the next tick */
        }
    }
}
