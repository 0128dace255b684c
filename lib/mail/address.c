/* SPDX-License-Identifier: Apache-2.0 */
/* address.c - paths, quoting, extensions, host names. See address.h. */
#include "mail/address.h"

#include <arpa/inet.h>

struct slice address_local(struct slice addr)
{
    ptrdiff_t at = slice_rfind(addr, '@');

    return at == -1 ? addr : slice_sub(addr, 0, (size_t) at);
}

struct slice address_domain(struct slice addr)
{
    ptrdiff_t at = slice_rfind(addr, '@');

    return at == -1 ? SLICE_EMPTY : slice_sub(addr, (size_t) at + 1, addr.len);
}

/* RFC 5321 atext, and bytes above 127 (RFC 6531). */
static bool is_atext(char c)
{
    return ascii_is_alnum((unsigned char) c) ||
           (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL) || (c & 0x80) != 0;
}

static bool is_dot_string(struct slice s)
{
    bool dot = true; /* none at the begin, at the end, or twice */

    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '.') {
            if (dot)
                return false;
            dot = true;
        } else if (is_atext(s.ptr[i])) {
            dot = false;
        } else {
            return false;
        }
    }
    return !dot;
}

void address_quote(struct slice addr, struct buf *out)
{
    struct slice local = address_local(addr);

    if (addr.len == 0)
        return;
    if (is_dot_string(local)) {
        buf_put_slice(out, addr);
        return;
    }
    buf_putc(out, '"');
    for (size_t i = 0; i < local.len; i++) {
        if (local.ptr[i] == '"' || local.ptr[i] == '\\')
            buf_putc(out, '\\');
        buf_putc(out, local.ptr[i]);
    }
    buf_putc(out, '"');
    buf_put_slice(out, slice_sub(addr, local.len, addr.len));
}

void address_unquote(struct slice text, struct buf *out)
{
    bool quoted = false;

    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];

        if (c == '"') {
            quoted = !quoted;
        } else if (c == '\\' && i + 1 < text.len) {
            buf_putc(out, text.ptr[++i]);
        } else {
            buf_putc(out, c);
        }
    }
}

bool address_split_extension(struct slice local, const char *delimiters, struct slice *user,
                             struct slice *ext)
{
    *user = local;
    *ext = SLICE_EMPTY;
    if (delimiters[0] == '\0')
        return false;
    /* these names are not taken apart */
    if (slice_caseeq_str(local, "mailer-daemon") || slice_caseeq_str(local, "double-bounce"))
        return false;
    if (strchr(delimiters, '-') != NULL && (slice_case_starts_with(local, SLICE_LIT("owner-")) ||
                                            slice_case_ends_with(local, SLICE_LIT("-request"))))
        return false;
    /* not in the first place: then there would be no user */
    for (size_t i = 1; i < local.len; i++) {
        if (local.ptr[i] != '\0' && strchr(delimiters, local.ptr[i]) != NULL) {
            *user = slice_sub(local, 0, i);
            *ext = slice_sub(local, i + 1, local.len);
            return true;
        }
    }
    return false;
}

bool hostname_valid(struct slice s)
{
    size_t label = 0;
    bool digits_only = true;

    if (s.len == 0 || s.len > 255)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];

        if (c == '.') {
            if (label == 0 || s.ptr[i - 1] == '-')
                return false;
            label = 0;
            continue;
        }
        if (!ascii_is_alnum((unsigned char) c) && c != '-' && c != '_' && (c & 0x80) == 0)
            return false;
        if (c == '-' && label == 0)
            return false;
        if (!ascii_is_digit((unsigned char) c))
            digits_only = false;
        if (++label > 63)
            return false;
    }
    return label > 0 && s.ptr[s.len - 1] != '-' && !digits_only;
}

