/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxymap_main.c - the proxymap(8) process: requests of other processes, one after the other on each connection, each on a thread.
 */
#include <poll.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/htable.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/num.h"
#include "mail/proto.h"
#include "master/worker.h"
#include "proxymap/approved.h"
#include "proxymap/proxymap.h"

#define WRITE_WAIT_MS 60000 /* for a client to take its answer */
/* After a reload the process before this one may still have a file open for writing, until its last client has gone. */
#define HANDOVER_MS       5000
#define HANDOVER_PAUSE_MS 10
#define IDLE_MAX_S        86400
#define LIST_MAX          (256U << 20)
#define REPORTED_MAX      1000 /* unapproved tables that are remembered as reported */

struct proxymap {
    struct proxymap_params p;
    struct mono_time begun;
    int64_t idle_s;
    bool writes; /* the proxywrite service */
    struct approved *approved;
    struct lock lock;
    struct htable *reported GUARDED_BY(lock);
};

struct session {
    struct worker_session *ws;
    struct worker *worker;
    struct chan *chan;
};

static int start(struct worker *w, struct err *err)
{
    struct proxymap *m = xcalloc(1, sizeof(*m));
    const struct config *cfg = worker_config(w);

    worker_set_data(w, m);
    m->begun = mono_now();
    map_env_set_proxy(worker_maps(w), MAP_PROXY_NEVER);
    if (config_bind(cfg, &proxymap_params, &m->p, err) == -1 ||
        num_parse_time(slice_str(config_get(cfg, "ipc_idle")), 's', IDLE_MAX_S, &m->idle_s, err) ==
            -1)
        return -1;
    m->writes = strcmp(worker_service_name(w), config_get(cfg, "proxywrite_service_name")) == 0;
    m->approved = approved_new(m->writes ? m->p.write_maps : m->p.read_maps);
    lock_init(&m->lock, LOCK_SESSION);
    m->reported = htable_new(false);
    return 0;
}

static void stop(struct worker *w)
{
    struct proxymap *m = worker_data(w);

    struct map_env *maps = worker_maps(w);

    if (m->writes)
        map_env_free(&maps); /* caches are closed, and known to be whole */
    htable_free(&m->reported, NULL);
    lock_fini(&m->lock);
    approved_free(&m->approved);
}

static void *session_open(struct worker *w, struct worker_session *ws,
                          const struct worker_client *client)
{
    struct session *s = xcalloc(1, sizeof(*s));

    s->worker = w;
    s->ws = ws;
    s->chan = chan_new(client->fd);
    proto_hello(s->chan, "proxymap");
    return s;
}

static void session_close(void *session)
{
    struct session *s = session;

    (void) chan_take_fd(s->chan); /* the framework closes it */
    chan_free(&s->chan);
    free(s);
}

/* Each table once: a busy client would fill the log. */
static void report_unapproved(struct proxymap *m, struct slice table)
{
    bool news;

    lock_take(&m->lock);
    news = htable_len(m->reported) < REPORTED_MAX && htable_put(m->reported, table, m) == NULL;
    lock_release(&m->lock);
    if (!news)
        return;
    log_warning("request for unapproved table: \"%.*s\"", SLICE_FMT(table));
    log_warning("to approve this table for %s access, list proxy:%.*s in main.cf:%s",
                m->writes ? "read-write" : "read-only", SLICE_FMT(table),
                m->writes ? "proxy_write_maps" : "proxy_read_maps");
}

/* The table; a writable one for the service that writes. plain: see map_open_plain(). */
static int open_table(struct session *s, struct slice name, bool plain, struct map **out,
                      struct err *err)
{
    struct proxymap *m = worker_data(s->worker);
    int ret;

    if (!m->writes)
        return plain ? map_open_plain(worker_maps(s->worker), name, out, err)
                     : map_open(worker_maps(s->worker), name, out, err);
    for (;;) {
        struct err why = ERR_INIT;

        lock_take(
            &m->lock); /* two threads that open a file for writing would be in each other's way */
        ret = map_open_writable(worker_maps(s->worker), name, out, &why);
        lock_release(&m->lock);
        if (ret == 0)
            return 0;
        if (why.kind != ERR_TEMPORARY || mono_diff_ms(mono_now(), m->begun) > HANDOVER_MS) {
            *err = why;
            return -1;
        }
        (void) poll(NULL, 0, HANDOVER_PAUSE_MS);
    }
}

static enum proto_map_status status_of(enum map_result res)
{
    switch (res) {
    case MAP_FOUND:
        return PROTO_MAP_FOUND;
    case MAP_NOTFOUND:
        return PROTO_MAP_NOT_FOUND;
    case MAP_RETRY:
        break;
    }
    return PROTO_MAP_RETRY;
}

static enum proto_map_status look_up(struct map *map, struct slice key, struct buf *value,
                                     struct err *why)
{
    enum map_result res = map_lookup(map, key, value, why);

    if (res == MAP_FOUND && value->len > PROTO_MAP_VALUE_MAX) {
        (void) err_temporary(why, "result is longer than %u bytes", PROTO_MAP_VALUE_MAX);
        return PROTO_MAP_RETRY;
    }
    return status_of(res);
}

