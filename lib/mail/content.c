/* SPDX-License-Identifier: Apache-2.0 */
/* content.c - see content.h. */
#include "mail/content.h"

#include "mail/envelope.h"

void content_facts_init(struct content_facts *f)
{
    *f = (struct content_facts){.at_line_start = true};
}

/* False if some byte is above 127, NUL, or CR; eight at a time. */
static bool is_plain(const char *p, size_t len)
{
    const uint64_t high = 0x8080808080808080ULL;
    const uint64_t ones = 0x0101010101010101ULL;

    for (; len >= 8; p += 8, len -= 8) {
        uint64_t w;
        uint64_t cr;

        memcpy(&w, p, 8);
        cr = w ^ (ones * '\r');
        /* the classic zero-byte test, for NUL and for CR */
        if (((w & high) | ((w - ones) & ~w & high) | ((cr - ones) & ~cr & high)) != 0)
            return false;
    }
    for (; len > 0; p++, len--)
        if (*p == '\r' || *p == '\0' || (*p & 0x80) != 0)
            return false;
    return true;
}

static void scan_slowly(struct content_facts *f, const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char) p[i];

        if (f->last_cr)
            f->flags |= MAIL_FACT_BARE_CR;
        f->last_cr = c == '\r';
        if (c >= 128)
            f->flags |= MAIL_FACT_8BIT;
        else if (c == '\0')
            f->flags |= MAIL_FACT_NUL;
    }
}

void content_facts_scan(struct content_facts *f, struct slice piece)
{
    const char *p = piece.ptr;
    size_t left = piece.len;

    f->bytes += piece.len;
    while (left > 0) {
        const char *nl = memchr(p, '\n', left);
        size_t n = nl != NULL ? (size_t) (nl - p) : left; /* of the line, without LF */
        size_t text = n;

        if (f->at_line_start && p[0] == '.')
            f->flags |= MAIL_FACT_DOT;
        f->at_line_start = false;
        /* the CR of the line's end is no bare one */
        if (nl != NULL && n > 0 && p[n - 1] == '\r')
            text = n - 1;
        if (text > 0 && (f->last_cr || !is_plain(p, text)))
            scan_slowly(f, p, text);
        if (text < n && f->last_cr)
            f->flags |= MAIL_FACT_BARE_CR; /* CR CR LF: the first is bare */
        if (nl != NULL) {
            size_t line = f->line_len + n;

            if ((text < n || (n == 0 && f->last_cr)) && line > 0)
                line--;
            if (line > f->longest_line)
                f->longest_line = line < UINT32_MAX ? (uint32_t) line : UINT32_MAX;
            f->line_len = 0;
            f->at_line_start = true;
            f->last_cr = false;
            n++;
        } else {
            f->line_len =
                left < UINT32_MAX - f->line_len ? f->line_len + (uint32_t) left : UINT32_MAX;
        }
        p += n;
        left -= n;
    }
}

void content_facts_end(struct content_facts *f)
{
    if (f->last_cr)
        f->flags |= MAIL_FACT_BARE_CR;
    f->last_cr = false;
    if (f->line_len > f->longest_line)
        f->longest_line = f->line_len;
}

void content_to_wire(struct slice piece, bool *last_cr, struct buf *out)
{
    while (piece.len > 0) {
        ptrdiff_t nl = slice_find(piece, '\n');
        size_t n = nl == -1 ? piece.len : (size_t) nl;

        buf_put(out, piece.ptr, n);
        if (nl == -1) {
            *last_cr = piece.ptr[n - 1] == '\r';
            return;
        }
        buf_puts(out, (n > 0 ? piece.ptr[n - 1] == '\r' : *last_cr) ? "\n" : "\r\n");
        *last_cr = false;
        piece = slice_sub(piece, n + 1, piece.len);
    }
}

void content_to_unix(struct slice piece, bool *last_cr, struct buf *out)
{
    while (piece.len > 0) {
        ptrdiff_t cr;

        /* a CR at the end of the last piece waits for what follows */
        if (*last_cr) {
            if (piece.ptr[0] != '\n')
                buf_putc(out, '\r');
            *last_cr = false;
        }
        cr = slice_find(piece, '\r');
        if (cr == -1) {
            buf_put_slice(out, piece);
            return;
        }
        buf_put(out, piece.ptr, (size_t) cr);
        *last_cr = true;
        piece = slice_sub(piece, (size_t) cr + 1, piece.len);
    }
}

void content_dot_stuff(struct slice piece, bool *at_line_start, struct buf *out)
{
    while (piece.len > 0) {
        ptrdiff_t nl = slice_find(piece, '\n');
        size_t n = nl == -1 ? piece.len : (size_t) nl + 1;

        if (*at_line_start && piece.ptr[0] == '.')
            buf_putc(out, '.');
        buf_put(out, piece.ptr, n);
        *at_line_start = nl != -1;
        piece = slice_sub(piece, n, piece.len);
    }
}

bool header_is_field(struct slice line, struct slice *name)
{
    size_t i = 0;
    size_t end;

    while (i < line.len && (unsigned char) line.ptr[i] > ' ' && (unsigned char) line.ptr[i] < 127 &&
           line.ptr[i] != ':')
        i++;
    end = i;
    /* obsolete syntax: white space before the colon */
    while (i < line.len && (line.ptr[i] == ' ' || line.ptr[i] == '\t'))
        i++;
    if (end == 0 || i >= line.len || line.ptr[i] != ':')
        return false;
    *name = slice_sub(line, 0, end);
    return true;
}

bool header_next(struct slice *rest, struct slice *field, struct slice *name, struct slice *value)
{
    size_t end = 0;
    ptrdiff_t colon;

    if (rest->len == 0 || !header_is_field(slice_sub(*rest, 0, 1000), name))
        return false;
    do {
        ptrdiff_t nl = slice_find(slice_sub(*rest, end, rest->len), '\n');

        end = nl == -1 ? rest->len : end + (size_t) nl + 1;
    } while (end < rest->len && (rest->ptr[end] == ' ' || rest->ptr[end] == '\t'));
    *field = slice_sub(*rest, 0, end);
    colon = slice_find(*field, ':');
    *value = slice_sub(*field, (size_t) colon + 1, field->len);
    *rest = slice_sub(*rest, end, rest->len);
    return true;
}
