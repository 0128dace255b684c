/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bounce_compose.c - the text of a report: RFC 3464 (delivery status), RFC 3462 (multipart/report), RFC 3834
 * (Auto-Submitted), RFC 6533 (addresses in UTF-8). Lines end with CRLF; nothing of a peer's text can begin a line.
 *
 * The report of a message with SMTPUTF8 is such a message itself. That of another one may have addresses in UTF-8, too, as such
 * local parts are taken from anyone: its delivery status is ASCII nevertheless, with RFC 6533's "\x{F6}" for them.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mtime.h"
#include "base/utf8.h"
#include "mail/orcpt.h"
#include "qmgr/bounce_int.h"

#define TEXT_WIDTH  79
#define VIA_MAX     32768
#define FIELD_WIDTH 900 /* of a folded field's line, RFC 5322's limit is 998 */

/* Harmless on a line of its own: control bytes become '?', and without UTF-8 bytes above 127. */
static void put_clean(struct buf *out, struct slice s, bool utf8)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char) s.ptr[i];

        buf_putc(out, c < 32 || c == 127 || (c > 127 && !utf8) ? '?' : (char) c);
    }
}

/* For people: an address in UTF-8 as it is, whatever the message's own form. */
static void put_address(struct buf *out, struct slice addr)
{
    put_clean(out, addr, utf8_is_valid(addr));
}

/* Words wrapped at `width`, continuation lines begin with indent. at: the column where it begins. */
static void put_wrapped(struct buf *out, struct slice text, size_t at, size_t width,
                        const char *indent, bool utf8)
{
    struct slice rest = text;
    struct slice word;
    bool first = true;

    while (slice_token(&rest, " \t\r\n", &word)) {
        while (word.len > 0) {
            struct slice piece = slice_sub(word, 0, FIELD_WIDTH);

            if (!first && at + 1 + piece.len > width) {
                buf_puts(out, "\r\n");
                buf_puts(out, indent);
                at = strlen(indent);
            } else if (!first) {
                buf_putc(out, ' ');
                at++;
            }
            put_clean(out, piece, utf8);
            at += piece.len;
            first = false;
            word = slice_sub(word, piece.len, word.len);
        }
    }
}

/* --- the letter -------------------------------------------------------------------------------- */

static void on_warning(const char *text, void *arg)
{
    (void) arg;
    log_warning("%s", text);
}

int bounce_letters_load(struct bounce *b, const struct config *cfg, struct err *err)
{
    if (bounce_templates_load(b->p.template_file, on_warning, NULL, &b->templates, err) == -1)
        return err_prefix(err, "bounce_template_file: ");
    for (int i = 0; i < BOUNCE_TEMPLATE_KINDS; i++) {
        enum bounce_template_kind kind = (enum bounce_template_kind) i;
        struct buf text = BUF_INIT(CONFIG_VALUE_MAX);

        if (bounce_template_expand(bounce_templates_get(b->templates, kind), cfg, &text, err) ==
            -1) {
            buf_fini(&text);
            return err_prefix(err, "%s template: ", bounce_template_name(kind));
        }
        b->letters[kind] = buf_take(&text);
    }
    return 0;
}

void bounce_letters_free(struct bounce *b)
{
    for (int i = 0; i < BOUNCE_TEMPLATE_KINDS; i++) {
        free(b->letters[i]);
        b->letters[i] = NULL;
    }
    bounce_templates_free(&b->templates);
}

static enum bounce_template_kind template_kind(const struct bounce_request *req)
{
    switch ((enum report_kind) req->r.kind) {
    case REPORT_DELAY:
        return BOUNCE_TEMPLATE_DELAY;
    case REPORT_SUCCESS:
        return BOUNCE_TEMPLATE_SUCCESS;
    case REPORT_VERIFY:
        return BOUNCE_TEMPLATE_VERIFY;
    case REPORT_FAILURE:
        break;
    }
    return BOUNCE_TEMPLATE_FAILURE;
}

static const struct bounce_template *request_template(const struct bounce *b,
                                                      const struct bounce_request *req)
{
    return bounce_templates_get(b->templates, template_kind(req));
}

