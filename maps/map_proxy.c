/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_proxy.c - proxy:TYPE:NAME, a table that proxymap(8) opens for all. The other end is proxymap/.
 *
 * All such tables of a process share a few connections to the service. Which keys are asked for is known here, from the type that
 * stands behind; folding them is left to the other side.
 */
#include "maps/map_int.h"

#include <stdlib.h>

#include "base/file.h"
#include "mail/proto.h"
#include "maps/map_servers.h"
#include "postconf/param.h"

struct params {
    const char *service, *write_service;
    int64_t connections;
    int64_t timeout, idle; /* seconds */
};

static const struct param rows[] = {
    PARAM_STRING("proxymap_service_name", struct params, service, .def = "proxymap",
                 .not_empty = true,
                 .doc = "The name of the proxymap(8) service that answers for proxy: tables."),
    PARAM_STRING(
        "proxywrite_service_name", struct params, write_service, .def = "proxywrite",
        .not_empty = true,
        .doc =
            "The name of the proxymap(8) service that serves, and changes, what proxy_write_maps lists."),
    PARAM_INT("proxymap_connection_limit", struct params, connections, .def = "50", .min = 1,
              .max = 10000,
              .doc = "The most connections of one process to the proxymap(8) service."),
    PARAM_TIME(
        "proxymap_timeout", struct params, timeout, .def = "60s", .min = 1, .max = 86400,
        .doc =
            "How long a process waits for an answer of proxymap(8); longer than the tables behind it may take."),
    PARAM_TIME("ipc_idle", struct params, idle, .def = "5s", .min = 1, .max = 86400,
               .doc = "How long an idle connection to proxymap(8) is kept."),
};
extern const struct param_set map_proxy_params;

const struct param_set map_proxy_params = PARAM_SET("map_proxy", struct params, rows);

struct proxied {
    char *table;   /* "type:name" */
    bool is_plain; /* opened by map_open_plain(): so is what stands behind */
    struct map_env *env;
    struct map_servers *servers; /* env's; NULL when there are own ones */
    struct map_servers *own;     /* to the service that writes; NULL: read only */
};

/* --- connections ---------------------------------------------------------------------------------- */

static int proxy_connect(const char *server, struct mono_time deadline, void *arg, void **conn,
                         struct err *err)
{
    struct chan *c = proto_connect(server, "proxymap", mono_poll_ms(deadline), err);

    (void) arg;
    if (c == NULL)
        return -1;
    *conn = c;
    return 0;
}

static void proxy_disconnect(void *conn)
{
    struct chan *c = conn;

    chan_free(&c);
}

/* Commands are wherever they are; daemons are in the queue directory, which may be the root of what they see. */
static char *socket_path(const struct map_env *env, const char *service)
{
    struct buf path = BUF_INIT(SIZE_MAX);

    if (map_env_proxy(env) == MAP_PROXY_IF_THERE) {
        const char *spool = config_get(map_env_config(env), "queue_directory");

        buf_printf(&path, "%s/", spool != NULL ? spool : ".");
    }
    buf_printf(&path, "private/%s", service);
    return buf_take(&path);
}

struct map_servers *map_proxy_servers_new(const struct map_env *env, bool writes, struct err *err)
{
    static const struct map_servers_ops ops = {proxy_connect, proxy_disconnect};
    struct map_servers_config c = {.table = "proxy:", .nservers = 1};
    struct map_servers *s;
    struct params p;
    const char *servers[1];
    char *path;

    if (config_bind(map_env_config(env), &map_proxy_params, &p, err) == -1 ||
        map_servers_defaults(env, &c, err) == -1)
        return NULL;
    path = socket_path(env, writes ? p.write_service : p.service);
    servers[0] = path;
    c.servers = servers;
    c.max_connections = (size_t) p.connections;
    c.query_timeout_ms = p.timeout * 1000;
    c.idle_timeout_ms = p.idle * 1000;
    c.quiet = map_env_proxy(env) == MAP_PROXY_IF_THERE;
    s = map_servers_new(&c, &ops, NULL);
    free(path);
    return s;
}

/* --- the type ------------------------------------------------------------------------------------- */

