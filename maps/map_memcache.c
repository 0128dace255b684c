/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_memcache.c - memcache:FILE, keys and values in a memcached, in front of another table if one is named. Source:
 * memcache_table(5); the protocol: memcached's protocol.txt.
 *
 * "get KEY" -> ["VALUE KEY FLAGS LENGTH" DATA] "END"; "set KEY FLAGS TTL LENGTH" DATA -> "STORED". What is found in the backup
 * table is stored, for the next lookup. A key with white space or control bytes, or of more than 250, cannot be in a memcached
 * and is asked of the backup alone.
 */
#include "maps/map_int.h"

#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/num.h"
#include "maps/map_query.h"
#include "maps/map_replies.h"
#include "maps/map_servers.h"
#include "maps/map_source.h"

#define KEY_LIMIT    250 /* memcached's */
#define DEFAULT_PORT "11211"
#define SHOWN        100

struct options {
    const char *memcache, *backup, *key_format, *domain;
    int64_t flags, ttl; /* as the server takes them */
    int64_t data_limit, line_limit;
    int64_t max_try;
    int64_t retry_pause, timeout; /* seconds */
};

static const struct param rows[] = {
    PARAM_STRING("memcache", struct options, memcache, .def = "inet:localhost:11211",
                 .not_empty = true),
    PARAM_STRING("backup", struct options, backup, .def = ""),
    PARAM_STRING("key_format", struct options, key_format, .def = "%s", .not_empty = true),
    PARAM_STRING("domain", struct options, domain, .def = ""),
    PARAM_INT("flags", struct options, flags, .def = "0", .max = UINT32_MAX),
    PARAM_INT("ttl", struct options, ttl, .def = "3600", .max = UINT32_MAX),
    PARAM_INT("data_size_limit", struct options, data_limit, .def = "10240", .min = 1,
              .max = MAP_VALUE_MAX),
    PARAM_INT("line_size_limit", struct options, line_limit, .def = "1024", .min = 1,
              .max = MAP_VALUE_MAX),
    PARAM_INT("max_try", struct options, max_try, .def = "2", .min = 1, .max = 100),
    PARAM_INT("retry_pause", struct options, retry_pause, .def = "1", .min = 1, .max = 3600),
    PARAM_INT("timeout", struct options, timeout, .def = "2", .min = 1, .max = 3600),
};

struct memcache {
    struct map_env *env;
    char *name; /* "memcache:PATH" */
    struct options o;
    struct map_source *source;
    struct map_query *key_format;
    struct map_domains *domains;
    struct map_servers *servers;
};

/* --- replies -------------------------------------------------------------------------------------- */

/* The line at the front of input, without its end. Returns its length with it; 0: not whole yet; -1. */
static ssize_t line_of(struct slice input, size_t limit, struct slice *line, struct err *err)
{
    ptrdiff_t end = slice_find(input, '\n');
    size_t len = end == -1 ? input.len : (size_t) end;

    if (len > 0 && input.ptr[len - 1] == '\r')
        len--;
    if (len > limit)
        return err_input(err, "reply line is longer than %zu bytes", limit);
    if (end == -1)
        return 0;
    *line = slice_sub(input, 0, len);
    return (ssize_t) end + 1;
}

static ssize_t trouble(struct map_reply *r, struct slice line, ssize_t used, struct err *err)
{
    static const char *const words[] = {"ERROR", "CLIENT_ERROR", "SERVER_ERROR", "NOT_STORED"};
    struct slice rest = line;
    struct slice word;

    if (slice_token(&rest, " ", &word)) {
        for (size_t i = 0; i < ARRAY_LEN(words); i++) {
            if (!slice_eq_str(word, words[i]))
                continue;
            r->result = MAP_RETRY;
            buf_reset(&r->text);
            buf_put_slice(&r->text, line);
            return used;
        }
    }
    return err_input(err, "unknown reply: %.*s", SLICE_FMT(slice_sub(line, 0, SHOWN)));
}

static int value_line(struct slice rest, const struct map_memcache_get *g, size_t *len,
                      struct err *err)
{
    struct slice key;
    struct slice flags;
    struct slice length;
    struct slice cas;
    uint64_t n;

    if (!slice_token(&rest, " ", &key) || !slice_token(&rest, " ", &flags) ||
        !slice_token(&rest, " ", &length) ||
        num_parse_u64_base(flags, 10, UINT32_MAX, &n, err) == -1 ||
        num_parse_u64_base(length, 10, UINT64_MAX, &n, err) == -1 ||
        (slice_token(&rest, " ", &cas) && slice_token(&rest, " ", &cas)))
        return err_input(err, "malformed VALUE line");
    if (!slice_eq(key, g->key))
        return err_input(err, "value of another key: %.*s", SLICE_FMT(slice_sub(key, 0, SHOWN)));
    if (n > g->data_limit)
        return err_input(err, "data is longer than %zu bytes", g->data_limit);
    *len = (size_t) n;
    return 0;
}

