/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_redis.c - redis:FILE, values in a Redis. Source: redis_table(5).
 *
 * The command's words are sent as separate strings with their lengths, after the key was put in: no key can add a word or end the
 * command. Only commands that read are taken, so that no connection gets into another mode.
 */
#include "maps/map_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "maps/map_query.h"
#include "maps/map_replies.h"
#include "maps/map_served.h"

#define DEFAULT_PORT "6379"
#define REPLY_MAX    (MAP_VALUE_MAX + (MAP_VALUE_MAX / 2))
#define PASSWORD_MAX 4096
#define WORDS_MAX    64

struct options {
    const char *hosts, *username, *password, *password_file, *command, *result_format, *domain;
    int64_t db, expansion_limit;
    int64_t timeout; /* seconds */
};

static const struct param rows[] = {
    PARAM_STRING("hosts", struct options, hosts, .def = "localhost", .not_empty = true),
    PARAM_INT("db", struct options, db, .def = "0"),
    PARAM_STRING("username", struct options, username, .def = ""),
    PARAM_STRING("password", struct options, password, .def = ""),
    PARAM_STRING("password_file", struct options, password_file, .def = ""),
    PARAM_STRING("command", struct options, command, .def = "GET %s", .not_empty = true),
    PARAM_STRING("result_format", struct options, result_format, .def = "%s", .not_empty = true),
    PARAM_STRING("domain", struct options, domain, .def = ""),
    PARAM_INT("expansion_limit", struct options, expansion_limit, .def = "0"),
    PARAM_TIME("timeout", struct options, timeout, .def = "5", .min = 1, .max = 3600),
};

struct redis {
    struct map_served served;
    struct options o;
    struct vec words; /* struct map_query *: the command */
    struct map_query *result_format;
    struct map_domains *domains;
    struct buf hello; /* AUTH; wiped at the end */
    bool counts;      /* the reply 0 is "not found" */
};

/* --- requests ------------------------------------------------------------------------------------- */

static void put_word(struct buf *out, struct slice word)
{
    buf_printf(out, "$%zu\r\n", word.len);
    buf_put_slice(out, word);
    buf_puts(out, "\r\n");
}

/* False: the key has not what the command wants. */
static bool put_command(const struct redis *r, struct slice key, struct buf *out)
{
    struct buf word = BUF_INIT(SIZE_MAX);
    bool ok = true;

    buf_printf(out, "*%zu\r\n", r->words.len);
    for (size_t i = 0; ok && i < r->words.len; i++) {
        buf_reset(&word);
        ok = map_query_for_key(r->words.items[i], key, NULL, NULL, &word);
        put_word(out, buf_view(&word));
    }
    buf_fini(&word);
    return ok;
}

/* --- connections ---------------------------------------------------------------------------------- */

/* AUTH, SELECT: anything but +OK is trouble. */
static int expect_ok(struct map_stream *s, struct slice request, const char *what,
                     struct mono_time deadline, struct err *err)
{
    struct map_redis_reply reply = MAP_REDIS_REPLY_INIT;
    int ret = map_stream_exchange(s, request, REPLY_MAX, map_redis_reply, &reply, deadline, err);

    if (ret == 0 && reply.kind == MAP_REDIS_ERROR)
        ret = err_temporary(err, "it says: %.*s", SLICE_FMT(buf_view(&reply.text)));
    else if (ret == 0 && !slice_eq_str(buf_view(&reply.text), "OK"))
        ret = err_temporary(err, "unexpected reply");
    if (ret == -1)
        err_prefix(err, "%s: ", what);
    buf_fini(&reply.text);
    buf_fini(&reply.ends);
    return ret;
}

static int redis_connect(const char *server, struct mono_time deadline, void *arg, void **conn,
                         struct err *err)
{
    const struct redis *r = arg;
    struct map_stream *s;
    struct buf select = BUF_INIT(SIZE_MAX);
    char number[24];
    int ret = 0;

    if (map_stream_connect(server, DEFAULT_PORT, deadline, &s, err) == -1)
        return -1;
    if (r->hello.len > 0)
        ret = expect_ok(s, buf_view(&r->hello), "AUTH", deadline, err);
    if (ret == 0 && r->o.db != 0) {
        (void) snprintf(number, sizeof(number), "%lld", (long long) r->o.db);
        buf_puts(&select, "*2\r\n");
        put_word(&select, SLICE_LIT("SELECT"));
        put_word(&select, slice_str(number));
        ret = expect_ok(s, buf_view(&select), "SELECT", deadline, err);
        buf_fini(&select);
    }
    if (ret == -1)
        map_stream_close(s);
    else
        *conn = s;
    return ret;
}

