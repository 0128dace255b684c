/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress.h - what a person sees while messages are sent: one line on a terminal, drawn again a few times a second.
 */
#ifndef PR_BENCH_PROGRESS_H
#define PR_BENCH_PROGRESS_H

#include "base/mtime.h"
#include "source.h"

struct progress {
    int64_t wanted;
    const struct source_totals *totals;
    struct mono_time began, drawn;
    int64_t drawn_done;
    bool counter; /* -c: just the number, on standard output */
    bool line;    /* the display, on standard error */
};

/* After each message: draws when it is time to, and when all are done. */
void progress_step(void *progress);
/* Leaves the display's line. */
void progress_end(struct progress *p);

/* The result for people: rate, percentiles; on standard output. */
void report_text(const struct source_totals *t, int64_t us);
/* The same for programs, as one JSON object in one line; began: CLOCK_MONOTONIC. */
void report_json(const struct source_totals *t, struct mono_time began, int64_t us);

#endif
