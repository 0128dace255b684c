/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtpd_params.c - the list of this folder's parameter sets. Each set stands beside the code that uses it.
 */
#include "postconf/param.h"

extern const struct param_set *const smtpd_param_sets[];

const struct param_set *const smtpd_param_sets[] = {
    NULL,
};
