/* SPDX-License-Identifier: Apache-2.0 */
/* maps_params.c - the parameters of tables, and the list of this folder's parameter sets. */
#include "postconf/param.h"

struct maps_params {
    char unused;
};
/* Without Berkeley DB, a type of which the file is what its name says. */
#if PR_HAVE_BDB
#define DATABASE_TYPE "hash"
#elif PR_HAVE_LMDB
#define DATABASE_TYPE "lmdb"
#else
#define DATABASE_TYPE "cdb"
#endif

static const struct param rows[] = {
    PARAM_BY_NAME("default_database_type", PARAM_TYPE_STRING, .def = DATABASE_TYPE,
                  .services = "sendmail,postmap,postalias",
                  .doc = "The type of a table that is named without one."),
    PARAM_BY_NAME("alias_database", PARAM_TYPE_STRING, .def = "hash:/etc/aliases",
                  .services = "sendmail,postalias",
                  .doc = "The alias tables that newaliases builds."),
    PARAM_BY_NAME(
        "shlib_directory", PARAM_TYPE_STRING, .def = "/usr/lib/postfix",
        .doc =
            "Where modules of table types (postrider-TYPE.so) are looked for, before the directory of the daemons."),
};
static const struct param_set maps_params = PARAM_SET("maps", struct maps_params, rows);

extern const struct param_set *const maps_param_sets[];
extern const struct param_set map_limits_params, map_proxy_params, map_file_params,
    map_socketmap_params;

const struct param_set *const maps_param_sets[] = {
    &maps_params,     &map_limits_params,    &map_proxy_params,
    &map_file_params, &map_socketmap_params, NULL,
};
