/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent.c - see agent.h.
 *
 * A connection carries one request at a time, any number one after the other. The queue manager's going away in
 * the middle loses nothing: what it has not heard of, it tries again.
 *
 * deliver_later: until agent_done() the channel is the delivery's. The session is parked and may be woken meanwhile (the queue manager
 * leaves, the worker drains); it then waits for agent_done(), which wakes it.
 */
#include "master/agent.h"

#include <stdlib.h>
#include <string.h>

#include "base/lock.h"
#include "base/log.h"
#include "master/delivery_filter.h"

#define REQUEST_WAIT_MS 60000 /* for the rest of a request whose first frame is there */

struct agent_session {
    struct worker *worker;
    struct worker_session *session;
    struct chan *chan;
    int fd;                           /* the channel's */
    struct deliver_request *in_steps; /* the one that is being delivered so, or NULL */
    struct lock lock;
    bool delivering GUARDED_BY(lock); /* deliver_later() was called, agent_done() was not */
    bool was_woken GUARDED_BY(lock);  /* meanwhile */
};

struct agent_params {
    bool soft_bounce;
    int64_t delay_resolution;
};

#define FILTER(program)                                                                            \
    PARAM_BY_NAME(program "_delivery_status_filter", PARAM_TYPE_STRING,                            \
                  .def = "$default_delivery_status_filter", .services = program,                   \
                  .doc = "See default_delivery_status_filter.")

static const struct param rows[] = {
    PARAM_BOOL("soft_bounce", struct agent_params, soft_bounce, .def = "no",
               .doc = "Nothing is refused or returned for good: 5xx replies become 4xx, and what "
                      "cannot be delivered is tried again. For trying a new configuration."),
    PARAM_INT("delay_logging_resolution_limit", struct agent_params, delay_resolution, .def = "2",
              .max = 6, .services = "smtp,local,virtual,error,discard",
              .doc = "Most places after the point in the delays of delivery log lines."),
    PARAM_BY_NAME("default_delivery_status_filter", PARAM_TYPE_STRING, .def = "",
                  .services = "smtp,local,virtual",
                  .doc =
                      "Tables that are asked for what became of a recipient, \"X.Y.Z text\", and "
                      "give another code, and another text if they have one; a success stays a "
                      "success, a failure a failure."),
    FILTER("smtp"),
    FILTER("local"),
    FILTER("virtual"),
};
extern const struct param_set agent_params; /* listed in master_params.c */
const struct param_set agent_params = PARAM_SET("agent", struct agent_params, rows);

/* One process is one agent: set once, by agent_main() and at its start, before anything is delivered. */
static const struct agent *agent;
static struct agent_params params;
static struct delivery_filter *filter; /* NULL: none */

static void leave_nothing_out(struct deliver_request *r)
{
    struct dsn_status status = {
        .outcome = OUTCOME_DEFERRED,
        .code = SLICE_LIT("4.3.0"),
        .text = SLICE_LIT("delivery agent gave no status for this recipient"),
    };

    for (size_t i = 0; i < r->nrcpts; i++) {
        if (!r->rcpts[i].done) {
            log_warning("%.*s: no status for recipient %.*s", SLICE_FMT(r->msg.queue_id),
                        SLICE_FMT(r->rcpts[i].r.addr));
            deliver_status(r, i, SLICE_LIT("none"), 0, &status, false);
        }
    }
}

static enum chan_result read_request(struct chan *c, int wait_ms, struct deliver_request **out)
{
    struct err err = ERR_INIT;
    enum chan_result res = deliver_read(c, wait_ms, out, &err);

    if (res == CHAN_ERROR)
        log_warning("connection from the queue manager: %s", err.text);
    if (res == CHAN_OK) {
        (*out)->soft_bounce = params.soft_bounce;
        (*out)->delay_resolution = (int) params.delay_resolution;
        (*out)->filter = filter != NULL ? delivery_filter_apply : NULL;
        (*out)->filter_arg = filter;
    }
    return res;
}

/* Every recipient has been answered. */
static enum chan_result end_request(struct deliver_request **r)
{
    struct err err = ERR_INIT;
    enum chan_result res;

    leave_nothing_out(*r);
    res = deliver_done(*r, &err);
    if (res == CHAN_ERROR)
        log_warning("connection from the queue manager: %s", err.text);
    deliver_free(r);
    return res;
}

/* Reads one request, has it delivered, answers. */
static enum chan_result serve_request(struct worker *w, struct chan *c)
{
    struct deliver_request *r = NULL;
    enum chan_result res = read_request(c, 0, &r);

    if (res != CHAN_OK)
        return res;
    agent->deliver(w, r);
    return end_request(&r);
}

/* One step of a request, which may be its first. Afterwards in_steps tells whether it waits; then the session knows for what. */
static enum chan_result step_request(struct agent_session *as, unsigned events)
{
    struct deliver_wait wait = {.happened = events};

    if (as->in_steps == NULL) {
        enum chan_result res = read_request(as->chan, 0, &as->in_steps);

        if (res != CHAN_OK)
            return res;
        wait.happened = 0;
    }
    if (agent->deliver_in_steps(as->worker, as->in_steps, &wait))
        return end_request(&as->in_steps);
    worker_wait_for(as->session, wait.fd, POLLER_READ, wait.deadline);
    return CHAN_AGAIN;
}

/* Reads one request and has it delivered; CHAN_OK: agent_done() may have been called, or will be. */
static enum chan_result begin_request(struct agent_session *as)
{
    struct deliver_request *r = NULL;
    enum chan_result res = read_request(as->chan, 0, &r);

    if (res != CHAN_OK)
        return res;
    r->session = as;
    lock_take(&as->lock);
    as->delivering = true;
    as->was_woken = false;
    lock_release(&as->lock);
    agent->deliver_later(as->worker, r);
    return CHAN_OK;
}

