/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtpd_footer.c - what smtpd_reject_footer and smtpd_reject_footer_maps put behind a refusal: "\n" in the template begins a line
 * that repeats the reply's code and enhanced code, "\c" at its begin goes on in the reply's own line. A template with a mistake is
 * reported and left out: the refusal itself never depends on it.
 */
#include <string.h>

#include "base/log.h"
#include "mail/dsn.h"
#include "postconf/findings.h"
#include "smtpd/smtpd_int.h"

#define FOOTER_MAX 4096

/* C's escapes: \n \t \\ \nnn and the like. */
static void unescape(struct slice s, struct buf *out)
{
    static const char letters[] = "abfnrtv";
    static const char values[] = "\a\b\f\n\r\t\v";

    for (size_t i = 0; i < s.len; i++) {
        unsigned value = 0;
        size_t digits = 0;
        const char *letter;

        if (s.ptr[i] != '\\' || i + 1 == s.len) {
            buf_putc(out, s.ptr[i]);
            continue;
        }
        while (digits < 3 && i + 1 + digits < s.len && s.ptr[i + 1 + digits] >= '0' &&
               s.ptr[i + 1 + digits] <= '7')
            value = value * 8 + (unsigned) (s.ptr[i + 1 + digits++] - '0');
        letter = memchr(letters, s.ptr[i + 1], sizeof(letters) - 1);
        if (digits > 0)
            buf_putc(out, (char) value);
        else
            buf_putc(out, letter != NULL ? values[letter - letters] : s.ptr[i + 1]);
        i += digits > 0 ? digits : 1;
    }
}

enum footer_name { CLIENT_ADDRESS, CLIENT_PORT, LOCALTIME, SERVER_NAME, NAME_COUNT };

/* NAME_COUNT: there is no such name. */
static enum footer_name name_of(struct slice name)
{
    static const char *const names[NAME_COUNT] = {[CLIENT_ADDRESS] = "client_address",
                                                  [CLIENT_PORT] = "client_port",
                                                  [LOCALTIME] = "localtime",
                                                  [SERVER_NAME] = "server_name"};
    size_t i = 0;

    while (i < NAME_COUNT && !slice_eq_str(name, names[i]))
        i++;
    return (enum footer_name) i;
}

static void put_value(const struct session *s, enum footer_name name, struct buf *out)
{
    struct buf allowed = BUF_INIT(1024);
    struct buf time = BUF_INIT(64);
    struct slice value = SLICE_EMPTY;

    switch (name) {
    case CLIENT_ADDRESS:
        value = s->addr;
        break;
    case CLIENT_PORT:
        value = s->port;
        break;
    case LOCALTIME:
        wall_syslog(wall_now(), &time);
        value = buf_view(&time);
        break;
    case SERVER_NAME:
        value = slice_str(s->g->p.myhostname);
        break;
    case NAME_COUNT:
        break;
    }
    unescape(slice_str(s->g->p.expansion_filter), &allowed);
    for (size_t i = 0; i < value.len; i++)
        buf_putc(out, slice_find(buf_view(&allowed), value.ptr[i]) != -1 ? value.ptr[i] : '_');
    buf_fini(&time);
    buf_fini(&allowed);
}

/* Takes "name", "{name}" or "(name)" from the begin of s. */
static struct slice take_name(struct slice *s)
{
    char end = s->len == 0 ? '\0' : s->ptr[0] == '{' ? '}' : s->ptr[0] == '(' ? ')' : '\0';
    struct slice name = *s;
    size_t n = 0;

    if (end != '\0') {
        ptrdiff_t at = slice_find(*s, end);

        name = at == -1 ? SLICE_EMPTY : slice_sub(*s, 1, (size_t) at);
        *s = slice_sub(*s, at == -1 ? s->len : (size_t) at + 1, s->len);
        return name;
    }
    while (n < s->len && (ascii_is_alnum(s->ptr[n]) || s->ptr[n] == '_'))
        n++;
    name = slice_sub(*s, 0, n);
    *s = slice_sub(*s, n, s->len);
    return name;
}

