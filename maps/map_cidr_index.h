/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_cidr_index.h - what a cidr table answers for each address, without going through its rules.
 *
 * Networks are nested or apart, never across each other; so are the sets that if, endif and "!" make of them. The addresses
 * fall into ranges of which each has one answer, two for each network at most, and an answer is a binary search away.
 */
#ifndef PR_MAPS_CIDR_INDEX_H
#define PR_MAPS_CIDR_INDEX_H

#include "maps/map_int.h"
#include "maps/network.h"

struct cidr_index;

#define CIDR_NO_RULE UINT32_MAX

/*
 * Of a table whose patterns are struct network. NULL: it would take more than a few hundred MiB, which takes tens of thousands
 * of negated rules; then the rules are to be gone through.
 */
struct cidr_index *cidr_index_new(const struct pattern_table *t);
void cidr_index_free(struct cidr_index *index);
/* The first rule in the table's order that matches the address, or CIDR_NO_RULE. */
uint32_t cidr_index_find(const struct cidr_index *index, const struct network *addr);
/* Ranges of both families: what the index costs, 8 bytes each of IPv4, 20 of IPv6. */
size_t cidr_index_size(const struct cidr_index *index);

#endif
