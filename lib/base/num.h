/* SPDX-License-Identifier: Apache-2.0 */
/*
 * num.h - numbers in text: the whole string, a range, and the reason when it is neither.
 */
#ifndef PR_NUM_H
#define PR_NUM_H

#include "base/err.h"

NODISCARD int num_parse_i64(struct slice s, int64_t min, int64_t max, int64_t *out,
                            struct err *err);
NODISCARD int num_parse_u64_base(struct slice s, int base, uint64_t max, uint64_t *out,
                                 struct err *err);
/* Postfix time value: digits and one of s m h d w; default_unit when there is none. Seconds. */
NODISCARD int num_parse_time(struct slice s, char default_unit, int64_t max_seconds, int64_t *out,
                             struct err *err);
/* yes/no as Postfix spells booleans (case-insensitive "yes" and "no"). */
NODISCARD int num_parse_bool(struct slice s, bool *out, struct err *err);

#endif
