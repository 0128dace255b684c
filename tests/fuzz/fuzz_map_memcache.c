/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_map_memcache.c - any bytes as what a memcached answers to "get key" and to "set". */
#include "map_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice input = slice_of((const char *) data, size);
    struct map_memcache_get get = {
        .key = SLICE_LIT("key"), .line_limit = 200, .data_limit = 100, .reply = MAP_REPLY_INIT};

    if (check_parser(map_memcache_get_reply, input, &get) > 0 && get.reply.result == MAP_FOUND &&
        get.reply.text.len > get.data_limit)
        abort();
    if (check_parser(map_memcache_set_reply, input, &get) > 0 && get.reply.result == MAP_NOTFOUND)
        abort();
    buf_fini(&get.reply.text);
    return 0;
}
