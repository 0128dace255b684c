/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_map_socketmap.c - any bytes as the reply of a socketmap server. */
#include "map_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct map_socketmap_reply r = {100000, MAP_REPLY_INIT};
    struct buf value = BUF_INIT(MAP_VALUE_MAX);
    struct err err = ERR_INIT;

    if (check_parser(map_socketmap_reply, slice_of((const char *) data, size), &r) > 0) {
        enum map_result res = map_reply_result(&r.reply, &value, &err);

        if (res != r.reply.result ||
            (res == MAP_FOUND && !slice_eq(buf_view(&value), buf_view(&r.reply.text))) ||
            (res == MAP_RETRY) != (err.kind == ERR_TEMPORARY))
            abort();
    }
    buf_fini(&value);
    buf_fini(&r.reply.text);
    return 0;
}
