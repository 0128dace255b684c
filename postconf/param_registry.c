/* SPDX-License-Identifier: Apache-2.0 */
/*
 * param_registry.c - all rows of all folders, found by name. Built once, on first use.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/edit_distance.h"
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

/* The distance of NAME_suffix from the row's *_suffix; the length of NAME_ goes to *service. */
static unsigned family_distance(const char *name, const char *suffix, unsigned limit,
                                size_t *service)
{
    unsigned least = limit + 1;

    /* short suffixes are near to too much */
    if (limit > strlen(suffix) / 6)
        limit = (unsigned) strlen(suffix) / 6;
    for (const char *at = strchr(name, '_'); at != NULL; at = strchr(at + 1, '_')) {
        unsigned d = at > name ? edit_distance(at, suffix, limit) : limit + 1;

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
                            : edit_distance(name, p->name, least - 1);

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
