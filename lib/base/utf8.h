/* SPDX-License-Identifier: Apache-2.0 */
/*
 * utf8.h - UTF-8 as RFC 3629 has it: no surrogates, nothing beyond U+10FFFF, no longer form than is needed.
 */
#ifndef PR_UTF8_H
#define PR_UTF8_H

#include "base/buf.h"

#define UTF8_CODE_MAX 0x10FFFF

bool utf8_is_valid(struct slice s); /* the empty slice is */
/* The first character of s; its length in bytes, 0: there is none. */
size_t utf8_decode(struct slice s, uint32_t *c);
/* c: up to UTF8_CODE_MAX. */
void utf8_encode(uint32_t c, struct buf *out);

#endif
