/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qshape.h - how many recipients (or messages) of each domain the queue has, by age: counted one by one, printed as a table.
 */
#ifndef PR_QMGR_QSHAPE_H
#define PR_QMGR_QSHAPE_H

#include <stdio.h>

#include "base/slice.h"

#define QSHAPE_BUCKETS_MAX 30
#define QSHAPE_NULL_SENDER "MAILER-DAEMON" /* stands for a domain, and is printed as it is */

struct qshape_options {
    unsigned buckets; /* 1..QSHAPE_BUCKETS_MAX, the last one without end */
    int64_t first_s;  /* the age at which the first bucket ends */
    bool
        is_linear; /* the others are as long as the first, not each twice as long as all before it */
    bool parents;  /* lines for parent domains, too, but not for top level ones */
    unsigned min_subdomains; /* that a parent must have to get a line */
    unsigned width;          /* columns; below 80 counts as 80 */
};

struct qshape;

NODISCARD struct qshape *qshape_new(const struct qshape_options *o);
void qshape_free(struct qshape **q);
/* domain: of any case; empty for addresses without. */
void qshape_add(struct qshape *q, struct slice domain, int64_t age_s);
/* The largest first, `top` of them at most; 0: all. */
void qshape_print(struct qshape *q, size_t top, FILE *out);

#endif
