/* SPDX-License-Identifier: Apache-2.0 */
/* floor_conn.c - see floor_conn.h. */
#include "floor_conn.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "base/file.h"
#include "mail/content.h"

void floor_conn_init(struct floor_conn *c, int fd)
{
    int one = 1;

    c->fd = fd;
    c->at = c->len = 0;
    (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one,
                      sizeof(one)); /* fails on UNIX-domain sockets */
}

/* More bytes behind those that are there; false when there are none, or no room. */
static bool fill(struct floor_conn *c)
{
    ssize_t n;

    if (c->at > 0) {
        memmove(c->data, c->data + c->at, c->len);
        c->at = 0;
    }
    if (c->len == sizeof(c->data))
        return false;
    n = fd_read_some(c->fd, c->data + c->len, sizeof(c->data) - c->len);
    if (n <= 0)
        return false;
    c->len += (size_t) n;
    return true;
}

bool floor_conn_line(struct floor_conn *c, struct slice *line)
{
    size_t seen = 0;
    const char *nl;

    while ((nl = memchr(c->data + c->at + seen, '\n', c->len - seen)) == NULL) {
        seen = c->len;
        if (!fill(c))
            return false;
    }
    *line = slice_of(c->data + c->at, (size_t) (nl - (c->data + c->at)));
    c->at += line->len + 1;
    c->len -= line->len + 1;
    if (line->len > 0 && line->ptr[line->len - 1] == '\r')
        line->len--;
    return true;
}

int floor_conn_say(struct floor_conn *c, struct slice text)
{
    return fd_write_all(c->fd, text.ptr, text.len);
}

int floor_conn_reply(struct floor_conn *c, char wanted)
{
    struct slice line;

    do {
        if (!floor_conn_line(c, &line) || line.len < 3 || line.ptr[0] != wanted)
            return -1;
    } while (line.len > 3 && line.ptr[3] == '-');
    return 0;
}

bool floor_conn_content(struct floor_conn *c, struct buf *out)
{
    struct slice line;

    for (;;) {
        size_t plain = content_plain_lines(slice_of(c->data + c->at, c->len));

        buf_put(out, c->data + c->at, plain);
        c->at += plain;
        c->len -= plain;
        if (!floor_conn_line(c, &line))
            return false;
        buf_put(out, line.ptr, line.len);
        buf_puts(out, "\r\n");
        if (slice_eq_str(line, "."))
            return buf_ok(out);
    }
}
