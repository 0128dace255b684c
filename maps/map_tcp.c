/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_tcp.c - tcp:HOST:PORT, one line of text each way. Source: tcp_table(5).
 *
 * "get KEY" NEWLINE -> CODE SPACE TEXT NEWLINE, at most 4096 bytes; 200 found, 500 not found, 400 try again. In key and value
 * %, white space and what does not print is %XX.
 */
#include "maps/map_int.h"
#include "maps/map_replies.h"

#define REPLY_MAX 4096

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char) ascii_lower((unsigned char) c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int unquote(struct slice text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        int high;
        int low;

        if (text.ptr[i] != '%') {
            buf_putc(out, text.ptr[i]);
            continue;
        }
        if (text.len - i < 3)
            return -1;
        high = hex(text.ptr[i + 1]);
        low = hex(text.ptr[i + 2]);
        if (high == -1 || low == -1)
            return -1;
        buf_putc(out, (char) (high * 16 + low));
        i += 2;
    }
    return 0;
}

static void quote(struct slice text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char) text.ptr[i];

        if (c == '%' || !ascii_is_print(c) || ascii_is_space(c))
            buf_printf(out, "%%%02X", c);
        else
            buf_putc(out, (char) c);
    }
}

ssize_t map_tcp_reply(struct slice input, void *arg, struct err *err)
{
    struct map_reply *r = arg;
    ptrdiff_t end = slice_find(input, '\n');
    struct slice line;

    if (end == -1)
        return 0;
    line = slice_sub(input, 0, (size_t) end);
    if (line.len > 0 && line.ptr[line.len - 1] == '\r')
        line.len--;
    buf_reset(&r->text);
    if (line.len < 4 || line.ptr[3] != ' ' || unquote(slice_sub(line, 4, line.len), &r->text) == -1)
        return err_input(err, "malformed reply: %.*s", SLICE_FMT(slice_sub(line, 0, 100)));
    if (slice_starts_with(line, SLICE_LIT("200")))
        r->result = MAP_FOUND;
    else if (slice_starts_with(line, SLICE_LIT("500")))
        r->result = MAP_NOTFOUND;
    else if (slice_starts_with(line, SLICE_LIT("400")))
        r->result = MAP_RETRY;
    else
        return err_input(err, "unknown status code: %.*s", SLICE_FMT(slice_sub(line, 0, 100)));
    return (ssize_t) end + 1;
}

enum map_result map_reply_result(const struct map_reply *r, struct buf *value, struct err *err)
{
    if (r->result == MAP_FOUND)
        buf_put_slice(value, buf_view(&r->text));
    else if (r->result == MAP_RETRY)
        (void) err_temporary(err, "the server says: %.*s", SLICE_FMT(buf_view(&r->text)));
    return r->result;
}

static int tcp_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    struct buf name = BUF_INIT(SIZE_MAX);
    struct map_servers_config c = {.servers = &path, .nservers = 1};

    if (map_stream_check(path, NULL, err) == -1 || map_servers_defaults(env, &c, err) == -1)
        return -1;
    buf_printf(&name, "tcp:%s", path);
    c.table = buf_cstr(&name);
    *impl = map_servers_new(&c, &map_stream_ops, NULL);
    buf_fini(&name);
    return 0;
}

static void tcp_close(void *impl)
{
    struct map_servers *servers = impl;

    map_servers_free(&servers);
}

static enum map_result tcp_lookup(void *impl, struct slice key, struct buf *value, struct err *err)
{
    struct buf request = BUF_INIT(SIZE_MAX);
    struct map_reply reply = MAP_REPLY_INIT;
    enum map_result res = MAP_RETRY;

    buf_puts(&request, "get ");
    quote(key, &request);
    buf_putc(&request, '\n');
    if (map_stream_ask(impl, buf_view(&request), REPLY_MAX, map_tcp_reply, &reply, err) == 0)
        res = map_reply_result(&reply, value, err);
    buf_fini(&request);
    buf_fini(&reply.text);
    return res;
}

/* Which key is asked for is the server's business, hence PATTERN: whole keys only, as they are. */
const struct map_type map_type_tcp = {.name = "tcp",
                                      .flags = MAP_FLAG_PATTERN,
                                      .open = tcp_open,
                                      .close = tcp_close,
                                      .lookup = tcp_lookup};
