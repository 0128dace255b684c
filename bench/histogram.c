/* SPDX-License-Identifier: Apache-2.0 */
/*
 * histogram.c - see histogram.h. Values below 64 have a bucket each; above, the leading bit chooses 64 buckets and
 * the six bits after it one of them.
 */
#include "histogram.h"

static size_t bucket_of(uint64_t us)
{
    unsigned power;
    size_t at;

    if (us < HISTOGRAM_SUB)
        return (size_t) us;
    power = 63 - (unsigned) __builtin_clzll(us) - 6; /* 0 for 64..127 */
    at = (size_t) HISTOGRAM_SUB * (power + 1) + (size_t) ((us >> power) - HISTOGRAM_SUB);
    return at < ARRAY_LEN(((struct histogram *) NULL)->buckets)
               ? at
               : ARRAY_LEN(((struct histogram *) NULL)->buckets) - 1;
}

/* The greatest value of a bucket. */
static int64_t bucket_end(size_t at)
{
    size_t power = at / HISTOGRAM_SUB;

    if (power == 0)
        return (int64_t) at;
    return (int64_t) (((at % HISTOGRAM_SUB + HISTOGRAM_SUB + 1) << (power - 1)) - 1);
}

void histogram_add(struct histogram *h, int64_t us)
{
    if (us < 0)
        us = 0;
    h->buckets[bucket_of((uint64_t) us)]++;
    h->count++;
    if (us > h->max_us)
        h->max_us = us;
}

int64_t histogram_at(const struct histogram *h, double share)
{
    uint64_t wanted = (uint64_t) ((double) h->count * share);
    uint64_t seen = 0;

    if ((double) wanted < (double) h->count * share)
        wanted++;
    if (wanted == 0)
        wanted = 1;
    for (size_t i = 0; i < ARRAY_LEN(h->buckets); i++) {
        seen += h->buckets[i];
        if (seen >= wanted) {
            int64_t end = bucket_end(i);

            return end < h->max_us ? end : h->max_us;
        }
    }
    return 0;
}
