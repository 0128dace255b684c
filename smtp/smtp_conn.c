/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp_conn.c - a connection to an SMTP server: lines out, replies in, each with a time limit.
 *
 * The limits of what blocks are the socket's own (SO_RCVTIMEO, SO_SNDTIMEO), so that a command costs one system call to send and one
 * to read; they bound each transfer, as Postfix's do without smtp_per_request_deadline. The one for sending is set only when
 * there is something to wait for; the one for reading is the shortest that was wanted so far, and a longer one is waited for in pieces.
 */
#include "smtp/smtp_int.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/blocking.h"
#include "base/file.h"
#include "mail/content.h"
#include "mail/mime_7bit.h"

#define REPLY_LINE_MAX  4096 /* RFC 5321 4.5.3.1.5 says 512; servers say more */
#define REPLY_TEXT_MAX  8192 /* flattened; more is cut */
#define REPLY_LINES_MAX 500
#define CONTENT_PIECE   65536

/* option: SO_RCVTIMEO or SO_SNDTIMEO. */
static void set_timeout(struct smtp_conn *c, int option, int64_t timeout_s)
{
    struct timeval tv = {.tv_sec = timeout_s};
    int64_t *is_set = option == SO_RCVTIMEO ? &c->receive_timeout_s : &c->send_timeout_s;

    if (*is_set == timeout_s)
        return;
    (void) setsockopt(c->fd, SOL_SOCKET, option, &tv, sizeof(tv));
    *is_set = timeout_s;
}

static int bind_source(struct smtp *s, int fd, int family, struct err *err)
{
    const char *text = family == AF_INET ? s->p.bind_address : s->p.bind_address6;
    struct sockaddr_storage addr;
    socklen_t len;

    if (text[0] == '\0')
        return 0;
    if (dns_addr_parse(text, 0, &addr, &len) == -1 || addr.ss_family != family)
        return err_temporary(err, "smtp_bind_address: \"%s\" is not an address of this protocol",
                             text);
    if (bind(fd, (struct sockaddr *) &addr, len) == -1)
        return err_sys(err, "bind to %s", text);
    return 0;
}

struct smtp_conn *smtp_conn_open(struct smtp *s, const struct smtp_address *a, struct err *err)
{
    struct smtp_conn *c = xcalloc(1, sizeof(*c));
    char why[128];
    int one = 1;
    int res;

    c->host = xstrdup(a->host);
    buf_init(&c->relay, 1024);
    buf_init(&c->namaddr, 1024);
    buf_init(&c->addr, 64);
    buf_init(&c->in, REPLY_LINE_MAX * 4);
    buf_init(&c->out, SIZE_MAX);
    dns_addr_print((const struct sockaddr *) &a->addr, &c->addr);
    buf_printf(&c->namaddr, "%s[%s]", a->host, buf_cstr(&c->addr));
    buf_printf(&c->relay, "%s:%u", buf_cstr(&c->namaddr), a->port);
    c->receive_timeout_s = c->send_timeout_s = -1;
    c->fd = socket(a->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd == -1) {
        err_sys(err, "socket");
        goto fail;
    }
    if (bind_source(s, c->fd, a->addr.ss_family, err) == -1)
        goto fail;
    set_timeout(c, SO_SNDTIMEO, s->p.connect_timeout_s);
    blocking_begin();
    res = connect(c->fd, (const struct sockaddr *) &a->addr, a->len);
    blocking_end();
    if (res == -1) {
        int code = errno == EINPROGRESS || errno == EAGAIN ? ETIMEDOUT : errno;

        err_set(err, ERR_TEMPORARY, "4.4.1", "connect to %s: %s", buf_cstr(&c->relay),
                err_errno_text(code, why, sizeof(why)));
        goto fail;
    }
    (void) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    c->since = mono_now();
    return c;
fail:
    smtp_conn_free(&c);
    return NULL;
}

void smtp_conn_free(struct smtp_conn **c)
{
    static const struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    if (*c == NULL)
        return;
    /* a reset, which empties the socket; without it the kernel would go on sending */
    if ((*c)->lends_pages)
        (void) setsockopt((*c)->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    fd_close(&(*c)->fd);
    free((*c)->host);
    buf_fini(&(*c)->relay);
    buf_fini(&(*c)->namaddr);
    buf_fini(&(*c)->addr);
    buf_fini(&(*c)->in);
    buf_fini(&(*c)->out);
    free(*c);
    *c = NULL;
}

void smtp_conn_put(struct smtp_conn *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&c->out, fmt, ap);
    va_end(ap);
}

