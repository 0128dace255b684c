/* SPDX-License-Identifier: Apache-2.0 */
/* requests.c - see requests.h. */
#include "master/requests.h"

#include <stdlib.h>

#include "base/log.h"

struct session {
    struct worker_session *ws;
    struct worker *worker;
    struct chan *chan;
};

/* One process is one service: set once, by requests_main(). */
static const struct requests *requests;

static void *session_open(struct worker *w, struct worker_session *ws,
                          const struct worker_client *client)
{
    struct session *s = xcalloc(1, sizeof(*s));

    s->worker = w;
    s->ws = ws;
    s->chan = chan_new(client->fd);
    proto_hello(s->chan, requests->program);
    return s;
}

static void session_close(void *session)
{
    struct session *s = session;

    (void) chan_take_fd(s->chan); /* the framework closes it */
    chan_free(&s->chan);
    free(s);
}

static int flush(struct chan *c, struct err *err)
{
    switch (chan_flush_wait(c, requests->answer_wait_ms, err)) {
    case CHAN_OK:
        return 0;
    case CHAN_AGAIN:
        return err_temporary(err, "it does not take its answer");
    case CHAN_EOF:
    case CHAN_ERROR:
        break;
    }
    return -1;
}

int requests_answer(struct chan *c, const struct msg_def *def, const void *msg, struct err *err)
{
    return proto_put(c, def, msg, -1, err) == -1 ? -1 : flush(c, err);
}

static enum worker_verdict session_work(void *session, unsigned events)
{
    struct session *s = session;
    struct err err = ERR_INIT;
    struct frame f;

    /* the greeting */
    if (chan_has_output(s->chan) && flush(s->chan, &err) == -1)
        return WORKER_CLOSE;
    switch (proto_get_wait(s->chan, &f, 0, &err)) {
    case CHAN_OK:
        if (requests->serve(s->worker, s->chan, &f, &err) == 0)
            return worker_is_draining(s->worker) ? WORKER_CLOSE : WORKER_AGAIN;
        log_warning("connection from %s: %s", requests->client, err.text);
        return WORKER_CLOSE;
    case CHAN_AGAIN:
        break;
    case CHAN_ERROR:
        if (requests->is_left_in_silence)
            log_debug("connection from %s: %s", requests->client, err.text);
        else
            log_warning("connection from %s: %s", requests->client, err.text);
        return WORKER_CLOSE;
    case CHAN_EOF:
        return WORKER_CLOSE;
    }
    /* a client notices, and asks again over another connection */
    if (worker_is_draining(s->worker) || (events & POLLER_TIMEOUT) != 0)
        return WORKER_CLOSE;
    chan_trim(s->chan);
    worker_wait_for(s->ws, chan_fd(s->chan), POLLER_READ,
                    requests->idle_ms == NULL
                        ? MONO_NEVER
                        : mono_after_ms(mono_now(), requests->idle_ms(s->worker)));
    return WORKER_WAIT;
}

int requests_main(int argc, char **argv, const struct requests *r)
{
    const struct worker_service service = {
        .program = r->program,
        .shape = WORKER_THREADED,
        .start = r->start,
        .session_open = session_open,
        .session_work = session_work,
        .session_close = session_close,
        .stop = r->stop,
    };

    requests = r;
    return worker_main(argc, argv, &service);
}