static void redis_disconnect(void *conn)
{
    map_stream_close(conn);
}

/* --- opening -------------------------------------------------------------------------------------- */

static void free_word(void *p)
{
    struct map_query *q = p;

    map_query_free(&q);
}

static void redis_close(void *impl)
{
    struct redis *r = impl;

    map_served_disconnect(&r->served);
    map_domains_free(&r->domains);
    map_query_free(&r->result_format);
    vec_clear(&r->words, free_word);
    vec_fini(&r->words);
    if (r->hello.ptr != NULL)
        explicit_bzero(r->hello.ptr, r->hello.cap);
    buf_fini(&r->hello);
    map_served_close(&r->served);
    free(r);
}

static int take_command(struct redis *r, struct err *err)
{
    static const struct {
        const char *name;
        bool counts;
    } readers[] = {
        {"EXISTS", true},  {"GET", false},         {"GETRANGE", false}, {"HEXISTS", true},
        {"HGET", false},   {"HGETALL", false},     {"HKEYS", false},    {"HMGET", false},
        {"HVALS", false},  {"LINDEX", false},      {"LRANGE", false},   {"MGET", false},
        {"SINTER", false}, {"SISMEMBER", true},    {"SMEMBERS", false}, {"SRANDMEMBER", false},
        {"STRLEN", true},  {"SUNION", false},      {"ZRANGE", false},   {"ZREVRANGE", false},
        {"ZSCORE", false}, {"ZRANGEBYLEX", false},
    };
    struct slice rest = slice_str(r->o.command);
    struct slice word;
    size_t i = 0;

    while (slice_token(&rest, " \t\r\n", &word)) {
        char *format = slice_dup(word);
        struct map_query *q = NULL;
        int ret = map_query_new(format, &q, err);

        free(format);
        if (ret == -1)
            return err_prefix(err, "command: ");
        vec_push(&r->words, q);
        if (r->words.len > WORDS_MAX)
            return err_input(err, "command: more than %d words", WORDS_MAX);
        if (r->words.len > 1)
            continue;
        while (i < ARRAY_LEN(readers) && !slice_caseeq_str(word, readers[i].name))
            i++;
        if (i == ARRAY_LEN(readers))
            return err_input(err, "command: \"%.*s\" is not one that reads", SLICE_FMT(word));
        r->counts = readers[i].counts;
    }
    return r->words.len > 1 ? 0 : err_input(err, "command: no word for the key");
}

static int take_password(struct redis *r, struct err *err)
{
    struct buf file = BUF_INIT(PASSWORD_MAX);
    struct slice password = slice_str(r->o.password);
    ptrdiff_t nl;
    int ret = 0;

    if (r->o.password_file[0] != '\0') {
        ret = file_read(r->o.password_file, &file, err);
        if (ret == 0 && !buf_ok(&file))
            ret = err_input(err, "%s: longer than %d bytes", r->o.password_file, PASSWORD_MAX);
        nl = slice_find(buf_view(&file), '\n');
        password =
            slice_trim(slice_sub(buf_view(&file), 0, nl == -1 ? file.len : (size_t) nl), "\r");
    }
    if (ret == 0 && password.len > 0) {
        bool named = r->o.username[0] != '\0';

        buf_init(&r->hello, SIZE_MAX);
        buf_puts(&r->hello, named ? "*3\r\n" : "*2\r\n");
        put_word(&r->hello, SLICE_LIT("AUTH"));
        if (named)
            put_word(&r->hello, slice_str(r->o.username));
        put_word(&r->hello, password);
    } else if (ret == 0 && r->o.username[0] != '\0') {
        ret = err_input(err, "username without a password");
    }
    if (file.ptr != NULL)
        explicit_bzero(file.ptr, file.cap);
    buf_fini(&file);
    return ret;
}

/* hosts: heap strings, to be freed by the caller whatever happens. */
static int take_hosts(const struct redis *r, struct vec *hosts, struct err *err)
{
    struct slice rest = slice_str(r->o.hosts);
    struct slice word;

    while (slice_token(&rest, ", \t\r\n", &word)) {
        char *host = slice_dup(word);

        vec_push(hosts, host);
        if (map_stream_check(host, DEFAULT_PORT, err) == -1)
            return err_prefix(err, "hosts: ");
    }
    return hosts->len > 0 ? 0 : err_input(err, "hosts: none is named");
}

static int configure(void *table, struct map_env *env, struct map_servers_config *c,
                     struct vec *servers, struct err *err)
{
    struct redis *r = table;

