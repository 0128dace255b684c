/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_servers.h - the servers behind a networked table: a bounded pool of connections, failover, a circuit breaker.
 *
 * A table has one or more servers. An answer comes from the first one that is up (in order, or in random order as the type
 * asks); a connection is kept for the next lookup until it has been idle too long. A server that failed is left alone for a
 * while: lookups that would need it fail at once (try again), and one probe at a time finds out whether it is back. A pooled
 * connection that turns out to be dead is replaced by a fresh one, once, before the server counts as failed.
 *
 * Threads share a struct map_servers. When all connections are in use a lookup waits for one, no longer than its deadline.
 */
#ifndef PR_MAP_SERVERS_H
#define PR_MAP_SERVERS_H

#include "base/mtime.h"
#include "maps/map.h"

struct map_servers;

enum map_servers_answer {
    MAP_SERVERS_DONE, /* the exchange went through; its outcome is the caller's (found or not, or an error of the query) */
    MAP_SERVERS_BROKEN, /* the connection is of no use any more: err says why */
    MAP_SERVERS_WRONG, /* the server lives, but what it said to this question is no answer: err; the connection is closed, and no
                          other server is asked */
};

struct map_servers_ops {
    /* Connects to server (as configured: "host", "unix:/path", "host:port") no later than deadline. -1: err says why, without the
     * name of the table. */
    int (*connect)(const char *server, struct mono_time deadline, void *arg, void **conn,
                   struct err *err);
    void (*close)(void *conn);
};

struct map_servers_config {
    const char *table;          /* for log lines: "mysql:/etc/postfix/mysql-virtual.cf" */
    const char *const *servers; /* 1 or more */
    size_t nservers;
    bool random_order;
    size_t nfirst;          /* in random order: the first so many servers come before the others */
    bool quiet;             /* a server that goes down or comes back is not logged */
    size_t max_connections; /* together; at least 1 */
    int64_t query_timeout_ms; /* of one lookup, connecting and waiting for a connection included */
    int64_t idle_timeout_ms;  /* a connection that was idle for so long is not used again */
    int64_t down_min_ms,
        down_max_ms; /* how long a failed server is left alone: doubles from the one to the other */
};

/* Fills the limits and times of config (not table, servers, order) from main.cf: table_connection_limit, table_query_timeout,
 * table_idle_timeout, table_server_retry_time. A type then puts its own over them. */
NODISCARD int map_servers_defaults(const struct map_env *env, struct map_servers_config *config,
                                   struct err *err);

/* Copies config. arg is handed to ops->connect() and must outlive the result. */
struct map_servers *map_servers_new(const struct map_servers_config *config,
                                    const struct map_servers_ops *ops, void *arg);
/* No lookup may be under way. Closes the connections. */
void map_servers_free(struct map_servers **s);

/*
 * One lookup: calls ask() with a connection until it says DONE or no server is left. 0: ask said DONE. -1: no server answered, or one
 * did WRONG; err is temporary and names the servers and the causes (map_lookup() puts the table's name in front).
 *
 * ask() may be called more than once for one lookup, with a deadline that is its server's share of the time; on BROKEN it
 * and WRONG it fills err, and the connection is closed. Any thread; a process that forked begins with an empty pool.
 */
NODISCARD int map_servers_ask(struct map_servers *s,
                              enum map_servers_answer (*ask)(void *conn, struct mono_time deadline,
                                                             void *arg, struct err *err),
                              void *arg, struct err *err);

#endif
