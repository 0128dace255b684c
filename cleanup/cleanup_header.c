/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup_header.c - the message header: hop count, checks, address rewriting, dropped and missing fields,
 * and the Received: field of this hop (RFC 5321 4.4).
 */
#include <time.h>

#include "base/log.h"
#include "base/mtime.h"
#include "cleanup/cleanup_int.h"
#include "mail/address.h"

/* Fields with addresses that are rewritten, and whose addresses those are. */
static const struct {
    const char *name;
    unsigned class_; /* CLASS_HEADER_ bit */
} address_fields[] = {
    {"From", CLASS_HEADER_SENDER},
    {"Sender", CLASS_HEADER_SENDER},
    {"Reply-To", CLASS_HEADER_SENDER},
    {"Errors-To", CLASS_HEADER_SENDER},
    {"Return-Receipt-To", CLASS_HEADER_SENDER},
    {"Disposition-Notification-To", CLASS_HEADER_SENDER},
    {"Mail-Followup-To", CLASS_HEADER_SENDER},
    {"Resent-From", CLASS_HEADER_SENDER},
    {"Resent-Sender", CLASS_HEADER_SENDER},
    {"Resent-Reply-To", CLASS_HEADER_SENDER},
    {"To", CLASS_HEADER_RECIPIENT},
    {"Cc", CLASS_HEADER_RECIPIENT},
    {"Bcc", CLASS_HEADER_RECIPIENT},
    {"Apparently-To", CLASS_HEADER_RECIPIENT},
    {"Resent-To", CLASS_HEADER_RECIPIENT},
    {"Resent-Cc", CLASS_HEADER_RECIPIENT},
    {"Resent-Bcc", CLASS_HEADER_RECIPIENT},
};

/* RFC 6531, 4.3: UTF8SMTP, UTF8SMTPSA and so on. */
static void put_protocol(const struct mail_envelope *e, struct buf *out)
{
    struct slice protocol = e->protocol;

    if ((e->flags & MAIL_SMTPUTF8) != 0 && slice_starts_with(protocol, SLICE_LIT("ESMTP"))) {
        buf_puts(out, "UTF8");
        protocol = slice_sub(protocol, 1, protocol.len);
    }
    buf_put_slice(out, protocol);
}

static void put_stamp_received(struct cleanup_msg *m, struct buf *out)
{
    const struct mail_envelope *e = &m->env;
    bool has_for = m->rcpts.len == 1 && e->client_addr.len > 0;

    if (e->client_addr.len == 0 || e->protocol.len == 0) {
        buf_printf(out, "Received: by %s (%s)", m->c->p.myhostname, m->c->p.mail_name);
    } else {
        bool v6 = slice_find(e->client_addr, ':') != -1 &&
                  !slice_case_starts_with(e->client_addr, SLICE_LIT("IPv6:"));

        buf_printf(out, "Received: from %.*s (%.*s [%s%.*s])\r\n",
                   SLICE_FMT(e->helo.len > 0 ? e->helo : e->client_name), SLICE_FMT(e->client_name),
                   v6 ? "IPv6:" : "", SLICE_FMT(e->client_addr));
        if (e->tls_comment.len > 0)
            buf_printf(out, "\t(%.*s)\r\n", SLICE_FMT(e->tls_comment));
        if (e->sasl_username.len > 0)
            buf_printf(out, "\t(Authenticated sender: %.*s)\r\n", SLICE_FMT(e->sasl_username));
        buf_printf(out, "\tby %s (%s) with ", m->c->p.myhostname, m->c->p.mail_name);
        put_protocol(e, out);
    }
    buf_printf(out, " id %.*s", SLICE_FMT(e->queue_id));
    if (has_for) {
        const struct mail_rcpt *r = m->rcpts.items[0];

        buf_puts(out, "\r\n\tfor <");
        address_quote(r->addr, out);
        buf_puts(out, ">");
    }
    buf_puts(out, has_for ? "; " : ";\r\n\t");
    wall_rfc5322((struct wall_time){(int64_t) e->arrival_us}, out);
    buf_puts(out, "\r\n");
}

struct rewriting {
    struct cleanup_msg *m;
    unsigned class_;
    struct slice origin;
};

/* One address of a header field, internal form: completed, then canonical maps. */
static bool rewrite_address(struct slice addr, struct buf *out, void *arg)
{
    struct rewriting *rw = arg;
    struct buf full = BUF_INIT(MAIL_ADDR_MAX);
    struct buf mapped = BUF_INIT(MAIL_ADDR_MAX);
    bool changed = false;

    if (addr.len == 0)
        return false;
    route_rewrite(rw->m->c->route, addr, rw->origin, &full);
    if (buf_ok(&full)) {
        struct slice result = buf_view(&full);

        if (cleanup_map_address(rw->m, result, rw->class_, &mapped))
            result = buf_view(&mapped);
        if (!slice_eq(result, addr)) {
            address_quote(result, out);
            changed = true;
        }
    }
    buf_fini(&full);
    buf_fini(&mapped);
    return changed;
}

/* True if the header addresses of this message are rewritten; *origin: what completes them. */
static bool is_rewritten(const struct cleanup_msg *m, struct slice *origin)
{
    if ((m->env.flags & MAIL_LOCAL_ORIGIN) != 0)
        *origin = slice_str(m->c->p.myorigin);
    else
        *origin = m->env.rewrite_domain;
    return origin->len > 0 && (m->env.flags & MAIL_NO_ADDRESS_MAPS) == 0;
}

static void put_field(struct cleanup_msg *m, struct slice field, struct slice name,
                      struct slice value, struct buf *out)
{
    struct slice origin;

    for (size_t i = 0; i < ARRAY_LEN(address_fields); i++) {
        if (!slice_caseeq_str(name, address_fields[i].name))
            continue;
        if (!is_rewritten(m, &origin))
            break;
        struct rewriting rw = {m, address_fields[i].class_, origin};
        buf_put_slice(out, name);
        buf_putc(out, ':');
        address_header_rewrite(value, rewrite_address, &rw, out);
        if (!slice_ends_with(buf_view(out), SLICE_LIT("\n")))
            buf_puts(out, "\r\n");
        return;
    }
    buf_put_slice(out, field);
    if (!slice_ends_with(field, SLICE_LIT("\n")))
        buf_puts(out, "\r\n");
}

static void note_message_id(struct cleanup_msg *m, struct slice value)
{
    struct slice id = slice_trim(value, NULL);

    m->has_message_id = true;
    if (m->env.message_id.len == 0)
        m->env.message_id = arena_slice(m->arena, slice_sub(id, 0, 998));
    log_event(LOG_LEVEL_INFO, "message_id", m->env.queue_id, LF_TEXT("message-id", id));
}

/* Appends the field (or what checks made of it) to out, and takes note of it. */
static void handle_field(struct cleanup_msg *m, struct slice field, struct slice name,
                         struct slice value, struct buf *out)
{
    struct buf replacement = BUF_INIT(CONFIG_VALUE_MAX);
    bool resent = slice_case_starts_with(name, SLICE_LIT("Resent-"));

    if (!map_list_is_empty(m->c->header_checks) && (m->env.flags & MAIL_NO_HEADER_CHECKS) == 0) {
        /* without its final line end; folded lines with a bare LF inside, as the tables' authors know them */
        struct slice text = slice_trim(field, "\r\n");
        struct buf unixed = BUF_INIT(CONFIG_VALUE_MAX);
        bool last_cr = false;
        enum check_verdict verdict;

        content_to_unix(text, &last_cr, &unixed);
        verdict = cleanup_check(m, m->c->header_checks, "header", buf_view(&unixed), &replacement);
        buf_fini(&unixed);
        if (verdict != CHECK_DROP) {
            bool cr = false;

            content_to_wire(buf_view(&m->prepend), &cr, out);
        }
        buf_reset(&m->prepend);
        if (verdict == CHECK_DROP)
            goto done;
        if (verdict == CHECK_REPLACED) {
            bool cr = false;

            content_to_wire(buf_view(&replacement), &cr, out);
            buf_puts(out, "\r\n");
            goto done;
        }
    }
    if (htable_get(m->c->drop_headers, name) != NULL)
        goto done;
    m->is_resent |= resent;
    if (slice_caseeq_str(name, "Received"))
        m->hops++;
    else if (slice_caseeq_str(name, "Message-Id") && !m->has_message_id)
        note_message_id(m, value);
    else if (slice_caseeq_str(name, "Date"))
        m->has_date = true;
    else if (slice_caseeq_str(name, "From"))
        m->has_from = true;
    else if (slice_caseeq_str(name, "To") || slice_caseeq_str(name, "Cc"))
        m->has_recipient = true;
    put_field(m, field, name, value, out);
done:
    buf_fini(&replacement);
}

static void put_missing(struct cleanup_msg *m, struct buf *out)
{
    if ((m->env.flags & MAIL_LOCAL_ORIGIN) == 0 && !m->c->p.always_add_missing_headers)
        return;
    if (!m->has_message_id) {
        struct buf id = BUF_INIT(1024);
        time_t now = (time_t) ((int64_t) m->env.arrival_us / 1000000);
        struct tm tm;
        char stamp[32];

        gmtime_r(&now, &tm);
        strftime(stamp, sizeof(stamp), "%Y%m%d%H%M%S", &tm);
        buf_printf(&id, "<%s.%.*s@%s>", stamp, SLICE_FMT(m->env.queue_id), m->c->p.myhostname);
        buf_printf(out, "Message-Id: %s\r\n", buf_cstr(&id));
        note_message_id(m, buf_view(&id));
        buf_fini(&id);
    }
    if (!m->has_date) {
        buf_puts(out, "Date: ");
        wall_rfc5322((struct wall_time){(int64_t) m->env.arrival_us}, out);
        buf_puts(out, "\r\n");
    }
    if (!m->has_recipient && m->c->p.undisclosed_recipients_header[0] != '\0')
        buf_printf(out, "%s\r\n", m->c->p.undisclosed_recipients_header);
    if (!m->has_from) {
        struct buf full = BUF_INIT(MAIL_ADDR_MAX);

        if (m->env.sender.len == 0)
            buf_printf(&full, "MAILER-DAEMON@%s", m->c->p.myorigin);
        else
            route_rewrite(m->c->route, m->env.sender, slice_str(m->c->p.myorigin), &full);
        buf_puts(out, "From: ");
        if (m->env.full_name.len > 0) {
            bool plain = true;

            for (size_t i = 0; i < m->env.full_name.len; i++)
                plain &= ascii_is_alnum(m->env.full_name.ptr[i]) || m->env.full_name.ptr[i] == ' ';
            if (plain) {
                buf_put_slice(out, m->env.full_name);
            } else {
                buf_putc(out, '"');
                for (size_t i = 0; i < m->env.full_name.len; i++) {
                    char c = m->env.full_name.ptr[i];

                    if (c == '"' || c == '\\')
                        buf_putc(out, '\\');
                    buf_putc(out, c == '\r' || c == '\n' ? ' ' : c);
                }
                buf_putc(out, '"');
            }
            buf_puts(out, " <");
            address_quote(buf_view(&full), out);
            buf_puts(out, ">\r\n");
        } else {
            address_quote(buf_view(&full), out);
            buf_puts(out, "\r\n");
        }
        buf_fini(&full);
    }
}

void cleanup_header(struct cleanup_msg *m, struct slice header)
{
    struct buf out = BUF_INIT((size_t) m->c->p.header_size_limit * 4 + (1U << 20));
    struct slice rest = header;
    struct slice field;
    struct slice name;
    struct slice value;

    if ((m->env.flags & MAIL_RECEIVED_DONE) == 0)
        put_stamp_received(m, &out);
    while (!cleanup_failed(m) && header_next(&rest, &field, &name, &value))
        handle_field(m, field, name, value, &out);
    if (m->hops > (uint64_t) m->c->p.hopcount_limit)
        cleanup_fail(m, 554, "5.4.6", "Error: too many hops");
    put_missing(m, &out);
    if (!m->has_message_id)
        log_event(LOG_LEVEL_INFO, "message_id", m->env.queue_id,
                  LF_TEXT("message-id", SLICE_LIT("<>")));
    if (!buf_ok(&out))
        cleanup_fail(m, 552, "5.3.4", "Error: message header too large");
    cleanup_store(m, buf_view(&out));
    buf_fini(&out);
}
