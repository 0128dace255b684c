/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_store_journal.c - the bytes of the queue's files: written, read back, refused when damaged. PR_SEEDS=DIR writes the seeds of
 * the fuzz target there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include "base/crc32c.h"
#include "qmgr/journal.h"

static void seed(const char *name, char kind, const void *data, size_t len)
{
    const char *dir = getenv("PR_SEEDS");
    char path[512];
    FILE *f;

    if (dir == NULL)
        return;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    f = fopen(path, "wb");
    assert_non_null(f);
    fputc(kind, f);
    fwrite(data, 1, len, f);
    fclose(f);
}

static void test_head(void **state)
{
    struct journal_head h = {JOURNAL_SEGMENT, 0x1122334455667788, 7, 1 << 24};
    struct journal_head got;
    unsigned char raw[JOURNAL_HEAD_BYTES];

    (void) state;
    journal_head_put(&h, raw);
    seed("head", 0, raw, sizeof(raw));
    assert_memory_equal(raw, "PRJ1\1\0\0\0\x88\x77\x66\x55\x44\x33\x22\x11\7\0\0\0\0\0\0\0", 24);
    assert_true(journal_head_get(raw, sizeof(raw), JOURNAL_SEGMENT, &got));
    assert_int_equal(got.epoch, h.epoch);
    assert_int_equal(got.number, 7);
    assert_int_equal(got.bytes, 1 << 24);
    assert_false(journal_head_get(raw, sizeof(raw), JOURNAL_FILE, &got));
    assert_false(journal_head_get(raw, sizeof(raw) - 1, JOURNAL_SEGMENT, &got));
    for (size_t i = 0; i < sizeof(raw); i++) {
        raw[i] ^= 0x10;
        if (journal_head_get(raw, sizeof(raw), JOURNAL_SEGMENT, &got))
            fail_msg("byte %zu damaged: got a head, wanted none", i);
        raw[i] ^= 0x10;
    }
}

static void test_record(void **state)
{
    struct journal_record r = {
        .type = JOURNAL_MESSAGE, .epoch = 9, .offset = 4096, .content_bytes = 13, .meta_bytes = 5};
    struct journal_record got;
    unsigned char raw[JOURNAL_RECORD_BYTES + 24] = {0};

    (void) state;
    r.length = JOURNAL_RECORD_BYTES + 8 + 16;
    memcpy(raw + JOURNAL_RECORD_BYTES, "meta!", 5);
    memcpy(raw + JOURNAL_RECORD_BYTES + 8, "content here.", 13);
    r.payload_crc = crc32c(0, raw + JOURNAL_RECORD_BYTES, 24);
    journal_record_put(&r, raw);
    seed("record", 1, raw, sizeof(raw));
    seed("record-fixed", (char) 0x81, raw, sizeof(raw));
    assert_true(journal_record_get(raw, sizeof(raw), 9, 4096, &got));
    assert_int_equal(journal_content_at(&got), JOURNAL_RECORD_BYTES + 8);
    assert_true(journal_payload_ok(&got, raw + JOURNAL_RECORD_BYTES));
    assert_false(journal_record_get(raw, sizeof(raw), 8, 4096, &got)); /* of an earlier use */
    assert_false(journal_record_get(raw, sizeof(raw), 9, 4104, &got)); /* a copy of it elsewhere */
    assert_false(journal_record_get(raw, JOURNAL_RECORD_BYTES - 1, 9, 4096, &got));
    for (size_t i = 0; i < sizeof(raw); i++) {
        raw[i] ^= 1;
        if (journal_record_get(raw, sizeof(raw), 9, 4096, &got) &&
            journal_payload_ok(&got, raw + JOURNAL_RECORD_BYTES))
            fail_msg("byte %zu damaged: got a record, wanted none", i);
        raw[i] ^= 1;
    }
}

/* Heads whose checksum is right, but what they say cannot be. */
static void test_impossible_records(void **state)
{
    static const struct {
        const char *name;
        struct journal_record r;
    } cases[] = {
        {"no epoch", {.type = 1, .length = 64}},
        {"unknown type", {.type = 9, .epoch = 1, .length = 64}},
        {"length too small", {.type = 1, .epoch = 1, .length = 64, .meta_bytes = 8}},
        {"length too great", {.type = 1, .epoch = 1, .length = 80, .meta_bytes = 8}},
        {"length of nothing", {.type = 1, .epoch = 1, .length = 0}},
        {"content beyond all limits",
         {.type = 1, .epoch = 1, .length = 64, .content_bytes = UINT64_MAX}},
        {"length that wraps",
         {.type = 1, .epoch = 1, .length = 56, .content_bytes = UINT64_MAX - 7}},
        {"seal with content", {.type = 2, .epoch = 1, .length = 72, .content_bytes = 8}},
    };

    (void) state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned char raw[JOURNAL_RECORD_BYTES];
        struct journal_record got;

        journal_record_put(&cases[i].r, raw);
        if (journal_record_get_any(raw, sizeof(raw), 0, &got))
            fail_msg("%s: got a record, wanted none", cases[i].name);
    }
}

