/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mime_7bit.c - see mime_7bit.h.
 *
 * The message passes line by line. States:
 *   HEADER  an entity's header is gathered. Its end decides (header_end) what its body is, and writes it.
 *   PLAIN   body that stays as it is, the text around a multipart's parts included.
 *   CODED   body that becomes quoted-printable.
 * In each of them a line may be a delimiter of a multipart that is open, the innermost or one around it: then its next part's HEADER
 * begins, or, after the last, PLAIN. A message within a message has its HEADER at once.
 *
 * Bounded: nesting beyond NESTING_MAX is not looked into, a header beyond HEADER_MAX ends all conversion.
 */
#include "mail/mime_7bit.h"

#include <stdlib.h>

#include "base/vec.h"
#include "mail/content.h"

#define NESTING_MAX  100
#define HEADER_MAX   (1U << 20)
#define LINE_PIECE   4096 /* a longer line comes in pieces, and is no delimiter */
#define CODED_LINE   76   /* RFC 2045, 6.7 */
#define BOUNDARY_MAX 2048

enum state { HEADER, PLAIN, CODED };

struct multipart {
    char *boundary;
    bool is_digest;
    int messages; /* that it lies in */
};

struct mime_7bit {
    enum state state;
    bool gave_up;
    struct buf line;
    bool in_line; /* the begin of the line has been handled */
    struct buf header;
    bool in_digest; /* the entity under way is a part of one */
    int messages;   /* that it lies in */
    struct vec open;
    /* quoted-printable */
    size_t column;
    char held_space; /* 0: none */
    bool held_cr;
};

struct mime_7bit *mime_7bit_new(void)
{
    struct mime_7bit *m = xcalloc(1, sizeof(*m));

    buf_init(&m->line, LINE_PIECE * 2);
    buf_init(&m->header, HEADER_MAX);
    return m;
}

static void pop(struct mime_7bit *m, size_t depth)
{
    while (m->open.len > depth) {
        struct multipart *last = m->open.items[--m->open.len];

        free(last->boundary);
        free(last);
    }
}

void mime_7bit_free(struct mime_7bit **m)
{
    if (*m == NULL)
        return;
    pop(*m, 0);
    vec_fini(&(*m)->open);
    buf_fini(&(*m)->line);
    buf_fini(&(*m)->header);
    free(*m);
    *m = NULL;
}

/* --- quoted-printable ---------------------------------------------------------------------------- */

static void put_coded(struct mime_7bit *m, const char *text, size_t len, struct buf *out)
{
    if (m->column + len > CODED_LINE - 1) {
        buf_puts(out, "=\r\n");
        m->column = 0;
    }
    buf_put_slice(out, slice_of(text, len));
    m->column += len;
}

static void put_hex(struct mime_7bit *m, char c, struct buf *out)
{
    static const char digits[] = "0123456789ABCDEF";
    const char text[3] = {'=', digits[(unsigned char) c >> 4], digits[(unsigned char) c & 15]};

    put_coded(m, text, sizeof(text), out);
}

/* What was held back, because the end of the line might have followed. */
static void put_held(struct mime_7bit *m, bool at_end, struct buf *out)
{
    if (m->held_space != 0 && at_end && !m->held_cr)
        put_hex(m, m->held_space, out);
    else if (m->held_space != 0)
        put_coded(m, &m->held_space, 1, out);
    if (m->held_cr)
        put_hex(m, '\r', out);
    m->held_space = 0;
    m->held_cr = false;
}

static void encode(struct mime_7bit *m, struct slice text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];

        if (c == '\n') {
            m->held_cr = false;
            put_held(m, true, out);
            buf_puts(out, "\r\n");
            m->column = 0;
        } else if (c == '\r' && !m->held_cr) {
            m->held_cr = true;
        } else {
            bool is_cr = c == '\r';

            if (m->held_cr || m->held_space != 0)
                put_held(m, false, out);
            if (is_cr)
                m->held_cr = true;
            else if (c == ' ' || c == '\t')
                m->held_space = c;
            else if (c > ' ' && c <= '~' && c != '=')
                put_coded(m, &c, 1, out);
            else
                put_hex(m, c, out);
        }
    }
}

/* --- what a header says ---------------------------------------------------------------------------- */

/* Spaces, folds and comments (RFC 5322, 3.2.2). */
static void skip_space(struct slice *s)
{
    int comment = 0;
    size_t i = 0;

    for (; i < s->len; i++) {
        char c = s->ptr[i];

        if (c == '(')
            comment++;
        else if (comment > 0 && c == ')')
            comment--;
        else if (comment > 0 && c == '\\')
            i++;
        else if (comment == 0 && !ascii_is_space((unsigned char) c))
            break;
    }
    *s = slice_sub(*s, i, s->len);
}

