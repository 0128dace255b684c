/* SPDX-License-Identifier: Apache-2.0 */
/*
 * param_registry.c - all rows of all folders, found by name. Built once, on first use.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/htable.h"
#include "base/vec.h"
#include "postconf/params_pending.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct htable *by_name;
static struct vec sorted;   /* const struct param *, by name */
static struct vec families; /* those whose name begins with "*_" */

static void add(const struct param *p)
{
    struct slice name = slice_str(p->name);

    /* the first one stays: a parameter that two sets read has one row of documentation, and pending ones come last */
    if (htable_get(by_name, name) != NULL)
        return;
    htable_put(by_name, name, (void *) (uintptr_t) p);
    vec_push(&sorted, (void *) (uintptr_t) p);
    if (p->name[0] == '*')
        vec_push(&families, (void *) (uintptr_t) p);
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct param *) a)->name, ((const struct param *) b)->name);
}

static void build(void)
{
    by_name = htable_new(false);
    for (const struct param_set *const *const *folder = all_param_sets; *folder != NULL; folder++)
        for (const struct param_set *const *set = *folder; *set != NULL; set++)
            for (size_t i = 0; i < (*set)->count; i++)
                add(&(*set)->rows[i]);
    for (size_t i = 0; i < params_pending_count; i++)
        add(&params_pending[i]);
    vec_sort(&sorted, compare);
}

const struct param *param_find(const char *name)
{
    const struct param *p;
    struct slice s = slice_str(name);

    pthread_once(&once, build);
    p = htable_get(by_name, s);
    if (p != NULL)
        return p;
    for (size_t i = 0; i < families.len; i++) {
        const struct param *family = families.items[i];
        struct slice suffix = slice_str(family->name + 1); /* "_destination_rate_delay" */

        if (s.len > suffix.len && slice_ends_with(s, suffix) &&
            (p == NULL || strlen(family->name) > strlen(p->name))) /* the longest suffix is meant */
            p = family;
    }
    return p;
}

void param_each(void (*fn)(const struct param *p, void *arg), void *arg)
{
    pthread_once(&once, build);
    for (size_t i = 0; i < sorted.len; i++)
        fn(sorted.items[i], arg);
}

/* Damerau-Levenshtein distance (adjacent transposition counts one), given up beyond limit. */
static unsigned distance(const char *a, const char *b, unsigned limit)
{
    size_t n = strlen(a);
    size_t m = strlen(b);
    unsigned rows[3][128];

    if (n >= 127 || m >= 127 || (n > m ? n - m : m - n) > limit)
        return limit + 1;
    for (size_t j = 0; j <= m; j++)
        rows[0][j] = (unsigned) j;
    for (size_t i = 1; i <= n; i++) {
        unsigned *now = rows[i % 3];
        const unsigned *last = rows[(i + 2) % 3];
        const unsigned *before = rows[(i + 1) % 3];
        unsigned least = now[0] = (unsigned) i;

        for (size_t j = 1; j <= m; j++) {
            unsigned best = last[j - 1] + (a[i - 1] != b[j - 1]);

            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
            if (best < least)
                least = best;
        }
        if (least > limit)
            return limit + 1;
    }
    return rows[n % 3][m];
}

/* The distance of NAME_suffix from the row's *_suffix; the length of NAME_ goes to *service. */
static unsigned family_distance(const char *name, const char *suffix, unsigned limit,
                                size_t *service)
{
    unsigned least = limit + 1;

    /* short suffixes are near to too much */
    if (limit > strlen(suffix) / 6)
        limit = (unsigned) strlen(suffix) / 6;
    for (const char *at = strchr(name, '_'); at != NULL; at = strchr(at + 1, '_')) {
        unsigned d = at > name ? distance(at, suffix, limit) : limit + 1;

        if (d <= limit && d < least) {
            least = d;
            *service = (size_t) (at - name);
        }
    }
    return least;
}

const char *param_suggestion(const char *name, char text[PARAM_SUGGESTION_MAX])
{
    const char *best = NULL;
    unsigned least = 4;
    size_t service = 0;

    pthread_once(&once, build);
    for (size_t i = 0; i < sorted.len; i++) {
        const struct param *p = sorted.items[i];
        bool family = p->name[0] == '*';
        size_t len = 0;
        unsigned d = family ? family_distance(name, p->name + 1, least - 1, &len)
                            : distance(name, p->name, least - 1);

        if (d < least) {
            least = d;
            best = p->name + family;
            service = len;
        }
    }
    text[0] = '\0';
    if (best != NULL)
        (void) snprintf(text, PARAM_SUGGESTION_MAX, ": did you mean %.*s%s?", (int) service, name,
                        best);
    return text;
}
