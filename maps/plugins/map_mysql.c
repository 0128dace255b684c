/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_mysql.c - mysql:FILE, queries to MySQL or MariaDB servers. Source: mysql_table(5).
 *
 * The client library counts time in seconds: a connection's reads and writes may each take as long as a lookup may.
 */
#include <mysql.h>

#include <errmsg.h>
#include <mysqld_error.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/num.h"
#include "base/utf8.h"
#include "maps/map_int.h"
#include "maps/map_plugin.h"
#include "maps/map_served.h"
#include "maps/plugins/map_sql.h"

struct options {
    const char *hosts, *user, *password, *dbname, *charset;
    const char *option_file, *option_group;
    const char *tls_cert_file, *tls_key_file, *tls_cafile, *tls_capath, *tls_ciphers;
    bool tls_verify_cert, require_result_set;
    struct map_sql_options sql;
};

static const struct param rows[] = {
    PARAM_STRING("hosts", struct options, hosts, .def = "localhost", .not_empty = true),
    PARAM_STRING("user", struct options, user, .def = ""),
    PARAM_STRING("password", struct options, password, .def = ""),
    PARAM_STRING("dbname", struct options, dbname, .def = "", .not_empty = true),
    PARAM_STRING("charset", struct options, charset, .def = "utf8mb4", .not_empty = true),
    PARAM_STRING("option_file", struct options, option_file, .def = NULL),
    PARAM_STRING("option_group", struct options, option_group, .def = "client"),
    PARAM_STRING("tls_cert_file", struct options, tls_cert_file, .def = NULL),
    PARAM_STRING("tls_key_file", struct options, tls_key_file, .def = NULL),
    PARAM_STRING("tls_CAfile", struct options, tls_cafile, .def = NULL),
    PARAM_STRING("tls_CApath", struct options, tls_capath, .def = NULL),
    PARAM_STRING("tls_ciphers", struct options, tls_ciphers, .def = NULL),
    PARAM_BOOL("tls_verify_cert", struct options, tls_verify_cert, .def = "no"),
    PARAM_BOOL("require_result_set", struct options, require_result_set, .def = "yes"),
    MAP_SQL_ROWS(struct options),
};

struct mysql {
    struct map_served served;
    struct options o;
    struct map_sql *sql;
    bool is_utf8;
    int64_t timeout_ms;
};

struct lookup {
    struct mysql *table;
    struct slice key;
    struct map_results results;
    enum map_result result;
    struct err *err;
};

/* --- connections ---------------------------------------------------------------------------------- */

/* Where a server listens: as the client library wants it. Empty: the library's own idea of it. */
struct address {
    char *host, *socket;
    unsigned port;
};

static void address_fini(struct address *a)
{
    free(a->host);
    free(a->socket);
}

static int address_parse(const char *server, struct address *a, struct err *err)
{
    struct slice s = slice_str(server);
    ptrdiff_t colon;
    int64_t port = 0;

    *a = (struct address){NULL, NULL, 0};
    if (slice_starts_with(s, SLICE_LIT("unix:"))) {
        a->socket = slice_dup(slice_sub(s, 5, s.len));
        return a->socket[0] != '\0' ? 0 : err_input(err, "\"%s\" names no socket", server);
    }
    if (slice_starts_with(s, SLICE_LIT("inet:")))
        s = slice_sub(s, 5, s.len);
    colon = slice_rfind(s, ':');
    if (colon != -1 && (s.ptr[0] == '[' ? s.ptr[colon - 1] == ']' : slice_find(s, ':') == colon)) {
        if (num_parse_i64(slice_sub(s, (size_t) colon + 1, s.len), 1, 65535, &port, err) == -1)
            return err_prefix(err, "\"%s\": port: ", server);
        s = slice_sub(s, 0, (size_t) colon);
    }
    if (s.len >= 2 && s.ptr[0] == '[' && s.ptr[s.len - 1] == ']')
        s = slice_sub(s, 1, s.len - 1);
    if (s.len == 0)
        return err_input(err, "\"%s\" names no host", server);
    a->host = slice_dup(s);
    a->port = (unsigned) port;
    return 0;
}

static unsigned seconds_until(struct mono_time deadline)
{
    int64_t ms = mono_diff_ms(deadline, mono_now());

    return ms <= 1000 ? 1 : (unsigned) ((ms + 999) / 1000);
}

