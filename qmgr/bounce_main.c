/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bounce_main.c - the bounce(8) process: report requests of the queue manager, one after the other on each connection.
 */
#include <stdlib.h>

#include "base/file.h"
#include "base/log.h"
#include "mail/queue_id.h"
#include "master/worker.h"
#include "qmgr/bounce_int.h"
#include "qmgr/notify_classes.h"

#define REQUEST_WAIT_MS                                                                            \
    60000 /* for what is to follow a request's first frame, and for writing an answer */

struct session {
    struct worker_session *ws;
    struct worker *worker;
    struct chan *chan;
};

static int start(struct worker *w, struct err *err)
{
    struct bounce *b = xcalloc(1, sizeof(*b));
    struct config_common common;
    struct buf path = BUF_INIT(SIZE_MAX);
    const struct config *cfg = worker_config(w);

    worker_set_data(w, b);
    if (config_bind(cfg, &bounce_params, &b->p, err) == -1 ||
        config_bind(cfg, &config_common_params, &common, err) == -1)
        return -1;
    if (notify_classes_parse(b->p.notify_classes, &b->classes, err) == -1)
        return err_prefix(err, "notify_classes: ");
    b->p.mail_name = common.mail_name;
    b->p.myhostname = common.myhostname;
    b->p.myorigin = common.myorigin;
    b->p.long_queue_ids = common.enable_long_queue_ids;
    if (bounce_letters_load(b, cfg, err) == -1)
        return -1;
    worker_service_path(w, "public", "cleanup_service_name", &path);
    b->intake = intake_pool_new(buf_cstr(&path), "bounce");
    buf_fini(&path);
    return 0;
}

static void stop(struct worker *w)
{
    struct bounce *b = worker_data(w);

    intake_pool_free(&b->intake);
    bounce_letters_free(b);
}

static void *session_open(struct worker *w, struct worker_session *ws,
                          const struct worker_client *client)
{
    struct session *s = xcalloc(1, sizeof(*s));

    s->worker = w;
    s->ws = ws;
    s->chan = chan_new(client->fd);
    proto_hello(s->chan, "bounce");
    return s;
}

static void session_close(void *session)
{
    struct session *s = session;

    (void) chan_take_fd(s->chan); /* the framework closes it */
    chan_free(&s->chan);
    free(s);
}

/* The rest of a request, whose first frame is f. */
static int read_request(struct session *s, struct frame *f, struct bounce_request *req,
                        struct err *err)
{
    int ret = bounce_request_head(req, f, err);

    while (ret == 0) {
        switch (proto_get_wait(s->chan, f, REQUEST_WAIT_MS, err)) {
        case CHAN_OK:
            break;
        case CHAN_AGAIN:
        case CHAN_EOF:
            return err_temporary(err, "report request is cut off");
        case CHAN_ERROR:
            return -1;
        }
        if (f->fd != -1)
            fd_close(&f->fd);
        if (f->type == PROTO_END)
            return 0;
        ret = bounce_request_rcpt(req, f, err);
    }
    return ret;
}

static int serve(struct session *s, struct frame *f, struct err *err)
{
    const struct bounce *b = worker_data(s->worker);
    struct bounce_request req;
    struct proto_result result = {.status = PROTO_OK};
    struct err why = ERR_INIT;
    char id[QUEUE_ID_MAX + 1];
    int ret = -1;

    bounce_request_init(&req);
    if (read_request(s, f, &req, err) == -1)
        goto done;
    if (bounce_serve(b, &req, id, &why) == 0) {
        result.text = slice_str(id);
    } else {
        log_warning("%.*s: notification: %s", SLICE_FMT(req.r.queue_id), why.text);
        result.status = PROTO_TEMPORARY;
        result.text = slice_str(why.text);
    }
    if (proto_put(s->chan, &msg_result, &result, -1, err) == 0 &&
        chan_flush_wait(s->chan, REQUEST_WAIT_MS, err) == CHAN_OK)
        ret = 0;
done:
    bounce_request_fini(&req);
    return ret;
}

static enum worker_verdict session_work(void *session, unsigned events)
{
    struct session *s = session;
    struct err err = ERR_INIT;
    struct frame f;

    (void) events;
    if (chan_has_output(s->chan) && chan_flush_wait(s->chan, REQUEST_WAIT_MS, &err) != CHAN_OK)
        return WORKER_CLOSE;
    switch (proto_get_wait(s->chan, &f, 0, &err)) {
    case CHAN_OK:
        if (serve(s, &f, &err) == 0)
            return worker_is_draining(s->worker) ? WORKER_CLOSE : WORKER_AGAIN;
        log_warning("connection from the queue manager: %s", err.text);
        return WORKER_CLOSE;
    case CHAN_AGAIN:
        break;
    case CHAN_ERROR:
        log_warning("connection from the queue manager: %s", err.text);
        return WORKER_CLOSE;
    case CHAN_EOF:
        return WORKER_CLOSE;
    }
    if (worker_is_draining(s->worker))
        return WORKER_CLOSE;
    chan_trim(s->chan);
    worker_wait_for(s->ws, chan_fd(s->chan), POLLER_READ, MONO_NEVER);
    return WORKER_WAIT;
}

int main(int argc, char **argv)
{
    static const struct worker_service service = {
        .program = "bounce",
        .shape = WORKER_THREADED,
        .start = start,
        .session_open = session_open,
        .session_work = session_work,
        .session_close = session_close,
        .stop = stop,
    };

    return worker_main(argc, argv, &service);
}