    if (take_hosts(r, servers, err) == -1 || take_command(r, err) == -1 ||
        take_password(r, err) == -1)
        return -1;
    if (map_query_new(r->o.result_format, &r->result_format, err) == -1)
        return err_prefix(err, "result_format: ");
    r->domains = map_domains_new(env, r->o.domain);
    c->query_timeout_ms = r->o.timeout * 1000;
    return 0;
}

static int redis_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    static const struct map_servers_ops ops = {redis_connect, redis_disconnect};
    static const struct map_served_type type = {"redis", rows, ARRAY_LEN(rows), &ops, configure};
    struct redis *r = xcalloc(1, sizeof(*r));

    if (map_served_open(&type, path, env, &r->served, &r->o, err) == -1) {
        redis_close(r);
        return -1;
    }
    *impl = r;
    return 0;
}

/* --- lookup --------------------------------------------------------------------------------------- */

struct question {
    struct slice request;
    struct map_redis_reply reply;
};

/* A server that says it cannot serve now is as good as one that is down: another may. */
static bool is_unready(const struct map_redis_reply *reply)
{
    static const char *const words[] = {"LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH",
                                        "NOREPLICAS"};
    struct slice rest = buf_view(&reply->text);
    struct slice word;

    if (reply->kind != MAP_REDIS_ERROR || !slice_token(&rest, " ", &word))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (slice_eq_str(word, words[i]))
            return true;
    return false;
}

static enum map_servers_answer redis_ask(void *conn, struct mono_time deadline, void *arg,
                                         struct err *err)
{
    struct question *q = arg;
    enum map_servers_answer answer =
        map_stream_answer(conn, q->request, REPLY_MAX, map_redis_reply, &q->reply, deadline, err);

    if (answer == MAP_SERVERS_DONE && is_unready(&q->reply)) {
        (void) err_temporary(err, "it says: %.*s", SLICE_FMT(buf_view(&q->reply.text)));
        return MAP_SERVERS_BROKEN;
    }
    return answer;
}

/* The elements, each by result_format, with commas. */
static enum map_result join(const struct redis *r, struct slice key,
                            const struct map_redis_reply *reply, struct buf *value, struct err *err)
{
    size_t before = value->len;
    int64_t results = 0;

    for (size_t i = 0; i < map_redis_count(reply); i++) {
        size_t at = value->len;

        if (results > 0)
            buf_putc(value, ',');
        if (!map_query_for_result(r->result_format, key, map_redis_element(reply, i), value)) {
            buf_truncate(value, at);
            continue;
        }
        if (++results > r->o.expansion_limit && r->o.expansion_limit > 0) {
            buf_truncate(value, before);
            (void) err_temporary(err, "more than %lld results (expansion_limit)",
                                 (long long) r->o.expansion_limit);
            return MAP_RETRY;
        }
    }
    return results > 0 ? MAP_FOUND : MAP_NOTFOUND;
}

static enum map_result result_of(const struct redis *r, struct slice key,
                                 const struct map_redis_reply *reply, struct buf *value,
                                 struct err *err)
{
    switch (reply->kind) {
    case MAP_REDIS_NIL:
        return MAP_NOTFOUND;
    case MAP_REDIS_ERROR:
        (void) err_temporary(err, "the server says: %.*s", SLICE_FMT(buf_view(&reply->text)));
        return MAP_RETRY;
    case MAP_REDIS_NUMBER:
        if (r->counts && slice_eq_str(map_redis_element(reply, 0), "0"))
            return MAP_NOTFOUND;
        break;
    case MAP_REDIS_VALUE:
    case MAP_REDIS_ARRAY:
        break;
    }
    return join(r, key, reply, value, err);
}

static enum map_result redis_lookup(void *impl, struct slice key, struct buf *value,
                                    struct err *err)
{
    const struct redis *r = impl;
    struct question q = {.reply = MAP_REDIS_REPLY_INIT};
    struct buf request = BUF_INIT(SIZE_MAX);
    enum map_result res = map_domains_ask(r->domains, key, err);

    if (res == MAP_FOUND &&
        (!map_query_key_fits(r->result_format, key) || !put_command(r, key, &request)))
        res = MAP_NOTFOUND;
    if (res == MAP_FOUND) {
        q.request = buf_view(&request);
        res = map_servers_ask(r->served.servers, redis_ask, &q, err) == 0
                  ? result_of(r, key, &q.reply, value, err)
                  : MAP_RETRY;
    }
    buf_fini(&request);
    buf_fini(&q.reply.text);
    buf_fini(&q.reply.ends);
    return res;
}

const struct map_type map_type_redis = {.name = "redis",
                                        .flags = MAP_FLAG_FIXED,
                                        .open = redis_open,
                                        .close = redis_close,
                                        .lookup = redis_lookup,
                                        .is_stale = map_served_is_stale};