/* The text for people is more than ASCII, whatever the message's own form. */
static bool has_utf8_address(const struct bounce_request *req)
{
    bool found = !slice_is_ascii(req->r.sender);

    for (size_t i = 0; i < req->nrcpts && !found; i++)
        found = !slice_is_ascii(req->rcpts[i].addr) || !slice_is_ascii(req->rcpts[i].orig);
    return found;
}

bool bounce_is_8bit(const struct bounce *b, const struct bounce_request *req,
                    const struct bounce_notice *n)
{
    return n->utf8 || (req->r.flags & MAIL_FACT_8BIT) != 0 || has_utf8_address(req) ||
           (!n->is_postmaster && !slice_is_ascii(slice_str(b->letters[template_kind(req)])));
}

/* RFC 5322, section 3.6.4. What is not a message identifier, as far as one can see, is no reference. */
static void put_references(const struct bounce *b, const struct bounce_request *req,
                           const struct bounce_notice *n, struct buf *out)
{
    struct slice id = req->r.message_id;

    if (!b->p.threaded || id.len < 3 || id.len > FIELD_WIDTH || id.ptr[0] != '<' ||
        id.ptr[id.len - 1] != '>' || (!n->utf8 && !slice_is_ascii(id)))
        return;
    for (size_t i = 0; i < id.len; i++)
        if ((unsigned char) id.ptr[i] <= ' ' || (unsigned char) id.ptr[i] == 127)
            return;
    buf_printf(out, "\r\nReferences: %.*s\r\nIn-Reply-To: %.*s", SLICE_FMT(id), SLICE_FMT(id));
}

static void put_header(const struct bounce *b, const struct bounce_request *req,
                       const struct bounce_notice *n, struct buf *out)
{
    const struct bounce_template *t = request_template(b, req);
    bool for_postmaster = n->is_postmaster && t->postmaster_subject != NULL;

    /* cleanup completes an address without domain, as in all mail of this host */
    buf_printf(out, "From: %s\r\nSubject: %s\r\nTo: ", t->from,
               for_postmaster ? t->postmaster_subject : t->subject);
    put_address(out, slice_str(n->to));
    put_references(b, req, n, out);
    /* of that type with RFC 6533's fields, too: that is how readers know a report */
    buf_printf(
        out,
        "\r\nAuto-Submitted: %s\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"%s\"\r\n",
        n->is_postmaster ? "auto-generated" : "auto-replied", n->boundary);
    if (bounce_is_8bit(b, req, n))
        buf_puts(out, "Content-Transfer-Encoding: 8bit\r\n");
    buf_puts(out, "\r\nThis is a MIME-encapsulated message.\r\n");
}

static void put_part(const struct bounce_notice *n, const char *description, const char *type,
                     bool eight_bit, struct buf *out)
{
    buf_printf(out, "\r\n--%s\r\nContent-Description: %s\r\nContent-Type: %s\r\n", n->boundary,
               description, type);
    if (eight_bit)
        buf_puts(out, "Content-Transfer-Encoding: 8bit\r\n");
    buf_puts(out, "\r\n");
}

static const char postmaster_letter[] =
    "A delivery status notification for the message whose header is\n"
    "attached was made by this system.\n"
    "\n"
    "                   The mail system\n";

/* Text with LF into wire form; control bytes other than TAB become '?'. */
static void put_lines(struct buf *out, const char *text)
{
    for (const char *s = text; *s != '\0'; s++) {
        if (*s == '\n')
            buf_puts(out, "\r\n");
        else
            buf_putc(out, (unsigned char) *s < 32 && *s != '\t' ? '?' : *s);
    }
}

/* What was said of a recipient; in a report of an attempt, with who said it. */
static void put_via(struct buf *out, const struct proto_report_rcpt *r)
{
    if (r->relay.len > 0 && !slice_eq_str(r->relay, "none"))
        buf_printf(out, "delivery via %.*s: ", SLICE_FMT(r->relay));
    buf_put_slice(out, r->text);
}

