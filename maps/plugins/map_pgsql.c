/* SPDX-License-Identifier: Apache-2.0 */
/* map_pgsql.c - pgsql:FILE, queries to PostgreSQL servers. Source: pgsql_table(5). */
#include <libpq-fe.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "maps/map_int.h"
#include "maps/map_plugin.h"
#include "maps/map_served.h"
#include "maps/plugins/map_sql.h"

struct options {
    const char *hosts, *user, *password, *dbname, *encoding;
    struct map_sql_options sql;
};

static const struct param rows[] = {
    PARAM_STRING("hosts", struct options, hosts, .def = "localhost", .not_empty = true),
    PARAM_STRING("user", struct options, user, .def = ""),
    PARAM_STRING("password", struct options, password, .def = ""),
    PARAM_STRING("dbname", struct options, dbname, .def = ""),
    PARAM_STRING("encoding", struct options, encoding, .def = "UTF8", .not_empty = true),
    PARAM_STRING("select_function", struct options, sql.select_function, .def = ""),
    MAP_SQL_ROWS(struct options),
};

struct pgsql {
    struct map_served served;
    struct options o;
    struct map_sql *sql;
    bool is_utf8;
};

struct lookup {
    struct pgsql *table;
    struct slice key;
    struct map_results results;
    enum map_result result;
    struct err *err;
};

/* --- connections ---------------------------------------------------------------------------------- */

/* The library's message, without the end of its line. */
static int failed(const PGconn *db, struct err *err)
{
    struct slice text = slice_trim(slice_str(PQerrorMessage(db)), NULL);

    return err_temporary(err, "%.*s", SLICE_FMT(text));
}

/* -1: late. */
static int wait_for(const PGconn *db, short events, struct mono_time deadline, struct err *err)
{
    struct pollfd p = {.fd = PQsocket(db), .events = events};

    for (;;) {
        int ready = poll(&p, 1, mono_poll_ms(deadline));

        if (ready > 0)
            return 0;
        if (ready == 0)
            return err_temporary(err, "no answer within the time limit");
        if (errno != EINTR)
            return err_sys(err, "poll");
    }
}

static bool is_uri(struct slice server)
{
    return slice_starts_with(server, SLICE_LIT("postgresql://")) ||
           slice_starts_with(server, SLICE_LIT("postgres://"));
}

/* host and port as the library wants them: pointers into what the caller frees. */
static void split_address(struct slice s, char **host, char **port)
{
    ptrdiff_t colon;

    *port = NULL;
    if (slice_starts_with(s, SLICE_LIT("unix:")))
        s = slice_sub(s, 5, s.len);
    else if (slice_starts_with(s, SLICE_LIT("inet:")))
        s = slice_sub(s, 5, s.len);
    colon = slice_rfind(s, ':');
    if (s.len > 0 && s.ptr[0] != '/' && colon > 0 &&
        (s.ptr[0] == '[' ? s.ptr[colon - 1] == ']' : slice_find(s, ':') == colon)) {
        *port = slice_dup(slice_sub(s, (size_t) colon + 1, s.len));
        s = slice_sub(s, 0, (size_t) colon);
    }
    if (s.len >= 2 && s.ptr[0] == '[' && s.ptr[s.len - 1] == ']')
        s = slice_sub(s, 1, s.len - 1);
    *host = slice_dup(s);
}

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

/*
 * What a server is called in the log: a URI without its password. Within a table such a name leads back to the URI; two that differ
 * in the password alone would be one server.
 */
