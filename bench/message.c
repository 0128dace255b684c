/* SPDX-License-Identifier: Apache-2.0 */
/* message.c - see message.h. */
#include "message.h"

#include "base/file.h"

enum { LINE = 80, FILE_MAX = 1 << 30 };

void message_fill(struct buf *out, size_t length)
{
    char line[LINE];

    memset(line, 'X', LINE - 2);
    line[LINE - 2] = '\r';
    line[LINE - 1] = '\n';
    if (length == 1) /* a line's end alone takes two */
        length = 2;
    for (unsigned n = 1; length > 0; n++) {
        size_t len = length < LINE ? length : LINE;

        line[0] = (char) (n < 3 ? '0' + n : 'X');
        if (length == LINE + 1) /* what is left for the last line has room for its end */
            len = LINE - 2;
        buf_put(out, line, len - 2);
        buf_puts(out, "\r\n");
        length -= len;
    }
}

int message_read(const char *path, struct buf *out, struct err *err)
{
    struct buf file = BUF_INIT(FILE_MAX);
    struct slice rest;

    if (file_read(path, &file, err) == -1) {
        buf_fini(&file);
        return -1;
    }
    rest = buf_view(&file);
    while (rest.len > 0) {
        ptrdiff_t nl = slice_find(rest, '\n');
        size_t len = nl == -1 ? rest.len : (size_t) nl;
        struct slice line = slice_sub(rest, 0, len);

        if (line.len > 0 && line.ptr[line.len - 1] == '\r')
            line.len--;
        if (line.len > 0 && line.ptr[0] == '.')
            buf_putc(out, '.');
        buf_put_slice(out, line);
        buf_puts(out, "\r\n");
        rest = slice_sub(rest, nl == -1 ? len : len + 1, rest.len);
    }
    buf_fini(&file);
    return 0;
}
