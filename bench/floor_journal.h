/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor_journal.h - the journal of the bare relay: one preallocated file, used round and round, with group commit.
 *
 * It is written as a queue's journal must be, so that it costs what that costs, but nothing reads it: floor measures a
 * bound, and recovers nothing.
 */
#ifndef PR_BENCH_FLOOR_JOURNAL_H
#define PR_BENCH_FLOOR_JOURNAL_H

#include "base/err.h"

struct floor_journal;

NODISCARD int floor_journal_open(const char *path, size_t bytes, struct floor_journal **out,
                                 struct err *err);
/* Returns 0 once the record is on disk. Any number of threads; those that wait meanwhile share a flush. */
NODISCARD int floor_journal_commit(struct floor_journal *j, struct slice record);

#endif
