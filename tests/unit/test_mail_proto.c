/* SPDX-License-Identifier: Apache-2.0 */
/* test_mail_proto.c - every message of the protocol: round trip, both sides of every limit, any bytes. Queue ids, DSN words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "mail/proto.h"
#include "mail/queue_id.h"

/* Fills a message's fields: strings of their limit (plus extra in one of them). */
static void fill(const struct msg_def *def, void *m, char *text, size_t over)
{
    for (size_t i = 0; i < def->nfields; i++) {
        char *at = (char *) m + def->fields[i].offset;

        if (def->fields[i].type == MSG_BYTES) {
            struct slice s = slice_of(text, def->fields[i].limit + (i == over ? 1 : 0));

            memcpy(at, &s, sizeof(s));
        } else if (def->fields[i].type == MSG_U32) {
            uint32_t n =
                def->fields[i].limit != 0 ? def->fields[i].limit + (i == over ? 1 : 0) : 77;

            memcpy(at, &n, sizeof(n));
        } else {
            uint64_t n = 1ULL << 40 | i;

            memcpy(at, &n, sizeof(n));
        }
    }
}

static void test_limits(void **state)
{
    char *text = xmalloc(FRAME_PAYLOAD_MAX);

    (void) state;
    memset(text, 'x', FRAME_PAYLOAD_MAX);
    for (const struct msg_def *const *d = proto_all; *d != NULL; d++) {
        const struct msg_def *def = *d;
        void *m = xcalloc(1, def->size);
        void *back = xcalloc(1, def->size);
        struct buf out = BUF_INIT(FRAME_PAYLOAD_MAX);
        struct buf again = BUF_INIT(FRAME_PAYLOAD_MAX);
        struct err err = ERR_INIT;

        fill(def, m, text, SIZE_MAX);
        if (msg_encode(def, m, &out, &err) == -1 ||
            msg_decode(def, buf_view(&out), back, &err) == -1 ||
            msg_encode(def, back, &again, &err) == -1)
            fail_msg("%s: %s", def->name, err.text);
        if (!slice_eq(buf_view(&out), buf_view(&again)))
            fail_msg("%s: does not come back as it went", def->name);
        for (size_t over = 0; over < def->nfields; over++) {
            if (def->fields[over].type != MSG_BYTES &&
                (def->fields[over].type != MSG_U32 || def->fields[over].limit == 0))
                continue;
            fill(def, m, text, over);
            buf_reset(&again);
            if (msg_encode(def, m, &again, &err) != -1)
                fail_msg("%s.%s: one over its limit passes", def->name, def->fields[over].name);
        }
        /* cut anywhere: an error or a message, never more */
        for (size_t cut = 0; cut < out.len; cut += 1 + out.len / 500)
            (void) !msg_decode(def, slice_sub(buf_view(&out), 0, cut), back, &err);
        for (size_t i = 0; i < def->nfields; i++)
            for (size_t k = i + 1; k < def->nfields; k++)
                if (def->fields[i].tag == def->fields[k].tag)
                    fail_msg("%s: tag %u is there twice", def->name, def->fields[i].tag);
        buf_fini(&out);
        buf_fini(&again);
        free(m);
        free(back);
    }
    free(text);
}

static void test_queue_id(void **state)
{
    char last[QUEUE_ID_MAX + 1] = "";

    (void) state;
    for (int i = 0; i < 1000; i++) {
        char id[QUEUE_ID_MAX + 1];
        char long_id[QUEUE_ID_MAX + 1];

        queue_id_new(false, id);
        queue_id_new(true, long_id);
        assert_true(queue_id_valid(slice_str(id)));
        assert_true(queue_id_valid(slice_str(long_id)));
        assert_string_not_equal(id, last);
        assert_true(queue_id_us(slice_str(long_id)) > queue_id_us(slice_str(id)));
        for (const char *p = id; *p != '\0'; p++)
            assert_true(ascii_is_digit((unsigned char) *p) || (*p >= 'A' && *p <= 'F'));
        assert_null(strpbrk(long_id, "AEIOUaeiou"));
        memcpy(last, id, sizeof(last));
    }
    assert_false(queue_id_valid(SLICE_LIT("../../x")));
    assert_false(queue_id_valid(SLICE_LIT("12345")));
    assert_true(queue_id_valid(SLICE_LIT("123456")));
    assert_false(queue_id_valid(SLICE_LIT("12345678901234567890123456789012")));
}

static void test_dsn(void **state)
{
    static const struct {
        const char *text, *code, *rest;
    } splits[] = {
        {"5.1.1 no such user", "5.1.1", "no such user"},
        {"no code", "", "no code"},
        {"5.1 x", "", "5.1 x"},
        {"3.1.1 x", "", "3.1.1 x"},
        {"4.123.456", "4.123.456", ""},
        {"4.1234.1 x", "", "4.1234.1 x"},
        {"5.1.1x", "", "5.1.1x"},
        {"", "", ""},
    };
    static const struct {
        const char *text;
        int ret;
        uint32_t bits;
    } notify[] = {
        {"NEVER", 0, DSN_NOTIFY_NEVER},
        {"success,FAILURE", 0, DSN_NOTIFY_SUCCESS | DSN_NOTIFY_FAILURE},
        {"DELAY", 0, DSN_NOTIFY_DELAY},
        {"NEVER,DELAY", -1, 0},
        {"", -1, 0},
        {"SUCCESS,", -1, 0},
        {"OFTEN", -1, 0},
    };
    struct err err = ERR_INIT;
    struct buf out = BUF_INIT(100);

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(splits); i++) {
        struct slice rest;
        struct slice code = dsn_code_split(slice_str(splits[i].text), &rest);

        if (!slice_eq_str(code, splits[i].code) || !slice_eq_str(rest, splits[i].rest))
            fail_msg("%s: got \"%.*s\" and \"%.*s\"", splits[i].text, SLICE_FMT(code),
                     SLICE_FMT(rest));
    }
    for (size_t i = 0; i < ARRAY_LEN(notify); i++) {
        uint32_t bits = 0;

        if (dsn_notify_parse(slice_str(notify[i].text), &bits, &err) != notify[i].ret ||
            bits != notify[i].bits)
            fail_msg("NOTIFY=%s: bits %u", notify[i].text, bits);
    }
    xtext_encode(SLICE_LIT("a+b=c d"), &out);
    assert_true(slice_eq_str(buf_view(&out), "a+2Bb+3Dc+20d"));
    buf_reset(&out);
    assert_int_equal(xtext_decode(SLICE_LIT("a+2Bb"), &out), 0);
    assert_true(slice_eq_str(buf_view(&out), "a+b"));
    assert_int_equal(xtext_decode(SLICE_LIT("a+2"), &out), -1);
    assert_int_equal(xtext_decode(SLICE_LIT("a+2g"), &out), -1);
    assert_int_equal(xtext_decode(SLICE_LIT("a=b"), &out), -1);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_queue_id),
        cmocka_unit_test(test_dsn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
