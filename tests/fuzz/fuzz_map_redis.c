/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_map_redis.c - any bytes as the reply of a Redis. */
#include "map_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct map_redis_reply reply = MAP_REDIS_REPLY_INIT;

    if (check_parser(map_redis_reply, slice_of((const char *) data, size), &reply) > 0) {
        size_t n = map_redis_count(&reply);
        size_t total = 0;

        for (size_t i = 0; i < n; i++)
            total += map_redis_element(&reply, i).len;
        if (total != reply.text.len || (reply.kind == MAP_REDIS_NIL && n != 0) ||
            (reply.kind != MAP_REDIS_NIL && reply.kind != MAP_REDIS_ARRAY && n != 1))
            abort();
    }
    buf_fini(&reply.text);
    buf_fini(&reply.ends);
    return 0;
}
