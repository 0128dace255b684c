/* SPDX-License-Identifier: Apache-2.0 */
/* postdrop.h - the parameters of postdrop(1). */
#ifndef PR_CLEANUP_POSTDROP_H
#define PR_CLEANUP_POSTDROP_H

#include "postconf/config.h"

struct postdrop_params {
    const char *authorized_submit_users;
};
extern const struct param_set postdrop_params;

#endif
