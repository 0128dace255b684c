/* SPDX-License-Identifier: Apache-2.0 */
/* import_record.c - see import_record.h. */
#include "cleanup/import_record.h"

#include <inttypes.h>

#include "base/file.h"
#include "base/htable.h"
#include "base/num.h"

#define WINDOW_BYTES (64U << 10)
#define LENGTH_BYTES 5 /* of a length: 35 bits */

void import_reader_init(struct import_reader *r, int fd, uint64_t size)
{
    *r = (struct import_reader){.fd = fd, .size = size};
    r->window = BUF_INIT(SIZE_MAX);
}

void import_reader_init_bytes(struct import_reader *r, struct slice bytes)
{
    import_reader_init(r, -1, bytes.len);
    buf_put_slice(&r->window, bytes);
}

void import_reader_fini(struct import_reader *r)
{
    buf_fini(&r->window);
    htable_free(&r->followed, NULL);
}

/* At least `want` bytes (fewer: to the end of the file) from r->at on. */
static int view(struct import_reader *r, size_t want, struct slice *out, struct err *err)
{
    uint64_t left = r->size - r->at;
    size_t skip;

    if (want > left)
        want = (size_t) left;
    if (r->at < r->window_at || r->at - r->window_at > r->window.len ||
        r->window.len - (size_t) (r->at - r->window_at) < want) {
        size_t bytes = want > WINDOW_BYTES ? want : WINDOW_BYTES;
        ssize_t n;

        if (bytes > left)
            bytes = (size_t) left;
        buf_reset(&r->window);
        r->window_at = r->at;
        n = fd_pread_all(r->fd, buf_reserve(&r->window, bytes), bytes, (off_t) r->at);
        if (n < 0)
            return err_sys(err, "read");
        buf_advance(&r->window, (size_t) n);
        if ((size_t) n < want)
            return err_permanent(err, "the file became shorter while it was read");
    }
    skip = (size_t) (r->at - r->window_at);
    *out = slice_sub(buf_view(&r->window), skip, r->window.len);
    return 0;
}

/* The length at the front of s; its own bytes, or 0: it has no end, or is absurd. */
static size_t get_length(struct slice s, uint64_t *out)
{
    uint64_t length = 0;

    for (size_t i = 0; i < s.len && i < LENGTH_BYTES; i++) {
        unsigned char c = (unsigned char) s.ptr[i];

        length |= (uint64_t) (c & 0x7f) << (7 * i);
        if ((c & 0x80) == 0) {
            *out = length;
            return i + 1;
        }
    }
    return 0;
}

static int follow(struct import_reader *r, const struct import_record *rec, struct err *err)
{
    static char yes;
    int64_t to;

    if (num_parse_i64(slice_trim(rec->data, NULL), 0, INT64_MAX, &to, err) == -1)
        return err_prefix(err, "pointer at %" PRIu64 ": ", rec->at);
    if (to == 0)
        return 0;
    if ((uint64_t) to >= r->size)
        return err_input(err, "the pointer at %" PRIu64 " leads out of the file, to %" PRId64,
                         rec->at, to);
    if (r->followed == NULL)
        r->followed = htable_new(false);
    if (htable_put(r->followed, slice_of((const char *) &rec->at, sizeof(rec->at)), &yes) != NULL)
        return err_input(err, "the pointer at %" PRIu64 " leads in a circle", rec->at);
    r->at = (uint64_t) to;
    return 0;
}

enum import_result import_record_next(struct import_reader *r, struct import_record *out,
                                      struct err *err)
{
    while (r->at < r->size) {
        struct import_record rec = {.at = r->at};
        struct slice s;
        uint64_t length = 0;
        size_t head;

        if (view(r, 1 + LENGTH_BYTES, &s, err) == -1)
            return IMPORT_ERROR;
        rec.type = (unsigned char) s.ptr[0];
        head = get_length(slice_sub(s, 1, s.len), &length);
        if (head == 0 || length > IMPORT_RECORD_MAX) {
            err_input(err, "the record at %" PRIu64 " has no length that can be", rec.at);
            return IMPORT_ERROR;
        }
        head++;
        if (length > r->size - r->at - head) {
            err_input(err, "the file ends within the record at %" PRIu64, rec.at);
            return IMPORT_ERROR;
        }
        if (view(r, head + (size_t) length, &s, err) == -1)
            return IMPORT_ERROR;
        rec.data = slice_sub(s, head, head + (size_t) length);
        r->at += head + length;
        if (rec.type == IMPORT_POINTER) {
            if (follow(r, &rec, err) == -1)
                return IMPORT_ERROR;
        } else if (rec.type != IMPORT_PADDING) {
            *out = rec;
            return IMPORT_RECORD;
        }
    }
    return IMPORT_EOF;
}