static void test_meta(void **state)
{
    struct mail_envelope env = {
        .queue_id = SLICE_LIT("ABCDEF"), .sender = SLICE_LIT("s@x"), .flags = 5};
    struct mail_rcpt rcpts[3] = {{.addr = SLICE_LIT("a@x")},
                                 {.addr = SLICE_LIT("b@x"), .notify = 3},
                                 {.addr = SLICE_LIT("c")}};
    struct buf out = BUF_INIT(SIZE_MAX);
    struct mail_envelope got;
    struct mail_rcpt rcpt;
    struct slice rest;
    uint32_t n;
    struct err err;

    (void) state;
    assert_int_equal(journal_meta_put(&env, rcpts, 3, &out, &err), 0);
    seed("meta", 2, out.ptr, out.len);
    assert_int_equal(journal_meta_get(buf_view(&out), &got, &rest, &n, &err), 0);
    assert_int_equal(n, 3);
    assert_true(slice_eq_str(got.sender, "s@x"));
    for (int i = 0; i < 3; i++)
        assert_int_equal(journal_rcpt_next(&rest, &rcpt, &err), 0);
    assert_true(slice_eq_str(rcpt.addr, "c"));
    assert_int_equal(journal_rcpt_next(&rest, &rcpt, &err), -1);
    /* cut at every place: an error, or fewer recipients than it says */
    for (size_t len = 0; len < out.len; len++) {
        bool whole = journal_meta_get(slice_of(out.ptr, len), &got, &rest, &n, &err) == 0;

        for (int i = 0; whole && i < 3; i++)
            whole = journal_rcpt_next(&rest, &rcpt, &err) == 0;
        if (whole)
            fail_msg("cut to %zu: got all, wanted an error", len);
    }
    buf_fini(&out);
}

static void test_notes(void **state)
{
    static char long_reason[20000];
    struct journal_note notes[] = {
        {.type = NOTE_REMOVED, .message = 4096},
        {.type = NOTE_MOVED, .message = 4096},
        {.type = NOTE_RCPT_DONE, .message = 8, .prev = 40, .index = 7},
        {.type = NOTE_DEFERRED,
         .index = 1,
         .code = SLICE_LIT("4.4.1"),
         .reason = SLICE_LIT("connection refused")},
        {.type = NOTE_DEFERRED, .index = 2, .reason = {long_reason, sizeof(long_reason)}},
        {.type = NOTE_STATE, .state = {.attempts = 3, .next_retry_us = -5, .warned = true}},
        {.type = NOTE_STATE, .state = {.attempts = 1, .hold = true}},
        {.type = NOTE_STATE, .state = {.attempts = 1, .remove = true}},
        {.type = NOTE_STATE, .state = {.attempts = 1, .requeue = true}},
    };
    struct buf out = BUF_INIT(SIZE_MAX);
    size_t at = 0;

    (void) state;
    memset(long_reason, 'x', sizeof(long_reason));
    for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++)
        journal_note_put(&notes[i], 77, &out);
    for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++) {
        struct journal_note n;
        size_t used = journal_note_get(out.ptr + at, out.len - at, 77, &n);
        struct journal_note bad;

        assert_true(used > 0 && used <= JOURNAL_NOTE_MAX);
        assert_int_equal(n.type, notes[i].type);
        assert_int_equal(n.index, notes[i].index);
        assert_int_equal(n.message, notes[i].message);
        assert_int_equal(n.prev, notes[i].prev);
        assert_int_equal(n.state.next_retry_us, notes[i].state.next_retry_us);
        assert_int_equal(n.state.warned, notes[i].state.warned);
        assert_int_equal(n.state.hold, notes[i].state.hold);
        assert_int_equal(n.state.remove, notes[i].state.remove);
        assert_int_equal(n.state.requeue, notes[i].state.requeue);
        assert_true(slice_starts_with(notes[i].reason, n.reason) &&
                    n.reason.len <= JOURNAL_NOTE_MAX);
        assert_int_equal(journal_note_get(out.ptr + at, out.len - at, 78, &bad), 0);
        assert_int_equal(journal_note_get(out.ptr + at, used - 1, 77, &bad), 0);
        for (size_t k = 0; k<used; k += used> 1000 ? 97 : 1) {
            out.ptr[at + k] ^= 4;
            if (journal_note_get(out.ptr + at, used, 77, &bad) != 0)
                fail_msg("note %zu, byte %zu damaged: got a note, wanted none", i, k);
            out.ptr[at + k] ^= 4;
        }
        at += used;
    }
    assert_int_equal(at, out.len);
    buf_reset(&out);
    for (size_t i = 0; i < 4; i++)
        journal_note_put(&notes[i], 1, &out);
    seed("notes", 3, out.ptr, out.len);
    buf_reset(&out);
    journal_note_put(&notes[5], 1, &out);
    seed("note-state", (char) 0x83, out.ptr, out.len);
    buf_fini(&out);
}

static void test_find(void **state)
{
    struct journal_record r = {.type = JOURNAL_SEAL, .epoch = 5, .length = JOURNAL_RECORD_BYTES};
    unsigned char area[512];

    (void) state;
    for (size_t at = 0; at + JOURNAL_RECORD_BYTES <= sizeof(area); at += 8) {
        memset(area, 'P', sizeof(area));
        r.offset = 8192 + at;
        journal_record_put(&r, area + at);
        assert_int_equal(journal_find(area, 0, sizeof(area), 5, 8192), at);
        assert_int_equal(journal_find(area, at, sizeof(area), 5, 8192), at);
        assert_int_equal(journal_find(area, at + 1, sizeof(area), 5, 8192), sizeof(area));
        assert_int_equal(journal_find(area, 0, sizeof(area), 6, 8192), sizeof(area));
        assert_int_equal(journal_find(area, 0, sizeof(area), 5, 4096), sizeof(area));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_record),
        cmocka_unit_test(test_impossible_records),
        cmocka_unit_test(test_meta),
        cmocka_unit_test(test_notes),
        cmocka_unit_test(test_find),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
