/* SPDX-License-Identifier: Apache-2.0 */
/*
 * instances.h - the mail systems that share one set of programs: a primary one, in the default configuration directory, and those
 * that its multi_instance_directories names. Source: postfix-wrapper(5), postmulti(1).
 */
#ifndef PR_INSTANCES_H
#define PR_INSTANCES_H

#include "base/vec.h"
#include "postconf/config.h"

struct instance_params {
    const char *directories, *group, *name, *wrapper;
    bool enable;
    const char *start_commands, *stop_commands, *control_commands;
};
extern const struct param_set instance_params;

struct instance {
    struct config *cfg;
    struct config_common common;
    struct instance_params p;
    bool is_primary;
};

NODISCARD int instance_load(const char *dir, bool is_primary, struct instance **out,
                            struct err *err);
void instance_free(struct instance **i);
/* The primary one and then the others, struct instance *. On failure nothing is left to free. */
NODISCARD int instances_load(struct vec *out, struct err *err);
void instances_free(struct vec *list);
/* An environment that names the instance: what a shell script finds in it. NULL-terminated; heap. */
NODISCARD char **instance_environment(const struct instance *i);
/* Has the primary instance's multi_instance_wrapper run the command for every instance. Returns only where there is none. */
void instances_run_wrapper(const char *command);

#endif
