/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bounce_main.c - the bounce(8) process: report requests of the queue manager, one after the other on each connection.
 */
#include "base/file.h"
#include "base/log.h"
#include "mail/queue_id.h"
#include "master/requests.h"
#include "qmgr/bounce_int.h"
#include "qmgr/notify_classes.h"

#define REQUEST_WAIT_MS                                                                            \
    60000 /* for what is to follow a request's first frame, and for writing an answer */

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

/* The rest of a request, whose first frame is f. */
static int read_request(struct chan *c, struct frame *f, struct bounce_request *req,
                        struct err *err)
{
    int ret = bounce_request_head(req, f, err);

    while (ret == 0) {
        switch (proto_get_wait(c, f, REQUEST_WAIT_MS, err)) {
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

static int serve(struct worker *w, struct chan *c, struct frame *f, struct err *err)
{
    const struct bounce *b = worker_data(w);
    struct bounce_request req;
    struct proto_result result = {.status = PROTO_OK};
    struct err why = ERR_INIT;
    char id[QUEUE_ID_MAX + 1];
    int ret = -1;

    bounce_request_init(&req);
    if (read_request(c, f, &req, err) == -1)
        goto done;
    if (bounce_serve(b, &req, id, &why) == 0) {
        result.text = slice_str(id);
    } else {
        log_warning("%.*s: notification: %s", SLICE_FMT(req.r.queue_id), why.text);
        result.status = PROTO_TEMPORARY;
        result.text = slice_str(why.text);
    }
    ret = requests_answer(c, &msg_result, &result, err);
done:
    bounce_request_fini(&req);
    return ret;
}

int main(int argc, char **argv)
{
    static const struct requests requests = {
        .program = "bounce",
        .client = "the queue manager",
        .answer_wait_ms = REQUEST_WAIT_MS,
        .start = start,
        .serve = serve,
        .stop = stop,
    };

    return requests_main(argc, argv, &requests);
}