/* A template with its names' values; s NULL: none, it is only looked at. False with the name that there is not in *unknown. */
static bool expand(const struct session *s, struct slice text, struct buf *out,
                   struct slice *unknown)
{
    while (text.len > 0) {
        ptrdiff_t dollar = slice_find(text, '$');
        struct slice name;

        buf_put_slice(out, slice_sub(text, 0, dollar == -1 ? text.len : (size_t) dollar));
        if (dollar == -1)
            break;
        text = slice_sub(text, (size_t) dollar + 1, text.len);
        if (text.len > 0 && text.ptr[0] == '$') {
            buf_putc(out, '$');
            text = slice_sub(text, 1, text.len);
            continue;
        }
        name = take_name(&text);
        if (name_of(name) == NAME_COUNT) {
            *unknown = name;
            return false;
        }
        if (s != NULL)
            put_value(s, name_of(name), out);
    }
    return true;
}

static bool expand_or_warn(const struct session *s, struct slice text, struct buf *out)
{
    struct slice unknown;

    if (expand(s, text, out, &unknown))
        return buf_ok(out);
    log_warning("smtpd_reject_footer: no such name: \"$%.*s\"", SLICE_FMT(unknown));
    return false;
}

void smtpd_footer_check(struct map_env *env, struct findings *f)
{
    struct buf out = BUF_INIT(CONFIG_VALUE_MAX);
    struct slice unknown;

    (void) env;
    if (!expand(NULL, slice_str(config_get(findings_config(f), "smtpd_reject_footer")), &out,
                &unknown))
        findings_warn(
            f, "smtpd_reject_footer",
            "it is put behind no reply, as there is no name \"$%.*s\" in it: the names are "
            "$client_address, $client_port, $localtime and $server_name; \"$$\" is a dollar",
            SLICE_FMT(unknown));
    buf_fini(&out);
}

/* False: there is none for this reply. */
static bool find_template(const struct session *s, struct slice reply, struct buf *out)
{
    struct err err = ERR_INIT;

    if (!map_list_is_empty(s->g->reject_footers)) {
        enum map_result res = map_list_lookup(s->g->reject_footers, reply, 0, out, NULL, &err);

        if (res == MAP_RETRY)
            log_warning("smtpd_reject_footer_maps: %s", err.text);
        if (res != MAP_NOTFOUND)
            return res == MAP_FOUND;
    }
    buf_puts(out, s->g->p.reject_footer);
    return out->len > 0;
}

/* The reply's text line by line: each with its code, all but the last with a "-". */
static void put_lines(struct slice code, struct slice dsn, struct slice text, struct buf *out)
{
    for (bool more = true; more;) {
        ptrdiff_t nl = slice_find(text, '\n');
        struct slice line = slice_sub(text, 0, nl == -1 ? text.len : (size_t) nl);

        more = nl != -1;
        buf_printf(out, "%.*s%c%.*s%s%.*s\r\n", SLICE_FMT(code), more ? '-' : ' ', SLICE_FMT(dsn),
                   dsn.len > 0 ? " " : "", SLICE_FMT(line));
        if (more)
            text = slice_sub(text, (size_t) nl + 1, text.len);
    }
}

void smtpd_put_refusal(struct session *s, struct slice reply)
{
    struct buf found = BUF_INIT(FOOTER_MAX);
    struct buf expanded = BUF_INIT(FOOTER_MAX);
    struct buf text = BUF_INIT(SIZE_MAX);
    struct slice footer;
    struct slice dsn;
    struct slice rest;
    size_t from = s->out.len;

    if (reply.len > 4 && find_template(s, reply, &found) &&
        expand_or_warn(s, buf_view(&found), &expanded)) {
        dsn = dsn_code_split(slice_sub(reply, 4, reply.len), &rest);
        footer = buf_view(&expanded);
        buf_put_slice(&text, rest);
        if (slice_starts_with(footer, SLICE_LIT("\\c")))
            footer = slice_sub(footer, 2, footer.len);
        else
            buf_putc(&text, '\n');
        for (size_t i = 0; i < footer.len; i++) {
            bool is_break = footer.ptr[i] == '\\' && i + 1 < footer.len && footer.ptr[i + 1] == 'n';

            /* a table's result may have line ends of its own, which would be replies to nothing */
            buf_putc(&text, is_break || footer.ptr[i] == '\n' ? '\n'
                            : footer.ptr[i] == '\r'           ? ' '
                                                              : footer.ptr[i]);
            i += is_break;
        }
        put_lines(slice_sub(reply, 0, 3), dsn, buf_view(&text), &s->out);
    } else {
        buf_put_slice(&s->out, reply);
        buf_puts(&s->out, "\r\n");
    }
    smtpd_transcript_out(s, from);
    buf_fini(&text);
    buf_fini(&expanded);
    buf_fini(&found);
}