struct listing {
    struct chan *chan;
    struct err *why;
    bool failed;
};

/* Rows are queued, and sent when the table is free again: a client that is slow to take them holds nobody up. */
static bool list_row(struct slice key, struct slice value, void *arg)
{
    struct listing *l = arg;
    struct proto_map_answer row = {.status = PROTO_MAP_ROW, .key = key, .value = value};

    if (chan_output_len(l->chan) > LIST_MAX) {
        (void) err_temporary(l->why, "more than %u bytes to list", LIST_MAX);
        l->failed = true;
    } else if (proto_put(l->chan, &msg_map_answer, &row, -1, l->why) == -1) {
        l->failed = true;
    }
    return !l->failed;
}

static enum proto_map_status list(struct session *s, struct map *map, struct err *why)
{
    struct listing l = {.chan = s->chan, .why = why};

    return map_each(map, list_row, &l, why) == 0 && !l.failed ? PROTO_MAP_FOUND : PROTO_MAP_RETRY;
}

static enum proto_map_status answer(struct session *s, const struct proto_map_request *q,
                                    struct buf *value, struct err *why)
{
    struct proxymap *m = worker_data(s->worker);
    struct map *map;

    if (!approved_has(m->approved, q->table)) {
        report_unapproved(m, q->table);
        (void) err_permanent(why, "not listed in %s",
                             m->writes ? "proxy_write_maps" : "proxy_read_maps");
        return PROTO_MAP_DENIED;
    }
    if (open_table(s, q->table, q->plain != 0, &map, why) == -1)
        return PROTO_MAP_RETRY;
    if (q->op == PROTO_MAP_LOOKUP)
        return look_up(map, q->key, value, why);
    if (!m->writes) {
        (void) err_permanent(why, "this service only looks up");
        return PROTO_MAP_DENIED;
    }
    switch ((enum proto_map_op) q->op) {
    case PROTO_MAP_UPDATE:
        return map_update(map, q->key, q->value, why) == 0 ? PROTO_MAP_FOUND : PROTO_MAP_RETRY;
    case PROTO_MAP_DELETE:
        return status_of(map_delete(map, q->key, why));
    case PROTO_MAP_SYNC:
        return map_sync(map, why) == 0 ? PROTO_MAP_FOUND : PROTO_MAP_RETRY;
    case PROTO_MAP_LIST:
        return list(s, map, why);
    case PROTO_MAP_LOOKUP:
        break;
    }
    (void) err_input(why, "unknown request %u", q->op);
    return PROTO_MAP_RETRY;
}

static int serve(struct session *s, const struct frame *f, struct err *err)
{
    struct proto_map_request q;
    struct proto_map_answer a = {.status = 0};
    struct buf value = BUF_INIT(MAP_VALUE_MAX);
    struct err why = ERR_INIT;
    int ret = -1;

    if (proto_decode(f, &msg_map_request, &q, err) == 0) {
        a.status = answer(s, &q, &value, &why);
        if (a.status == PROTO_MAP_FOUND)
            a.value = buf_view(&value);
        a.text = slice_str(why.text);
        if (proto_put(s->chan, &msg_map_answer, &a, -1, err) == 0 &&
            chan_flush_wait(s->chan, WRITE_WAIT_MS, err) == CHAN_OK)
            ret = 0;
    }
    buf_fini(&value);
    return ret;
}

static enum worker_verdict session_work(void *session, unsigned events)
{
    struct session *s = session;
    const struct proxymap *m = worker_data(s->worker);
    struct err err = ERR_INIT;
    struct frame f;

    if (chan_has_output(s->chan) && chan_flush_wait(s->chan, WRITE_WAIT_MS, &err) != CHAN_OK)
        return WORKER_CLOSE;
    switch (proto_get_wait(s->chan, &f, 0, &err)) {
    case CHAN_OK:
        fd_close(&f.fd);
        if (serve(s, &f, &err) == 0)
            return WORKER_AGAIN;
        log_warning("connection from a client: %s",
                    err.text[0] != '\0' ? err.text : "it does not take its answer");
        return WORKER_CLOSE;
    case CHAN_AGAIN:
        break;
    case CHAN_ERROR:
        log_debug("connection from a client: %s", err.text);
        return WORKER_CLOSE;
    case CHAN_EOF:
        return WORKER_CLOSE;
    }
    /* a client notices, and asks again over another connection */
    if (worker_is_draining(s->worker) || (events & POLLER_TIMEOUT) != 0)
        return WORKER_CLOSE;
    chan_trim(s->chan);
    worker_wait_for(s->ws, chan_fd(s->chan), POLLER_READ,
                    mono_after_ms(mono_now(), m->idle_s * 1000));
    return WORKER_WAIT;
}

int main(int argc, char **argv)
{
    static const struct worker_service service = {
        .program = "proxymap",
        .shape = WORKER_THREADED,
        .start = start,
        .session_open = session_open,
        .session_work = session_work,
        .session_close = session_close,
        .stop = stop,
    };

    return worker_main(argc, argv, &service);
}
