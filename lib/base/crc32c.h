/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc32c.h - CRC-32C (Castagnoli, RFC 3720 appendix B.4), by the processor's instruction where it has one.
 */
#ifndef PR_CRC32C_H
#define PR_CRC32C_H

#include "base/base.h"

/* crc: 0 to begin, or the result so far. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif
