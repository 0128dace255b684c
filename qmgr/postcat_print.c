/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postcat_print.c - the layout of Postfix's postcat(1): headings, "name: value" for the envelope, the content with LF.
 */
#include "qmgr/postcat.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "base/file.h"
#include "base/mtime.h"
#include "mail/content.h"

#define CHUNK_BYTES (64U << 10)
#define LINE_PIECE  (1U << 20) /* a longer line is printed in pieces */

/* Record types that other programs know from Postfix's queue files. */
enum {
    TYPE_SIZE = 'C',
    TYPE_TIME = 'T',
    TYPE_ATTR = 'A',
    TYPE_FULL_NAME = 'F',
    TYPE_SENDER = 'S',
    TYPE_RCPT = 'R',
    TYPE_DONE = 'D',
    TYPE_ORIG = 'O',
    TYPE_MESSAGE = 'M',
    TYPE_NORMAL = 'N',
    TYPE_CONTINUED = 'L',
    TYPE_EXTRACTED = 'X',
    TYPE_END = 'E',
};

struct printer {
    const struct postcat_options *opt;
    const struct postcat_message *m;
    FILE *out;
};

static void prefix(const struct printer *p, uint64_t offset, int type)
{
    if (p->opt->offsets)
        fprintf(p->out, "%9" PRIu64 " ", offset);
    if (p->opt->types)
        fprintf(p->out, "%3d ", type);
}

static void heading(const struct printer *p, uint64_t offset, int type, const char *what)
{
    if (!p->opt->envelope)
        return;
    prefix(p, offset, type);
    fprintf(p->out, "*** %s %s ***\n", what, p->m->name);
}

static void field(const struct printer *p, int type, const char *name, struct slice value)
{
    prefix(p, p->m->record_at, type);
    fprintf(p->out, "%s: ", name);
    if (value.len > 0) /* the null sender has no bytes, and no place */
        fwrite(value.ptr, 1, value.len, p->out);
    fputc('\n', p->out);
}

static void attribute(const struct printer *p, const char *name, struct slice value)
{
    if (value.len == 0)
        return;
    prefix(p, p->m->record_at, TYPE_ATTR);
    fprintf(p->out, "named_attribute: %s=", name);
    fwrite(value.ptr, 1, value.len, p->out);
    fputc('\n', p->out);
}

static void number(const struct printer *p, const char *name, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, value);
    attribute(p, name, slice_str(text));
}

static void when(const struct printer *p, const char *name, int64_t us)
{
    struct buf text = BUF_INIT(256);
    struct tm tm;
    time_t seconds = (time_t) wall_seconds((struct wall_time){us});
    char year[16] = "";

    wall_mailq((struct wall_time){us}, &text);
    if (localtime_r(&seconds, &tm) != NULL)
        snprintf(year, sizeof(year), " %d", 1900 + tm.tm_year);
    buf_puts(&text, year);
    field(p, TYPE_TIME, name, buf_view(&text));
    buf_fini(&text);
}

static void size(const struct printer *p)
{
    char text[96];

    snprintf(text, sizeof(text), "%15" PRIu64 " %15" PRIu64 " %15zu %15d %15" PRIu64,
             p->m->content_bytes, p->m->content_at, p->m->nrcpts, 0, p->m->content_bytes);
    field(p, TYPE_SIZE, "message_size", slice_str(text));
}

static void envelope(const struct printer *p)
{
    const struct mail_envelope *e = &p->m->env;

    if (e->queue_id.len > 0) /* pickup has seen it */
        size(p);
    when(p, "message_arrival_time", (int64_t) e->arrival_us);
    attribute(p, "log_ident", e->queue_id);
    attribute(p, "rewrite_context",
              (e->flags & MAIL_LOCAL_ORIGIN) != 0 ? SLICE_LIT("local") : SLICE_LIT("remote"));
    attribute(p, "sasl_method", e->sasl_method);
    attribute(p, "sasl_username", e->sasl_username);
    attribute(p, "sasl_sender", e->sasl_sender);
    attribute(p, "envelope_id", e->dsn_envid);
    if (e->dsn_ret != DSN_RET_NONE)
        number(p, "ret_flags", e->dsn_ret);
    if (e->full_name.len > 0)
        field(p, TYPE_FULL_NAME, "sender_fullname", e->full_name);
    field(p, TYPE_SENDER, "sender", e->sender);
    attribute(p, "client_name", e->client_name);
    attribute(p, "reverse_client_name", e->client_reverse_name);
    attribute(p, "client_address", e->client_addr);
    attribute(p, "client_port", e->client_port);
    attribute(p, "helo_name", e->helo);
    attribute(p, "protocol_name", e->protocol);
    attribute(p, "content_filter", e->filter);
    attribute(p, "message_id", e->message_id);
    if ((e->flags & MAIL_8BITMIME) != 0 || (e->flags & MAIL_FACT_8BIT) != 0)
        attribute(p, "encoding", SLICE_LIT("8bit"));
    if ((e->flags & MAIL_SMTPUTF8) != 0)
        number(p, "smtputf8", 1);
}

