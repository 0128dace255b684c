/* SPDX-License-Identifier: Apache-2.0 */
/* descriptors.h - room for many connections at a time. */
#ifndef PR_BENCH_DESCRIPTORS_H
#define PR_BENCH_DESCRIPTORS_H

#include "base/base.h"

/* Raises the limit of open files to count and a few, as far as this process may. What is missing shows when it is needed. */
void descriptors_raise(int64_t count);

#endif