/* A token of RFC 2045, or a quoted string; appended to out. False: neither. */
static bool take_word(struct slice *s, struct buf *out)
{
    size_t i = 0;

    skip_space(s);
    if (s->len > 0 && s->ptr[0] == '"') {
        for (i = 1; i < s->len && s->ptr[i] != '"'; i++) {
            if (s->ptr[i] == '\\' && i + 1 < s->len)
                i++;
            if (s->ptr[i] != '\r' && s->ptr[i] != '\n')
                buf_putc(out, s->ptr[i]);
        }
        *s = slice_sub(*s, i + 1, s->len);
        return true;
    }
    while (i < s->len && (unsigned char) s->ptr[i] > ' ' && s->ptr[i] != 127 &&
           strchr("()<>@,;:\\\"/[]?=", s->ptr[i]) == NULL)
        buf_putc(out, s->ptr[i++]);
    *s = slice_sub(*s, i, s->len);
    return i > 0;
}

static bool take_char(struct slice *s, char c)
{
    skip_space(s);
    if (s->len == 0 || s->ptr[0] != c)
        return false;
    *s = slice_sub(*s, 1, s->len);
    return true;
}

struct entity {
    bool is_multipart, is_digest, is_message, is_fragment;
    bool is_8bit;    /* 8bit or binary */
    bool is_encoded; /* with an encoding that hides what is inside */
    struct buf boundary;
};

static void read_type(struct slice value, struct entity *e)
{
    struct buf type = BUF_INIT(BOUNDARY_MAX);
    struct buf subtype = BUF_INIT(BOUNDARY_MAX);

    if (!take_word(&value, &type) || !take_char(&value, '/') || !take_word(&value, &subtype))
        goto done;
    e->is_multipart = slice_caseeq_str(buf_view(&type), "multipart");
    e->is_digest = e->is_multipart && slice_caseeq_str(buf_view(&subtype), "digest");
    e->is_message = slice_caseeq_str(buf_view(&type), "message") &&
                    slice_caseeq_str(buf_view(&subtype), "rfc822");
    e->is_fragment = slice_caseeq_str(buf_view(&type), "message") &&
                     (slice_caseeq_str(buf_view(&subtype), "partial") ||
                      slice_caseeq_str(buf_view(&subtype), "external-body"));
    while (take_char(&value, ';')) {
        buf_reset(&type);
        buf_reset(&subtype);
        if (!take_word(&value, &type) || !take_char(&value, '=') || !take_word(&value, &subtype))
            break;
        if (slice_caseeq_str(buf_view(&type), "boundary") && buf_ok(&subtype)) {
            buf_reset(&e->boundary);
            buf_put_slice(&e->boundary, buf_view(&subtype));
        }
    }
done:
    buf_fini(&type);
    buf_fini(&subtype);
}

static void read_encoding(struct slice value, struct entity *e)
{
    struct buf word = BUF_INIT(BOUNDARY_MAX);

    (void) take_word(&value, &word);
    e->is_8bit =
        slice_caseeq_str(buf_view(&word), "8bit") || slice_caseeq_str(buf_view(&word), "binary");
    e->is_encoded = !e->is_8bit && !slice_caseeq_str(buf_view(&word), "7bit");
    buf_fini(&word);
}

static bool is_encoding(struct slice name)
{
    return slice_caseeq_str(name, "Content-Transfer-Encoding");
}

static void put_header(struct mime_7bit *m, const char *encoding, struct buf *out)
{
    struct slice rest = buf_view(&m->header);
    struct slice field;
    struct slice name;
    struct slice value;

    while (encoding != NULL && header_next(&rest, &field, &name, &value))
        if (!is_encoding(name))
            buf_put_slice(out, field);
    buf_put_slice(out, rest);
    if (encoding != NULL)
        buf_printf(out, "Content-Transfer-Encoding: %s\r\n", encoding);
}

