/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_metrics.c - what each table was asked, in the shared metrics.
 *
 * Counters "KIND TYPE:NAME", KIND one of map.found, map.notfound, map.retry, and map.le_100us, map.le_1ms, map.le_10ms, map.le_100ms,
 * map.le_1s, map.slower: how many lookups took up to so long (and longer than the one before). A counter is made when it is first
 * needed. Tables that answer from memory are timed once in SAMPLE lookups, which then count for all of them.
 */
#include "maps/map_int.h"

#include <stdio.h>

#include "base/crc32c.h"
#include "base/metrics.h"

#define SAMPLE 16

static const char *const result_kind[] = {"map.found", "map.notfound", "map.retry"};
static const struct {
    const char *kind;
    int64_t us;
} buckets[MAP_LATENCY_BUCKETS] = {
    {"map.le_100us", 100},    {"map.le_1ms", 1000},   {"map.le_10ms", 10000},
    {"map.le_100ms", 100000}, {"map.le_1s", 1000000}, {"map.slower", INT64_MAX},
};

/* A name that does not fit ends with a checksum of the whole, so that tables with a long common path stay apart. */
static _Atomic int64_t *find(const char *kind, const char *table)
{
    char name[METRICS_NAME_MAX];
    int len = snprintf(name, sizeof(name), "%s %s", kind, table);

    if ((size_t) len >= sizeof(name))
        (void) snprintf(name + sizeof(name) - 10, 10, "~%08x",
                        (unsigned) crc32c(0, table, strlen(table)));
    return metrics_counter(name);
}

static void add(_Atomic(_Atomic int64_t *) *slot, const char *kind, const char *table, int64_t n)
{
    _Atomic int64_t *counter = atomic_load_explicit(slot, memory_order_relaxed);

    if (counter == NULL) {
        counter = find(kind, table);
        atomic_store_explicit(slot, counter, memory_order_relaxed);
    }
    metrics_add(counter, n);
}

bool map_metrics_wants_time(struct map_metrics *c, bool local)
{
    return !local || atomic_fetch_add_explicit(&c->asked, 1, memory_order_relaxed) % SAMPLE == 0;
}

void map_metrics_count(struct map_metrics *c, const char *table, enum map_result res)
{
    add(&c->result[res], result_kind[res], table, 1);
}

void map_metrics_time(struct map_metrics *c, const char *table, bool local, int64_t us)
{
    size_t i = 0;

    while (us > buckets[i].us)
        i++;
    add(&c->bucket[i], buckets[i].kind, table, local ? SAMPLE : 1);
}
