/* SPDX-License-Identifier: Apache-2.0 */
/* proxymap.h - what main.cf says to proxymap(8). */
#ifndef PR_PROXYMAP_H
#define PR_PROXYMAP_H

#include "postconf/param.h"

struct proxymap_params {
    const char *read_maps, *write_maps;
};
extern const struct param_set proxymap_params;

/* Finds tables that are named with proxy: where this service may not serve them. */
void proxymap_check(struct map_env *env, struct findings *f);

#endif
