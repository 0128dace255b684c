/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup_content.c - one pass over the content: header gathered and handled as a whole, body passed on as it
 * comes, split into lines only where body_checks want them.
 */
#include "base/log.h"
#include "cleanup/cleanup_int.h"

void cleanup_store(struct cleanup_msg *m, struct slice bytes)
{
    struct err err = ERR_INIT;

    if (bytes.len == 0 || cleanup_failed(m))
        return;
    content_facts_scan(&m->facts, bytes);
    if (store_put_write(m->put, bytes, &err) == -1) {
        log_warning("cannot store a message: %s", err.text);
        if (slice_eq_str(slice_str(err.dsn), "4.3.1"))
            cleanup_fail(m, 452, "4.3.1", "Insufficient system storage");
        else
            cleanup_fail(m, 451, "4.3.0", "Error: queue file write error");
    }
}

static void check_line(struct cleanup_msg *m, struct slice line)
{
    struct buf replacement = BUF_INIT(65536);

    switch (cleanup_check(m, m->c->body_checks, "body", line, &replacement)) {
    case CHECK_KEEP:
        cleanup_store(m, buf_view(&m->prepend));
        cleanup_store(m, line);
        cleanup_store(m, SLICE_LIT("\r\n"));
        break;
    case CHECK_REPLACED:
        cleanup_store(m, buf_view(&m->prepend));
        cleanup_store(m, buf_view(&replacement));
        cleanup_store(m, SLICE_LIT("\r\n"));
        break;
    case CHECK_DROP:
        break;
    }
    buf_reset(&m->prepend);
    buf_fini(&replacement);
}

static bool body_is_checked(const struct cleanup_msg *m)
{
    return !map_list_is_empty(m->c->body_checks) && (m->env.flags & MAIL_NO_HEADER_CHECKS) == 0 &&
           m->body_checked < (uint64_t) m->c->p.body_checks_size_limit;
}

static void body(struct cleanup_msg *m, struct slice piece)
{
    while (piece.len > 0 && body_is_checked(m)) {
        ptrdiff_t nl = slice_find(piece, '\n');
        struct slice line;

        buf_put_slice(&m->line, slice_sub(piece, 0, nl == -1 ? piece.len : (size_t) nl + 1));
        if (nl == -1 && buf_ok(&m->line))
            return;
        if (!buf_ok(&m->line)) {
            /* a line longer than any check can want: what is gathered goes on unchecked, with the rest */
            cleanup_store(m, buf_view(&m->line));
            buf_reset(&m->line);
            m->body_checked = (uint64_t) m->c->p.body_checks_size_limit;
            break;
        }
        piece = slice_sub(piece, (size_t) nl + 1, piece.len);
        line = buf_view(&m->line);
        m->body_checked += line.len;
        line.len -= line.len >= 2 && line.ptr[line.len - 2] == '\r' ? 2 : 1;
        check_line(m, line);
        buf_reset(&m->line);
    }
    if (m->line.len > 0 && piece.len > 0) {
        cleanup_store(m, buf_view(&m->line));
        buf_reset(&m->line);
    }
    cleanup_store(m, piece);
}

/* The header ends before the first line that is no header field: an empty one, or a body without one. */
static bool header_end(struct slice text, size_t *header_len, size_t *body_at)
{
    size_t at = 0;

    while (at < text.len) {
        struct slice rest = slice_sub(text, at, text.len);
        ptrdiff_t nl = slice_find(rest, '\n');
        struct slice name;
        struct slice line;

        if (nl == -1)
            return false;
        line = slice_sub(rest, 0, (size_t) nl);
        if (line.len > 0 && line.ptr[line.len - 1] == '\r')
            line.len--;
        if (line.len == 0) {
            *header_len = at;
            *body_at = at + (size_t) nl + 1;
            return true;
        }
        bool continues = at > 0 && (line.ptr[0] == ' ' || line.ptr[0] == '\t');
        if (!continues && !header_is_field(line, &name)) {
            *header_len = at;
            *body_at = at;
            return true;
        }
        at += (size_t) nl + 1;
    }
    return false;
}

static void header_complete(struct cleanup_msg *m, size_t header_len, size_t body_at)
{
    struct buf head = m->head; /* taken, so that the body may be passed on from it */

    buf_init(&m->head, head.limit);
    m->phase = PHASE_BODY;
    cleanup_header(m, slice_sub(buf_view(&head), 0, header_len));
    cleanup_store(m, SLICE_LIT("\r\n"));
    m->env.header_bytes = (uint32_t) m->facts.bytes;
    if ((m->facts.flags & MAIL_FACT_8BIT) != 0)
        m->env.flags |= MAIL_FACT_8BIT_HEADER;
    body(m, slice_sub(buf_view(&head), body_at, head.len));
    buf_fini(&head);
}

static void take(struct cleanup_msg *m, struct slice piece)
{
    size_t header_len;
    size_t body_at;

    m->bytes += piece.len;
    if (cleanup_failed(m))
        return;
    if (m->c->p.message_size_limit > 0 && m->bytes > (uint64_t) m->c->p.message_size_limit) {
        cleanup_fail(m, 552, "5.3.4", "Error: message file too big");
        return;
    }
    if (m->phase == PHASE_BODY) {
        body(m, piece);
        return;
    }
    /* Scan from the start again only when more has come: headers are short, and mostly come in one piece. */
    buf_put_slice(&m->head, piece);
    if (!buf_ok(&m->head)) {
        cleanup_fail(m, 552, "5.3.4", "Error: message header too large");
        return;
    }
    if (header_end(buf_view(&m->head), &header_len, &body_at))
        header_complete(m, header_len, body_at);
}

void cleanup_content(struct cleanup_msg *m, struct slice piece)
{
    struct buf space = BUF_INIT(SIZE_MAX);

    if (m->c->reject.any || m->c->strip.any)
        piece = cleanup_characters(m, piece, &space);
    take(m, piece);
    buf_fini(&space);
}

void cleanup_content_end(struct cleanup_msg *m)
{
    if (!cleanup_failed(m) && m->phase == PHASE_HEADER) {
        size_t header_len = m->head.len;
        size_t body_at = m->head.len;

        if (m->head.len > 0 && m->head.ptr[m->head.len - 1] != '\n') {
            buf_puts(&m->head, "\r\n");
            if (!header_end(buf_view(&m->head), &header_len, &body_at))
                header_len = body_at = m->head.len;
        }
        header_complete(m, header_len, body_at);
    }
    if (m->line.len > 0) {
        check_line(m, buf_view(&m->line));
        buf_reset(&m->line);
    }
    content_facts_end(&m->facts);
}
