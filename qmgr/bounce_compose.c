/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bounce_compose.c - the text of a report: RFC 3464 (delivery status), RFC 3462 (multipart/report), RFC 3834
 * (Auto-Submitted), RFC 6533 (addresses in UTF-8). Lines end with CRLF; nothing of a peer's text can begin a line.
 */
#include "base/mtime.h"
#include "qmgr/bounce_int.h"

#define TEXT_WIDTH  79
#define FIELD_WIDTH 900 /* of a folded field's line, RFC 5322's limit is 998 */

static bool has_8bit(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char) s.ptr[i] > 127)
            return true;
    return false;
}

/* Harmless on a line of its own: control bytes become '?', and without UTF-8 bytes above 127. */
static void put_clean(struct buf *out, struct slice s, bool utf8)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char) s.ptr[i];

        buf_putc(out, c < 32 || c == 127 || (c > 127 && !utf8) ? '?' : (char) c);
    }
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

static const char *subject(const struct bounce_request *req, const struct bounce_notice *n)
{
    switch ((enum report_kind) req->r.kind) {
    case REPORT_DELAY:
        return n->is_postmaster ? "Postmaster Warning: Delayed Mail"
                                : "Delayed Mail (still being retried)";
    case REPORT_SUCCESS:
        return "Successful Mail Delivery Report";
    case REPORT_VERIFY:
        return "Mail Delivery Status Report";
    case REPORT_FAILURE:
        break;
    }
    return n->is_postmaster ? "Postmaster Copy: Undelivered Mail"
                            : "Undelivered Mail Returned to Sender";
}

