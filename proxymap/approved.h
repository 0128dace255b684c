/* SPDX-License-Identifier: Apache-2.0 */
/* approved.h - the tables that proxymap(8) may serve. Read-only once made: threads share it. */
#ifndef PR_PROXYMAP_APPROVED_H
#define PR_PROXYMAP_APPROVED_H

#include "base/slice.h"

struct approved;

/* Each "proxy:TYPE:NAME" in list, the value of proxy_read_maps or proxy_write_maps; what is no such word is passed over. Within
 * {...} words count, too, unless it belongs to such a name. */
NODISCARD struct approved *approved_new(const char *list);
void approved_free(struct approved **a);
/* Calls fn with each "TYPE:NAME", in no order. */
void approved_each(const struct approved *a, void (*fn)(struct slice table, void *arg), void *arg);
/* table: "TYPE:NAME". */
bool approved_has(const struct approved *a, struct slice table);

#endif
