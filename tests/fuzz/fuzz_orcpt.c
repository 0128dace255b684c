/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_orcpt.c - original recipients: what is taken is UTF-8 or its type's own bytes, and what is printed of it is ASCII that says the same. */
#include <stdint.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "mail/orcpt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_of((const char *) data, size);
    struct buf addr = BUF_INIT(2048);
    struct buf printed = BUF_INIT(SIZE_MAX);
    struct buf again = BUF_INIT(SIZE_MAX);
    struct slice type;

    if (orcpt_parse(text, &type, &addr) == 0 && orcpt_is_utf8(type)) {
        if (!utf8_is_valid(buf_view(&addr)))
            abort();
        buf_puts(&printed, "utf-8;");
        orcpt_encode_utf8(buf_view(&addr), &printed);
        if (!slice_is_ascii(buf_view(&printed)) ||
            orcpt_parse(buf_view(&printed), &type, &again) == -1 ||
            !slice_eq(buf_view(&again), buf_view(&addr)))
            abort();
    }
    buf_reset(&printed);
    orcpt_print(text, &printed);
    if (!slice_is_ascii(buf_view(&printed)))
        abort();
    buf_fini(&addr);
    buf_fini(&printed);
    buf_fini(&again);
    return 0;
}
