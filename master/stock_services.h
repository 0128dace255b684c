/* SPDX-License-Identifier: Apache-2.0 */
/* stock_services.h - the services of a new master.cf, as Postfix's names and columns are. */
#ifndef PR_STOCK_SERVICES_H
#define PR_STOCK_SERVICES_H

#include "postconf/master_cf.h"

struct stock_service {
    const char *name;
    enum service_type type;
    const char *line; /* as it stands in master.cf, its end included */
};
extern const struct stock_service stock_services[];
extern const size_t stock_services_count;

/* A whole master.cf. */
void stock_master_cf(struct buf *out);
/*
 * postfix upgrade-configuration: appends to master.cf in DIR what is missing there; says each on standard output. What stands in the file, comments
 * and all, is not touched.
 */
NODISCARD int stock_services_add_missing(const char *dir, struct err *err);

#endif
