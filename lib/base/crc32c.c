/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc32c.c - see crc32c.h.
 *
 * The instruction takes a word in each clock cycle, but has its result after three: three pieces of equal length are summed up
 * side by side. A sum over A B is that over A, moved on by as many zero bytes as B has, exclusive-or that over B from 0; as
 * this moving on is linear, a table for each byte of the sum does it.
 */
#include "base/crc32c.h"

#include <pthread.h>
#include <string.h>

#define LANE 1024 /* bytes of one of the three pieces */

static uint32_t table[256];
#if defined(__x86_64__)
#include <nmmintrin.h>

static uint32_t moved[4][256]; /* by LANE zero bytes */

static void prepare_moved(void)
{
    uint32_t basis[32];

    for (unsigned bit = 0; bit < 32; bit++) {
        uint32_t c = 1U << bit;

        for (int i = 0; i < LANE; i++)
            c = table[c & 0xff] ^ (c >> 8);
        basis[bit] = c;
    }
    for (unsigned byte = 0; byte < 4; byte++)
        for (unsigned value = 0; value < 256; value++)
            for (unsigned bit = 0; bit < 8; bit++)
                if ((value >> bit & 1) != 0)
                    moved[byte][value] ^= basis[8 * byte + bit];
}

static uint32_t move_on(uint32_t c)
{
    return moved[0][c & 0xff] ^ moved[1][c >> 8 & 0xff] ^ moved[2][c >> 16 & 0xff] ^
           moved[3][c >> 24];
}

static uint64_t word_at(const unsigned char *p)
{
    uint64_t word;

    memcpy(&word, p, sizeof(word));
    return word;
}

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc,
                                                                 const unsigned char *p, size_t len)
{
    uint64_t c = crc;

    for (; len >= (size_t) 3 * LANE; len -= (size_t) 3 * LANE, p += (size_t) 3 * LANE) {
        uint64_t second = 0;
        uint64_t third = 0;

        for (size_t i = 0; i < LANE; i += 8) {
            c = _mm_crc32_u64(c, word_at(p + i));
            second = _mm_crc32_u64(second, word_at(p + LANE + i));
            third = _mm_crc32_u64(third, word_at(p + (size_t) 2 * LANE + i));
        }
        c = move_on(move_on((uint32_t) c) ^ (uint32_t) second) ^ (uint32_t) third;
    }
    for (; len >= 8; len -= 8, p += 8)
        c = _mm_crc32_u64(c, word_at(p));
    for (; len > 0; len--)
        c = _mm_crc32_u8((uint32_t) c, *p++);
    return (uint32_t) c;
}
#endif

static bool has_instruction;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void prepare(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;

        for (int k = 0; k < 8; k++)
            c = (c & 1) != 0 ? (c >> 1) ^ 0x82f63b78U : c >> 1;
        table[i] = c;
    }
#if defined(__x86_64__)
    prepare_moved();
    has_instruction = __builtin_cpu_supports("sse4.2");
#endif
}

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    const unsigned char *p = data;

    pthread_once(&once, prepare);
    crc = ~crc;
#if defined(__x86_64__)
    if (has_instruction)
        return ~by_instruction(crc, p, len);
#endif
    for (; len > 0; len--)
        crc = table[(crc ^ *p++) & 0xff] ^ (crc >> 8);
    return ~crc;
}
