/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns_params.c - the list of this folder's parameter sets.
 */
#include "dns/dns.h"

extern const struct param_set *const dns_param_sets[];

const struct param_set *const dns_param_sets[] = {
    &dns_params,
    NULL,
};
