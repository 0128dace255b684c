/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share.h - memory in which one process hands much data to another: some slots, used in turn.
 *
 * One side makes it and writes, the other adopts it and reads; which slot is whose at a time the two tell each other by
 * frames. The writer may be anybody: what he writes, and when, is his; so the reader copies what he is told of, once,
 * and looks at the copy. The memory cannot shrink under the reader.
 */
#ifndef PR_SHARE_H
#define PR_SHARE_H

#include "base/err.h"
#include "base/slice.h"

#define SHARE_SLOTS      4
#define SHARE_SLOT_BYTES 262144

struct share;

/* NULL: no memory of the kind is to be had. */
NODISCARD struct share *share_new(struct err *err);
/* The other side's, read only. The descriptor stays the caller's. NULL: it is not what share_new() makes. */
NODISCARD struct share *share_adopt(int fd, struct err *err);
void share_free(struct share **share);
/* To be passed on; -1 after share_adopt(). */
int share_fd(const struct share *share);
/* slot: counts on and on. SHARE_SLOT_BYTES bytes; to be written by the side that made it, only. */
char *share_slot(const struct share *share, uint64_t slot);

#endif