static void put_letter(const struct bounce *b, const struct bounce_request *req,
                       const struct bounce_notice *n, struct buf *out)
{
    const struct bounce_template *t = request_template(b, req);
    const char *letter = n->is_postmaster ? postmaster_letter : b->letters[template_kind(req)];
    bool is_ascii = slice_caseeq_str(slice_str(t->charset), "us-ascii");
    const char *charset = n->is_postmaster ? "us-ascii" : t->charset;
    bool utf8 = n->utf8 || has_utf8_address(req);
    char type[128];

    /* what is appended below is UTF-8 if it is more than ASCII */
    (void) snprintf(type, sizeof(type), "text/plain; charset=%.80s",
                    utf8 && (is_ascii || n->is_postmaster) ? "utf-8" : charset);
    put_part(n, "Notification", type, utf8 || !slice_is_ascii(slice_str(letter)), out);
    if (n->is_postmaster)
        buf_printf(out, "This is the mail system at host %s.\r\n\r\n", b->p.myhostname);
    put_lines(out, letter);
    for (size_t i = 0; i < req->nrcpts; i++) {
        const struct proto_report_rcpt *r = &req->rcpts[i];
        struct buf text = BUF_INIT(VIA_MAX);
        size_t at = out->len;

        buf_puts(out, "\r\n<");
        put_address(out, r->addr);
        buf_putc(out, '>');
        if (r->orig.len > 0 && !slice_eq(r->orig, r->addr)) {
            buf_puts(out, " (expanded from <");
            put_address(out, r->orig);
            buf_puts(out, ">)");
        }
        buf_puts(out, ": ");
        put_via(&text, r);
        put_wrapped(out, buf_view(&text), out->len - at - 2, TEXT_WIDTH, "    ", n->utf8);
        buf_puts(out, "\r\n");
        buf_fini(&text);
    }
}

/* --- the status -------------------------------------------------------------------------------- */

static void put_field(struct buf *out, const char *name, const char *type, struct slice value,
                      bool utf8)
{
    size_t at = out->len;

    buf_printf(out, "%s: %s", name, type);
    put_wrapped(out, value, out->len - at, FIELD_WIDTH, "    ", utf8);
    buf_puts(out, "\r\n");
}

static void put_date(struct buf *out, const char *name, uint64_t us)
{
    buf_printf(out, "%s: ", name);
    wall_rfc5322((struct wall_time){(int64_t) us}, out);
    buf_puts(out, "\r\n");
}

/* gap: what stands between type and address. */
static void put_typed(struct buf *out, const char *name, const char *gap, struct slice addr,
                      bool utf8)
{
    struct buf type = BUF_INIT(16);
    struct buf ascii = BUF_INIT(MAIL_ADDR_MAX * 4);
    bool is_ascii = slice_is_ascii(addr);

    buf_printf(&type, "%s;%s", is_ascii ? "rfc822" : "utf-8", gap);
    if (!is_ascii && !utf8) {
        orcpt_encode_utf8(addr, &ascii);
        addr = buf_view(&ascii);
    }
    put_field(out, name, buf_cstr(&type), addr, utf8);
    buf_fini(&type);
    buf_fini(&ascii);
}

static const char *action(const struct bounce_request *req, const struct proto_report_rcpt *r)
{
    switch ((enum report_kind) req->r.kind) {
    case REPORT_DELAY:
        return "delayed";
    case REPORT_VERIFY:
        if ((req->r.flags & MAIL_PROBE) != 0)
            return r->outcome == OUTCOME_SENT ? "deliverable" : "undeliverable";
        if (r->outcome == OUTCOME_DEFERRED || r->outcome == OUTCOME_UNCERTAIN)
            return "delayed";
        /* fall through */
    case REPORT_SUCCESS:
        if (r->outcome != OUTCOME_SENT)
            return "failed";
        return r->mta_name.len > 0 ? "relayed" : "delivered";
    case REPORT_FAILURE:
        break;
    }
    return "failed";
}

/* Of a type of its own; what says rfc822 and is not ASCII is UTF-8, as written by servers that know no better. */
static void put_original(struct buf *out, const struct proto_report_rcpt *r, bool utf8)
{
    struct buf text = BUF_INIT(MAIL_ADDR_MAX);
    struct slice type;

    if (orcpt_parse(r->orcpt, &type, &text) == -1) {
        put_typed(out, "Original-Recipient", "", r->orig.len > 0 ? r->orig : r->addr, utf8);
    } else if (orcpt_is_utf8(type) || slice_caseeq_str(type, "rfc822")) {
        put_typed(out, "Original-Recipient", "", buf_view(&text), utf8);
    } else {
        buf_puts(out, "Original-Recipient: ");
        put_clean(out, type, false);
        buf_puts(out, ";");
        put_clean(out, buf_view(&text), utf8);
        buf_puts(out, "\r\n");
    }
    buf_fini(&text);
}

