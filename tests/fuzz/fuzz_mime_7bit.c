/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_mime_7bit.c - conversion to 7 bits: the same whatever the pieces. */
#include <stdint.h>
#include <stdlib.h>

#include "mail/mime_7bit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void convert(struct slice text, size_t piece, struct buf *out)
{
    struct mime_7bit *m = mime_7bit_new();

    while (text.len > 0) {
        mime_7bit_feed(m, slice_sub(text, 0, piece), out);
        text = slice_sub(text, piece, text.len);
    }
    mime_7bit_end(m, out);
    mime_7bit_free(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t piece = size > 0 ? data[0] % 17 + 1U : 1U;
    struct slice text = slice_of((const char *) data, size);
    struct buf whole = BUF_INIT(SIZE_MAX);
    struct buf pieces = BUF_INIT(SIZE_MAX);

    convert(text, SIZE_MAX, &whole);
    convert(text, piece, &pieces);
    if (!slice_eq(buf_view(&whole), buf_view(&pieces)))
        abort();
    buf_fini(&whole);
    buf_fini(&pieces);
    return 0;
}
