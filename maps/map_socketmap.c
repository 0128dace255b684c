/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_socketmap.c - socketmap:inet:HOST:PORT:NAME, socketmap:unix:PATH:NAME. Source: socketmap_table(5).
 *
 * A netstring each way ("LENGTH:BYTES,"): "NAME KEY" -> "OK VALUE", "NOTFOUND ", or "TEMP", "TIMEOUT", "PERM" with a reason. What is
 * longer than main.cf allows is not sent, and not taken.
 */
#include "maps/map_int.h"
#include "maps/map_replies.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "postconf/param.h"

#define LENGTH_DIGITS 7 /* of MAP_VALUE_MAX */

struct socketmap_limits {
    int64_t query, reply;
};

static const struct param rows[] = {
    PARAM_INT("socketmap_max_query_size", struct socketmap_limits, query, .def = "10000", .min = 1,
              .max = MAP_KEY_MAX,
              .doc = "The longest key that a socketmap: table asks its server for, in bytes; a "
                     "longer one is reported, and not found."),
    PARAM_INT("socketmap_max_reply_size", struct socketmap_limits, reply, .def = "100000", .min = 1,
              .max = MAP_VALUE_MAX,
              .doc = "The longest reply that a socketmap: table takes from its server, in bytes; "
                     "after a longer one the lookup is \"try again\"."),
};
extern const struct param_set map_socketmap_params;

const struct param_set map_socketmap_params =
    PARAM_SET("map_socketmap", struct socketmap_limits, rows);

struct socketmap {
    struct map_servers *servers;
    char *name;
    struct socketmap_limits limits;
};

static int too_long(size_t limit, struct err *err)
{
    return err_input(err, "reply is longer than %zu bytes (socketmap_max_reply_size)", limit);
}

/* Its length without the encapsulation is at most limit. Returns as map_reply_fn. */
static ssize_t netstring(struct slice input, size_t limit, struct slice *content, struct err *err)
{
    size_t digits = 0;
    size_t len = 0;

    for (; digits < input.len && ascii_is_digit((unsigned char) input.ptr[digits]); digits++) {
        if (digits == LENGTH_DIGITS)
            return too_long(limit, err);
        len = len * 10 + (size_t) (input.ptr[digits] - '0');
    }
    if (len > limit)
        return too_long(limit, err);
    if (digits == input.len)
        return 0;
    if (digits == 0 || input.ptr[digits] != ':' || (digits > 1 && input.ptr[0] == '0'))
        return err_input(err, "reply is not a netstring");
    if (input.len < digits + 1 + len + 1)
        return 0;
    *content = slice_sub(input, digits + 1, digits + 1 + len);
    if (input.ptr[digits + 1 + len] != ',')
        return err_input(err, "reply is not a netstring");
    return (ssize_t) (digits + 1 + len + 1);
}

ssize_t map_socketmap_reply(struct slice input, void *arg, struct err *err)
{
    static const struct {
        const char *word;
        enum map_result result;
        const char *prefix;
    } statuses[] = {
        {"OK", MAP_FOUND, ""},
        {"NOTFOUND", MAP_NOTFOUND, ""},
        {"TEMP", MAP_RETRY, "temporary error: "},
        {"TIMEOUT", MAP_RETRY, "timeout: "},
        {"PERM", MAP_RETRY, "permanent error: "},
    };
    struct map_socketmap_reply *s = arg;
    struct map_reply *r = &s->reply;
    struct slice text = SLICE_EMPTY;
    struct slice word;
    ssize_t used = netstring(input, s->limit, &text, err);
    ptrdiff_t space;

    if (used <= 0)
        return used;
    space = slice_find(text, ' ');
    word = space == -1 ? text : slice_sub(text, 0, (size_t) space);
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        if (!slice_eq_str(word, statuses[i].word))
            continue;
        if (space == -1 && statuses[i].result == MAP_FOUND)
            break; /* no value, not even an empty one */
        r->result = statuses[i].result;
        buf_reset(&r->text);
        buf_puts(&r->text, statuses[i].prefix);
        if (space != -1)
            buf_put_slice(&r->text, slice_sub(text, (size_t) space + 1, text.len));
        return used;
    }
    return err_input(err, "unknown reply: %.*s", SLICE_FMT(slice_sub(text, 0, 100)));
}

static void socketmap_close(void *impl)
{
    struct socketmap *m = impl;

    map_servers_free(&m->servers);
    free(m->name);
    free(m);
}

static int socketmap_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    struct slice s = slice_str(path);
    struct buf table = BUF_INIT(SIZE_MAX);
    struct map_servers_config c = {.nservers = 1};
    struct socketmap_limits limits;
    struct socketmap *m;
    ptrdiff_t colon = slice_rfind(s, ':');
    char *server;
    const char *servers[1];
    int ret = -1;

    if ((!slice_starts_with(s, SLICE_LIT("inet:")) && !slice_starts_with(s, SLICE_LIT("unix:"))) ||
        colon < 5 || (size_t) colon + 1 == s.len)
        return err_input(err, "wants inet:HOST:PORT:NAME or unix:PATH:NAME");
    server = slice_dup(slice_sub(s, 0, (size_t) colon));
    if (map_stream_check(server, NULL, err) == 0 && map_servers_defaults(env, &c, err) == 0 &&
        config_bind(map_env_config(env), &map_socketmap_params, &limits, err) == 0) {
        buf_printf(&table, "socketmap:%s", path);
        c.table = buf_cstr(&table);
        servers[0] = server;
        c.servers = servers;
        m = xcalloc(1, sizeof(*m));
        m->name = slice_dup(slice_sub(s, (size_t) colon + 1, s.len));
        m->limits = limits;
        m->servers = map_servers_new(&c, &map_stream_ops, NULL);
        *impl = m;
        ret = 0;
    }
    buf_fini(&table);
    free(server);
    return ret;
}

static enum map_result socketmap_lookup(void *impl, struct slice key, struct buf *value,
                                        struct err *err)
{
    struct socketmap *m = impl;
    struct buf request = BUF_INIT(SIZE_MAX);
    struct map_socketmap_reply r = {(size_t) m->limits.reply, MAP_REPLY_INIT};
    enum map_result res = MAP_RETRY;
    size_t len = strlen(m->name) + 1 + key.len;

    if (key.len > (size_t) m->limits.query) {
        log_warning("table socketmap:%s: a key of %zu bytes is not asked for: "
                    "socketmap_max_query_size is %" PRId64,
                    m->name, key.len, m->limits.query);
        return MAP_NOTFOUND;
    }
    buf_printf(&request, "%zu:%s ", len, m->name);
    buf_put_slice(&request, key);
    buf_putc(&request, ',');
    if (map_stream_ask(m->servers, buf_view(&request), LENGTH_DIGITS + 1 + r.limit + 1,
                       map_socketmap_reply, &r, err) == 0)
        res = map_reply_result(&r.reply, value, err);
    buf_fini(&request);
    buf_fini(&r.reply.text);
    return res;
}

const struct map_type map_type_socketmap = {.name = "socketmap",
                                            .flags = MAP_FLAG_PATTERN,
                                            .open = socketmap_open,
                                            .close = socketmap_close,
                                            .lookup = socketmap_lookup};