ssize_t map_memcache_get_reply(struct slice input, void *arg, struct err *err)
{
    struct map_memcache_get *g = arg;
    struct slice line = SLICE_EMPTY;
    ssize_t used = line_of(input, g->line_limit, &line, err);
    size_t len = 0;
    size_t at;
    ssize_t end;

    if (used <= 0)
        return used;
    if (slice_eq_str(line, "END")) {
        g->reply.result = MAP_NOTFOUND;
        return used;
    }
    if (!slice_starts_with(line, SLICE_LIT("VALUE ")))
        return trouble(&g->reply, line, used, err);
    if (value_line(slice_sub(line, 6, line.len), g, &len, err) == -1)
        return -1;
    at = (size_t) used;
    if (input.len - at < len + 2)
        return 0;
    if (input.ptr[at + len] != '\r' || input.ptr[at + len + 1] != '\n')
        return err_input(err, "data does not end where it should");
    end = line_of(slice_sub(input, at + len + 2, input.len), g->line_limit, &line, err);
    if (end <= 0)
        return end;
    if (!slice_eq_str(line, "END"))
        return err_input(err, "more than one value");
    g->reply.result = MAP_FOUND;
    buf_reset(&g->reply.text);
    buf_put_slice(&g->reply.text, slice_sub(input, at, at + len));
    return (ssize_t) (at + len + 2) + end;
}

ssize_t map_memcache_set_reply(struct slice input, void *arg, struct err *err)
{
    struct map_memcache_get *g = arg;
    struct slice line = SLICE_EMPTY;
    ssize_t used = line_of(input, g->line_limit, &line, err);

    if (used <= 0)
        return used;
    if (!slice_eq_str(line, "STORED"))
        return trouble(&g->reply, line, used, err);
    g->reply.result = MAP_FOUND;
    return used;
}

/* --- the type ------------------------------------------------------------------------------------- */

static void memcache_close(void *impl)
{
    struct memcache *m = impl;

    map_servers_free(&m->servers);
    map_domains_free(&m->domains);
    map_query_free(&m->key_format);
    map_source_free(&m->source);
    free(m->name);
    free(m);
}

static int memcache_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    struct memcache *m = xcalloc(1, sizeof(*m));
    struct map_servers_config c = {.nservers = 1};
    struct buf name = BUF_INIT(SIZE_MAX);
    const char *port = DEFAULT_PORT;
    int ret = -1;

    m->env = env;
    buf_printf(&name, "memcache:%s", path);
    m->name = buf_take(&name);
    if (map_source_open(path, env, rows, ARRAY_LEN(rows), &m->o, &m->source, err) == -1 ||
        map_servers_defaults(env, &c, err) == -1)
        goto done;
    if (map_stream_check(m->o.memcache, port, err) == -1) {
        err_prefix(err, "%s: memcache: ", path);
        goto done;
    }
    if (map_query_new(m->o.key_format, &m->key_format, err) == -1) {
        err_prefix(err, "%s: key_format: ", path);
        goto done;
    }
    if (m->o.backup[0] != '\0' && map_spec_flags(slice_str(m->o.backup)) == 0) {
        (void) err_input(err, "%s: backup: \"%s\" is not a table", path, m->o.backup);
        goto done;
    }
    m->domains = map_domains_new(env, m->o.domain);
    c.table = m->name;
    c.servers = &m->o.memcache;
    c.query_timeout_ms = m->o.timeout * 1000;
    m->servers = map_servers_new(&c, &map_stream_ops, (void *) (uintptr_t) port);
    *impl = m;
    m = NULL;
    ret = 0;
done:
    if (m != NULL)
        memcache_close(m);
    return ret;
}

static bool memcache_is_stale(void *impl, const char *path)
{
    return map_source_is_stale(((const struct memcache *) impl)->source, path);
}

static bool fits_memcached(struct slice key)
{
    if (key.len == 0 || key.len > KEY_LIMIT)
        return false;
    for (size_t i = 0; i < key.len; i++)
        if ((unsigned char) key.ptr[i] <= ' ' || key.ptr[i] == 0x7f)
            return false;
    return true;
}

struct attempt {
    map_reply_fn parse;
    struct map_memcache_get *get;
    struct slice request;
    size_t reply_max;
    bool asked; /* a connection was there */
};

