/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup_characters.c - message_reject_characters and message_strip_characters: bytes that content may not have, or loses. */
#include "cleanup/cleanup_int.h"

/* The byte after a backslash, as C writes it; *text is moved behind it. -1: no such. */
static int escaped(struct slice *text)
{
    static const char names[] = "abfnrtv\\";
    static const char bytes[] = "\a\b\f\n\r\t\v\\";
    int value = 0;
    size_t digits = 0;

    for (size_t i = 0; text->len > 0 && i < sizeof(names) - 1; i++) {
        if (text->ptr[0] == names[i]) {
            *text = slice_sub(*text, 1, text->len);
            return (unsigned char) bytes[i];
        }
    }
    while (digits < 3 && digits < text->len && text->ptr[digits] >= '0' && text->ptr[digits] <= '7')
        value = value * 8 + (text->ptr[digits++] - '0');
    *text = slice_sub(*text, digits, text->len);
    return digits > 0 && value < 256 ? value : -1;
}

int cleanup_characters_parse(const char *value, struct byte_set *out, struct err *err)
{
    struct slice rest = slice_str(value);

    *out = (struct byte_set){.any = rest.len > 0};
    while (rest.len > 0) {
        int byte = (unsigned char) rest.ptr[0];

        rest = slice_sub(rest, 1, rest.len);
        if (byte == '\\' && (byte = escaped(&rest)) == -1)
            return err_input(err, "a backslash stands before a name of C, or octal digits: \"%s\"",
                             value);
        out->has[byte] = true;
    }
    return 0;
}

struct slice cleanup_characters(struct cleanup_msg *m, struct slice piece, struct buf *space)
{
    const struct byte_set *reject = &m->c->reject;
    const struct byte_set *strip = &m->c->strip;
    size_t begun = 0;

    for (size_t i = 0; reject->any && i < piece.len; i++) {
        if (reject->has[(unsigned char) piece.ptr[i]]) {
            cleanup_fail(m, 550, "5.7.1", "disallowed character");
            return SLICE_EMPTY;
        }
    }
    if (!strip->any)
        return piece;
    for (size_t i = 0; i < piece.len; i++) {
        if (strip->has[(unsigned char) piece.ptr[i]]) {
            buf_put_slice(space, slice_sub(piece, begun, i));
            begun = i + 1;
        }
    }
    buf_put_slice(space, slice_sub(piece, begun, piece.len));
    return buf_view(space);
}
