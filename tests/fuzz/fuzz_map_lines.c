/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_map_lines.c - any bytes as the source of a table and of an alias table: every line is a row or a warning, and what lies in a
 * row lies in its line.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "maps/map_alias.h"
#include "maps/map_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int take(struct slice line, int number, void *arg, struct err *err)
{
    int *last = arg;
    struct buf name = BUF_INIT(SIZE_MAX);
    struct buf text = BUF_INIT(SIZE_MAX);
    struct err why = ERR_INIT;
    struct slice key;
    struct slice value;

    (void) err;
    if (line.len == 0 || number <= *last)
        abort();
    *last = number;
    if (map_row_split(line, &key, &value, &why) == 0) {
        if (key.len == 0 || value.len == 0 || key.ptr != line.ptr ||
            value.ptr + value.len > line.ptr + line.len || key.ptr + key.len >= value.ptr)
            abort();
        map_fold(MAP_FOLD_UTF8, key, &text);
        if (utf8_is_valid(key) && !utf8_is_valid(buf_view(&text)))
            abort();
    } else if (why.kind != ERR_BAD_INPUT) {
        abort();
    }
    buf_reset(&text);
    if (alias_split(line, &name, &text, &why) == 0 && (name.len == 0 || text.len == 0))
        abort();
    buf_fini(&name);
    buf_fini(&text);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    int last = 0;

    if (map_lines_each(slice_of((const char *) data, size), take, &last, &err) == -1 &&
        err.kind != ERR_BAD_INPUT)
        abort();
    return 0;
}