/* The header is complete: it is written, and what follows is known. */
static void header_end(struct mime_7bit *m, struct buf *out)
{
    struct entity e = {.is_message = m->in_digest, .boundary = BUF_INIT(BOUNDARY_MAX)};
    struct slice rest = buf_view(&m->header);
    const char *encoding = NULL;
    struct slice field;
    struct slice name;
    struct slice value;

    while (header_next(&rest, &field, &name, &value)) {
        if (slice_caseeq_str(name, "Content-Type"))
            read_type(value, &e);
        else if (is_encoding(name))
            read_encoding(value, &e);
    }
    m->state = PLAIN;
    m->in_digest = false;
    if (e.is_multipart || e.is_message) {
        bool is_open = !e.is_encoded && m->open.len + (size_t) m->messages < NESTING_MAX &&
                       (e.is_message || e.boundary.len > 0);

        if (is_open && e.is_8bit)
            encoding = "7bit";
        if (is_open && e.is_message) {
            m->messages++;
            m->state = HEADER;
        } else if (is_open) {
            struct multipart *part = xcalloc(1, sizeof(*part));

            part->boundary = buf_take(&e.boundary);
            part->is_digest = e.is_digest;
            part->messages = m->messages;
            vec_push(&m->open, part);
        }
    } else if (e.is_8bit && !e.is_fragment) { /* a fragment may not be encoded: RFC 2046, 5.2 */
        encoding = "quoted-printable";
        m->state = CODED;
        m->column = 0;
    }
    put_header(m, encoding, out);
    buf_reset(&m->header);
    buf_fini(&e.boundary);
}

/* --- lines ----------------------------------------------------------------------------------------- */

/* A whole line that divides the parts of a multipart, or ends them. */
static bool take_delimiter(struct mime_7bit *m, struct slice line, struct buf *out)
{
    struct slice text = slice_sub(line, 2, line.len);

    if (m->open.len == 0 || !slice_starts_with(line, SLICE_LIT("--")))
        return false;
    for (size_t i = m->open.len; i-- > 0;) {
        const struct multipart *part = m->open.items[i];
        bool in_digest = part->is_digest;
        int messages = part->messages;
        struct slice rest;
        bool is_last;

        if (!slice_starts_with(text, slice_str(part->boundary)))
            continue;
        rest = slice_sub(text, strlen(part->boundary), text.len);
        is_last = slice_starts_with(rest, SLICE_LIT("--"));
        if (!is_last && slice_trim(rest, NULL).len > 0)
            continue;
        if (m->state == HEADER)
            header_end(m, out);
        pop(m, is_last ? i : i + 1);
        m->state = is_last ? PLAIN : HEADER;
        m->in_digest = !is_last && in_digest;
        m->messages = messages;
        buf_put_slice(out, line);
        return true;
    }
    return false;
}

static bool belongs_to_header(const struct mime_7bit *m, struct slice line)
{
    struct slice name;

    if (m->header.len > 0 && line.len > 0 && (line.ptr[0] == ' ' || line.ptr[0] == '\t'))
        return true;
    return header_is_field(line, &name);
}

/* A line with its end, or a piece of one that is too long. */
static void handle(struct mime_7bit *m, struct slice piece, bool starts, bool ends, struct buf *out)
{
    if (starts && ends && take_delimiter(m, piece, out))
        return;
    if (m->state == HEADER && starts && !belongs_to_header(m, piece)) {
        bool is_empty = slice_trim(piece, "\r\n").len == 0;

        header_end(m, out);
        if (is_empty) {
            buf_put_slice(out, piece);
            return;
        }
        if (m->state == HEADER) /* a message within, that has no header */
            header_end(m, out);
    }
    switch (m->state) {
    case HEADER:
        buf_put_slice(&m->header, piece);
        if (!buf_ok(&m->header)) {
            buf_put_slice(out, buf_view(&m->header));
            buf_put_slice(out, piece);
            m->gave_up = true;
        }
        break;
    case PLAIN:
        buf_put_slice(out, piece);
        break;
    case CODED:
        encode(m, piece, out);
        break;
    }
}

static void flush_line(struct mime_7bit *m, bool ends, struct buf *out)
{
    handle(m, buf_view(&m->line), !m->in_line, ends, out);
    m->in_line = !ends;
    buf_reset(&m->line);
}

void mime_7bit_feed(struct mime_7bit *m, struct slice piece, struct buf *out)
{
    while (piece.len > 0 && !m->gave_up) {
        size_t room = LINE_PIECE - m->line.len;
        struct slice part = slice_sub(piece, 0, room);
        ptrdiff_t nl = slice_find(part, '\n');

        if (nl != -1)
            part = slice_sub(part, 0, (size_t) nl + 1);
        buf_put_slice(&m->line, part);
        piece = slice_sub(piece, part.len, piece.len);
        if (nl != -1 || m->line.len == LINE_PIECE)
            flush_line(m, nl != -1, out);
    }
    buf_put_slice(out, piece);
}

void mime_7bit_end(struct mime_7bit *m, struct buf *out)
{
    if (m->gave_up)
        return;
    if (m->line.len > 0)
        flush_line(m, true, out);
    if (m->state == HEADER)
        header_end(m, out);
    if (m->state == CODED)
        put_held(m, true, out);
}