static char *name_of(struct slice uri)
{
    struct buf name = BUF_INIT(SIZE_MAX);
    ptrdiff_t scheme = slice_find(uri, '/');
    struct slice rest = slice_sub(uri, (size_t) scheme + 2, uri.len);
    ptrdiff_t slash = slice_find(rest, '/');
    ptrdiff_t question = slice_find(rest, '?');
    struct slice authority = slice_sub(rest, 0,
                                       slash != -1      ? (size_t) slash
                                       : question != -1 ? (size_t) question
                                                        : rest.len);
    ptrdiff_t at = slice_rfind(authority, '@');
    struct slice user = slice_sub(authority, 0, at == -1 ? 0 : (size_t) at);
    ptrdiff_t colon = slice_find(user, ':');

    buf_put_slice(&name, slice_sub(uri, 0, (size_t) scheme + 2));
    buf_put_slice(&name, slice_sub(user, 0, colon == -1 ? user.len : (size_t) colon));
    rest = slice_sub(rest, user.len, rest.len);
    question = slice_find(rest, '?');
    buf_put_slice(&name, slice_sub(rest, 0, question == -1 ? rest.len : (size_t) question));
    rest = slice_sub(rest, question == -1 ? rest.len : (size_t) question + 1, rest.len);
    for (const char *before = "?"; rest.len > 0; before = "&") {
        ptrdiff_t end = slice_find(rest, '&');
        struct slice one = slice_sub(rest, 0, end == -1 ? rest.len : (size_t) end);

        rest = slice_sub(rest, end == -1 ? rest.len : (size_t) end + 1, rest.len);
        if (slice_starts_with(one, SLICE_LIT("password=")) ||
            slice_starts_with(one, SLICE_LIT("sslpassword=")))
            one = slice_sub(one, 0, (size_t) slice_find(one, '='));
        buf_printf(&name, "%s%.*s", before, SLICE_FMT(one));
    }
    return buf_take(&name);
}

/* The URI that name_of() made name of. */
static char *uri_of(const struct options *o, const char *name)
{
    struct slice rest = slice_str(o->hosts);
    struct slice word;

    while (slice_token(&rest, ", \t\r\n", &word)) {
        char *shown = is_uri(word) ? name_of(word) : NULL;
        bool is_it = shown != NULL && strcmp(shown, name) == 0;

        free(shown);
        if (is_it)
            return slice_dup(word);
    }
    return xstrdup(name);
}

static PGconn *start(const char *server, const struct options *o)
{
    static const char *const names[] = {
        "dbname", "user", "password", "client_encoding", "fallback_application_name",
        "host",   "port", NULL};
    const char *values[ARRAY_LEN(names)] = {or_null(o->dbname), or_null(o->user),
                                            or_null(o->password), o->encoding, "postfix"};
    char *host = NULL;
    char *port = NULL;
    char *uri = NULL;
    PGconn *db;

    if (is_uri(slice_str(server))) {
        uri = uri_of(o, server);
        values[0] = uri; /* says user, password, database itself */
        values[1] = values[2] = NULL;
    } else {
        split_address(slice_str(server), &host, &port);
        values[5] = or_null(host);
        values[6] = port;
    }
    db = PQconnectStartParams(names, values, 1);
    free(uri);
    free(host);
    free(port);
    return db;
}

static void ignore_notice(void *arg, const PGresult *res)
{
    (void) arg;
    (void) res;
}

static int pgsql_connect(const char *server, struct mono_time deadline, void *arg, void **conn,
                         struct err *err)
{
    const struct pgsql *t = arg;
    PGconn *db = start(server, &t->o);
    PostgresPollingStatusType what = PGRES_POLLING_WRITING;
    bool late = false;

    if (db == NULL)
        return err_temporary(err, "out of memory");
    (void) PQsetNoticeReceiver(db, ignore_notice, NULL);
    while (PQstatus(db) != CONNECTION_BAD && what != PGRES_POLLING_OK &&
           what != PGRES_POLLING_FAILED && !late) {
        late = wait_for(db, what == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline, err) == -1;
        if (!late)
            what = PQconnectPoll(db);
    }
    if (!late && PQstatus(db) == CONNECTION_OK && PQsetnonblocking(db, 1) == 0) {
        *conn = db;
        return 0;
    }
    if (!late)
        (void) failed(db, err);
    PQfinish(db);
    return -1;
}

static void pgsql_disconnect(void *conn)
{
    PQfinish(conn);
}

static const struct map_servers_ops ops = {pgsql_connect, pgsql_disconnect};

