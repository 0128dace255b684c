/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_prefilter.h - which of thousands of expressions may match a key, found in one pass over the key: those whose literals
 * (map_literal.h) are in it. Immutable, shared by threads.
 */
#ifndef PR_MAP_PREFILTER_H
#define PR_MAP_PREFILTER_H

#include "maps/map_literal.h"

struct prefilter;
struct prefilter_builder;

NODISCARD struct prefilter_builder *prefilter_builder_new(void);
/* Rule number `rule` (each at most once, in rising order) matches only what has l's literals. l is adopted; NULL is nothing to be added. */
void prefilter_add(struct prefilter_builder *b, uint32_t rule, struct literals *l);
/* The filter of all rules that were added, or NULL if they are too few to be worth it. *b is consumed. */
NODISCARD struct prefilter *prefilter_build(struct prefilter_builder **b);
void prefilter_free(struct prefilter **p); /* accepts NULL */

/* Is the rule one that the filter knows? Others may match any key. */
bool prefilter_knows(const struct prefilter *p, uint32_t rule);

/* The known rules that may match a key, rising. */
struct prefilter_hits {
    uint32_t *rules;
    size_t count, cap;
    uint32_t space[64];
};
void prefilter_find(const struct prefilter *p, struct slice key, struct prefilter_hits *out);
void prefilter_hits_fini(struct prefilter_hits *h);

#endif
