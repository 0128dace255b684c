/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_address.c - any bytes as a path of MAIL and RCPT, and as a header's value. */
#include "mail/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(struct slice raw, struct slice addr, void *arg)
{
    const struct slice *value = arg;

    /* what is found lies inside the value */
    if (raw.ptr < value->ptr || raw.ptr + raw.len > value->ptr + value->len || addr.len == 0)
        __builtin_trap();
}

static bool keep(struct slice addr, struct buf *out, void *arg)
{
    (void) addr;
    (void) out;
    (void) arg;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_of((const char *) data, size);

    for (int i = 0; i < 4; i++) {
        struct buf out = BUF_INIT(4096);
        struct buf quoted = BUF_INIT(16384);
        struct slice rest = text;
        struct err err = ERR_INIT;

        if (address_parse_path(&rest, (i & 1) != 0, (i & 2) != 0, &out, &err) == 0)
            address_quote(buf_view(&out), &quoted);
        buf_fini(&out);
        buf_fini(&quoted);
    }
    if (size > 0) {
        struct buf copy = BUF_INIT(SIZE_MAX);

        address_header_each(text, use, &text);
        /* nothing replaced: the same bytes */
        address_header_rewrite(text, keep, NULL, &copy);
        if (!slice_eq(buf_view(&copy), text))
            __builtin_trap();
        buf_fini(&copy);
    }
    (void) hostname_valid(text);
    (void) address_literal_valid(text);
    return 0;
}
