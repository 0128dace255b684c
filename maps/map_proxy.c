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
    const char *service;
    int64_t connections;
    int64_t timeout, idle; /* seconds */
};

static const struct param rows[] = {
    PARAM_STRING("proxymap_service_name", struct params, service, .def = "proxymap",
                 .not_empty = true,
                 .doc = "The name of the proxymap(8) service that answers for proxy: tables."),
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
    char *table; /* "type:name" */
    struct map_env *env;
    struct map_servers *servers; /* env's */
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

struct map_servers *map_proxy_servers_new(const struct map_env *env, struct err *err)
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
    path = socket_path(env, p.service);
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

struct question {
    struct proto_map_lookup lookup;
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

    if (proto_put(conn, &msg_map_lookup, &q->lookup, -1, err) == -1 ||
        receive(conn, deadline, &f, err) == -1)
        return MAP_SERVERS_BROKEN;
    fd_close(&f.fd);
    if (proto_decode(&f, &msg_map_answer, &answer, err) == -1)
        return MAP_SERVERS_BROKEN;
    if (answer.status == 0) {
        (void) err_temporary(err, "an answer without a status");
        return MAP_SERVERS_BROKEN;
    }
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

static int proxy_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    struct slice table = slice_str(path);
    struct map_servers *servers;
    struct proxied *p;

    while (slice_starts_with(table, SLICE_LIT("proxy:")))
        table = slice_sub(table, 6, table.len);
    if (map_spec_flags(table) == 0)
        return err_input(err, "unsupported dictionary type: %.*s", SLICE_FMT(table));
    if (table.len > PROTO_MAP_TABLE_MAX)
        return err_input(err, "name is longer than %d bytes", PROTO_MAP_TABLE_MAX);
    servers = map_env_proxy_servers(env, err);
    if (servers == NULL)
        return -1;
    p = xcalloc(1, sizeof(*p));
    p->table = slice_dup(table);
    p->env = env;
    p->servers = servers;
    *impl = p;
    return 0;
}

static void proxy_close(void *impl)
{
    struct proxied *p = impl;

    free(p->table);
    free(p);
}

static enum map_result lookup_itself(const struct proxied *p, struct slice key, struct buf *value,
                                     struct err *err)
{
    struct map *m;

    if (map_open(p->env, slice_str(p->table), &m, err) == -1)
        return MAP_RETRY;
    return map_lookup(m, key, value, err);
}

static enum map_result proxy_lookup(void *impl, struct slice key, struct buf *value,
                                    struct err *err)
{
    const struct proxied *p = impl;
    struct question q = {.lookup = {.table = slice_str(p->table), .key = key},
                         .text = BUF_INIT(SIZE_MAX)};
    struct err why = ERR_INIT;
    enum map_result res = MAP_RETRY;

    if (map_servers_ask(p->servers, proxy_ask, &q, &why) == -1) {
        if (map_env_proxy(p->env) == MAP_PROXY_IF_THERE)
            res = lookup_itself(p, key, value, err);
        else
            (void) err_temporary(err, "%s", why.text);
        buf_fini(&q.text);
        return res;
    }
    switch ((enum proto_map_status) q.status) {
    case PROTO_MAP_FOUND:
        buf_put_slice(value, buf_view(&q.text));
        res = MAP_FOUND;
        break;
    case PROTO_MAP_NOT_FOUND:
        res = MAP_NOTFOUND;
        break;
    case PROTO_MAP_RETRY:
    case PROTO_MAP_DENIED:
        (void) err_temporary(err, "%.*s", SLICE_FMT(buf_view(&q.text)));
        break;
    }
    buf_fini(&q.text);
    return res;
}

const struct map_type map_type_proxy = {.name = "proxy",
                                        .flags = MAP_FLAG_FIXED,
                                        .open = proxy_open,
                                        .close = proxy_close,
                                        .lookup = proxy_lookup,
                                        .keeps_key_case = true,
                                        .flags_of = proxy_flags_of};
