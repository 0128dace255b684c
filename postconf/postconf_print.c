/* SPDX-License-Identifier: Apache-2.0 */
/* postconf_print.c - parameters on standard output, folded where that is asked for. */
#include <stdio.h>
#include <string.h>

#include "postconf/postconf_int.h"

#define LINE_WIDTH 80
#define INDENT     "    "

static void put_word(struct buf *out, size_t *column, struct slice word, bool fold)
{
    if (*column > 0 && fold && *column + 1 + word.len > LINE_WIDTH) {
        buf_puts(out, "\n" INDENT);
        *column = strlen(INDENT);
    } else if (*column > 0) {
        buf_putc(out, ' ');
        *column += 1;
    }
    buf_put_slice(out, word);
    *column += word.len;
}

void postconf_put_words(struct buf *out, size_t *column, struct slice words, bool fold)
{
    struct slice word;

    while (slice_token(&words, " \t\r\n", &word))
        put_word(out, column, word, fold);
}

void postconf_print(const struct postconf *p, const char *name, const char *value)
{
    struct buf out = BUF_INIT(SIZE_MAX);
    size_t column = 0;

    if (!p->no_name) {
        buf_puts(&out, name);
        if (!p->no_value)
            buf_puts(&out, " =");
        column = out.len;
    }
    if (!p->no_value)
        postconf_put_words(&out, &column, slice_str(value), p->fold);
    puts(buf_cstr(&out));
    buf_fini(&out);
}
