/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_sqlite.c - sqlite:FILE, queries to an SQLite database. Source: sqlite_table(5).
 *
 * The database is opened with the table, before a daemon gives up root or changes its root directory, and by name never again: there
 * is one connection, and threads take turns. A file that is renamed into its place makes the table stale, which opens it anew.
 */
#include <sqlite3.h>
#include <stdlib.h>

#include "maps/map_int.h"
#include "maps/map_plugin.h"
#include "maps/map_servers.h"
#include "maps/map_source.h"
#include "maps/plugins/map_sql.h"

#define STEPS_BETWEEN_LOOKS 1000 /* of SQLite's machine, at the clock */

struct options {
    const char *dbpath;
    struct map_sql_options sql;
};

static const struct param rows[] = {
    PARAM_STRING("dbpath", struct options, dbpath, .not_empty = true, .def = ""),
    MAP_SQL_ROWS(struct options),
};

struct sqlite {
    char *name;
    struct options o;
    struct map_source *source;
    struct map_sql *sql;
    struct map_servers *servers;
    sqlite3 *db; /* until the pool takes it */
    struct stat file;
};

struct lookup {
    const struct sqlite *table;
    struct slice key;
    struct map_results results;
    enum map_result result;
    struct err *err;
};

static int take_connection(const char *server, struct mono_time deadline, void *arg, void **conn,
                           struct err *err)
{
    struct sqlite *t = arg;

    (void) server;
    (void) deadline;
    if (t->db == NULL) /* a forked process has none of its own */
        return err_temporary(err, "%s is not open in this process", t->o.dbpath);
    *conn = t->db;
    t->db = NULL;
    return 0;
}

static void give_up_connection(void *conn)
{
    (void) sqlite3_close(conn);
}

static const struct map_servers_ops ops = {take_connection, give_up_connection};

static void sqlite_table_close(void *impl)
{
    struct sqlite *t = impl;

    map_servers_free(&t->servers);
    (void) sqlite3_close(t->db);
    map_sql_free(&t->sql);
    map_source_free(&t->source);
    free(t->name);
    free(t);
}

static int open_database(struct sqlite *t, struct err *err)
{
    int code;

    if (stat(t->o.dbpath, &t->file) == -1)
        return err_sys(err, "%s", t->o.dbpath);
    code = sqlite3_open_v2(t->o.dbpath, &t->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
    if (code == SQLITE_OK) /* opens the file, which open() leaves for later */
        code = sqlite3_exec(t->db, "PRAGMA schema_version", NULL, NULL, NULL);
    if (code != SQLITE_OK && code != SQLITE_BUSY)
        return err_temporary(err, "%s: %s", t->o.dbpath,
                             t->db != NULL ? sqlite3_errmsg(t->db) : sqlite3_errstr(code));
    return 0;
}

static int sqlite_table_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    struct sqlite *t = xcalloc(1, sizeof(*t));
    struct map_servers_config c = {.nservers = 1, .quiet = true};
    struct buf name = BUF_INIT(SIZE_MAX);
    int ret = -1;

    buf_printf(&name, "sqlite:%s", path);
    t->name = buf_take(&name);
    if (map_source_open(path, env, rows, ARRAY_LEN(rows), &t->o, &t->source, err) == -1 ||
        map_servers_defaults(env, &c, err) == -1)
        goto done;
    if (map_sql_new(env, &t->o.sql, &t->sql, err) == -1) {
        err_prefix(err, "%s: ", path);
        goto done;
    }
    if (open_database(t, err) == -1)
        goto done;
    c.table = t->name;
    c.servers = &t->o.dbpath;
    c.max_connections = 1;
    c.idle_timeout_ms = INT64_MAX;
    t->servers = map_servers_new(&c, &ops, t);
    *impl = t;
    t = NULL;
    ret = 0;
done:
    if (t != NULL)
        sqlite_table_close(t);
    return ret;
}

