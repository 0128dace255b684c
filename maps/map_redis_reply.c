/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_redis_reply.c - what a Redis says (RESP2): "+text", "-error", ":number", "$length" with that many bytes, "*count" with that many
 * of these; each line ends with CRLF, a length of -1 is nil. Source: the protocol's specification at redis.io.
 */
#include "maps/map_replies.h"

#include "base/num.h"

#define ELEMENTS_MAX 65536
#define LINE_LIMIT   65536 /* of a "+", "-" or ":" line */

size_t map_redis_count(const struct map_redis_reply *r)
{
    return r->ends.len / sizeof(size_t);
}

static size_t end_of(const struct map_redis_reply *r, size_t i)
{
    size_t end;

    memcpy(&end, r->ends.ptr + i * sizeof(end), sizeof(end));
    return end;
}

struct slice map_redis_element(const struct map_redis_reply *r, size_t i)
{
    return slice_sub(buf_view(&r->text), i == 0 ? 0 : end_of(r, i - 1), end_of(r, i));
}

static void add(struct map_redis_reply *r, struct slice element)
{
    buf_put_slice(&r->text, element);
    buf_put(&r->ends, &r->text.len, sizeof(r->text.len));
}

/* The line after the type's byte; as map_reply_fn. */
static ssize_t line_of(struct slice input, struct slice *line, struct err *err)
{
    ptrdiff_t end = slice_find(input, '\n');

    if (end == -1)
        return input.len > LINE_LIMIT
                   ? err_input(err, "reply line is longer than %d bytes", LINE_LIMIT)
                   : 0;
    if (end < 2 || input.ptr[end - 1] != '\r')
        return err_input(err, "malformed reply line");
    *line = slice_sub(input, 1, (size_t) end - 1);
    return (ssize_t) end + 1;
}

/* A length: -1 is nil. */
static int length_of(struct slice line, int64_t max, int64_t *out, struct err *err)
{
    return num_parse_i64(line, -1, max, out, err) == -1 ? err_prefix(err, "length of a reply: ")
                                                        : 0;
}

static ssize_t bulk(struct slice input, struct slice line, size_t used, struct slice *element,
                    bool *nil, struct err *err)
{
    int64_t len;

    if (length_of(line, MAP_VALUE_MAX, &len, err) == -1)
        return -1;
    *nil = len == -1;
    if (*nil)
        return (ssize_t) used;
    if (input.len - used < (size_t) len + 2)
        return 0;
    *element = slice_of(input.ptr + used, (size_t) len);
    if (input.ptr[used + (size_t) len] != '\r' || input.ptr[used + (size_t) len + 1] != '\n')
        return err_input(err, "value does not end where it should");
    return (ssize_t) (used + (size_t) len + 2);
}

/* One reply that is no array, appended to r, nil not. */
static ssize_t plain(struct slice input, struct map_redis_reply *r, enum map_redis_kind *kind,
                     struct err *err)
{
    struct slice line = SLICE_EMPTY;
    struct slice element;
    ssize_t used = line_of(input, &line, err);
    bool nil = false;
    int64_t n;

    if (used <= 0)
        return used;
    element = line;
    switch (input.ptr[0]) {
    case '+':
        *kind = MAP_REDIS_VALUE;
        break;
    case '-':
        *kind = MAP_REDIS_ERROR;
        break;
    case ':':
        *kind = MAP_REDIS_NUMBER;
        if (num_parse_i64(line, INT64_MIN, INT64_MAX, &n, err) == -1)
            return -1;
        break;
    case '$':
        *kind = MAP_REDIS_VALUE;
        used = bulk(input, line, (size_t) used, &element, &nil, err);
        if (used <= 0)
            return used;
        break;
    default:
        return err_input(err, "reply of an unknown kind");
    }
    if (nil)
        *kind = MAP_REDIS_NIL;
    else
        add(r, element);
    if (!buf_ok(&r->text) || !buf_ok(&r->ends))
        return err_input(err, "reply is longer than %u bytes", MAP_VALUE_MAX);
    return used;
}

ssize_t map_redis_reply(struct slice input, void *arg, struct err *err)
{
    struct map_redis_reply *r = arg;
    struct slice line = SLICE_EMPTY;
    int64_t count;
    ssize_t used;

    buf_reset(&r->text);
    buf_reset(&r->ends);
    if (input.len == 0)
        return 0;
    if (input.ptr[0] != '*')
        return plain(input, r, &r->kind, err);
    used = line_of(input, &line, err);
    if (used <= 0)
        return used;
    if (length_of(line, ELEMENTS_MAX, &count, err) == -1)
        return -1;
    r->kind = count == -1 ? MAP_REDIS_NIL : MAP_REDIS_ARRAY;
    for (int64_t i = 0; i < count; i++) {
        struct slice rest = slice_sub(input, (size_t) used, input.len);
        enum map_redis_kind kind = MAP_REDIS_NIL;
        ssize_t n = rest.len > 0 ? plain(rest, r, &kind, err) : 0;

        if (n <= 0)
            return n;
        if (kind == MAP_REDIS_ERROR)
            return err_input(err, "an error within an array");
        used += n;
    }
    return used;
}
