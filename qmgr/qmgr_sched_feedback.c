/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_sched_feedback.c - how many requests at once a destination gets, learnt from what became of those before.
 *
 * The reference's SCHEDULER_README describes the algorithm: with feedback less than 1, concurrency rises at the end of a run of
 * 1/feedback successes and falls at the beginning of a run of 1/feedback failures, so that what is too much is taken back at
 * once. Apart from that, 1/concurrency is added to the failed cohorts for each failure in a row; at the limit the site is dead.
 */
#include <stdlib.h>

#include "qmgr/qmgr_sched_int.h"

/* A number from 0 on; false: is none. */
static bool parse_number(struct slice s, double *out)
{
    char number[32];
    char *end;

    if (s.len == 0 || s.len >= sizeof(number))
        return false;
    memcpy(number, s.ptr, s.len);
    number[s.len] = '\0';
    *out = strtod(number, &end);
    return *end == '\0' && *out >= 0 && *out <= 1e9;
}

int sched_feedback_parse(struct slice text, struct sched_feedback *out, struct err *err)
{
    struct slice s = slice_trim(text, NULL);
    ptrdiff_t bar = slice_find(s, '/');
    struct slice first = slice_trim(slice_sub(s, 0, bar == -1 ? s.len : (size_t) bar), NULL);
    struct slice second = SLICE_EMPTY;
    struct sched_feedback f = {.kind = FEEDBACK_NUMBER};
    double divisor;

    if (bar != -1)
        second = slice_trim(slice_sub(s, (size_t) bar + 1, s.len), NULL);
    if (!parse_number(first, &f.numerator))
        return err_input(err, "bad feedback value: %.*s", SLICE_FMT(text));
    if (bar != -1) {
        if (slice_caseeq_str(second, "concurrency"))
            f.kind = FEEDBACK_CONCURRENCY;
        else if (slice_caseeq_str(second, "sqrt_concurrency"))
            f.kind = FEEDBACK_SQRT_CONCURRENCY;
        else if (parse_number(second, &divisor) && divisor > 0)
            f.numerator /= divisor;
        else
            return err_input(
                err, "bad feedback value: %.*s: want / concurrency, / sqrt_concurrency or / number",
                SLICE_FMT(text));
    }
    if (f.numerator > 1)
        return err_input(err, "bad feedback value: %.*s: want a number from 0 to 1",
                         SLICE_FMT(text));
    *out = f;
    return 0;
}

static double square_root(double x)
{
    double r = x > 1 ? x : 1;

    for (int i = 0; i < 40; i++)
        r = (r + x / r) / 2;
    return r;
}

static double feedback(const struct sched_feedback *f, unsigned window)
{
    double w = window > 0 ? window : 1;

    switch (f->kind) {
    case FEEDBACK_NUMBER:
        return f->numerator;
    case FEEDBACK_CONCURRENCY:
        return f->numerator / w;
    case FEEDBACK_SQRT_CONCURRENCY:
        return f->numerator / square_root(w);
    }
    return 0;
}

void sched_learn_anew(struct sched_dest *d)
{
    const struct sched_limits *l = &d->transport->limits;

    d->failed_cohorts = d->failure = d->success = 0;
    d->window = l->initial;
    if (l->concurrency > 0 && d->window > l->concurrency)
        d->window = l->concurrency;
}

void sched_learn_good(struct sched_dest *d)
{
    const struct sched_limits *l = &d->transport->limits;

    d->failed_cohorts = 0;
    /* grows only while most of the room that there is is used: else what failures teach would come too late */
    if (d->window >= d->busy + l->initial)
        return;
    d->success += feedback(&l->positive, d->window);
    while (d->success + FEEDBACK_ERROR >= 1) {
        d->window++;
        d->failure = 0;
        d->success -= 1;
    }
    if (d->success < 0)
        d->success = 0;
    if (l->concurrency > 0 && d->window > l->concurrency)
        d->window = l->concurrency;
}

void sched_learn_bad(struct sched_dest *d)
{
    const struct sched_limits *l = &d->transport->limits;

    d->failed_cohorts += 1.0 / d->window;
    d->failure -= feedback(&l->negative, d->window);
    while (d->failure < -FEEDBACK_ERROR) {
        if (d->window > 1)
            d->window--;
        d->failure += 1;
        d->success = 0;
    }
}

bool sched_is_hopeless(const struct sched_dest *d)
{
    unsigned limit = d->transport->limits.failed_cohorts;

    return limit > 0 && d->failed_cohorts + FEEDBACK_ERROR >= limit;
}
