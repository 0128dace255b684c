/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp_generic.c - generic(5): addresses of this host that mean nothing elsewhere are replaced as mail leaves, in the
 * envelope and in the header. The message in the queue stays as it is.
 */
#include <stdio.h>
#include <stdlib.h>

#include "mail/address.h"
#include "mail/content.h"
#include "smtp/smtp_int.h"

static const char *const fields[] = {
    "From",
    "Sender",
    "Reply-To",
    "Errors-To",
    "To",
    "Cc",
    "Bcc",
    "Return-Receipt-To",
    "Resent-From",
    "Resent-To",
    "Resent-Sender",
    "Disposition-Notification-To",
    "Resent-Cc",
    "Resent-Bcc",
    "Resent-Reply-To",
    "Mail-Followup-To",
    "Apparently-To",
};

struct mapping {
    struct smtp *s;
    struct err *err;
    bool trouble; /* a table could not be asked */
    bool changed;
};

static bool is_own(struct smtp *s, struct slice domain)
{
    struct err err = ERR_INIT;

    return domain.len == 0 || slice_caseeq_str(domain, s->p.myorigin) ||
           match_list_string(s->mydestination, domain, &err) == MAP_FOUND;
}

/* What the table gave for addr: an address, a user of $myorigin, or "@domain" for the same user. */
static void complete(struct smtp *s, struct slice addr, struct slice value, struct slice ext,
                     struct buf *out)
{
    struct slice local = address_local(value);
    struct slice domain = address_domain(value);

    if (value.ptr[0] == '@') {
        local = address_local(addr);
        domain = slice_sub(value, 1, value.len);
        ext = SLICE_EMPTY; /* it is still there */
    }
    buf_put_slice(out, local);
    if (ext.len > 0 && s->generic_extensions) {
        buf_putc(out, s->p.recipient_delimiter[0]);
        buf_put_slice(out, ext);
    }
    buf_putc(out, '@');
    buf_put_slice(out, domain.len > 0 ? domain : slice_str(s->p.myorigin));
}

enum map_result smtp_generic(struct smtp *s, struct slice addr, struct buf *out, struct err *err)
{
    struct buf value = BUF_INIT(MAP_VALUE_MAX);
    struct buf ext = BUF_INIT(MAIL_ADDR_MAX);
    bool own = is_own(s, address_domain(addr));
    struct slice text;
    enum map_result res =
        map_address_lookup(s->generic, addr,
                           MAP_KEY_FULL | MAP_KEY_NOEXT | MAP_KEY_AT_DOMAIN |
                               (own ? MAP_KEY_LOCAL_FULL | MAP_KEY_LOCAL : 0U),
                           s->p.recipient_delimiter, own, false, &value, &ext, err);

    text = slice_trim(buf_view(&value), NULL);
    if (res == MAP_FOUND && text.len > 0)
        complete(s, addr, text, buf_view(&ext), out);
    else if (res == MAP_FOUND)
        res = MAP_NOTFOUND;
    buf_fini(&value);
    buf_fini(&ext);
    return res;
}

static bool map_header_address(struct slice addr, struct buf *out, void *arg)
{
    struct mapping *m = arg;
    struct buf mapped = BUF_INIT(MAIL_ADDR_MAX);
    enum map_result res =
        addr.len > 0 && !m->trouble ? smtp_generic(m->s, addr, &mapped, m->err) : MAP_NOTFOUND;

    m->trouble |= res == MAP_RETRY;
    if (res == MAP_FOUND) {
        address_quote(buf_view(&mapped), out);
        m->changed = true;
    }
    buf_fini(&mapped);
    return res == MAP_FOUND;
}

static void put_field(struct mapping *m, struct slice field, struct slice name, struct slice value,
                      struct buf *out)
{
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (!slice_caseeq_str(name, fields[i]))
            continue;
        buf_put_slice(out, name);
        buf_putc(out, ':');
        address_header_rewrite(value, map_header_address, m, out);
        if (!slice_ends_with(buf_view(out), SLICE_LIT("\n")))
            buf_puts(out, "\r\n");
        return;
    }
    buf_put_slice(out, field);
}

/* The header as it goes out, in job->header; left empty where it stays as it is. */
static int map_header(struct smtp_job *job, struct err *err)
{
    struct mapping m = {.s = job->s, .err = err};
    struct buf header = BUF_INIT(SIZE_MAX);
    size_t len = job->r->msg.header_bytes;
    char *text = buf_reserve(&header, len);
    ssize_t n = deliver_content(job->r, 0, text, len, err);
    struct slice rest;
    struct slice field;
    struct slice name;
    struct slice value;

    if (n == -1) {
        buf_fini(&header);
        return -1;
    }
    buf_advance(&header, (size_t) n);
    rest = buf_view(&header);
    while (header_next(&rest, &field, &name, &value))
        put_field(&m, field, name, value, &job->header);
    buf_put_slice(&job->header, rest); /* the empty line */
    if (!m.changed)
        buf_reset(&job->header);
    buf_fini(&header);
    return m.trouble ? -1 : 0;
}

/* *addr, or what stands in for it: a heap copy that job->mapped owns. */
static int map_envelope(struct smtp_job *job, struct slice *addr, struct err *err)
{
    struct buf mapped = BUF_INIT(MAIL_ADDR_MAX);
    enum map_result res = addr->len > 0 ? smtp_generic(job->s, *addr, &mapped, err) : MAP_NOTFOUND;

    if (res == MAP_FOUND) {
        char *copy = slice_dup(buf_view(&mapped));

        vec_push(&job->mapped, copy);
        *addr = slice_of(copy, mapped.len);
    }
    buf_fini(&mapped);
    return res == MAP_RETRY ? -1 : 0;
}

int smtp_generic_job(struct smtp_job *job, struct err *err)
{
    int ret = 0;

    if (map_list_is_empty(job->s->generic))
        return 0;
    ret = map_envelope(job, &job->sender, err);
    for (size_t i = 0; ret == 0 && i < job->r->nrcpts; i++)
        ret = map_envelope(job, &job->rcpts[i].addr, err);
    if (ret == 0)
        ret = map_header(job, err);
    if (ret == -1) {
        err->kind = ERR_TEMPORARY;
        (void) snprintf(err->dsn, sizeof(err->dsn), "4.3.0");
    }
    return ret;
}