static void put_rcpt_status(const struct bounce *b, const struct bounce_request *req,
                            const struct bounce_notice *n, const struct proto_report_rcpt *r,
                            struct buf *out)
{
    struct buf type = BUF_INIT(128);

    buf_puts(out, "\r\n");
    put_typed(out, "Final-Recipient", " ", r->addr, n->utf8);
    put_original(out, r, n->utf8);
    buf_printf(out, "Action: %s\r\n", action(req, r));
    /* a temporary code on what has failed for good would be retried by some */
    put_field(out, "Status", "", r->code.len > 0 ? r->code : SLICE_LIT("5.0.0"), false);
    if (r->mta_name.len > 0)
        put_field(out, "Remote-MTA", "dns; ", r->mta_name, n->utf8);
    if (r->diag_type.len > 0 && r->diag_text.len > 0) {
        put_clean(&type, r->diag_type, false);
        buf_puts(&type, "; ");
        put_field(out, "Diagnostic-Code", buf_cstr(&type), r->diag_text, n->utf8);
    } else {
        struct buf text = BUF_INIT(VIA_MAX);

        buf_printf(&type, "X-%s; ", b->p.mail_name);
        put_via(&text, r);
        put_field(out, "Diagnostic-Code", buf_cstr(&type), buf_view(&text), n->utf8);
        buf_fini(&text);
    }
    if (req->r.kind == REPORT_DELAY && req->r.expires_us != 0)
        put_date(out, "Will-Retry-Until", req->r.expires_us);
    buf_fini(&type);
}

static void put_sender(const struct bounce *b, struct slice sender, bool utf8, struct buf *out)
{
    struct buf name = BUF_INIT(128);
    struct buf own = BUF_INIT(MAIL_ADDR_MAX);

    buf_printf(&name, "X-%s-Sender", b->p.mail_name);
    buf_printf(&own, "MAILER-DAEMON@%s", b->p.myorigin);
    put_typed(out, buf_cstr(&name), " ", sender.len > 0 ? sender : buf_view(&own), utf8);
    buf_fini(&name);
    buf_fini(&own);
}

static void put_status(const struct bounce *b, const struct bounce_request *req,
                       const struct bounce_notice *n, struct buf *out)
{
    put_part(n, "Delivery report",
             n->utf8 ? "message/global-delivery-status" : "message/delivery-status", n->utf8, out);
    buf_printf(out, "Reporting-MTA: dns; %s\r\n", b->p.myhostname);
    if (req->r.dsn_envid.len > 0)
        put_field(out, "Original-Envelope-Id", "", req->r.dsn_envid, false);
    buf_printf(out, "X-%s-Queue-ID: %.*s\r\n", b->p.mail_name, SLICE_FMT(req->r.queue_id));
    put_sender(b, req->r.sender, n->utf8, out);
    put_date(out, "Arrival-Date", req->r.arrival_us);
    for (size_t i = 0; i < req->nrcpts; i++)
        put_rcpt_status(b, req, n, &req->rcpts[i], out);
}

/* --- the whole --------------------------------------------------------------------------------- */

void bounce_compose_head(const struct bounce *b, const struct bounce_request *req,
                         const struct bounce_notice *n, struct buf *out)
{
    bool is_failure = req->r.kind == REPORT_FAILURE;
    const char *type = n->full ? (n->utf8 ? "message/global" : "message/rfc822")
                               : (n->utf8 ? "message/global-headers" : "text/rfc822-headers");

    put_header(b, req, n, out);
    put_letter(b, req, n, out);
    put_status(b, req, n, out);
    put_part(n,
             n->full ? (is_failure ? "Undelivered Message" : "Message")
                     : (is_failure ? "Undelivered Message Headers" : "Message Headers"),
             type, (req->r.flags & MAIL_FACT_8BIT) != 0 || !slice_is_ascii(req->r.sender), out);
    /* cleanup takes it out of what it gets: there is none yet */
    buf_puts(out, "Return-Path: <");
    put_address(out, req->r.sender);
    buf_puts(out, ">\r\n");
}

void bounce_compose_tail(const struct bounce_notice *n, struct buf *out)
{
    buf_printf(out, "\r\n--%s--\r\n", n->boundary);
}
