/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postmap_message.c - a message in as header_checks(5) and body_checks(5) see it: postmap -h, -b, -m.
 *
 * States: HEAD: header fields of the message, of a part, or of an attached message; a line that is none ends them. BODY: lines.
 * With MIME, a boundary of an open multipart leads from BODY to a part's HEAD, and the boundary that closes it back to BODY;
 * the empty line after a message/rfc822 part's header leads to the HEAD of the attached message.
 */
#include "maps/postmap_int.h"

#include <stdlib.h>

#include "base/vec.h"
#include "mail/content.h"

#define FIELD_MAX (1U << 20)

enum state { HEAD, BODY };
struct reader {
    bool headers, body, mime;
    void (*key)(struct slice key, void *arg);
    void *arg;
    enum state state;
    struct buf field;      /* with its continuation lines; empty: none */
    struct vec boundaries; /* of the open multiparts, outermost first: heap strings */
    char *boundary;        /* that the header being read names */
    bool attached;         /* the header being read says message/rfc822 */
};

/* The value of boundary= in the field's value. */
static char *find_boundary(struct slice value)
{
    struct slice rest = value;
    struct slice part;

    while (slice_token(&rest, ";", &part)) {
        struct slice p = slice_trim(part, " \t\r\n");
        ptrdiff_t eq = slice_find(p, '=');

        if (eq == -1 ||
            !slice_caseeq_str(slice_trim(slice_sub(p, 0, (size_t) eq), NULL), "boundary"))
            continue;
        p = slice_trim(slice_sub(p, (size_t) eq + 1, p.len), " \t\r\n");
        if (p.len >= 2 && p.ptr[0] == '"' && p.ptr[p.len - 1] == '"')
            p = slice_sub(p, 1, p.len - 1);
        return p.len > 0 ? slice_dup(p) : NULL;
    }
    return NULL;
}

static void learn(struct reader *r, struct slice field)
{
    ptrdiff_t colon = slice_find(field, ':');
    struct slice name = slice_trim(slice_sub(field, 0, (size_t) colon), NULL);
    struct slice value = slice_trim(slice_sub(field, (size_t) colon + 1, field.len), NULL);

    if (!slice_caseeq_str(name, "content-type"))
        return;
    free(r->boundary);
    r->boundary = NULL;
    r->attached = slice_case_starts_with(value, SLICE_LIT("message/rfc822")) ||
                  slice_case_starts_with(value, SLICE_LIT("message/global"));
    if (slice_case_starts_with(value, SLICE_LIT("multipart/")))
        r->boundary = find_boundary(value);
}

static void end_field(struct reader *r)
{
    if (r->field.len == 0)
        return;
    if (r->headers)
        r->key(buf_view(&r->field), r->arg);
    if (r->mime)
        learn(r, buf_view(&r->field));
    buf_reset(&r->field);
}

static void body_line(const struct reader *r, struct slice line)
{
    if (r->body)
        r->key(line, r->arg);
}

/* The header is over: what follows is a body, the parts of one, or a message. */
static void end_head(struct reader *r)
{
    r->state = BODY;
    if (r->boundary != NULL)
        vec_push(&r->boundaries, r->boundary);
    else if (r->attached)
        r->state = HEAD;
    r->boundary = NULL;
    r->attached = false;
}

static void head_line(struct reader *r, struct slice line)
{
    struct slice name;

    if (r->field.len > 0 && line.len > 0 && (line.ptr[0] == ' ' || line.ptr[0] == '\t')) {
        buf_putc(&r->field, '\n');
        buf_put_slice(&r->field, line);
        return;
    }
    end_field(r);
    if (header_is_field(line, &name)) {
        buf_put_slice(&r->field, line);
        return;
    }
    end_head(r);
    body_line(r, SLICE_EMPTY); /* also where there is no empty line */
    if (line.len > 0) {
        r->state = BODY;
        body_line(r, line);
    }
}

/* Is it a boundary of an open multipart? Then those within are closed. */
static bool is_boundary(struct reader *r, struct slice line)
{
    struct slice rest = slice_sub(line, 2, line.len);

    if (!r->mime || !slice_starts_with(line, SLICE_LIT("--")))
        return false;
    for (size_t i = r->boundaries.len; i > 0; i--) {
        struct slice b = slice_str(r->boundaries.items[i - 1]);
        bool closes;

        if (!slice_starts_with(rest, b))
            continue;
        closes = slice_starts_with(slice_sub(rest, b.len, rest.len), SLICE_LIT("--"));
        while (r->boundaries.len > (closes ? i - 1 : i))
            free(vec_pop(&r->boundaries));
        end_field(r);
        r->state = closes ? BODY : HEAD;
        r->attached = false;
        return true;
    }
    return false;
}

void postmap_message_keys(FILE *in, bool headers, bool body, bool mime,
                          void (*key)(struct slice key, void *arg), void *arg)
{
    struct reader r = {.headers = headers,
                       .body = body,
                       .mime = mime,
                       .key = key,
                       .arg = arg,
                       .field = BUF_INIT(FIELD_MAX)};
    char *line = NULL;
    size_t cap = 0;
    struct slice s;

    while (postmap_read_line(in, &line, &cap, &s)) {
        if (s.len > 0 && s.ptr[s.len - 1] == '\r')
            s.len--;
        if (is_boundary(&r, s))
            body_line(&r, s);
        else if (r.state == HEAD)
            head_line(&r, s);
        else
            body_line(&r, s);
    }
    end_field(&r);
    free(line);
    free(r.boundary);
    buf_fini(&r.field);
    vec_clear(&r.boundaries, free);
    vec_fini(&r.boundaries);
}