static enum smtp_io send_all(struct smtp_conn *c, const char *data, size_t len, int64_t timeout_s)
{
    int wait = MSG_DONTWAIT;

    while (len > 0) {
        ssize_t n;

        if (wait == 0)
            blocking_begin();
        n = send(c->fd, data, len, MSG_NOSIGNAL | wait);
        if (wait == 0)
            blocking_end();
        if (n == -1) {
            if (errno == EINTR)
                continue;
            if (errno != EAGAIN)
                return SMTP_IO_LOST;
            if (wait == 0)
                return SMTP_IO_TIMEOUT;
            set_timeout(c, SO_SNDTIMEO, timeout_s);
            wait = 0;
            continue;
        }
        data += n;
        len -= (size_t) n;
    }
    return SMTP_IO_OK;
}

enum smtp_io smtp_conn_flush(struct smtp_conn *c, int64_t timeout_s)
{
    enum smtp_io io;

    if (c->out.len == 0)
        return SMTP_IO_OK;
    io = send_all(c, c->out.ptr, c->out.len, timeout_s);
    buf_reset(&c->out);
    return io;
}

/* Reads what is there. timeout_s 0: does not wait for it (AGAIN). */
static enum smtp_io fill(struct smtp_conn *c, int64_t timeout_s)
{
    int64_t left_s = timeout_s;
    char *room;
    ssize_t n;

    if (c->in_at == c->in.len)
        buf_reset(&c->in);
    else
        buf_consume(&c->in, c->in_at);
    c->in_at = 0;
    room = buf_reserve(&c->in, REPLY_LINE_MAX);
    if (room == NULL)
        return SMTP_IO_BAD;
    if (timeout_s == 0) {
        do
            n = recv(c->fd, room, REPLY_LINE_MAX, MSG_DONTWAIT);
        while (n == -1 && errno == EINTR);
        if (n == -1 && errno == EAGAIN)
            return SMTP_IO_AGAIN;
    } else {
        blocking_begin();
        do {
            if (c->receive_timeout_s == -1 || c->receive_timeout_s > left_s)
                set_timeout(c, SO_RCVTIMEO, left_s);
            n = recv(c->fd, room, REPLY_LINE_MAX, 0);
            if (n == -1 && errno == EAGAIN)
                left_s -= c->receive_timeout_s;
        } while (n == -1 && (errno == EINTR || (errno == EAGAIN && left_s > 0)));
        blocking_end();
    }
    if (n == -1)
        return errno == EAGAIN ? SMTP_IO_TIMEOUT : SMTP_IO_LOST;
    if (n == 0)
        return SMTP_IO_LOST;
    buf_advance(&c->in, (size_t) n);
    c->received += (uint64_t) n;
    return SMTP_IO_OK;
}

/* AGAIN: more has to be read. */
static enum smtp_io take_line(struct smtp_conn *c, struct slice *line)
{
    struct slice have = slice_sub(buf_view(&c->in), c->in_at, c->in.len);
    ptrdiff_t nl = slice_find(have, '\n');

    if (nl == -1)
        return have.len < REPLY_LINE_MAX ? SMTP_IO_AGAIN : SMTP_IO_BAD;
    c->in_at += (size_t) nl + 1;
    *line = slice_sub(have, 0, (size_t) nl);
    if (line->len > 0 && line->ptr[line->len - 1] == '\r')
        line->len--;
    return SMTP_IO_OK;
}

void smtp_reply_init(struct smtp_reply *r)
{
    *r = (struct smtp_reply){.text = BUF_INIT(REPLY_TEXT_MAX)};
}

void smtp_reply_fini(struct smtp_reply *r)
{
    buf_fini(&r->text);
}

static void begin_reply(struct smtp_reply *r)
{
    buf_reset(&r->text);
    r->code = 0;
    r->dsn = SLICE_EMPTY;
    r->lines = 0;
}

/* One more line of a reply; the last one makes it whole. */
static enum smtp_io add_line(struct smtp_reply *r, struct slice line)
{
    struct slice rest;

