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
    (void) env;
    return pattern_map_open(path, &ops, impl, err);
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

const struct map_type map_type_cidr = {.name = "cidr",
                                       .flags = MAP_FLAG_PATTERN | MAP_FLAG_LOCAL,
                                       .open = open_table,
                                       .close = pattern_map_close,
                                       .lookup = lookup,
                                       .is_stale = pattern_map_is_stale};
