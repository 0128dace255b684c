/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_fold.c - keys in lower case, so that tables answer whatever the case of the question.
 *
 * UTF-8 is folded as Unicode's full case folding does it where that matters in names: letter by letter, and the sharp s as
 * "ss". Letters that fold differently by language stay apart.
 */
#include "maps/map_int.h"

#include <locale.h>
#include <pthread.h>
#include <wctype.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static locale_t unicode; /* 0: none on this system: ASCII only */

static void find_locale(void)
{
    unicode = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t) 0);
}

/* One character from the front of s; 0: not UTF-8 (overlong, surrogate, cut off, out of range). */
static size_t decode(struct slice s, uint32_t *out)
{
    unsigned char c = (unsigned char) s.ptr[0];
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
        v > 0x10ffff)
        return 0;
    *out = v;
    return len;
}

bool map_is_utf8(struct slice s)
{
    uint32_t c;

    while (s.len > 0) {
        size_t n = decode(s, &c);

        if (n == 0)
            return false;
        s = slice_sub(s, n, s.len);
    }
    return true;
}

static void encode(uint32_t c, struct buf *out)
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

static void fold_utf8(struct slice s, struct buf *out)
{
    while (s.len > 0) {
        uint32_t c = 0;
        size_t n = decode(s, &c);

        switch (c) {
        case 0xdf:   /* sharp s */
        case 0x1e9e: /* capital sharp s */
            buf_puts(out, "ss");
            break;
        case 0x17f: /* long s */
            buf_putc(out, 's');
            break;
        case 0x3c2: /* final sigma */
            encode(0x3c3, out);
            break;
        case 0xb5: /* micro sign: the Greek letter */
            encode(0x3bc, out);
            break;
        default:
            encode(c < 0x80 ? (uint32_t) ascii_lower((int) c)
                            : (uint32_t) towlower_l((wint_t) c, unicode),
                   out);
        }
        s = slice_sub(s, n, s.len);
    }
}

void map_fold(enum map_folding how, struct slice key, struct buf *out)
{
    char *room;

    if (how == MAP_FOLD_NONE) {
        buf_put_slice(out, key);
        return;
    }
    if (how == MAP_FOLD_UTF8 && !slice_is_ascii(key) && map_is_utf8(key)) {
        (void) pthread_once(&once, find_locale);
        if (unicode != (locale_t) 0) {
            fold_utf8(key, out);
            return;
        }
    }
    room = buf_reserve(out, key.len);
    if (room == NULL)
        return;
    for (size_t i = 0; i < key.len; i++)
        room[i] = (char) ascii_lower((unsigned char) key.ptr[i]);
    buf_advance(out, key.len);
}
