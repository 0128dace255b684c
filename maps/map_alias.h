/* SPDX-License-Identifier: Apache-2.0 */
/* map_alias.h - one logical line of an aliases(5) file. */
#ifndef PR_MAP_ALIAS_H
#define PR_MAP_ALIAS_H

#include "base/buf.h"
#include "base/err.h"

/*
 * "name: value, value": the name without quotes, and the values with comments and quotes as they are, white space and commas made
 * uniform. -1: err says what is wrong, as a warning of postalias.
 */
NODISCARD int alias_split(struct slice line, struct buf *name, struct buf *value, struct err *err);

#endif
