/* SPDX-License-Identifier: Apache-2.0 */
/* map_limits.c - what main.cf says about tables that answer over a network: times, connections. */
#include "maps/map_int.h"
#include "maps/map_servers.h"

#include "postconf/param.h"

#define DOWN_MIN_MS 100

struct limits {
    int64_t connections;
    int64_t query_timeout, idle_timeout, retry_time; /* seconds */
    int64_t slow_ms;
};

static const struct param rows[] = {
    PARAM_INT(
        "table_connection_limit", struct limits, connections, .def = "8", .min = 1, .max = 10000,
        .doc =
            "The most connections of one process to the servers of one networked table; lookups beyond it wait their turn."),
    PARAM_TIME(
        "table_query_timeout", struct limits, query_timeout, .def = "10s", .min = 1, .max = 3600,
        .doc =
            "How long one lookup in a networked table may take, connecting and failing over included, before it is \"try again\"."),
    PARAM_TIME(
        "table_idle_timeout", struct limits, idle_timeout, .def = "60s", .min = 1, .max = 86400,
        .doc =
            "How long a connection to a networked table's server may lie idle and still be used again."),
    PARAM_TIME(
        "table_server_retry_time", struct limits, retry_time, .def = "1s", .min = 1, .max = 3600,
        .doc =
            "The longest time for which the server of a networked table is left alone after it failed; lookups meanwhile fail over or are \"try again\" at once."),
    PARAM_INT(
        "slow_lookup_threshold", struct limits, slow_ms, .def = "1000", .min = 0, .max = 3600000,
        .doc =
            "Milliseconds after which a lookup in a table that is not in memory is logged as slow, with table and time; 0 logs none."),
};
extern const struct param_set map_limits_params;

const struct param_set map_limits_params = PARAM_SET("map_limits", struct limits, rows);

int map_servers_defaults(const struct map_env *env, struct map_servers_config *config,
                         struct err *err)
{
    struct limits l;

    if (config_bind(map_env_config(env), &map_limits_params, &l, err) == -1)
        return -1;
    config->max_connections = (size_t) l.connections;
    config->query_timeout_ms = l.query_timeout * 1000;
    config->idle_timeout_ms = l.idle_timeout * 1000;
    config->down_min_ms = DOWN_MIN_MS;
    config->down_max_ms = l.retry_time * 1000;
    return 0;
}

int64_t map_slow_lookup_ms(const struct config *cfg)
{
    struct limits l;

    /* a wrong value is reported by config_check(), and by the networked types that bind the same set */
    return config_bind(cfg, &map_limits_params, &l, NULL) == 0 ? l.slow_ms : 0;
}
