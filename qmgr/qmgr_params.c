/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_params.c - the list of this folder's parameter sets. Each set stands beside the code that uses it.
 */
#include "postconf/param.h"
#include "qmgr/store.h"

extern const struct param_set *const qmgr_param_sets[];
extern const struct param_set qmgr_params;
extern const struct param_set qmgr_limit_params;
extern const struct param_set qmgr_built_in_params;
extern const struct param_set bounce_params;
extern const struct param_set queue_client_params;

const struct param_set *const qmgr_param_sets[] = {
    &store_params,        &qmgr_params, &qmgr_limit_params, &qmgr_built_in_params, &bounce_params,
    &queue_client_params, NULL,
};
