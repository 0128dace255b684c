/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_proto.c - any bytes as any message of the internal protocol; what decodes must encode again. */
#include "mail/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _Alignas(16) char m[4096];
    struct buf out = BUF_INIT(2 * FRAME_PAYLOAD_MAX);
    struct err err = ERR_INIT;

    for (const struct msg_def *const *d = proto_all; *d != NULL; d++) {
        if (msg_decode(*d, slice_of((const char *) data, size), m, &err) == -1)
            continue;
        buf_reset(&out);
        if (msg_encode(*d, m, &out, &err) == -1)
            __builtin_trap();
    }
    buf_fini(&out);
    return 0;
}