static void set_options(MYSQL *db, const struct mysql *t, struct mono_time deadline)
{
    const struct options *o = &t->o;
    unsigned connect_s = seconds_until(deadline);
    unsigned query_s = (unsigned) ((t->timeout_ms + 999) / 1000);
    my_bool verify = o->tls_verify_cert;

    (void) mysql_options(db, MYSQL_OPT_CONNECT_TIMEOUT, &connect_s);
    (void) mysql_options(db, MYSQL_OPT_READ_TIMEOUT, &query_s);
    (void) mysql_options(db, MYSQL_OPT_WRITE_TIMEOUT, &query_s);
    if (o->option_file != NULL && o->option_file[0] != '\0')
        (void) mysql_options(db, MYSQL_READ_DEFAULT_FILE, o->option_file);
    if (o->option_group[0] != '\0')
        (void) mysql_options(db, MYSQL_READ_DEFAULT_GROUP, o->option_group);
    (void) mysql_options(db, MYSQL_SET_CHARSET_NAME, o->charset);
    if (o->tls_key_file != NULL || o->tls_cert_file != NULL || o->tls_cafile != NULL ||
        o->tls_capath != NULL || o->tls_ciphers != NULL) {
        my_bool enforce = 1;

        (void) mysql_ssl_set(db, o->tls_key_file, o->tls_cert_file, o->tls_cafile, o->tls_capath,
                             o->tls_ciphers);
        (void) mysql_options(db, MYSQL_OPT_SSL_ENFORCE, &enforce);
    }
    (void) mysql_options(db, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verify);
}

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static int mysql_table_connect(const char *server, struct mono_time deadline, void *arg,
                               void **conn, struct err *err)
{
    const struct mysql *t = arg;
    struct address a;
    MYSQL *db;
    int ret = -1;

    if (address_parse(server, &a, err) == -1)
        goto done;
    db = mysql_init(NULL);
    if (db == NULL) {
        (void) err_temporary(err, "out of memory");
        goto done;
    }
    set_options(db, t, deadline);
    if (mysql_real_connect(db, a.host, or_null(t->o.user), or_null(t->o.password), t->o.dbname,
                           a.port, a.socket, CLIENT_MULTI_RESULTS) == NULL) {
        (void) err_temporary(err, "%s", mysql_error(db));
        mysql_close(db);
        goto done;
    }
    *conn = db;
    ret = 0;
done:
    address_fini(&a);
    return ret;
}

static void mysql_table_disconnect(void *conn)
{
    mysql_close(conn);
}

static const struct map_servers_ops ops = {mysql_table_connect, mysql_table_disconnect};

/* --- one lookup ----------------------------------------------------------------------------------- */

static void quote(struct slice part, struct buf *out, void *arg)
{
    char *room = buf_reserve(out, part.len * 2 + 1);

    if (room != NULL)
        buf_advance(out, mysql_real_escape_string(arg, room, part.ptr, part.len));
}

/* Is it the server or the connection that is in trouble, and not the query? */
static bool is_servers(unsigned code)
{
    switch (code) {
    case ER_CON_COUNT_ERROR:
    case ER_OUT_OF_RESOURCES:
    case ER_SERVER_SHUTDOWN:
    case ER_NORMAL_SHUTDOWN:
    case ER_QUERY_INTERRUPTED:
    case ER_CONNECTION_KILLED:
    case ER_NEW_ABORTING_CONNECTION:
        return true;
    default:
        return code >= CR_MIN_ERROR && code <= 2999; /* the client library's own */
    }
}

static enum map_servers_answer trouble(MYSQL *db, struct lookup *l, struct err *err)
{
    unsigned code = mysql_errno(db);

    if (is_servers(code)) {
        (void) err_temporary(err, "%s", mysql_error(db));
        return MAP_SERVERS_BROKEN;
    }
    l->result = MAP_RETRY;
    if (code == ER_INVALID_CHARACTER_STRING)
        l->result = MAP_NOTFOUND; /* a key that is no text there */
    (void) err_temporary(l->err, "query failed: %s", mysql_error(db));
    return MAP_SERVERS_DONE;
}

/* Adds each column of each row. False: too many. */
static bool add_rows(MYSQL_RES *set, struct lookup *l)
{
    unsigned columns = mysql_num_fields(set);
    MYSQL_ROW row;

    while ((row = mysql_fetch_row(set)) != NULL) {
        const unsigned long *lengths = mysql_fetch_lengths(set);

        for (unsigned i = 0; i < columns; i++)
            if (row[i] != NULL &&
                map_results_add(&l->results, slice_of(row[i], lengths[i]), l->err) == -1)
                return false;
    }
    return true;
}

/* Everything is read, so that the connection can take the next query. */
static enum map_servers_answer read_results(MYSQL *db, struct lookup *l, struct err *err)
{
    unsigned sets = 0;
    bool fits = true;

