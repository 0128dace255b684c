/* SPDX-License-Identifier: Apache-2.0 */
/*
 * histogram.h - durations counted in buckets that are at most 1/64 of their value wide: percentiles of any number
 * of samples in a fixed 20 KiB. Extremes are exact.
 */
#ifndef PR_BENCH_HISTOGRAM_H
#define PR_BENCH_HISTOGRAM_H

#include "base/base.h"

enum {
    HISTOGRAM_SUB = 64,   /* buckets for each power of two */
    HISTOGRAM_POWERS = 36 /* the longest that is told apart: 2^41 us, 25 days */
};

struct histogram {
    uint64_t count;
    int64_t max_us;
    uint64_t buckets[HISTOGRAM_SUB * (HISTOGRAM_POWERS + 1)];
};

void histogram_add(struct histogram *h, int64_t us);
/* The least value that at least share (0..1) of the samples do not exceed, to the bucket's width; 0 without samples. */
int64_t histogram_at(const struct histogram *h, double share);

#endif