static void put_header(const struct bounce *b, const struct bounce_request *req,
                       const struct bounce_notice *n, struct buf *out)
{
    buf_printf(out, "From: MAILER-DAEMON@%s (Mail Delivery System)\r\nSubject: %s\r\nTo: ",
               b->p.myorigin, subject(req, n));
    put_clean(out, slice_str(n->to), n->utf8);
    buf_printf(out,
               "\r\nAuto-Submitted: %s\r\nMIME-Version: 1.0\r\n"
               "Content-Type: multipart/report; report-type=%s;\r\n\tboundary=\"%s\"\r\n",
               n->is_postmaster ? "auto-generated" : "auto-replied",
               n->utf8 ? "global-delivery-status" : "delivery-status", n->boundary);
    if (n->utf8 || (req->r.flags & MAIL_FACT_8BIT) != 0)
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

static const char *explanation(const struct bounce_request *req, const struct bounce_notice *n)
{
    if (n->is_postmaster)
        return "A delivery status notification for the message whose header is\r\n"
               "attached was made by this system.\r\n";
    switch ((enum report_kind) req->r.kind) {
    case REPORT_DELAY:
        return "Your message has not reached the recipients below yet.\r\n"
               "This is only a warning: YOU NEED NOT SEND IT AGAIN.\r\n\r\n"
               "The attempts to deliver it go on. If they do not succeed in time, you\r\n"
               "get another notification.\r\n";
    case REPORT_SUCCESS:
        return "Your message was delivered to the recipients below, or was handed to a\r\n"
               "system that does not report back.\r\n";
    case REPORT_VERIFY:
        return "This is the delivery status that you asked for.\r\n";
    case REPORT_FAILURE:
        break;
    }
    return "Your message could not be delivered to the recipients below, and no\r\n"
           "further attempt will be made. It, or its header, is attached.\r\n\r\n"
           "If you need help, write to <postmaster> and include this notification;\r\n"
           "the attached message itself may be left out.\r\n";
}

static void put_letter(const struct bounce *b, const struct bounce_request *req,
                       const struct bounce_notice *n, struct buf *out)
{
    put_part(n, "Notification",
             n->utf8 ? "text/plain; charset=utf-8" : "text/plain; charset=us-ascii", n->utf8, out);
    buf_printf(out, "This is the mail system at host %s.\r\n\r\n%s\r\n", b->p.myhostname,
               explanation(req, n));
    buf_printf(out, "                   The mail system\r\n");
    for (size_t i = 0; i < req->nrcpts; i++) {
        const struct proto_report_rcpt *r = &req->rcpts[i];
        size_t at = out->len;

        buf_puts(out, "\r\n<");
        put_clean(out, r->addr, n->utf8);
        buf_putc(out, '>');
        if (r->orig.len > 0 && !slice_eq(r->orig, r->addr)) {
            buf_puts(out, " (expanded from <");
            put_clean(out, r->orig, n->utf8);
            buf_puts(out, ">)");
        }
        buf_puts(out, ": ");
        put_wrapped(out, r->text, out->len - at - 2, TEXT_WIDTH, "    ", n->utf8);
        buf_puts(out, "\r\n");
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

static const char *address_type(struct slice addr, bool utf8)
{
    return utf8 && has_8bit(addr) ? "utf-8; " : "rfc822; ";
}

static const char *action(const struct bounce_request *req, const struct proto_report_rcpt *r)
{
    switch ((enum report_kind) req->r.kind) {
    case REPORT_DELAY:
        return "delayed";
    case REPORT_SUCCESS:
    case REPORT_VERIFY:
        if (r->outcome != OUTCOME_SENT)
            return "failed";
        return r->mta_name.len > 0 ? "relayed" : "delivered";
    case REPORT_FAILURE:
        break;
    }
    return "failed";
}

/* ORCPT is "type;xtext"; without one the address before alias expansion. */
static void put_original(struct buf *out, const struct proto_report_rcpt *r, bool utf8)
{
    ptrdiff_t semi = slice_find(r->orcpt, ';');
    struct buf text = BUF_INIT(MAIL_ADDR_MAX);
    struct slice addr = r->orig;

    if (semi != -1) {
        struct slice type = slice_sub(r->orcpt, 0, (size_t) semi);

        if (xtext_decode(slice_sub(r->orcpt, (size_t) semi + 1, r->orcpt.len), &text) == 0) {
            buf_puts(out, "Original-Recipient: ");
            put_clean(out, type, false);
            buf_puts(out, ";");
            put_clean(out, buf_view(&text), utf8);
            buf_puts(out, "\r\n");
            addr = SLICE_EMPTY;
        }
    }
    if (addr.len > 0)
        put_field(out, "Original-Recipient", utf8 && has_8bit(addr) ? "utf-8;" : "rfc822;", addr,
                  utf8);
    buf_fini(&text);
}

static void put_rcpt_status(const struct bounce *b, const struct bounce_request *req,
                            const struct bounce_notice *n, const struct proto_report_rcpt *r,
                            struct buf *out)
{
    struct buf type = BUF_INIT(128);

    buf_puts(out, "\r\n");
    put_field(out, "Final-Recipient", address_type(r->addr, n->utf8), r->addr, n->utf8);
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
        buf_printf(&type, "X-%s; ", b->p.mail_name);
        put_field(out, "Diagnostic-Code", buf_cstr(&type), r->text, n->utf8);
    }
    if (req->r.kind == REPORT_DELAY && req->r.expires_us != 0)
        put_date(out, "Will-Retry-Until", req->r.expires_us);
    buf_fini(&type);
}

static void put_status(const struct bounce *b, const struct bounce_request *req,
                       const struct bounce_notice *n, struct buf *out)
{
    struct buf envid = BUF_INIT(1024);

    put_part(n, "Delivery report",
             n->utf8 ? "message/global-delivery-status" : "message/delivery-status", n->utf8, out);
    buf_printf(out, "Reporting-MTA: dns; %s\r\n", b->p.myhostname);
    if (req->r.dsn_envid.len > 0 && xtext_decode(req->r.dsn_envid, &envid) == 0)
        put_field(out, "Original-Envelope-Id", "", buf_view(&envid), false);
    buf_printf(out, "X-%s-Queue-ID: %.*s\r\n", b->p.mail_name, SLICE_FMT(req->r.queue_id));
    if (req->r.sender.len > 0) {
        buf_printf(out, "X-%s-Sender: %s", b->p.mail_name, address_type(req->r.sender, n->utf8));
        put_clean(out, req->r.sender, n->utf8);
        buf_puts(out, "\r\n");
    }
    put_date(out, "Arrival-Date", req->r.arrival_us);
    for (size_t i = 0; i < req->nrcpts; i++)
        put_rcpt_status(b, req, n, &req->rcpts[i], out);
    buf_fini(&envid);
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
             type, (req->r.flags & MAIL_FACT_8BIT) != 0, out);
}

void bounce_compose_tail(const struct bounce_notice *n, struct buf *out)
{
    buf_printf(out, "\r\n--%s--\r\n", n->boundary);
}