    if (line.len < 3 || line.ptr[0] < '2' || line.ptr[0] > '5' || !ascii_is_digit(line.ptr[1]) ||
        !ascii_is_digit(line.ptr[2]))
        return SMTP_IO_BAD;
    /* lines joined by a space, each with its code, as Postfix logs them; what does not fit is cut */
    if (r->text.len + line.len + 1 < REPLY_TEXT_MAX) {
        if (r->lines > 0)
            buf_putc(&r->text, ' ');
        buf_put_slice(&r->text, line);
    }
    r->lines++;
    if (line.len > 3 && line.ptr[3] == '-')
        return r->lines < REPLY_LINES_MAX ? SMTP_IO_AGAIN : SMTP_IO_BAD;
    r->code = (line.ptr[0] - '0') * 100 + (line.ptr[1] - '0') * 10 + (line.ptr[2] - '0');
    r->dsn = dsn_code_split(slice_sub(buf_view(&r->text), 4, r->text.len), &rest);
    if (r->dsn.len > 0 && r->dsn.ptr[0] != line.ptr[0])
        r->dsn = SLICE_EMPTY; /* a code that contradicts the reply is not believed */
    return SMTP_IO_OK;
}

/* timeout_s: as of fill(). */
static enum smtp_io read_lines(struct smtp_conn *c, int64_t timeout_s, struct smtp_reply *r)
{
    for (;;) {
        struct slice line;
        enum smtp_io io = take_line(c, &line);

        if (io == SMTP_IO_AGAIN) {
            io = fill(c, timeout_s);
            if (io == SMTP_IO_OK)
                continue;
            return io;
        }
        if (io == SMTP_IO_OK)
            io = add_line(r, line);
        if (io != SMTP_IO_AGAIN)
            return io;
    }
}

enum smtp_io smtp_conn_reply(struct smtp_conn *c, int64_t timeout_s, struct smtp_reply *r)
{
    enum smtp_io io = smtp_conn_flush(c, timeout_s);

    begin_reply(r);
    return io == SMTP_IO_OK ? read_lines(c, timeout_s, r) : io;
}

enum smtp_io smtp_conn_reply_now(struct smtp_conn *c, struct smtp_reply *r)
{
    if (r->code != 0)
        begin_reply(r);
    return read_lines(c, 0, r);
}

bool smtp_conn_is_fresh(struct smtp_conn *c)
{
    char byte;
    ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    return n == -1 && (errno == EAGAIN || errno == EINTR) && c->in_at == c->in.len;
}

void smtp_io_explain(const struct smtp_conn *c, enum smtp_io io, const char *doing, struct err *err)
{
    switch (io) {
    case SMTP_IO_OK:
    case SMTP_IO_AGAIN:
        break;
    case SMTP_IO_TIMEOUT:
        err_set(err, ERR_TEMPORARY, "4.4.2", "conversation with %.*s timed out while %s",
                SLICE_FMT(buf_view(&c->namaddr)), doing);
        break;
    case SMTP_IO_LOST:
        err_set(err, ERR_TEMPORARY, "4.4.2", "lost connection with %.*s while %s",
                SLICE_FMT(buf_view(&c->namaddr)), doing);
        break;
    case SMTP_IO_BAD:
        err_set(err, ERR_TEMPORARY, "4.5.0",
                "Protocol error: host %.*s gave no SMTP reply while %s",
                SLICE_FMT(buf_view(&c->namaddr)), doing);
        break;
    }
}

/* Folds lines longer than the limit (CRLF SPACE between pieces) and stuffs dots. */
struct line_writer {
    struct buf *out;
    int64_t limit;
    int64_t line_len;
    bool at_line_start;
};

static void put_content(struct line_writer *w, struct slice piece)
{
    while (piece.len > 0) {
        ptrdiff_t nl = slice_find(piece, '\n');
        size_t n = nl == -1 ? piece.len : (size_t) nl + 1;
        struct slice part = slice_sub(piece, 0, n);

        if (w->at_line_start && part.ptr[0] == '.')
            buf_putc(w->out, '.');
        w->at_line_start = false;
        while (w->limit > 0 && w->line_len + (int64_t) part.len > w->limit + 2) {
            size_t take = (size_t) (w->limit > w->line_len ? w->limit - w->line_len : 0);

            buf_put_slice(w->out, slice_sub(part, 0, take));
            buf_puts(w->out, "\r\n ");
            part = slice_sub(part, take, part.len);
            w->line_len = 1;
        }
        buf_put_slice(w->out, part);
        w->line_len += (int64_t) part.len;
        if (nl != -1) {
            w->line_len = 0;
            w->at_line_start = true;
        }
        piece = slice_sub(piece, n, piece.len);
    }
}

/* Content on its way through what changes it. */
struct rewriter {
    struct line_writer lines;
    struct mime_7bit *mime; /* NULL: no conversion */
    struct buf converted;
};