void agent_done(struct deliver_request *r)
{
    struct agent_session *as = r->session;
    struct err err = ERR_INIT;
    enum chan_result res;

    leave_nothing_out(r);
    proto_put_empty(r->chan, PROTO_DONE);
    deliver_free(&r);
    lock_take(&as->lock);
    /* a socket buffer that is full, or a queue manager that has gone, is for the session's thread */
    res = chan_flush(as->chan, &err);
    as->delivering = false;
    if (res != CHAN_OK || as->was_woken || chan_has_frame(as->chan))
        worker_wake(as->session);
    lock_release(&as->lock);
}

static void *session_open(struct worker *w, struct worker_session *s, const struct worker_client *c)
{
    struct agent_session *as = xcalloc(1, sizeof(*as));

    as->worker = w;
    as->session = s;
    as->fd = c->fd;
    as->chan = chan_new(c->fd);
    lock_init(&as->lock, LOCK_SESSION);
    proto_hello(as->chan, worker_service_name(w));
    return as;
}

/* True: the session has to wait for agent_done(). */
static bool is_delivering(struct agent_session *as)
{
    bool is;

    lock_take(&as->lock);
    is = as->delivering;
    as->was_woken = is;
    lock_release(&as->lock);
    return is;
}

static enum worker_verdict session_work(void *session, unsigned events)
{
    struct agent_session *as = session;
    int fd = as->fd;
    struct err err = ERR_INIT;

    if (is_delivering(as)) {
        worker_wait_for(as->session, -1, 0, MONO_NEVER);
        return WORKER_WAIT;
    }
    /* of a delivery that is on its way, the end is told; a queue manager that has gone meanwhile does not cut it off */
    if (as->in_steps == NULL && chan_has_output(as->chan) &&
        chan_flush_wait(as->chan, REQUEST_WAIT_MS, &err) != CHAN_OK)
        return WORKER_CLOSE;
    if (worker_is_draining(as->worker) && (events & POLLER_WOKEN) != 0 && as->in_steps == NULL &&
        !chan_has_frame(as->chan))
        return WORKER_CLOSE;
    if (agent->deliver_later != NULL) {
        enum chan_result res = begin_request(as);

        if (res == CHAN_OK) {
            /* from here on another thread may use the session: nothing of it is touched but the wait */
            worker_wait_for(as->session, fd, POLLER_READ, MONO_NEVER);
            return WORKER_WAIT;
        }
        if (res != CHAN_AGAIN)
            return WORKER_CLOSE;
    } else if (as->in_steps != NULL || (events & (POLLER_READ | POLLER_HANGUP)) != 0 ||
               chan_has_frame(as->chan)) {
        enum chan_result res = agent->deliver_in_steps != NULL
                                   ? step_request(as, events)
                                   : serve_request(as->worker, as->chan);

        if (res == CHAN_EOF || res == CHAN_ERROR)
            return WORKER_CLOSE;
        if (as->in_steps != NULL)
            return WORKER_WAIT;
        if (worker_is_draining(as->worker))
            return WORKER_CLOSE;
        if (chan_has_frame(as->chan))
            return WORKER_AGAIN;
    }
    chan_trim(as->chan);
    worker_wait_for(as->session, fd, POLLER_READ, MONO_NEVER);
    return WORKER_WAIT;
}

static void session_close(void *session)
{
    struct agent_session *as = session;

    (void) chan_take_fd(as->chan); /* the framework closes it */
    chan_free(&as->chan);
    lock_fini(&as->lock);
    free(as);
}

static void serve(struct worker *w, const struct worker_client *c)
{
    struct chan *chan = chan_new(c->fd);
    struct err err = ERR_INIT;

    proto_hello(chan, worker_service_name(w));
    if (chan_flush_wait(chan, REQUEST_WAIT_MS, &err) == CHAN_OK) {
        for (;;) {
            if (!chan_has_frame(chan) && worker_wait_readable(w, chan_fd(chan), -1) <= 0)
                break;
            enum chan_result res = serve_request(w, chan);
            if (res == CHAN_EOF || res == CHAN_ERROR)
                break;
        }
    }
    (void) chan_take_fd(chan);
    chan_free(&chan);
}

/* Not every agent has one. */
static int open_filter(struct worker *w, struct err *err)
{
    static const struct {
        const char *program, *parameter;
    } filters[] = {
        {"smtp", "smtp_delivery_status_filter"},
        {"local", "local_delivery_status_filter"},
        {"virtual", "virtual_delivery_status_filter"},
    };

    for (size_t i = 0; i < ARRAY_LEN(filters); i++)
        if (strcmp(agent->program, filters[i].program) == 0)
            return delivery_filter_open(worker_maps(w), filters[i].parameter,
                                        config_get(worker_config(w), filters[i].parameter), &filter,
                                        err);
    return 0;
}

static int start(struct worker *w, struct err *err)
{
    if (config_bind(worker_config(w), &agent_params, &params, err) == -1 ||
        open_filter(w, err) == -1)
        return -1;
    return agent->start != NULL ? agent->start(w, err) : 0;
}

int agent_main(int argc, char **argv, const struct agent *a)
{
    struct worker_service service = {
        .program = a->program,
        .shape = a->shape,
        .keep_root = a->keep_root,
        .fork_per_delivery = a->shape == WORKER_SINGLE,
        .start = start,
        .ready = a->ready,
        .session_open = session_open,
        .session_work = session_work,
        .session_close = session_close,
        .serve = serve,
        .drain = a->drain,
        .stop = a->stop,
    };

    agent = a;
    return worker_main(argc, argv, &service);
}
