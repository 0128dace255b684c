/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import_ledger.h - which messages were imported, so that none is twice. A text file, one line for each: queue id of the file, arrival
 * time in microseconds, bytes of content, queue id here. The first three say which message it is: they stay the same when the
 * directory is copied, and when the message has long been delivered.
 */
#ifndef PR_CLEANUP_IMPORT_LEDGER_H
#define PR_CLEANUP_IMPORT_LEDGER_H

#include "base/err.h"

struct import_ledger;

/* Makes the file when there is none. Only one process at a time has it (err: "another import is running"). */
NODISCARD int import_ledger_open(const char *path, struct import_ledger **out, struct err *err);
void import_ledger_close(struct import_ledger **l);
/* Is there any message of this id in it? */
bool import_ledger_has_id(const struct import_ledger *l, struct slice id);
bool import_ledger_has(const struct import_ledger *l, struct slice id, uint64_t arrival_us,
                       uint64_t bytes);
/* Durable when it returns 0. */
NODISCARD int import_ledger_add(struct import_ledger *l, struct slice id, uint64_t arrival_us,
                                uint64_t bytes, struct slice new_id, struct err *err);

#endif
