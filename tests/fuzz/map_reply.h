/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_reply.h - what holds for each parser of maps/map_replies.h: it uses no more than there is, and the reply that it finds is the same
 * when nothing comes after it, and not there yet when a byte is missing.
 */
#ifndef PR_FUZZ_MAP_REPLY_H
#define PR_FUZZ_MAP_REPLY_H

#include <stdlib.h>

#include "maps/map_replies.h"

/* The input in a block of its own, so that a sanitizer sees a read beyond it. */
static inline ssize_t parse_exactly(map_reply_fn parse, struct slice input, void *arg)
{
    char *copy = xmalloc(input.len + 1);
    struct err err = ERR_INIT;
    ssize_t n;

    copy = xrealloc(copy, input.len > 0 ? input.len : 1);
    if (input.len > 0)
        memcpy(copy, input.ptr, input.len);
    n = parse(slice_of(copy, input.len), arg, &err);
    if (n < -1 || (n > 0 && (size_t) n > input.len))
        abort();
    if (err.kind != (n == -1 ? ERR_BAD_INPUT : ERR_NONE))
        abort();
    free(copy);
    return n;
}

static inline ssize_t check_parser(map_reply_fn parse, struct slice input, void *arg)
{
    ssize_t n = parse_exactly(parse, input, arg);

    if (n > 0) {
        if (parse_exactly(parse, slice_sub(input, 0, (size_t) n - 1), arg) != 0)
            abort();
        if (parse_exactly(parse, slice_sub(input, 0, (size_t) n), arg) != n)
            abort();
    }
    return n;
}

#endif