bool address_literal_valid(struct slice s)
{
    char text[64];
    unsigned char addr[16];

    if (s.len == 0 || s.len >= sizeof(text))
        return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    if (slice_case_starts_with(s, SLICE_LIT("IPv6:")))
        return inet_pton(AF_INET6, text + 5, addr) == 1;
    return inet_pton(AF_INET, text, addr) == 1;
}

/* --- paths ------------------------------------------------------------------------------------------ */

static int bad_path(struct err *err, const char *why)
{
    return err_set(err, ERR_BAD_INPUT, "5.1.3", "Bad address syntax: %s", why);
}

/* A quoted string at text[*at]: contents to out. */
static int take_quoted(struct slice text, size_t *at, struct buf *out)
{
    for (size_t i = *at + 1; i < text.len; i++) {
        if (text.ptr[i] == '\\' && i + 1 < text.len) {
            buf_putc(out, text.ptr[++i]);
        } else if (text.ptr[i] == '"') {
            *at = i + 1;
            return 0;
        } else {
            buf_putc(out, text.ptr[i]);
        }
    }
    return -1;
}

/* Everything up to the closing ">" (or, without <>, to a space), quoting removed. */
static int take_mailbox(struct slice text, size_t *at, bool bracketed, bool strict, bool utf8,
                        struct buf *out, struct err *err)
{
    size_t start = out->len;
    bool local = true;
    bool quoted = false;

    while (*at < text.len) {
        char c = text.ptr[*at];

        if (bracketed ? c == '>' : ascii_is_space((unsigned char) c))
            break;
        if (c == '"' && local && (out->len == start || !strict)) {
            quoted = true;
            if (take_quoted(text, at, out) == -1)
                return bad_path(err, "quote without its end");
            continue;
        }
        if (c == '@')
            local = false;
        if (c == '[' && !local) {
            ptrdiff_t end = slice_find(slice_sub(text, *at, text.len), ']');

            if (end == -1)
                return bad_path(err, "[ without ]");
            buf_put_slice(out, slice_sub(text, *at, *at + (size_t) end + 1));
            *at += (size_t) end + 1;
            continue;
        }
        if ((c & 0x80) != 0 && !utf8)
            return err_set(err, ERR_BAD_INPUT, "5.6.7", "Bad address syntax: needs SMTPUTF8");
        if ((unsigned char) c < ' ' || c == 127 || (bracketed && c == '<'))
            return bad_path(err, "unexpected character");
        if (c == ' ' && strict)
            return bad_path(err, "space");
        if (c == '\\' && *at + 1 < text.len) {
            (*at)++;
            c = text.ptr[*at];
        }
        buf_putc(out, c);
        (*at)++;
    }
    if (strict && !quoted && out->len > start &&
        !is_dot_string(address_local(slice_sub(buf_view(out), start, out->len))))
        return bad_path(err, "local part");
    return 0;
}

int address_parse_path(struct slice *text, bool strict, bool utf8, struct buf *out, struct err *err)
{
    struct slice s = *text;
    size_t at = 0;
    bool bracketed;

    while (!strict && at < s.len && s.ptr[at] == ' ')
        at++;
    bracketed = at < s.len && s.ptr[at] == '<';
    if (!bracketed && (strict || at == s.len))
        return bad_path(err, "no <");
    if (bracketed) {
        at++;
        /* a source route is read and dropped: RFC 5321 appendix C */
        if (at < s.len && s.ptr[at] == '@') {
            ptrdiff_t colon = slice_find(slice_sub(s, at, s.len), ':');
            ptrdiff_t end = slice_find(slice_sub(s, at, s.len), '>');

            if (colon == -1 || (end != -1 && end < colon))
                return bad_path(err, "source route");
            at += (size_t) colon + 1;
        }
    }
    if (take_mailbox(s, &at, bracketed, strict, utf8, out, err) == -1)
        return -1;
    if (bracketed) {
        if (at >= s.len)
            return bad_path(err, "< without >");
        at++;
    }
    if (!buf_ok(out))
        return bad_path(err, "too long");
    *text = slice_sub(s, at, s.len);
    return 0;
}
