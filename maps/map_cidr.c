/* SPDX-License-Identifier: Apache-2.0 */
/* map_cidr.c - cidr: networks in file order, the first that holds the address answers. cidr_table(5). */
#include "maps/map_cidr_index.h"

#include <stdlib.h>

static int compile(struct slice *rest, struct pattern_made *out, struct err *err)
{
    struct slice word;
    struct network *n = xcalloc(1, sizeof(*n));

    if (!slice_token(rest, " \t", &word)) {
        free(n);
        return err_input(err, "a network is missing");
    }
    if (network_parse(word, n, err) == -1) {
        free(n);
        return -1;
    }
    out->pattern = n;
    return 0;
}

static int matches(void *pattern, struct slice key, void *match, struct err *err)
{
    const struct network *n = pattern;
    struct network addr;

    (void) match;
    (void) err;
    /* not an address: lookup() does not come here */
    if (network_parse_address(key, &addr) == -1)
        return 0;
    return addr.family != n->family ? PATTERN_NEITHER : network_has(n, &addr);
}

static void *index_new(const struct pattern_table *t)
{
    return cidr_index_new(t);
}

static void index_free(void *index)
{
    cidr_index_free(index);
}

static const struct pattern_ops ops = {"cidr", compile, free,      NULL,      matches,
                                       NULL,   0,       index_new, index_free};

static int open_table(const char *path, struct map_env *env, void **impl, struct err *err)
{
    (void) env;
    return pattern_map_open(path, &ops, impl, err);
}

static enum map_result lookup(void *impl, struct slice key, struct buf *value, struct err *err)
{
    const struct pattern_table *t = impl;
    struct network addr;
    uint32_t rule;

    if (network_parse_address(key, &addr) == -1)
        return MAP_NOTFOUND;
    if (t->index == NULL)
        return pattern_map_lookup(impl, key, value, err);
    rule = cidr_index_find(t->index, &addr);
    if (rule == CIDR_NO_RULE)
        return MAP_NOTFOUND;
    buf_puts(value, t->rules[rule].result);
    return MAP_FOUND;
}

const struct map_type map_type_cidr = {.name = "cidr",
                                       .flags = MAP_FLAG_PATTERN | MAP_FLAG_LOCAL,
                                       .open = open_table,
                                       .close = pattern_map_close,
                                       .lookup = lookup,
                                       .is_stale = pattern_map_is_stale};
