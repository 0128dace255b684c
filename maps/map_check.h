/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_check.h - findings about tables: missing, broken, older than their source, out of the daemons' reach.
 */
#ifndef PR_MAP_CHECK_H
#define PR_MAP_CHECK_H

#include "maps/map.h"
#include "postconf/findings.h"

/* Every "type:name" in value, which is that of a parameter or of a user-defined name. Opens the tables. */
void map_check_value(struct map_env *env, struct findings *f, const char *parameter,
                     const char *value);
/* The same for each effective parameter that is set where findings_config() comes from (main.cf, or a service's -o). */
void map_check_parameters(struct map_env *env, struct findings *f);

#endif
