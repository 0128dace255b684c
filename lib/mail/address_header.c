/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address_header.c - mailboxes in header fields (RFC 5322 3.4 with its obsolete forms): found, and rewritten in place.
 *
 * The value is walked once. Between separators (comma, semicolon, the colon of a group) lies one mailbox: either the text in
 * angle brackets, or everything that is neither comment nor white space.
 */
#include "mail/address.h"

static size_t skip_comment(struct slice s, size_t at)
{
    unsigned depth = 0;

    for (; at < s.len; at++) {
        if (s.ptr[at] == '\\') {
            at++;
        } else if (s.ptr[at] == '(') {
            depth++;
        } else if (s.ptr[at] == ')' && --depth == 0) {
            return at + 1;
        }
    }
    return s.len;
}

static size_t skip_quoted(struct slice s, size_t at)
{
    for (at++; at < s.len; at++) {
        if (s.ptr[at] == '\\')
            at++;
        else if (s.ptr[at] == '"')
            return at + 1;
    }
    return s.len;
}

/* The internal form of what stands in raw: comments and white space go, quotes are resolved, a route is dropped. */
static void plain(struct slice raw, struct buf *out)
{
    size_t at = 0;

    if (raw.len > 0 && raw.ptr[0] == '@') {
        ptrdiff_t colon = slice_find(raw, ':');

        if (colon != -1)
            at = (size_t) colon + 1;
    }
    while (at < raw.len) {
        char c = raw.ptr[at];

        if (c == '(') {
            at = skip_comment(raw, at);
        } else if (c == '"') {
            size_t end = skip_quoted(raw, at);

            address_unquote(slice_sub(raw, at, end), out);
            at = end;
        } else if (ascii_is_space((unsigned char) c)) {
            at++;
        } else if (c == '\\' && at + 1 < raw.len) {
            buf_putc(out, raw.ptr[at + 1]);
            at += 2;
        } else {
            buf_putc(out, c);
            at++;
        }
    }
}

static void emit(struct slice raw, void (*fn)(struct slice raw, struct slice addr, void *arg),
                 void *arg)
{
    struct buf addr = BUF_INIT(65536);

    raw = slice_trim(raw, NULL);
    if (raw.len > 0) {
        plain(raw, &addr);
        if (buf_ok(&addr) && addr.len > 0)
            fn(raw, buf_view(&addr), arg);
    }
    buf_fini(&addr);
}

void address_header_each(struct slice value,
                         void (*fn)(struct slice raw, struct slice addr, void *arg), void *arg)
{
    size_t at = 0;
    size_t from = SIZE_MAX; /* where a bare address begins */
    size_t to = 0;          /* where it ends so far */
    bool angle = false;     /* this mailbox had its <...> */

    while (at <= value.len) {
        char c = at < value.len ? value.ptr[at] : ',';

        if (c == ',' || c == ';') {
            if (!angle && from != SIZE_MAX)
                emit(slice_sub(value, from, to), fn, arg);
            from = SIZE_MAX;
            angle = false;
            at++;
        } else if (c == ':') {
            /* a group's name, or the colon inside a domain literal, which is skipped below */
            from = SIZE_MAX;
            at++;
        } else if (c == '(') {
            at = skip_comment(value, at);
        } else if (c == '"') {
            if (from == SIZE_MAX)
                from = at;
            at = skip_quoted(value, at);
            to = at;
        } else if (c == '[') {
            ptrdiff_t end = slice_find(slice_sub(value, at, value.len), ']');

            if (from == SIZE_MAX)
                from = at;
            at = end == -1 ? value.len : at + (size_t) end + 1;
            to = at;
        } else if (c == '<') {
            size_t end = at + 1;

            while (end < value.len && value.ptr[end] != '>')
                end = value.ptr[end] == '"'   ? skip_quoted(value, end)
                      : value.ptr[end] == '(' ? skip_comment(value, end)
                                              : end + 1;
            if (end > value.len)
                end = value.len;
            emit(slice_sub(value, at + 1, end), fn, arg);
            angle = true;
            at = end + 1;
        } else {
            if (!ascii_is_space((unsigned char) c)) {
                if (from == SIZE_MAX)
                    from = at;
                to = at + 1;
            }
            at++;
        }
    }
}

struct rewriting {
    struct slice value;
    size_t done; /* copied so far */
    bool (*fn)(struct slice addr, struct buf *out, void *arg);
    void *arg;
    struct buf *out;
};

static void rewrite_one(struct slice raw, struct slice addr, void *arg)
{
    struct rewriting *rw = arg;
    struct buf new = BUF_INIT(65536);
    size_t at = (size_t) (raw.ptr - rw->value.ptr);

    if (rw->fn(addr, &new, rw->arg) && buf_ok(&new)) {
        buf_put_slice(rw->out, slice_sub(rw->value, rw->done, at));
        buf_put_slice(rw->out, buf_view(&new));
        rw->done = at + raw.len;
    }
    buf_fini(&new);
}

void address_header_rewrite(struct slice value,
                            bool (*fn)(struct slice addr, struct buf *out, void *arg), void *arg,
                            struct buf *out)
{
    struct rewriting rw = {.value = value, .fn = fn, .arg = arg, .out = out};

    address_header_each(value, rewrite_one, &rw);
    buf_put_slice(out, slice_sub(value, rw.done, value.len));
}