/* --- one lookup ----------------------------------------------------------------------------------- */

struct quoting {
    PGconn *db;
    bool failed;
};

static void quote(struct slice part, struct buf *out, void *arg)
{
    struct quoting *q = arg;
    char *room = buf_reserve(out, part.len * 2 + 1);
    int wrong = 0;

    if (room == NULL)
        return;
    buf_advance(out, PQescapeStringConn(q->db, room, part.ptr, part.len, &wrong));
    q->failed = q->failed || wrong != 0;
}

static int send_all(PGconn *db, struct mono_time deadline, struct err *err)
{
    int left;

    while ((left = PQflush(db)) > 0) {
        /* a server that has much to say may not read meanwhile */
        if (wait_for(db, POLLIN | POLLOUT, deadline, err) == -1)
            return -1;
        if (PQconsumeInput(db) == 0)
            return failed(db, err);
    }
    return left == 0 ? 0 : failed(db, err);
}

/* The last of the results of the query; NULL: the connection is broken. */
static PGresult *run(PGconn *db, const char *query, struct mono_time deadline, struct err *err)
{
    PGresult *last = NULL;
    PGresult *next;

    if (PQsendQuery(db, query) == 0) {
        (void) failed(db, err);
        return NULL;
    }
    if (send_all(db, deadline, err) == -1)
        return NULL;
    for (;;) {
        while (PQisBusy(db)) {
            if (wait_for(db, POLLIN, deadline, err) == -1)
                goto broken;
            if (PQconsumeInput(db) == 0) {
                (void) failed(db, err);
                goto broken;
            }
        }
        next = PQgetResult(db);
        if (next == NULL)
            return last;
        PQclear(last);
        last = next;
        if (PQresultStatus(next) == PGRES_COPY_IN || PQresultStatus(next) == PGRES_COPY_OUT ||
            PQresultStatus(next) == PGRES_COPY_BOTH)
            return last; /* would not end by itself */
    }
broken:
    PQclear(last);
    return NULL;
}

/* Is it the server that is in trouble, and not the query? Classes of Appendix A of PostgreSQL's manual. */
static bool is_servers(const char *state)
{
    return state == NULL || strncmp(state, "08", 2) == 0 || strncmp(state, "53", 2) == 0 ||
           strncmp(state, "57P", 3) == 0 || strncmp(state, "58", 2) == 0;
}

static enum map_servers_answer trouble(PGconn *db, const PGresult *res, struct lookup *l,
                                       struct err *err)
{
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    struct slice text = slice_trim(slice_str(PQresultErrorMessage(res)), NULL);

    if (PQstatus(db) == CONNECTION_BAD || is_servers(state)) {
        (void) err_temporary(err, "%.*s", SLICE_FMT(text));
        return MAP_SERVERS_BROKEN;
    }
    l->result = MAP_RETRY;
    /* characters that the database cannot hold: no row has them */
    if (strcmp(state, "22021") == 0 || strcmp(state, "22P05") == 0)
        l->result = MAP_NOTFOUND;
    (void) err_temporary(l->err, "query failed: %.*s", SLICE_FMT(text));
    return MAP_SERVERS_DONE;
}

/* Adds each column of each row. */
static enum map_result add_rows(const PGresult *res, struct lookup *l)
{
    for (int row = 0; row < PQntuples(res); row++)
        for (int col = 0; col < PQnfields(res); col++) {
            struct slice value =
                slice_of(PQgetvalue(res, row, col), (size_t) PQgetlength(res, row, col));

            if (map_results_add(&l->results, value, l->err) == -1) /* null is empty: skipped */
                return MAP_RETRY;
        }
    return MAP_FOUND;
}