static void recipients(const struct printer *p)
{
    for (size_t i = 0; i < p->m->nrcpts; i++) {
        const struct store_rcpt *r = &p->m->rcpts[i];
        bool done = r->done && !p->opt->record_order;

        attribute(p, "dsn_orig_rcpt", r->r.orcpt);
        if (r->r.notify != 0)
            number(p, "notify_flags", r->r.notify);
        if (r->r.orig.len > 0)
            field(p, TYPE_ORIG, "original_recipient", r->r.orig);
        field(p, done ? TYPE_DONE : TYPE_RCPT, done ? "done_recipient" : "recipient", r->r.addr);
        if (!p->opt->record_order && !done && r->reason.len > 0)
            attribute(p, "deferred_reason", r->reason);
    }
}

/* What the queue manager has noted since the message came in. */
static void notes(const struct printer *p)
{
    for (size_t i = 0; p->opt->record_order && i < p->m->nrcpts; i++) {
        const struct store_rcpt *r = &p->m->rcpts[i];

        if (r->done)
            field(p, TYPE_DONE, "done_recipient", r->r.addr);
        else if (r->reason.len > 0)
            attribute(p, "deferred_reason", r->reason);
    }
    if (p->m->state == NULL || p->m->state->attempts == 0)
        return;
    number(p, "delivery_attempts", p->m->state->attempts);
    if (p->m->state->next_retry_us > 0)
        when(p, "next_attempt_time", p->m->state->next_retry_us);
    if (p->m->state->forced_expire)
        number(p, "forced_expire", 1);
}

struct lines {
    const struct printer *p;
    struct buf line;
    uint64_t at;      /* of line, in the file */
    bool in_header;   /* no line of the body has been seen */
    bool seen_header; /* a continuation line has something to continue */
    bool continued;   /* a piece of this line has been printed */
};

static void put_line(struct lines *l, bool whole)
{
    struct slice s = buf_view(&l->line);
    struct slice name;

    if (whole && s.len > 0 && s.ptr[s.len - 1] == '\r')
        s.len--;
    if (l->in_header && !l->continued) {
        bool folded = l->seen_header && s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t');

        if (folded || header_is_field(s, &name))
            l->seen_header = true;
        else
            l->in_header = false;
    }
    if (l->in_header ? l->p->opt->header : l->p->opt->body) {
        if (!l->continued)
            prefix(l->p, l->at, whole ? TYPE_NORMAL : TYPE_CONTINUED);
        if (l->p->opt->record_names && !l->continued)
            fputs("regular_text: ", l->p->out);
        fwrite(s.ptr, 1, s.len, l->p->out);
        if (whole)
            fputc('\n', l->p->out);
    }
    l->continued = !whole;
    l->at += l->line.len + (whole ? 1 : 0);
    buf_reset(&l->line);
}

static int content(const struct printer *p, struct err *err)
{
    struct lines l = {p, BUF_INIT(SIZE_MAX), p->m->content_at, true, false, false};
    char *chunk = xmalloc(CHUNK_BYTES);
    uint64_t done = 0;
    int ret = -1;

    while (done < p->m->content_bytes) {
        uint64_t left = p->m->content_bytes - done;
        ssize_t n = fd_pread_all(p->m->fd, chunk, left < CHUNK_BYTES ? (size_t) left : CHUNK_BYTES,
                                 (off_t) (p->m->content_at + done));
        struct slice rest = slice_of(chunk, n > 0 ? (size_t) n : 0);
        ptrdiff_t nl;

        if (n < 0) {
            err_sys(err, "read %s", p->m->name);
            goto done;
        }
        if (n == 0) {
            err_permanent(err, "%s: the content ends too early", p->m->name);
            goto done;
        }
        while ((nl = slice_find(rest, '\n')) >= 0) {
            buf_put(&l.line, rest.ptr, (size_t) nl);
            put_line(&l, true);
            rest = slice_sub(rest, (size_t) nl + 1, rest.len);
        }
        buf_put_slice(&l.line, rest);
        if (l.line.len > LINE_PIECE)
            put_line(&l, false);
        done += (uint64_t) n;
    }
    if (l.line.len > 0 || l.continued)
        put_line(&l, true);
    ret = 0;
done:
    free(chunk);
    buf_fini(&l.line);
    return ret;
}

int postcat_print(const struct postcat_options *opt, const struct postcat_message *m, FILE *out,
                  struct err *err)
{
    const struct printer p = {opt, m, out};
    uint64_t end = m->content_at + m->content_bytes;

    if (opt->envelope) {
        fprintf(out, "*** ENVELOPE RECORDS %s ***\n",
                m->name); /* the one heading that is no record */
        envelope(&p);
        recipients(&p);
    }
    heading(&p, m->content_at, TYPE_MESSAGE, "MESSAGE CONTENTS");
    if ((opt->header || opt->body) && content(&p, err) == -1)
        return -1;
    heading(&p, end, TYPE_EXTRACTED, "HEADER EXTRACTED");
    if (opt->envelope)
        notes(&p);
    heading(&p, end, TYPE_END, "MESSAGE FILE END");
    if (fflush(out) == EOF || ferror(out))
        return err_temporary(err, "write error on the output");
    return 0;
}
