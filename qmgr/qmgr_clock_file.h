/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_clock_file.h - the queue manager's time of day goes on over restarts, as long as the machine is not started anew: a clock that
 * somebody sets while no queue manager runs is noticed by the next one.
 */
#ifndef PR_QMGR_CLOCK_FILE_H
#define PR_QMGR_CLOCK_FILE_H

#include "base/err.h"
#include "qmgr/qmgr_clock.h"

#define BOOT_ID_MAX 40

/* What is different after each start of the machine; "" if that cannot be known. */
void qmgr_clock_boot_id(char out[BOOT_ID_MAX]);
/* False, c untouched: there is no such file, it is damaged, or of another start of the machine. */
bool qmgr_clock_load(const char *path, const char boot_id[BOOT_ID_MAX], struct qmgr_clock *c);
/* Blocks on the disk. */
NODISCARD int qmgr_clock_save(const char *path, const char boot_id[BOOT_ID_MAX],
                              const struct qmgr_clock *c, struct err *err);

#endif
