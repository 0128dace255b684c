/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_msg.c - lib/base/msg.h: what is encoded is decoded, and any other bytes are an error. */
#include "test_base.h"

#include "base/msg.h"

struct sample {
    uint32_t count;
    uint32_t any;
    uint64_t id;
    int64_t offset;
    struct slice name;
    struct slice must;
};

static const struct msg_field sample_fields[] = {
    MSG_FIELD_U32(1, sample, count, 100), MSG_FIELD_U32(2, sample, any, 0),
    MSG_FIELD_U64(3, sample, id),         MSG_FIELD_I64(4, sample, offset),
    MSG_FIELD_BYTES(5, sample, name, 10), MSG_FIELD_BYTES_REQUIRED(0x1234, sample, must, 3),
};

static const struct msg_def sample_def = {7, "sample", sizeof(struct sample), sample_fields,
                                          ARRAY_LEN(sample_fields)};

static void test_round_trip(void **state)
{
    static const struct sample rows[] = {
        {0, 0, 0, 0, {NULL, 0}, {NULL, 0}},
        {100, UINT32_MAX, UINT64_MAX, INT64_MIN, {"0123456789", 10}, {"\0\0\0", 3}},
        {1, 2, 3, -4, {"x", 1}, {"", 0}},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf b = BUF_INIT(1000);
        struct err err = ERR_INIT;
        struct sample got;

        check_int("encode", msg_encode(&sample_def, &rows[i], &b, &err), 0);
        memset(&got, 0xff, sizeof(got));
        check_int(err.text, msg_decode(&sample_def, buf_view(&b), &got, &err), 0);
        check_int("count", got.count, rows[i].count);
        check_int("any", got.any, rows[i].any);
        check_int("id", (long long) got.id, (long long) rows[i].id);
        check_int("offset", got.offset, rows[i].offset);
        assert_true(slice_eq(got.name, rows[i].name));
        assert_true(slice_eq(got.must, rows[i].must));
        buf_fini(&b);
    }
}

static void test_wire(void **state)
{
    const struct sample m = {.count = 5, .name = SLICE_LIT("ab"), .must = SLICE_LIT("c")};
    struct buf b = BUF_INIT(1000);

    (void) state;
    buf_puts(&b, "before");
    check_int("encode", msg_encode(&sample_def, &m, &b, NULL), 0);
    assert_int_equal(b.len, 6 + 10 + 8 + 7);
    assert_memory_equal(b.ptr, "before\1\0\4\0\0\0\5\0\0\0\5\0\2\0\0\0ab\x34\x12\1\0\0\0c", b.len);
    buf_fini(&b);
}

static void test_encode_limits(void **state)
{
    static const struct {
        const char *name;
        struct sample m;
        size_t room;
    } rows[] = {
        {"count", {101, 0, 0, 0, {"", 0}, {"", 0}}, 1000},
        {"name", {0, 0, 0, 0, {"0123456789a", 11}, {"", 0}}, 1000},
        {"must", {0, 0, 0, 0, {"", 0}, {"1234", 4}}, 1000},
        {"too long", {1, 1, 1, 1, {"x", 1}, {"", 0}}, 20},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf b = BUF_INIT(rows[i].room);
        struct err err = ERR_INIT;

        check_int(rows[i].name, msg_encode(&sample_def, &rows[i].m, &b, &err), -1);
        check_int(rows[i].name, err.kind, ERR_BAD_INPUT);
        check_contains("names the message and the field", err.text, "sample");
        check_contains("names the message and the field", err.text, rows[i].name);
        buf_fini(&b);
    }
}

#define MUST     "\x34\x12\0\0\0\0"
#define BYTES(s) s, sizeof(s) - 1

static void test_decode(void **state)
{
    static const struct {
        const char *name;
        const char *bytes;
        size_t len;
        const char *why; /* NULL: decoded */
    } rows[] = {
        {"least", BYTES(MUST), NULL},
        {"empty", BYTES(""), "must is missing"},
        {"unknown tag is skipped", BYTES(MUST "\x99\x99\3\0\0\0abc"), NULL},
        {"unknown tag twice", BYTES("\x99\x99\0\0\0\0\x99\x99\0\0\0\0" MUST), NULL},
        {"cut in the head", BYTES(MUST "\1\0\4\0\0"), "cut off"},
        {"cut in the field", BYTES(MUST "\1\0\4\0\0\0abc"), "longer than its message"},
        {"longest length", BYTES(MUST "\x99\x99\xff\xff\xff\xff"), "longer than its message"},
        {"repeated", BYTES(MUST MUST), "must comes twice"},
        {"u32 of 3", BYTES(MUST "\1\0\3\0\0\0\1\0\0"), "count has 3 bytes"},
        {"u32 of 5", BYTES(MUST "\1\0\5\0\0\0\1\0\0\0\0"), "count has 5 bytes"},
        {"u32 at its limit", BYTES(MUST "\1\0\4\0\0\0\144\0\0\0"), NULL},
        {"u32 over its limit", BYTES(MUST "\1\0\4\0\0\0\145\0\0\0"), "count is over its limit"},
        {"u64 of 4", BYTES(MUST "\3\0\4\0\0\0\1\0\0\0"), "id has 4 bytes"},
        {"i64 of 0", BYTES(MUST "\4\0\0\0\0\0"), "offset has 0 bytes"},
        {"bytes at their limit",
         BYTES(MUST "\5\0\12\0\0\0"
                    "0123456789"),
         NULL},
        {"bytes over it",
         BYTES(MUST "\5\0\13\0\0\0"
                    "0123456789a"),
         "name is over its limit"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err err = ERR_INIT;
        struct sample m;

        check_int(rows[i].name,
                  msg_decode(&sample_def, slice_of(rows[i].bytes, rows[i].len), &m, &err),
                  rows[i].why != NULL ? -1 : 0);
        if (rows[i].why != NULL) {
            check_contains(rows[i].name, err.text, rows[i].why);
            check_int(rows[i].name, err.kind, ERR_BAD_INPUT);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_wire),
        cmocka_unit_test(test_encode_limits),
        cmocka_unit_test(test_decode),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
