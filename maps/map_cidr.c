/* SPDX-License-Identifier: Apache-2.0 */
/* map_cidr.c - cidr: networks in file order, the first that holds the address answers. cidr_table(5). */
#include "maps/map_int.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "maps/network.h"

static int compile(struct slice *rest, bool for_if, void **out, struct err *err)
{
    struct slice word;
    struct network *n = xcalloc(1, sizeof(*n));

    (void) for_if;
    if (!slice_token(rest, " \t", &word)) {
        free(n);
        return err_input(err, "a network is missing");
    }
    if (network_parse(word, n, err) == -1) {
        free(n);
        return -1;
    }
    *out = n;
    return 0;
}

static int matches(const void *pattern, struct slice key, void *match, struct err *err)
{
    (void) err;
    (void) key;
    return network_has(pattern, match);
}

static const struct pattern_ops ops = {compile, free, matches, NULL, sizeof(struct network), NULL};

static int open_table(const char *path, struct map_env *env, void **impl, struct err *err)
{
    struct pattern_table *t;

    (void) env;
    if (pattern_table_open(path, &ops, map_open_is_strict(), &t, err) == -1)
        return -1;
    *impl = t;
    return 0;
}

static void close_table(void *impl)
{
    struct pattern_table *t = impl;

    pattern_table_close(&t, &ops);
}

static enum map_result lookup(void *impl, struct slice key, struct buf *value, struct err *err)
{
    const struct pattern_table *t = impl;
    struct network addr;

    (void) err;
    if (network_parse(key, &addr, NULL) == -1)
        return MAP_NOTFOUND; /* not an address */
    for (size_t i = 0; i < t->count; i++) {
        const struct pattern_rule *r = &t->rules[i];
        bool yes;

        if (r->kind == RULE_ENDIF)
            continue;
        yes = network_has(r->pattern, &addr) != r->negated;
        if (r->kind == RULE_IF) {
            if (!yes)
                i = r->end;
        } else if (yes) {
            buf_puts(value, r->result);
            return MAP_FOUND;
        }
    }
    return MAP_NOTFOUND;
}

static bool is_stale(void *impl, const char *path)
{
    return file_stamp_differs(&((struct pattern_table *) impl)->stamp, path);
}

const struct map_type map_type_cidr = {.name = "cidr",
                                       .flags = MAP_FLAG_PATTERN | MAP_FLAG_LOCAL,
                                       .open = open_table,
                                       .close = close_table,
                                       .lookup = lookup,
                                       .is_stale = is_stale};