static enum map_servers_answer try_once(void *conn, struct mono_time deadline, void *arg,
                                        struct err *err)
{
    struct attempt *a = arg;

    a->asked = true;
    return map_stream_answer(conn, a->request, a->reply_max, a->parse, a->get, deadline, err);
}

/* One command, tried again when it failed on the way; not when the server takes no connection. */
static int command(const struct memcache *m, struct slice request, map_reply_fn parse,
                   struct map_memcache_get *get, struct err *err)
{
    struct attempt a = {.parse = parse, .get = get, .request = request};

    a.reply_max = (size_t) (2 * m->o.line_limit + m->o.data_limit) + 16;
    for (int64_t tries = 1;; tries++) {
        a.asked = false;
        get->reply.result = MAP_RETRY;
        buf_reset(&get->reply.text);
        if (map_servers_ask(m->servers, try_once, &a, err) == 0 && get->reply.result != MAP_RETRY)
            return 0;
        if (tries == m->o.max_try || !a.asked)
            break;
        (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){m->o.retry_pause, 0}, NULL);
    }
    if (get->reply.text.len > 0)
        (void) err_temporary(err, "server %s says: %.*s", m->o.memcache,
                             SLICE_FMT(buf_view(&get->reply.text)));
    return -1;
}

/* A cache that cannot be written costs speed, not mail. */
static void store(const struct memcache *m, struct slice key, struct slice value)
{
    struct map_memcache_get get = {.line_limit = (size_t) m->o.line_limit, .reply = MAP_REPLY_INIT};
    struct buf request = BUF_INIT(SIZE_MAX);
    struct err err = ERR_INIT;

    if (value.len > (size_t) m->o.data_limit)
        return; /* it would not be read back */
    buf_printf(&request, "set %.*s %lld %lld %zu\r\n", SLICE_FMT(key), (long long) m->o.flags,
               (long long) m->o.ttl, value.len);
    buf_put_slice(&request, value);
    buf_puts(&request, "\r\n");
    if (command(m, buf_view(&request), map_memcache_set_reply, &get, &err) == -1)
        log_warning("table %s: cannot store a key: %s", m->name, err.text);
    buf_fini(&request);
    buf_fini(&get.reply.text);
}

static enum map_result ask_backup(const struct memcache *m, struct slice key, struct buf *value,
                                  struct err *err)
{
    struct map *backup;

    if (map_open(m->env, slice_str(m->o.backup), &backup, err) == -1)
        return MAP_RETRY;
    return map_lookup(backup, key, value, err);
}

static enum map_result ask_memcached(const struct memcache *m, struct slice key, struct buf *value,
                                     struct err *err)
{
    struct map_memcache_get get = {.key = key,
                                   .line_limit = (size_t) m->o.line_limit,
                                   .data_limit = (size_t) m->o.data_limit,
                                   .reply = MAP_REPLY_INIT};
    struct buf request = BUF_INIT(SIZE_MAX);
    enum map_result res = MAP_RETRY;

    buf_printf(&request, "get %.*s\r\n", SLICE_FMT(key));
    if (command(m, buf_view(&request), map_memcache_get_reply, &get, err) == 0)
        res = map_reply_result(&get.reply, value, err);
    buf_fini(&request);
    buf_fini(&get.reply.text);
    return res;
}

static enum map_result memcache_lookup(void *impl, struct slice key, struct buf *value,
                                       struct err *err)
{
    const struct memcache *m = impl;
    struct buf cached = BUF_INIT(SIZE_MAX);
    enum map_result res = map_domains_ask(m->domains, key, err);
    size_t before = value->len;

    if (res != MAP_FOUND || !map_query_for_key(m->key_format, key, NULL, NULL, &cached)) {
        buf_fini(&cached);
        return res == MAP_RETRY ? MAP_RETRY : MAP_NOTFOUND;
    }
    res = MAP_NOTFOUND;
    if (fits_memcached(buf_view(&cached)))
        res = ask_memcached(m, buf_view(&cached), value, err);
    if (res != MAP_FOUND && m->o.backup[0] != '\0') {
        bool reachable = res == MAP_NOTFOUND;

        if (err != NULL)
            *err = ERR_INIT;
        res = ask_backup(m, key, value, err);
        if (res == MAP_FOUND && reachable && fits_memcached(buf_view(&cached)))
            store(m, buf_view(&cached), slice_sub(buf_view(value), before, value->len));
    }
    buf_fini(&cached);
    return res;
}

const struct map_type map_type_memcache = {.name = "memcache",
                                           .flags = MAP_FLAG_FIXED,
                                           .open = memcache_open,
                                           .close = memcache_close,
                                           .lookup = memcache_lookup,
                                           .is_stale = memcache_is_stale};