static bool sqlite_table_is_stale(void *impl, const char *path)
{
    const struct sqlite *t = impl;
    struct stat st;

    return map_source_is_stale(t->source, path) ||
           (stat(t->o.dbpath, &st) == 0 &&
            (st.st_dev != t->file.st_dev || st.st_ino != t->file.st_ino));
}

static void quote(struct slice part, struct buf *out, void *arg)
{
    (void) arg;
    for (size_t i = 0; i < part.len; i++) {
        if (part.ptr[i] == '\'')
            buf_putc(out, '\'');
        buf_putc(out, part.ptr[i]);
    }
}

static int is_late(void *arg)
{
    const struct mono_time *deadline = arg;

    return mono_diff_us(*deadline, mono_now()) <= 0;
}

/* Adds the first column of each row. Returns SQLite's code; SQLITE_DONE: all is read. *full: too many results. */
static int fetch(sqlite3 *db, struct buf *query, struct lookup *l, bool *full)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, buf_cstr(query), (int) query->len, &statement, NULL);

    if (code != SQLITE_OK)
        return code;
    if (statement == NULL) /* a comment, nothing */
        return SQLITE_DONE;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW && !*full) {
        const unsigned char *text = sqlite3_column_text(statement, 0);
        int len = sqlite3_column_bytes(statement, 0);

        if (text != NULL &&
            map_results_add(&l->results, slice_of((const char *) text, (size_t) len), l->err) == -1)
            *full = true;
    }
    (void) sqlite3_finalize(statement); /* repeats the code of the last step */
    return code;
}

static enum map_servers_answer ask(void *conn, struct mono_time deadline, void *arg,
                                   struct err *err)
{
    struct lookup *l = arg;
    struct buf query = BUF_INIT(MAP_VALUE_MAX);
    bool full = false;
    int code;

    (void) err;
    map_sql_query(l->table->sql, l->key, quote, NULL, &query);
    if (!buf_ok(&query)) {
        l->result = MAP_NOTFOUND; /* no key of a table is so long */
        buf_fini(&query);
        return MAP_SERVERS_DONE;
    }
    (void) sqlite3_busy_timeout(conn, mono_poll_ms(deadline));
    sqlite3_progress_handler(conn, STEPS_BETWEEN_LOOKS, is_late, &deadline);
    code = fetch(conn, &query, l, &full);
    sqlite3_progress_handler(conn, 0, NULL, NULL);
    l->result = code == SQLITE_DONE && !full ? MAP_FOUND : MAP_RETRY;
    if (code == SQLITE_INTERRUPT)
        (void) err_temporary(l->err, "%s: the query takes too long", l->table->o.dbpath);
    else if (code != SQLITE_DONE && !full)
        (void) err_temporary(l->err, "%s: %s", l->table->o.dbpath, sqlite3_errmsg(conn));
    buf_fini(&query);
    return MAP_SERVERS_DONE; /* opening it anew would not help, and may not be possible */
}

static enum map_result sqlite_table_lookup(void *impl, struct slice key, struct buf *value,
                                           struct err *err)
{
    struct sqlite *t = impl;
    struct lookup l = {.table = t, .key = key, .err = err};
    enum map_result res = map_sql_wants(t->sql, key, err);

    if (res != MAP_FOUND)
        return res;
    if (slice_find(key, '\0') != -1)
        return MAP_NOTFOUND; /* the text of a query cannot hold it */
    map_sql_results(t->sql, key, &l.results);
    if (map_servers_ask(t->servers, ask, &l, err) == -1)
        l.result = MAP_RETRY;
    return map_results_end(&l.results, l.result, value);
}

static const struct map_type map_type_sqlite = {.name = "sqlite",
                                                .flags = MAP_FLAG_FIXED,
                                                .open = sqlite_table_open,
                                                .close = sqlite_table_close,
                                                .lookup = sqlite_table_lookup,
                                                .is_stale = sqlite_table_is_stale};

MAP_PLUGIN(map_type_sqlite);
