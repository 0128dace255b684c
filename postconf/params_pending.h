/* SPDX-License-Identifier: Apache-2.0 */
/* params_pending.h - the parameters that are known but not yet effective. */
#ifndef PR_PARAMS_PENDING_H
#define PR_PARAMS_PENDING_H

#include "postconf/param.h"

extern const struct param params_pending[];
extern const size_t params_pending_count;

#endif
