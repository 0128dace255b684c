/* SPDX-License-Identifier: Apache-2.0 */
/* progress.c - see progress.h. */
#include "progress.h"

#include <stdio.h>

enum { DRAW_US = 200 * 1000 };

static void draw(struct progress *p, int64_t done, struct mono_time now)
{
    int64_t since_us = mono_diff_us(now, p->drawn);
    double rate = since_us > 0 ? (double) (done - p->drawn_done) * 1e6 / (double) since_us : 0;
    double mean = (double) done * 1e6 / (double) (mono_diff_us(now, p->began) + 1);
    double left = mean > 0 ? (double) (p->wanted - done) / mean : 0;

    (void) fprintf(
        stderr,
        "\r%lld/%lld %3lld%%  %.0f/s  p50 %.1f ms  p99 %.1f ms  %lld refused  %.0f s left\033[K",
        (long long) done, (long long) p->wanted, (long long) (done * 100 / p->wanted), rate,
        (double) histogram_at(&p->totals->message, 0.5) / 1000,
        (double) histogram_at(&p->totals->message, 0.99) / 1000, (long long) p->totals->refused,
        left);
    p->drawn = now;
    p->drawn_done = done;
}

void progress_step(void *progress)
{
    struct progress *p = progress;
    int64_t done = p->totals->accepted + p->totals->refused;

    if (p->counter) {
        (void) printf("%lld\r", (long long) done);
        (void) fflush(stdout);
    }
    if (p->line) {
        struct mono_time now = mono_now();

        if (mono_diff_us(now, p->drawn) >= DRAW_US || done == p->wanted)
            draw(p, done, now);
    }
}

void progress_end(struct progress *p)
{
    if (p->counter)
        (void) putchar('\n');
    if (p->line && p->drawn_done > 0)
        (void) fputc('\n', stderr);
}

static const struct {
    const char *name;
    double share;
} percentiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1}};

static void text_row(const char *name, const struct histogram *h)
{
    (void) printf("%-12s", name);
    for (size_t i = 0; i < ARRAY_LEN(percentiles); i++)
        (void) printf(" %9.3f", (double) histogram_at(h, percentiles[i].share) / 1000);
    (void) putchar('\n');
}

void report_text(const struct source_totals *t, int64_t us)
{
    (void) printf("%lld messages accepted, %lld refused, in %.3f s: %.1f/s, %lld connections\n",
                  (long long) t->accepted, (long long) t->refused, (double) us / 1e6,
                  (double) t->accepted * 1e6 / (double) us, (long long) t->connections);
    (void) printf("%-12s", "latency, ms");
    for (size_t i = 0; i < ARRAY_LEN(percentiles); i++)
        (void) printf(" %9s", percentiles[i].name);
    (void) putchar('\n');
    text_row("message", &t->message);
    text_row("final reply", &t->final);
}

static void json_latency(const char *name, const struct histogram *h)
{
    (void) printf(", \"%s\": {", name);
    for (size_t i = 0; i < ARRAY_LEN(percentiles); i++)
        (void) printf("%s\"%s\": %.3f", i > 0 ? ", " : "", percentiles[i].name,
                      (double) histogram_at(h, percentiles[i].share) / 1000);
    (void) putchar('}');
}

void report_json(const struct source_totals *t, struct mono_time began, int64_t us)
{
    (void) printf("{\"accepted\": %lld, \"refused\": %lld, \"recipients\": %lld, "
                  "\"refused_recipients\": %lld, \"connections\": %lld, \"resumed\": %lld, "
                  "\"began\": %.6f, \"seconds\": %.6f",
                  (long long) t->accepted, (long long) t->refused, (long long) t->recipients,
                  (long long) t->refused_recipients, (long long) t->connections,
                  (long long) t->resumed, (double) began.us / 1e6, (double) us / 1e6);
    json_latency("message_ms", &t->message);
    json_latency("final_ms", &t->final);
    (void) puts("}");
}
