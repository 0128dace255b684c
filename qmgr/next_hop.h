/* SPDX-License-Identifier: Apache-2.0 */
/* next_hop.h - the next hop that an administrator names, looked at before anything is sent there. */
#ifndef PR_QMGR_NEXT_HOP_H
#define PR_QMGR_NEXT_HOP_H

#include "base/err.h"
#include "base/slice.h"

/* One host, as relayhost has it: "name", "name:port" (its mail exchangers), "[name]", "[address]", "[address]:port". -1: it is none. */
NODISCARD int next_hop_check(struct slice text, struct err *err);

#endif
