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

#include "base/utf8.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static locale_t unicode; /* 0: none on this system: ASCII only */

static void find_locale(void)
{
    unicode = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t) 0);
}

static void fold_utf8(struct slice s, struct buf *out)
{
    while (s.len > 0) {
        uint32_t c = 0;
        size_t n = utf8_decode(s, &c);

        switch (c) {
        case 0xdf:   /* sharp s */
        case 0x1e9e: /* capital sharp s */
            buf_puts(out, "ss");
            break;
        case 0x17f: /* long s */
            buf_putc(out, 's');
            break;
        case 0x3c2: /* final sigma */
            utf8_encode(0x3c3, out);
            break;
        case 0xb5: /* micro sign: the Greek letter */
            utf8_encode(0x3bc, out);
            break;
        default:
            utf8_encode(c < 0x80 ? (uint32_t) ascii_lower((int) c)
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
    if (how == MAP_FOLD_UTF8 && !slice_is_ascii(key) && utf8_is_valid(key)) {
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
