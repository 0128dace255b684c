/* SPDX-License-Identifier: Apache-2.0 */
/*
 * all_params.c - every parameter of every folder, for $name expansion and for the programs that speak of all
 * of them. The one file of this folder that knows the folders below; it is linked into programs only.
 */
#include "postconf/param.h"

extern const struct param_set *const postconf_param_sets[];
extern const struct param_set *const maps_param_sets[];
extern const struct param_set *const route_param_sets[];
extern const struct param_set *const dns_param_sets[];
extern const struct param_set *const tls_param_sets[];
extern const struct param_set *const master_param_sets[];
extern const struct param_set *const proxymap_param_sets[];
extern const struct param_set *const qmgr_param_sets[];
extern const struct param_set *const cleanup_param_sets[];
extern const struct param_set *const smtpd_param_sets[];
extern const struct param_set *const smtp_param_sets[];
extern const struct param_set *const local_param_sets[];

/* clang-format off */
const struct param_set *const *const all_param_sets[] = {
    postconf_param_sets,
    maps_param_sets,
    route_param_sets,
    dns_param_sets,
    tls_param_sets,
    master_param_sets,
    proxymap_param_sets,
    qmgr_param_sets,
    cleanup_param_sets,
    smtpd_param_sets,
    smtp_param_sets,
    local_param_sets,
    NULL,
};
/* clang-format on */
