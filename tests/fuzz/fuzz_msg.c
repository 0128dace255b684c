/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_msg.c - any bytes into msg_decode(). What it accepts must be encoded and decoded again to the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sample {
    uint32_t small;
    uint32_t any;
    uint64_t id;
    int64_t offset;
    struct slice name;
    struct slice text;
    struct slice must;
};

static const struct msg_field fields[] = {
    MSG_FIELD_U32(1, sample, small, 7),
    MSG_FIELD_U32(2, sample, any, 0),
    MSG_FIELD_U64(3, sample, id),
    MSG_FIELD_I64(4, sample, offset),
    MSG_FIELD_BYTES(5, sample, name, 10),
    MSG_FIELD_BYTES(0x506, sample, text, 1 << 20),
    MSG_FIELD_BYTES_REQUIRED(7, sample, must, 3),
};

static const struct msg_def def = {1, "sample", sizeof(struct sample), fields, ARRAY_LEN(fields)};

static bool within(struct slice s, const uint8_t *data, size_t size)
{
    const uint8_t *p = (const uint8_t *) s.ptr;

    return s.len == 0 || (p >= data && s.len <= size && p <= data + size - s.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    struct buf out = BUF_INIT(SIZE_MAX);
    struct sample m;
    struct sample again;

    if (msg_decode(&def, slice_of((const char *) data, size), &m, &err) == -1) {
        if (err.kind != ERR_BAD_INPUT || err.text[0] == '\0')
            abort();
        return 0;
    }
    if (m.small > 7 || m.name.len > 10 || m.must.len > 3 || !within(m.name, data, size) ||
        !within(m.text, data, size) || !within(m.must, data, size))
        abort();
    if (msg_encode(&def, &m, &out, &err) == -1 || out.len > size)
        abort(); /* unknown tags and zeroes are left out, so that it is never longer */
    if (msg_decode(&def, buf_view(&out), &again, &err) == -1)
        abort();
    if (again.small != m.small || again.any != m.any || again.id != m.id ||
        again.offset != m.offset || !slice_eq(again.name, m.name) ||
        !slice_eq(again.text, m.text) || !slice_eq(again.must, m.must))
        abort();
    buf_fini(&out);
    return 0;
}
