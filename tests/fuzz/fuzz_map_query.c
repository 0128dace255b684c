/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_map_query.c - any template, key and results: what is built of a key is the template's own bytes and quoted parts of the key, and
 * nothing else; a key that cannot fit result_format has no result.
 *
 * Input: the template, a NUL, the key, a NUL, results with a NUL between two.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "maps/map_query.h"

#define SIZE_MAX_OUT (1U << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Parts are counted and left out, so that what remains is the template's. */
struct seen {
    struct slice key;
    size_t parts, bytes;
};

static void quote(struct slice part, struct buf *out, void *arg)
{
    struct seen *s = arg;

    (void) out;
    if (part.len > s->key.len || part.ptr < s->key.ptr ||
        part.ptr + part.len > s->key.ptr + s->key.len)
        abort();
    s->parts++;
    s->bytes += part.len;
}

/* The template without its expansions. */
static void literal(const char *format, struct buf *out, size_t *expansions)
{
    for (; *format != '\0'; format++) {
        if (*format != '%') {
            buf_putc(out, *format);
        } else if (*++format == '%') {
            buf_putc(out, '%');
        } else {
            (*expansions)++;
        }
    }
}

static void check_key(const struct map_query *q, const char *format, struct slice key)
{
    struct seen seen = {.key = key};
    struct buf left = BUF_INIT(SIZE_MAX_OUT);
    struct buf plain = BUF_INIT(SIZE_MAX_OUT);
    struct buf wanted = BUF_INIT(SIZE_MAX_OUT);
    size_t expansions = 0;

    literal(format, &wanted, &expansions);
    if (map_query_for_key(q, key, quote, &seen, &left)) {
        if (!slice_eq(buf_view(&left), buf_view(&wanted)) || seen.parts != expansions)
            abort();
        if (!map_query_for_key(q, key, NULL, NULL, &plain) ||
            (buf_ok(&plain) && plain.len != left.len + seen.bytes))
            abort();
    } else if (expansions == 0) {
        abort(); /* nothing is wanted of the key */
    }
    buf_fini(&left);
    buf_fini(&plain);
    buf_fini(&wanted);
}

static void check_results(const struct map_query *q, struct slice key, struct slice rest)
{
    struct map_results r;
    struct buf value = BUF_INIT(SIZE_MAX_OUT);
    struct err err = ERR_INIT;
    bool fits = map_query_key_fits(q, key);
    enum map_result res;
    int ret = 0;

    map_results_begin(&r, q, 3, key);
    while (rest.len > 0 && ret == 0) {
        ptrdiff_t end = slice_find(rest, '\0');
        size_t len = end == -1 ? rest.len : (size_t) end;
        struct buf one = BUF_INIT(SIZE_MAX_OUT);

        if (map_query_for_result(q, key, slice_sub(rest, 0, len), &one) && !fits)
            abort();
        buf_fini(&one);
        ret = map_results_add(&r, slice_sub(rest, 0, len), &err);
        rest = slice_sub(rest, end == -1 ? rest.len : len + 1, rest.len);
    }
    if (ret == -1 && err.text[0] == '\0')
        abort();
    res = map_results_end(&r, ret == -1 ? MAP_RETRY : MAP_FOUND, &value);
    if ((res == MAP_FOUND) != (value.len > 0) || (ret == -1) != (res == MAP_RETRY))
        abort();
    buf_fini(&value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice input = slice_of((const char *) data, size);
    ptrdiff_t end = slice_find(input, '\0');
    struct map_query *q = NULL;
    struct err err = ERR_INIT;
    struct slice rest;
    struct slice key;
    char *format;

    if (end == -1 || size > 4096)
        return 0;
    format = slice_dup(slice_sub(input, 0, (size_t) end));
    rest = slice_sub(input, (size_t) end + 1, input.len);
    end = slice_find(rest, '\0');
    key = slice_sub(rest, 0, end == -1 ? rest.len : (size_t) end);
    rest = slice_sub(rest, end == -1 ? rest.len : (size_t) end + 1, rest.len);
    if (map_query_new(format, &q, &err) == -1) {
        if (err.kind != ERR_BAD_INPUT)
            abort();
    } else {
        check_key(q, format, key);
        check_results(q, key, rest);
        map_query_free(&q);
    }
    free(format);
    return 0;
}
