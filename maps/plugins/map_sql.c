/* SPDX-License-Identifier: Apache-2.0 */
/* map_sql.c - see map_sql.h. */
#include "maps/plugins/map_sql.h"

#include <stdlib.h>

struct map_sql {
    struct map_query *query, *result;
    struct map_domains *domains;
    int64_t limit;
};

/* The query that the options of before mean. */
static int compose(const struct map_sql_options *o, struct buf *out, struct err *err)
{
    if (o->query[0] != '\0') {
        buf_puts(out, o->query);
        return 0;
    }
    if (o->select_function != NULL && o->select_function[0] != '\0') {
        buf_printf(out, "SELECT %s('%%s')", o->select_function);
        return 0;
    }
    if (o->table[0] == '\0' || o->select_field[0] == '\0' || o->where_field[0] == '\0')
        return err_input(err, "query is not set");
    buf_printf(out, "SELECT %s FROM %s WHERE %s = '%%s' %s", o->select_field, o->table,
               o->where_field, o->additional_conditions);
    return 0;
}

int map_sql_new(struct map_env *env, const struct map_sql_options *o, struct map_sql **out,
                struct err *err)
{
    struct map_sql *sql = xcalloc(1, sizeof(*sql));
    struct buf text = BUF_INIT(SIZE_MAX);
    int ret = compose(o, &text, err);

    if (ret == 0 && map_query_new(buf_cstr(&text), &sql->query, err) == -1)
        ret = err_prefix(err, "query: ");
    if (ret == 0 && map_query_new(o->result_format, &sql->result, err) == -1)
        ret = err_prefix(err, "result_format: ");
    sql->domains = map_domains_new(env, o->domain);
    sql->limit = o->expansion_limit;
    if (ret == -1)
        map_sql_free(&sql);
    else
        *out = sql;
    buf_fini(&text);
    return ret;
}

void map_sql_free(struct map_sql **sql)
{
    if (*sql == NULL)
        return;
    map_query_free(&(*sql)->query);
    map_query_free(&(*sql)->result);
    map_domains_free(&(*sql)->domains);
    free(*sql);
    *sql = NULL;
}

enum map_result map_sql_wants(struct map_sql *sql, struct slice key, struct err *err)
{
    enum map_result res = map_domains_ask(sql->domains, key, err);
    struct buf unused = BUF_INIT(MAP_VALUE_MAX);

    if (res == MAP_FOUND && (!map_query_key_fits(sql->result, key) ||
                             !map_query_for_key(sql->query, key, NULL, NULL, &unused)))
        res = MAP_NOTFOUND;
    buf_fini(&unused);
    return res;
}

void map_sql_query(const struct map_sql *sql, struct slice key, map_quote_fn quote, void *arg,
                   struct buf *out)
{
    bool made = map_query_for_key(sql->query, key, quote, arg, out);

    (void) made; /* map_sql_wants() has asked */
}

void map_sql_results(const struct map_sql *sql, struct slice key, struct map_results *r)
{
    map_results_begin(r, sql->result, sql->limit, key);
}
