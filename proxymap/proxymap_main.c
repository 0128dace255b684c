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
#include "master/requests.h"
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
static int open_table(struct worker *w, struct slice name, bool plain, struct map **out,
                      struct err *err)
{
    struct proxymap *m = worker_data(w);
    int ret;

    if (!m->writes)
        return plain ? map_open_plain(worker_maps(w), name, out, err)
                     : map_open(worker_maps(w), name, out, err);
    for (;;) {
        struct err why = ERR_INIT;

        lock_take(
            &m->lock); /* two threads that open a file for writing would be in each other's way */
        ret = map_open_writable(worker_maps(w), name, out, &why);
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

static enum proto_map_status list(struct chan *c, struct map *map, struct err *why)
{
    struct listing l = {.chan = c, .why = why};

    return map_each(map, list_row, &l, why) == 0 && !l.failed ? PROTO_MAP_FOUND : PROTO_MAP_RETRY;
}

static enum proto_map_status answer(struct worker *w, struct chan *c,
                                    const struct proto_map_request *q, struct buf *value,
                                    struct err *why)
{
    struct proxymap *m = worker_data(w);
    struct map *map;

    if (!approved_has(m->approved, q->table)) {
        report_unapproved(m, q->table);
        (void) err_permanent(why, "not listed in %s",
                             m->writes ? "proxy_write_maps" : "proxy_read_maps");
        return PROTO_MAP_DENIED;
    }
    if (open_table(w, q->table, q->plain != 0, &map, why) == -1)
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
        return list(c, map, why);
    case PROTO_MAP_LOOKUP:
        break;
    }
    (void) err_input(why, "unknown request %u", q->op);
    return PROTO_MAP_RETRY;
}

static int serve(struct worker *w, struct chan *c, struct frame *f, struct err *err)
{
    struct proto_map_request q;
    struct proto_map_answer a = {.status = 0};
    struct buf value = BUF_INIT(MAP_VALUE_MAX);
    struct err why = ERR_INIT;
    int ret = -1;

    fd_close(&f->fd);
    if (proto_decode(f, &msg_map_request, &q, err) == 0) {
        a.status = answer(w, c, &q, &value, &why);
        if (a.status == PROTO_MAP_FOUND)
            a.value = buf_view(&value);
        a.text = slice_str(why.text);
        ret = requests_answer(c, &msg_map_answer, &a, err);
    }
    buf_fini(&value);
    return ret;
}

static int64_t idle_ms(struct worker *w)
{
    const struct proxymap *m = worker_data(w);

    return m->idle_s * 1000;
}

int main(int argc, char **argv)
{
    static const struct requests requests = {
        .program = "proxymap",
        .client = "a client",
        .answer_wait_ms = WRITE_WAIT_MS,
        .is_left_in_silence = true,
        .start = start,
        .serve = serve,
        .idle_ms = idle_ms,
        .stop = stop,
    };

    return requests_main(argc, argv, &requests);
}
