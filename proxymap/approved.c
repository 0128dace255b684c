/* SPDX-License-Identifier: Apache-2.0 */
/* approved.c - see approved.h. */
#include "proxymap/approved.h"

#include <stdlib.h>

#include "base/htable.h"

#define NESTING_MAX 8

struct approved {
    struct htable *tables;
};

static struct slice without_proxy(struct slice word)
{
    while (slice_starts_with(word, SLICE_LIT("proxy:")))
        word = slice_sub(word, 6, word.len);
    return word;
}

static void add(struct approved *a, struct slice list, int depth)
{
    struct slice word;

    while (slice_token_braces(&list, ", \t\r\n", &word)) {
        ptrdiff_t open = slice_find(word, '{');
        ptrdiff_t close = slice_rfind(word, '}');

        if (slice_starts_with(word, SLICE_LIT("proxy:")))
            (void) htable_put(a->tables, without_proxy(word), a);
        else if (open != -1 && close > open && depth < NESTING_MAX)
            add(a, slice_sub(word, (size_t) open + 1, (size_t) close), depth + 1);
    }
}

struct approved *approved_new(const char *list)
{
    struct approved *a = xcalloc(1, sizeof(*a));

    a->tables = htable_new(false);
    add(a, slice_str(list), 0);
    return a;
}

void approved_free(struct approved **a)
{
    if (*a == NULL)
        return;
    htable_free(&(*a)->tables, NULL);
    free(*a);
    *a = NULL;
}

struct visit {
    void (*fn)(struct slice table, void *arg);
    void *arg;
};

static bool visit(struct slice table, void *value, void *arg)
{
    const struct visit *v = arg;

    (void) value;
    v->fn(table, v->arg);
    return true;
}

void approved_each(const struct approved *a, void (*fn)(struct slice table, void *arg), void *arg)
{
    struct visit v = {fn, arg};

    htable_each(a->tables, visit, &v);
}

bool approved_has(const struct approved *a, struct slice table)
{
    return htable_get(a->tables, table) != NULL;
}
