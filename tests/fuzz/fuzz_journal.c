/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_journal.c - any bytes as a file of the queue: heads, records, envelopes, notes. The first byte chooses what they are
 * taken for; with 0x80 in it the checksums are made right first, so that what stands behind them is reached.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "qmgr/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t) (v >> (8 * i));
}

static void as_meta(struct slice meta)
{
    struct mail_envelope env;
    struct mail_rcpt rcpt;
    struct slice rest;
    uint32_t count;
    struct err err;

    if (journal_meta_get(meta, &env, &rest, &count, &err) == -1)
        return;
    for (uint32_t i = 0; i < count; i++) {
        if (journal_rcpt_next(&rest, &rcpt, &err) == -1)
            return;
    }
}

static void as_record(uint8_t *p, size_t len, bool fix)
{
    struct journal_record r;

    if (fix && len >= JOURNAL_RECORD_BYTES) {
        memcpy(p, "PRR1", 4);
        put32(p + 52, crc32c(0, p + JOURNAL_RECORD_BYTES, len - JOURNAL_RECORD_BYTES));
        put32(p + 60, crc32c(0, p, 60));
    }
    (void) journal_find(p, 0, len, 1, 4096);
    for (uint64_t offset = 0; offset <= JOURNAL_SEGMENT_START; offset += 64) {
        if (!journal_record_get_any(p, len, offset, &r) || r.length > len)
            continue;
        (void) journal_payload_ok(&r, p + JOURNAL_RECORD_BYTES);
        as_meta(slice_of((char *) p + JOURNAL_RECORD_BYTES, r.meta_bytes));
    }
}

static void as_notes(uint8_t *p, size_t len, bool fix)
{
    struct journal_note n;
    struct buf out = BUF_INIT(SIZE_MAX);
    size_t used;

    if (fix && len >= JOURNAL_NOTE_BYTES) {
        uint8_t epoch[8] = {1};

        len &= ~(size_t) 7;
        put32(p + 4, (uint32_t) len);
        put32(p, crc32c(crc32c(0, epoch, sizeof(epoch)), p + 4, len - 4));
    }
    while ((used = journal_note_get(p, len, 1, &n)) > 0) {
        struct journal_note again;

        if (used > len || used % 8 != 0)
            abort();
        /* what was read can be written and read again */
        buf_reset(&out);
        journal_note_put(&n, 2, &out);
        if (journal_note_get(out.ptr, out.len, 2, &again) != out.len || again.type != n.type ||
            again.message != n.message || again.index != n.index)
            abort();
        p += used;
        len -= used;
    }
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct journal_head head;
    uint8_t *copy;
    bool fix;

    if (size < 1)
        return 0;
    copy = malloc(size);
    if (copy == NULL)
        abort();
    memcpy(copy, data + 1, size - 1);
    fix = (data[0] & 0x80) != 0;
    switch (data[0] & 3) {
    case 0:
        if (fix && size - 1 >= JOURNAL_HEAD_BYTES)
            put32(copy + 36, crc32c(0, copy, 36));
        (void) journal_head_get(copy, size - 1, JOURNAL_SEGMENT, &head);
        (void) journal_head_get(copy, size - 1, JOURNAL_FILE, &head);
        break;
    case 1:
        as_record(copy, size - 1, fix);
        break;
    case 2:
        as_meta(slice_of((char *) copy, size - 1));
        break;
    case 3:
        as_notes(copy, size - 1, fix);
        break;
    }
    free(copy);
    return 0;
}
