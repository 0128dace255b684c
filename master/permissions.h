/* SPDX-License-Identifier: Apache-2.0 */
/* permissions.h - whose files and directories are, and with which modes: set by postfix set-permissions, looked at by check. */
#ifndef PR_PERMISSIONS_H
#define PR_PERMISSIONS_H

#include "master/master_int.h"

/*
 * Sets owners and modes: directories of the queue and of data, and the set-gid commands. Needs root for owners. 0, or -1 with
 * err: the first that could not be set.
 */
NODISCARD int permissions_set(const struct generation *g, struct err *err);
/*
 * Reports what others could change or what lacks rights that it needs: the configuration directory and those of the queue
 * always; programs for the primary instance, whose they are. Nothing of this keeps the system from starting.
 */
void permissions_check(const struct generation *g, check_report_fn fn, void *arg);

#endif