static void rewrite(struct rewriter *w, struct slice piece)
{
    if (w->mime == NULL) {
        put_content(&w->lines, piece);
        return;
    }
    buf_reset(&w->converted);
    mime_7bit_feed(w->mime, piece, &w->converted);
    put_content(&w->lines, buf_view(&w->converted));
}

static void rewrite_end(struct rewriter *w)
{
    if (w->mime != NULL) {
        buf_reset(&w->converted);
        mime_7bit_end(w->mime, &w->converted);
        put_content(&w->lines, buf_view(&w->converted));
    }
    buf_puts(w->lines.out, w->lines.at_line_start ? ".\r\n" : "\r\n.\r\n");
}

static enum smtp_io send_rewritten(struct smtp_conn *c, const struct deliver_request *r,
                                   struct slice header, bool to_7bit, int64_t line_limit,
                                   int64_t timeout_s)
{
    struct buf out = BUF_INIT(SIZE_MAX);
    struct rewriter w = {.lines = {&out, line_limit, 0, true}, .converted = BUF_INIT(SIZE_MAX)};
    char *piece = xmalloc(CONTENT_PIECE);
    enum smtp_io io = SMTP_IO_OK;
    uint64_t at = header.len > 0 ? r->msg.header_bytes : 0;
    struct err err = ERR_INIT;

    if (to_7bit)
        w.mime = mime_7bit_new();
    rewrite(&w, header);
    while (io == SMTP_IO_OK && at < r->msg.content_bytes) {
        ssize_t n = deliver_content(r, at, piece, CONTENT_PIECE, &err);

        if (n <= 0) {
            io = SMTP_IO_BAD;
            break;
        }
        rewrite(&w, slice_of(piece, (size_t) n));
        at += (uint64_t) n;
        if (at == r->msg.content_bytes)
            break;
        io = send_all(c, out.ptr, out.len, timeout_s);
        buf_reset(&out);
    }
    if (io == SMTP_IO_OK) {
        rewrite_end(&w);
        io = send_all(c, out.ptr, out.len, timeout_s);
    }
    mime_7bit_free(&w.mime);
    free(piece);
    buf_fini(&w.converted);
    buf_fini(&out);
    return io;
}

enum smtp_io smtp_conn_send_content(struct smtp_conn *c, const struct deliver_request *r,
                                    struct slice header, bool to_7bit, int64_t line_limit,
                                    int64_t timeout_s)
{
    char small[CONTENT_PIECE + 5];
    struct err err = ERR_INIT;
    uint64_t left = r->msg.content_bytes;
    off_t at = (off_t) r->msg.content_offset;
    char last[2] = "";

    if (left == 0)
        return send_all(c, ".\r\n", 3, timeout_s);
    if (header.len > 0 || to_7bit || (r->msg.flags & MAIL_FACT_DOT) != 0 ||
        (line_limit > 0 && r->msg.longest_line > line_limit))
        return send_rewritten(c, r, header, to_7bit, line_limit, timeout_s);
    if (left <= CONTENT_PIECE) {
        ssize_t n = deliver_content(r, 0, small, left, &err);

        if (n != (ssize_t) left)
            return SMTP_IO_BAD;
        if (small[n - 1] != '\n')
            small[n++] = '\r', small[n++] = '\n';
        small[n++] = '.';
        small[n++] = '\r';
        small[n++] = '\n';
        return send_all(c, small, (size_t) n, timeout_s);
    }
    set_timeout(c, SO_SNDTIMEO, timeout_s);
    c->lends_pages = true;
    while (left > 0) {
        ssize_t n;

        blocking_begin();
        n = sendfile(c->fd, r->fd, &at, left < (1U << 20) ? left : 1U << 20);
        blocking_end();
        if (n == -1) {
            if (errno == EINTR)
                continue;
            return errno == EAGAIN ? SMTP_IO_TIMEOUT : SMTP_IO_LOST;
        }
        if (n == 0)
            return SMTP_IO_BAD; /* shorter than it was: nothing that ends in a dot may go out */
        left -= (uint64_t) n;
    }
    if (deliver_content(r, r->msg.content_bytes - 2, last, 2, &err) != 2)
        return SMTP_IO_BAD;
    return last[1] == '\n' ? send_all(c, ".\r\n", 3, timeout_s)
                           : send_all(c, "\r\n.\r\n", 5, timeout_s);
}

bool smtp_conn_content_taken(struct smtp_conn *c)
{
    int unsent = 0;

    if (c->lends_pages && ioctl(c->fd, SIOCOUTQ, &unsent) == 0 && unsent == 0)
        c->lends_pages = false;
    return !c->lends_pages;
}
