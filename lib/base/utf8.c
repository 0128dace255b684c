/* SPDX-License-Identifier: Apache-2.0 */
/* utf8.c - see utf8.h. */
#include "base/utf8.h"

size_t utf8_decode(struct slice s, uint32_t *out)
{
    unsigned char c = s.len > 0 ? (unsigned char) s.ptr[0] : 0xff;
    size_t len = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : 4;
    uint32_t v = len == 1 ? c : len == 2 ? c & 0x1f : len == 3 ? c & 0x0f : c & 0x07;

    if (c > 0xf4 || (c >= 0x80 && c < 0xc2) || len > s.len)
        return 0;
    for (size_t i = 1; i < len; i++) {
        unsigned char d = (unsigned char) s.ptr[i];

        if ((d & 0xc0) != 0x80)
            return 0;
        v = v << 6 | (d & 0x3f);
    }
    if ((len == 3 && v < 0x800) || (v >= 0xd800 && v < 0xe000) || (len == 4 && v < 0x10000) ||
        v > UTF8_CODE_MAX)
        return 0;
    *out = v;
    return len;
}

bool utf8_is_valid(struct slice s)
{
    uint32_t c;

    while (s.len > 0) {
        size_t n = utf8_decode(s, &c);

        if (n == 0)
            return false;
        s = slice_sub(s, n, s.len);
    }
    return true;
}

void utf8_encode(uint32_t c, struct buf *out)
{
    if (c < 0x80) {
        buf_putc(out, (char) c);
    } else if (c < 0x800) {
        buf_putc(out, (char) (0xc0 | c >> 6));
        buf_putc(out, (char) (0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        buf_putc(out, (char) (0xe0 | c >> 12));
        buf_putc(out, (char) (0x80 | (c >> 6 & 0x3f)));
        buf_putc(out, (char) (0x80 | (c & 0x3f)));
    } else {
        buf_putc(out, (char) (0xf0 | c >> 18));
        buf_putc(out, (char) (0x80 | (c >> 12 & 0x3f)));
        buf_putc(out, (char) (0x80 | (c >> 6 & 0x3f)));
        buf_putc(out, (char) (0x80 | (c & 0x3f)));
    }
}
