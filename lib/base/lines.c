/* SPDX-License-Identifier: Apache-2.0 */
/* lines.c - see lines.h. */
#include "base/lines.h"

#include "base/buf.h"
#include "base/file.h"

#define CHUNK 65536

struct joiner {
    const struct lines_style *style;
    lines_fn *fn;
    void *arg;
    struct buf logical; /* empty: none begun */
    int line;           /* of the text, 1 is the first */
    int begun;          /* where logical began; 0: there was none yet */
};

static int flush(struct joiner *j, struct err *err)
{
    int ret = 0;

    if (j->logical.len > 0)
        ret = j->fn(slice_trim(buf_view(&j->logical), LINES_SPACE), j->begun, j->arg, err);
    buf_reset(&j->logical);
    return ret;
}

static int take(struct joiner *j, struct slice one, struct err *err)
{
    struct slice trimmed = slice_trim(one, LINES_SPACE);

    j->line++;
    if (trimmed.len == 0 || trimmed.ptr[0] == '#')
        return 0;
    if (!ascii_is_space((unsigned char) one.ptr[0])) {
        if (flush(j, err) == -1)
            return -1;
        j->begun = j->line;
    } else if (j->begun == 0) {
        return j->fn(one, j->line, j->arg, err); /* nothing that it could continue */
    } else if (j->style->one_space) {
        buf_putc(&j->logical, ' ');
    }
    buf_put_slice(&j->logical, j->style->one_space ? trimmed : one);
    if (!buf_ok(&j->logical))
        return err_input(err, "line %d: longer than %zu bytes", j->begun, j->style->limit);
    return 0;
}

/* The complete lines at the front of *text; at the end also one without a line feed. */
static int take_all(struct joiner *j, struct slice *text, bool end, struct err *err)
{
    while (text->len > 0) {
        ptrdiff_t nl = slice_find(*text, '\n');

        if (nl == -1 && !end)
            return 0;
        if (take(j, slice_sub(*text, 0, nl == -1 ? text->len : (size_t) nl), err) == -1)
            return -1;
        *text = nl == -1 ? SLICE_EMPTY : slice_sub(*text, (size_t) nl + 1, text->len);
    }
    return end ? flush(j, err) : 0;
}

int lines_each(struct slice text, const struct lines_style *style, lines_fn *fn, void *arg,
               struct err *err)
{
    struct joiner j = {.style = style, .fn = fn, .arg = arg, .logical = BUF_INIT(style->limit)};
    int ret = take_all(&j, &text, true, err);

    buf_fini(&j.logical);
    return ret;
}

int lines_fd(int fd, const struct lines_style *style, lines_fn *fn, void *arg, struct err *err)
{
    struct joiner j = {.style = style, .fn = fn, .arg = arg, .logical = BUF_INIT(style->limit)};
    struct buf chunk = BUF_INIT(style->limit + CHUNK);
    int ret = -1;

    for (;;) {
        char *room = buf_reserve(&chunk, CHUNK);
        ssize_t n = room != NULL ? fd_read_some(fd, room, CHUNK) : 0;
        struct slice text;

        if (room == NULL) {
            err_input(err, "line %d: longer than %zu bytes", j.line + 1, style->limit);
            break;
        }
        if (n == -1) {
            err_sys(err, "read");
            break;
        }
        buf_advance(&chunk, (size_t) n);
        text = buf_view(&chunk);
        if (take_all(&j, &text, n == 0, err) == -1)
            break;
        buf_consume(&chunk, chunk.len - text.len);
        if (n == 0) {
            ret = 0;
            break;
        }
    }
    buf_fini(&chunk);
    buf_fini(&j.logical);
    return ret;
}