static enum map_servers_answer take_result(PGconn *db, const PGresult *res, struct lookup *l,
                                           struct err *err)
{
    switch ((int) PQresultStatus(res)) {
    case PGRES_TUPLES_OK:
        l->result = add_rows(res, l);
        return MAP_SERVERS_DONE;
    case PGRES_FATAL_ERROR:
    case PGRES_BAD_RESPONSE:
        return trouble(db, res, l, err);
    case PGRES_COPY_IN:
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH:
        (void) err_temporary(err, "the query copies a table");
        return MAP_SERVERS_BROKEN;
    default:
        l->result = MAP_NOTFOUND; /* a command without rows: nothing, as with Postfix */
        return MAP_SERVERS_DONE;
    }
}

static enum map_servers_answer ask(void *conn, struct mono_time deadline, void *arg,
                                   struct err *err)
{
    struct lookup *l = arg;
    struct quoting q = {conn, false};
    struct buf query = BUF_INIT(MAP_VALUE_MAX);
    enum map_servers_answer answer = MAP_SERVERS_DONE;
    PGresult *res = NULL;

    map_results_reset(&l->results);
    map_sql_query(l->table->sql, l->key, quote, &q, &query);
    if (!buf_ok(&query) || q.failed) {
        l->result = MAP_NOTFOUND; /* too long, or no text in that encoding: no key of a table */
    } else {
        res = run(conn, buf_cstr(&query), deadline, err);
        answer = res == NULL ? MAP_SERVERS_BROKEN : take_result(conn, res, l, err);
    }
    PQclear(res);
    buf_fini(&query);
    return answer;
}

static enum map_result pgsql_lookup(void *impl, struct slice key, struct buf *value,
                                    struct err *err)
{
    struct pgsql *t = impl;
    struct lookup l = {.table = t, .key = key, .err = err};
    enum map_result res = map_sql_wants(t->sql, key, err);

    if (res != MAP_FOUND)
        return res;
    /* PostgreSQL's text has no NUL */
    if (slice_find(key, '\0') != -1 || (t->is_utf8 && !utf8_is_valid(key)))
        return MAP_NOTFOUND;
    map_sql_results(t->sql, key, &l.results);
    if (map_servers_ask(t->served.servers, ask, &l, err) == -1)
        l.result = MAP_RETRY;
    return map_results_end(&l.results, l.result, value);
}

/* --- the type ------------------------------------------------------------------------------------- */

static void pgsql_close(void *impl)
{
    struct pgsql *t = impl;

    map_served_disconnect(&t->served);
    map_sql_free(&t->sql);
    map_served_close(&t->served);
    free(t);
}

static int list_servers(const struct options *o, struct vec *out, struct err *err)
{
    struct slice rest = slice_str(o->hosts);
    struct slice word;

    while (slice_token(&rest, ", \t\r\n", &word)) {
        if (!is_uri(word) && o->dbname[0] == '\0')
            return err_input(err, "dbname is not set");
        vec_push(out, is_uri(word) ? name_of(word) : slice_dup(word));
    }
    return out->len > 0 ? 0 : err_input(err, "hosts: no server");
}

static int configure(void *table, struct map_env *env, struct map_servers_config *c,
                     struct vec *servers, struct err *err)
{
    struct pgsql *t = table;

    c->random_order = true;
    if (map_sql_new(env, &t->o.sql, &t->sql, err) == -1 || list_servers(&t->o, servers, err) == -1)
        return -1;
    t->is_utf8 = slice_caseeq_str(slice_str(t->o.encoding), "UTF8") ||
                 slice_caseeq_str(slice_str(t->o.encoding), "UTF-8");
    return 0;
}

static int pgsql_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    static const struct map_served_type type = {"pgsql", rows, ARRAY_LEN(rows), &ops, configure};
    struct pgsql *t = xcalloc(1, sizeof(*t));

    if (map_served_open(&type, path, env, &t->served, &t->o, err) == -1) {
        pgsql_close(t);
        return -1;
    }
    *impl = t;
    return 0;
}

static const struct map_type map_type_pgsql = {.name = "pgsql",
                                               .flags = MAP_FLAG_FIXED,
                                               .open = pgsql_open,
                                               .close = pgsql_close,
                                               .lookup = pgsql_lookup,
                                               .is_stale = map_served_is_stale};

MAP_PLUGIN(map_type_pgsql);
