/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delivery_filter.h - NAME_delivery_status_filter: tables that replace the code and the text of what became of a recipient, before
 * it is logged and answered.
 */
#ifndef PR_DELIVERY_FILTER_H
#define PR_DELIVERY_FILTER_H

#include "mail/deliver.h"
#include "maps/map.h"

struct delivery_filter;
/* *out: NULL when there are no tables. name: the parameter. */
NODISCARD int delivery_filter_open(struct map_env *env, const char *name, const char *value,
                                   struct delivery_filter **out, struct err *err);
/* A deliver_filter_fn (mail/deliver.h); arg: struct delivery_filter *. Any thread. */
void delivery_filter_apply(void *arg, struct dsn_status *status, struct buf *space);

#endif
