/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_query.h - what a lookup's key and a result become by a template: query, key_format, result_format, domain. Source:
 * mysql_table(5) and its like.
 *
 *   %%  a percent sign
 *   %s  the key                                        in result_format: the result
 *   %u  its local part; all of it if it has no domain                    of the result
 *   %d  its domain; without one there is no lookup                       of the result; without one it is skipped
 *   %1 ... %9  labels of the key's domain, the last one is %1; where one is missing there is no lookup
 *   %S %U %D   as %s %u %d, of the key in result_format, too
 * An empty local part: no lookup, or the result is skipped.
 */
#ifndef PR_MAP_QUERY_H
#define PR_MAP_QUERY_H

#include "maps/map.h"

struct map_query;

/* -1: an unknown %x, or a % at the end. */
NODISCARD int map_query_new(const char *format, struct map_query **out, struct err *err);
void map_query_free(struct map_query **q);

/* Appends part of a key so that it stands for itself in what is built. NULL: as it is. */
typedef void (*map_quote_fn)(struct slice part, struct buf *out, void *arg);

/* query, key_format: false: key has not what the template wants: there is no lookup, the answer is "not found". */
NODISCARD bool map_query_for_key(const struct map_query *q, struct slice key, map_quote_fn quote,
                                 void *arg, struct buf *out);
/* result_format: could any result be made for key? To be asked before the lookup. */
NODISCARD bool map_query_key_fits(const struct map_query *q, struct slice key);
/* result_format: false: the result is skipped. */
NODISCARD bool map_query_for_result(const struct map_query *q, struct slice key,
                                    struct slice result, struct buf *out);

/* The results of one lookup, each through result_format, joined by commas. */
struct map_results {
    const struct map_query *format;
    struct slice key;
    int64_t limit; /* expansion_limit: 0 or less: none */
    int64_t count;
    struct buf text;
};

void map_results_begin(struct map_results *r, const struct map_query *format, int64_t limit,
                       struct slice key);
void map_results_reset(struct map_results *r); /* another server is asked */
/* -1: too many, or too long: the lookup is "try again". What the template does not fit is skipped. */
NODISCARD int map_results_add(struct map_results *r, struct slice result, struct err *err);
/* Appends to value on MAP_FOUND, which is "not found" when there is nothing to append. Releases r. */
NODISCARD enum map_result map_results_end(struct map_results *r, enum map_result result,
                                          struct buf *value);

/*
 * The option "domain": only keys user@domain of these domains are looked up. list: empty or NULL: all keys. A list may name files
 * and tables; it is opened when it is first asked. Threads share it.
 */
struct map_domains;
struct map_domains *map_domains_new(struct map_env *env, const char *list);
void map_domains_free(struct map_domains **d);
NODISCARD enum map_result map_domains_ask(struct map_domains *d, struct slice key, struct err *err);

#endif
