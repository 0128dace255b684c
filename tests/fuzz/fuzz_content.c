/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_content.c - any bytes as content: cut anywhere, the facts and the conversions are the same. */
#include "mail/content.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_of((const char *) data, size);
    size_t cut = size > 0 ? data[0] % size : 0;
    struct content_facts a;
    struct content_facts b;
    struct buf whole = BUF_INIT(SIZE_MAX);
    struct buf pieces = BUF_INIT(SIZE_MAX);
    struct slice rest = text;
    struct slice field;
    struct slice name;
    struct slice value;
    bool state = false;

    content_facts_init(&a);
    content_facts_scan(&a, text);
    content_facts_end(&a);
    content_facts_init(&b);
    content_facts_scan(&b, slice_sub(text, 0, cut));
    content_facts_scan(&b, slice_sub(text, cut, size));
    content_facts_end(&b);
    if (a.flags != b.flags || a.longest_line != b.longest_line || a.bytes != b.bytes)
        __builtin_trap();
    content_to_wire(text, &state, &whole);
    state = false;
    content_to_wire(slice_sub(text, 0, cut), &state, &pieces);
    content_to_wire(slice_sub(text, cut, size), &state, &pieces);
    if (!slice_eq(buf_view(&whole), buf_view(&pieces)))
        __builtin_trap();
    while (header_next(&rest, &field, &name, &value))
        if (field.len == 0)
            __builtin_trap();
    buf_fini(&whole);
    buf_fini(&pieces);
    return 0;
}
