/* SPDX-License-Identifier: Apache-2.0 */
/* num.c - see num.h. */
#include "base/num.h"

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char) ascii_lower((unsigned char) c);
    return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

int num_parse_u64_base(struct slice s, int base, uint64_t max, uint64_t *out, struct err *err)
{
    uint64_t n = 0;

    if (s.len == 0)
        return err_input(err, "a number is missing");
    for (size_t i = 0; i < s.len; i++) {
        int d = digit(s.ptr[i]);

        if (d >= base)
            return err_input(err, "\"%.*s\" is not a number", SLICE_FMT(s));
        if (__builtin_mul_overflow(n, (uint64_t) base, &n) ||
            __builtin_add_overflow(n, (uint64_t) d, &n) || n > max)
            return err_input(err, "\"%.*s\" is greater than %llu", SLICE_FMT(s),
                             (unsigned long long) max);
    }
    *out = n;
    return 0;
}

int num_parse_i64(struct slice s, int64_t min, int64_t max, int64_t *out, struct err *err)
{
    bool negative = s.len > 0 && s.ptr[0] == '-';
    uint64_t n = 0;
    int64_t value;

    if (num_parse_u64_base(negative ? slice_sub(s, 1, s.len) : s, 10,
                           negative ? (uint64_t) INT64_MAX + 1 : INT64_MAX, &n, err) == -1)
        return -1;
    value = negative ? (int64_t) (0 - n) : (int64_t) n;
    if (value < min)
        return err_input(err, "%lld is less than %lld", (long long) value, (long long) min);
    if (value > max)
        return err_input(err, "%lld is greater than %lld", (long long) value, (long long) max);
    *out = value;
    return 0;
}

int num_parse_time(struct slice s, char default_unit, int64_t max_seconds, int64_t *out,
                   struct err *err)
{
    char unit = default_unit;
    struct slice number = s;
    int64_t factor;
    int64_t n = 0;

    if (s.len > 0 && ascii_is_alpha((unsigned char) s.ptr[s.len - 1])) {
        unit = s.ptr[s.len - 1];
        number.len--;
    }
    switch (unit) {
    case 's':
        factor = 1;
        break;
    case 'm':
        factor = 60;
        break;
    case 'h':
        factor = 3600;
        break;
    case 'd':
        factor = 86400;
        break;
    case 'w':
        factor = 604800;
        break;
    default:
        return err_input(err, "\"%.*s\" is not a time: units are s, m, h, d, w", SLICE_FMT(s));
    }
    if (num_parse_i64(number, 0, INT64_MAX / factor, &n, err) == -1)
        return err_prefix(err, "time: ");
    if (n * factor > max_seconds)
        return err_input(err, "\"%.*s\" is more than %lld seconds", SLICE_FMT(s),
                         (long long) max_seconds);
    *out = n * factor;
    return 0;
}

int num_parse_bool(struct slice s, bool *out, struct err *err)
{
    if (slice_caseeq_str(s, "yes"))
        *out = true;
    else if (slice_caseeq_str(s, "no"))
        *out = false;
    else
        return err_input(err, "\"%.*s\" is neither yes nor no", SLICE_FMT(s));
    return 0;
}