typedef bool (*row_fn)(struct slice key, struct slice value, void *arg);

struct question {
    struct proto_map_request request;
    row_fn row; /* LIST; NULL: the rest of the rows is not wanted */
    void *row_arg;
    bool has_rows;
    uint32_t status;
    struct buf text; /* value, or why not */
};

static int receive(struct chan *conn, struct mono_time deadline, struct frame *f, struct err *err)
{
    enum chan_result res = chan_flush_wait(conn, mono_poll_ms(deadline), err);

    if (res == CHAN_OK)
        res = proto_get_wait(conn, f, mono_poll_ms(deadline), err);
    switch (res) {
    case CHAN_OK:
        fd_close(&f->fd);
        return 0;
    case CHAN_AGAIN:
        return err_temporary(err, "no answer in time");
    case CHAN_EOF:
        return err_temporary(err, "the service hung up");
    case CHAN_ERROR:
        break;
    }
    return -1;
}

static enum map_servers_answer proxy_ask(void *conn, struct mono_time deadline, void *arg,
                                         struct err *err)
{
    struct question *q = arg;
    struct proto_map_answer answer;
    struct frame f;

    if (proto_put(conn, &msg_map_request, &q->request, -1, err) == -1)
        return MAP_SERVERS_WRONG;
    do {
        if (receive(conn, deadline, &f, err) == -1)
            return q->has_rows ? MAP_SERVERS_WRONG : MAP_SERVERS_BROKEN; /* no row comes twice */
        if (proto_decode(&f, &msg_map_answer, &answer, err) == -1)
            return MAP_SERVERS_WRONG;
        if (answer.status == 0 ||
            (answer.status == PROTO_MAP_ROW && q->request.op != PROTO_MAP_LIST)) {
            (void) err_temporary(err, "an answer without a sensible status");
            return MAP_SERVERS_WRONG;
        }
        if (answer.status == PROTO_MAP_ROW) {
            q->has_rows = true;
            if (q->row != NULL && !q->row(answer.key, answer.value, q->row_arg))
                q->row = NULL;
        }
    } while (answer.status == PROTO_MAP_ROW);
    q->status = answer.status;
    buf_reset(&q->text);
    buf_put_slice(&q->text, answer.status == PROTO_MAP_FOUND ? answer.value : answer.text);
    chan_trim(conn);
    return MAP_SERVERS_DONE;
}

static unsigned proxy_flags_of(const char *path)
{
    return map_spec_flags(slice_str(path)) & ~(unsigned) MAP_FLAG_LOCAL;
}

static int open_through(const char *path, struct map_env *env, struct map_servers *servers,
                        void **impl, struct err *err)
{
    struct slice table = slice_str(path);
    struct proxied *p;

    while (slice_starts_with(table, SLICE_LIT("proxy:")))
        table = slice_sub(table, 6, table.len);
    if (map_spec_flags(table) == 0)
        return err_input(err, "unsupported dictionary type: %.*s", SLICE_FMT(table));
    if (table.len > PROTO_MAP_TABLE_MAX)
        return err_input(err, "name is longer than %d bytes", PROTO_MAP_TABLE_MAX);
    p = xcalloc(1, sizeof(*p));
    p->table = slice_dup(table);
    p->is_plain = map_open_is_plain();
    p->env = env;
    p->servers = servers;
    *impl = p;
    return 0;
}

static int proxy_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    struct map_servers *servers = map_env_proxy_servers(env, err);

    return servers == NULL ? -1 : open_through(path, env, servers, impl, err);
}

static void proxy_close(void *impl)
{
    struct proxied *p = impl;

    map_servers_free(&p->own);
    free(p->table);
    free(p);
}

/* Asks op; MAP_FOUND with the answer's value in out (NULL: not wanted), or as the service says. */
static enum map_result ask(const struct proxied *p, struct question *q, struct buf *out,
                           struct err *err)
{
    enum map_result res = MAP_RETRY;

