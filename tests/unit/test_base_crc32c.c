/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_crc32c.c - lib/base/crc32c.h against RFC 3720 B.4 and a bit-wise model. */
#include "test_base.h"

#include "base/crc32c.h"

static uint32_t model(const unsigned char *p, size_t len)
{
    uint32_t c = 0xffffffffU;

    for (size_t i = 0; i < len; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++)
            c = (c & 1) != 0 ? (c >> 1) ^ 0x82f63b78U : c >> 1;
    }
    return ~c;
}

static void test_known(void **state)
{
    unsigned char data[32];

    (void) state;
    check_int("nothing", crc32c(0, "", 0), 0);
    check_int("check value", crc32c(0, "123456789", 9), 0xe3069283U);
    memset(data, 0, sizeof(data));
    check_int("zeroes", crc32c(0, data, 32), 0x8a9136aaU);
    memset(data, 0xff, sizeof(data));
    check_int("ones", crc32c(0, data, 32), 0x62a8ab43U);
    for (unsigned i = 0; i < 32; i++)
        data[i] = (unsigned char) i;
    check_int("rising", crc32c(0, data, 32), 0x46dd794eU);
}

static void test_pieces(void **state)
{
    unsigned char data[200];

    (void) state;
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char) (i * 37 + 11);
    for (size_t len = 0; len < 64; len++)
        for (size_t from = 0; from < 9; from++)
            check_int("length and alignment", crc32c(0, data + from, len), model(data + from, len));
    for (size_t cut = 0; cut <= sizeof(data); cut++)
        check_int("two pieces", crc32c(crc32c(0, data, cut), data + cut, sizeof(data) - cut),
                  model(data, sizeof(data)));
}

/* Lengths around those at which several pieces are summed up side by side. */
static void test_long(void **state)
{
    static const size_t lengths[] = {1023, 1024, 3071, 3072, 3073, 3080, 6143, 6144, 9999, 10000};
    unsigned char data[10000];
    uint32_t random = 1;

    (void) state;
    for (size_t i = 0; i < sizeof(data); i++) {
        random = random * 1103515245U + 12345;
        data[i] = (unsigned char) (random >> 16);
    }
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        const size_t len = lengths[i];

        check_int("long", crc32c(0, data, len), model(data, len));
        for (size_t cut = 1; cut < len; cut += 1009)
            check_int("long, in pieces", crc32c(crc32c(0, data, cut), data + cut, len - cut),
                      model(data, len));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_known), cmocka_unit_test(test_pieces),
                                       cmocka_unit_test(test_long)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