    for (;;) {
        MYSQL_RES *set = mysql_store_result(db);
        int next;

        if (set == NULL && mysql_errno(db) != 0)
            return trouble(db, l, err);
        if (set != NULL) {
            if (++sets == 1)
                fits = add_rows(set, l);
            mysql_free_result(set);
        }
        next = mysql_next_result(db);
        if (next > 0)
            return trouble(db, l, err);
        if (next < 0)
            break;
    }
    l->result = fits ? MAP_FOUND : MAP_RETRY;
    if (sets > 1) {
        l->result = MAP_RETRY;
        (void) err_temporary(l->err, "the query has %u result sets, one is allowed", sets);
    } else if (sets == 0) {
        l->result = l->table->o.require_result_set ? MAP_RETRY : MAP_NOTFOUND;
        (void) err_temporary(l->err, "the query has no result set (require_result_set)");
    }
    return MAP_SERVERS_DONE;
}

static enum map_servers_answer ask(void *conn, struct mono_time deadline, void *arg,
                                   struct err *err)
{
    struct lookup *l = arg;
    struct buf query = BUF_INIT(MAP_VALUE_MAX);
    enum map_servers_answer answer = MAP_SERVERS_DONE;

    (void) deadline; /* set_options() */
    map_results_reset(&l->results);
    map_sql_query(l->table->sql, l->key, quote, conn, &query);
    if (!buf_ok(&query))
        l->result = MAP_NOTFOUND; /* no key of a table is so long */
    else if (mysql_real_query(conn, query.ptr, query.len) != 0)
        answer = trouble(conn, l, err);
    else
        answer = read_results(conn, l, err);
    buf_fini(&query);
    return answer;
}

static enum map_result mysql_table_lookup(void *impl, struct slice key, struct buf *value,
                                          struct err *err)
{
    struct mysql *t = impl;
    struct lookup l = {.table = t, .key = key, .err = err};
    enum map_result res = map_sql_wants(t->sql, key, err);

    if (res != MAP_FOUND)
        return res;
    if (t->is_utf8 && !utf8_is_valid(key))
        return MAP_NOTFOUND;
    map_sql_results(t->sql, key, &l.results);
    if (map_servers_ask(t->served.servers, ask, &l, err) == -1)
        l.result = MAP_RETRY;
    return map_results_end(&l.results, l.result, value);
}

/* --- the type ------------------------------------------------------------------------------------- */

static void mysql_table_close(void *impl)
{
    struct mysql *t = impl;

    map_served_disconnect(&t->served);
    map_sql_free(&t->sql);
    map_served_close(&t->served);
    free(t);
}

/* The servers in the order in which they are asked: those at sockets first. *sockets: how many. */
static int list_servers(const char *hosts, struct vec *out, size_t *sockets, struct err *err)
{
    for (int round = 0; round < 2; round++) {
        struct slice rest = slice_str(hosts);
        struct slice word;

        while (slice_token(&rest, ", \t\r\n", &word)) {
            struct address a;
            char *server;

            if (slice_starts_with(word, SLICE_LIT("unix:")) != (round == 0))
                continue;
            server = slice_dup(word);
            vec_push(out, server);
            if (address_parse(server, &a, err) == -1) {
                address_fini(&a);
                return err_prefix(err, "hosts: ");
            }
            address_fini(&a);
        }
        if (round == 0)
            *sockets = out->len;
    }
    return out->len > 0 ? 0 : err_input(err, "hosts: no server");
}

static void library_init(void)
{
    (void) mysql_library_init(0, NULL, NULL);
}

static int configure(void *table, struct map_env *env, struct map_servers_config *c,
                     struct vec *servers, struct err *err)
{
    struct mysql *t = table;

    c->random_order = true;
    if (map_sql_new(env, &t->o.sql, &t->sql, err) == -1 ||
        list_servers(t->o.hosts, servers, &c->nfirst, err) == -1)
        return -1;
    t->is_utf8 = slice_starts_with(slice_str(t->o.charset), SLICE_LIT("utf8"));
    t->timeout_ms = c->query_timeout_ms;
    return 0;
}

static int mysql_table_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    static const struct map_served_type type = {"mysql", rows, ARRAY_LEN(rows), &ops, configure};
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct mysql *t = xcalloc(1, sizeof(*t));

    (void) pthread_once(&once, library_init); /* not safe for threads by itself */
    if (map_served_open(&type, path, env, &t->served, &t->o, err) == -1) {
        mysql_table_close(t);
        return -1;
    }
    *impl = t;
    return 0;
}

static const struct map_type map_type_mysql = {.name = "mysql",
                                               .flags = MAP_FLAG_FIXED,
                                               .open = mysql_table_open,
                                               .close = mysql_table_close,
                                               .lookup = mysql_table_lookup,
                                               .is_stale = map_served_is_stale};

MAP_PLUGIN(map_type_mysql);