    q->request.table = slice_str(p->table);
    q->text = BUF_INIT(SIZE_MAX);
    if (map_servers_ask(p->own != NULL ? p->own : p->servers, proxy_ask, q, err) == 0) {
        switch ((enum proto_map_status) q->status) {
        case PROTO_MAP_FOUND:
            if (out != NULL)
                buf_put_slice(out, buf_view(&q->text));
            res = MAP_FOUND;
            break;
        case PROTO_MAP_NOT_FOUND:
            res = MAP_NOTFOUND;
            break;
        case PROTO_MAP_RETRY:
        case PROTO_MAP_DENIED:
        case PROTO_MAP_ROW:
            (void) err_temporary(err, "%.*s", SLICE_FMT(buf_view(&q->text)));
            break;
        }
    }
    buf_fini(&q->text);
    return res;
}

static enum map_result lookup_itself(const struct proxied *p, struct slice key, struct buf *value,
                                     struct err *err)
{
    struct map *m;
    int res = p->is_plain ? map_open_plain(p->env, slice_str(p->table), &m, err)
                          : map_open(p->env, slice_str(p->table), &m, err);

    if (res == -1)
        return MAP_RETRY;
    return map_lookup(m, key, value, err);
}

static enum map_result proxy_lookup(void *impl, struct slice key, struct buf *value,
                                    struct err *err)
{
    const struct proxied *p = impl;
    struct question q = {
        .request = {.op = PROTO_MAP_LOOKUP, .key = key, .plain = p->is_plain ? 1 : 0}};
    struct err why = ERR_INIT;
    enum map_result res = ask(p, &q, value, &why);

    if (res == MAP_RETRY && q.status == 0 && p->own == NULL &&
        map_env_proxy(p->env) == MAP_PROXY_IF_THERE)
        return lookup_itself(p, key, value, err);
    if (res == MAP_RETRY)
        (void) err_temporary(err, "%s", why.text);
    return res;
}

/* --- tables that are written, through the proxywrite service ------------------------------------------ */

static int writer_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    struct map_servers *own = map_proxy_servers_new(env, true, err);
    struct proxied *p;

    if (own == NULL || open_through(path, env, NULL, impl, err) == -1) {
        map_servers_free(&own);
        return -1;
    }
    p = *impl;
    p->own = own;
    return 0;
}

/* The kind stays temporary: what is wrong with the file is the service's business. */
static int change(void *impl, enum proto_map_op op, struct slice key, struct slice value,
                  struct err *err)
{
    struct question q = {.request = {.op = op, .key = key, .value = value}};
    enum map_result res = ask(impl, &q, NULL, err);

    if (res == MAP_NOTFOUND)
        return err_temporary(err, "an answer that does not suit the question");
    return res == MAP_FOUND ? 0 : -1;
}

static int writer_update(void *impl, struct slice key, struct slice value, struct err *err)
{
    if (value.len > PROTO_MAP_VALUE_MAX)
        return err_input(err, "value is longer than %u bytes", PROTO_MAP_VALUE_MAX);
    return change(impl, PROTO_MAP_UPDATE, key, value, err);
}

static enum map_result writer_remove(void *impl, struct slice key, struct err *err)
{
    struct question q = {.request = {.op = PROTO_MAP_DELETE, .key = key}};

    return ask(impl, &q, NULL, err);
}

static int writer_sync(void *impl, struct err *err)
{
    return change(impl, PROTO_MAP_SYNC, SLICE_EMPTY, SLICE_EMPTY, err);
}

static int proxy_each(void *impl, row_fn fn, void *arg, struct err *err)
{
    struct question q = {.request = {.op = PROTO_MAP_LIST}, .row = fn, .row_arg = arg};

    return ask(impl, &q, NULL, err) == MAP_FOUND ? 0 : -1;
}

static const struct map_writer_type writer = {
    .open = writer_open, .update = writer_update, .remove = writer_remove, .sync = writer_sync};

/* Which keys there may be, the service knows. */
const struct map_type map_type_proxy = {.name = "proxy",
                                        .flags = MAP_FLAG_FIXED,
                                        .open = proxy_open,
                                        .close = proxy_close,
                                        .lookup = proxy_lookup,
                                        .each = proxy_each,
                                        .keeps_key_case = true,
                                        .any_key = true,
                                        .flags_of = proxy_flags_of,
                                        .writer = &writer};
