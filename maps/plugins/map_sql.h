/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_sql.h - what tables behind SQL have in common: query, result_format, domain, expansion_limit, and the options of before
 * `query` (table, select_field, ...). Sources: mysql_table(5), pgsql_table(5), sqlite_table(5).
 */
#ifndef PR_MAP_SQL_H
#define PR_MAP_SQL_H

#include "maps/map_query.h"
#include "postconf/param.h"

struct map_sql_options {
    const char *query, *result_format, *domain;
    const char *select_function; /* pgsql; NULL elsewhere */
    const char *table, *select_field, *where_field, *additional_conditions;
    int64_t expansion_limit;
};

/* Rows for map_source_open(); the member sql of struct strct is the options. */
#define MAP_SQL_ROWS(strct)                                                                        \
    PARAM_STRING("query", strct, sql.query, .def = ""),                                            \
        PARAM_STRING("result_format", strct, sql.result_format, .def = "%s", .not_empty = true),   \
        PARAM_STRING("domain", strct, sql.domain, .def = ""),                                      \
        PARAM_STRING("table", strct, sql.table, .def = ""),                                        \
        PARAM_STRING("select_field", strct, sql.select_field, .def = ""),                          \
        PARAM_STRING("where_field", strct, sql.where_field, .def = ""),                            \
        PARAM_STRING("additional_conditions", strct, sql.additional_conditions, .def = ""),        \
        PARAM_INT("expansion_limit", strct, sql.expansion_limit, .def = "0", .min = INT32_MIN)

struct map_sql;

/* -1: no query, or a wrong template; err names the option. */
NODISCARD int map_sql_new(struct map_env *env, const struct map_sql_options *o,
                          struct map_sql **out, struct err *err);
void map_sql_free(struct map_sql **sql);

/* Is the database to be asked about key? FOUND: yes; NOTFOUND: no such key can be there; RETRY: the domain list cannot tell. */
NODISCARD enum map_result map_sql_wants(struct map_sql *sql, struct slice key, struct err *err);
/* The query; quote makes the text within '...' of what it gets. For keys that map_sql_wants(). */
void map_sql_query(const struct map_sql *sql, struct slice key, map_quote_fn quote, void *arg,
                   struct buf *out);
void map_sql_results(const struct map_sql *sql, struct slice key, struct map_results *r);

#endif
