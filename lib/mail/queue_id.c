/* SPDX-License-Identifier: Apache-2.0 */
/* queue_id.c - see queue_id.h. */
#include "mail/queue_id.h"

#include <stdio.h>

#include "base/metrics.h"

/* Digits and consonants: no words, no look-alikes of vowels. */
static const char safe[] = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";
#define BASE        52
#define USEC_DIGITS 4 /* 52^4 > 1,000,000 */

static size_t put_digits(uint64_t n, unsigned base, size_t at_least, char *out)
{
    char reversed[16];
    size_t len = 0;

    do {
        reversed[len++] = safe[n % base];
        n /= base;
    } while (n > 0 || len < at_least);
    for (size_t i = 0; i < len; i++)
        out[i] = reversed[len - 1 - i];
    return len;
}

void queue_id_new(bool long_form, char *out)
{
    uint64_t us = (uint64_t) metrics_unique_us();
    size_t len;

    if (!long_form) {
        snprintf(out, QUEUE_ID_MAX + 1, "%llX", (unsigned long long) us);
        return;
    }
    /* seconds, microseconds, "z", and a last part (without z) that is there for tools that expect one */
    len = put_digits(us / 1000000, BASE, 6, out);
    len += put_digits(us % 1000000, BASE, USEC_DIGITS, out + len);
    out[len++] = 'z';
    len += put_digits(us % 997, BASE - 1, 3, out + len);
    out[len] = '\0';
}

bool queue_id_valid(struct slice s)
{
    if (s.len < 6 || s.len > QUEUE_ID_MAX)
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!ascii_is_alnum((unsigned char) s.ptr[i]))
            return false;
    return true;
}

int64_t queue_id_us(struct slice s)
{
    ptrdiff_t z = slice_rfind(s, 'z');
    uint64_t n = 0;

    if (z > USEC_DIGITS) {
        uint64_t parts[2] = {0, 0};

        for (ptrdiff_t i = 0; i < z; i++) {
            const char *p = s.ptr[i] != '\0' ? strchr(safe, s.ptr[i]) : NULL;
            int part = i >= z - USEC_DIGITS;

            if (p == NULL)
                return 0;
            parts[part] = parts[part] * BASE + (uint64_t) (p - safe);
        }
        return parts[0] > INT64_MAX / 2000000 ? 0 : (int64_t) (parts[0] * 1000000 + parts[1]);
    }
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];

        if (!ascii_is_digit(c) && !(c >= 'A' && c <= 'F'))
            return 0;
        n = n * 16 + (uint64_t) (c <= '9' ? c - '0' : c - 'A' + 10);
        if (n > (1ULL << 60))
            return 0;
    }
    return (int64_t) n;
}
