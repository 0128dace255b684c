/* SPDX-License-Identifier: Apache-2.0 */
/* postqueue_until.c - the end of a suspension: a time from now, or RFC 3339 (section 5.6) to the second. */
#include <time.h>

#include "base/num.h"
#include "qmgr/postqueue_suspend.h"
#include "qmgr/qmgr_suspend.h"

#define UNTIL_SECONDS_MAX (100LL * 366 * 86400)

/* "NN" followed by `then` ('\0': by nothing that is looked at). */
static bool take(struct slice *s, size_t digits, char then, int64_t min, int64_t max, int *out)
{
    struct err err = ERR_INIT;
    int64_t n;

    for (size_t i = 0; i < digits; i++)
        if (i >= s->len || !ascii_is_digit((unsigned char) s->ptr[i]))
            return false;
    if (num_parse_i64(slice_sub(*s, 0, digits), min, max, &n, &err) == -1)
        return false;
    *s = slice_sub(*s, digits, s->len);
    if (then != '\0') {
        if (s->len == 0 || ascii_upper((unsigned char) s->ptr[0]) != then)
            return false;
        *s = slice_sub(*s, 1, s->len);
    }
    *out = (int) n;
    return true;
}

/* "Z", "+01:00" */
static bool take_zone(struct slice s, int64_t *offset_s)
{
    bool is_west = s.len > 0 && s.ptr[0] == '-';
    int hours;
    int minutes;

    *offset_s = 0;
    if (slice_caseeq_str(s, "Z"))
        return true;
    if (s.len != 6 || (s.ptr[0] != '+' && !is_west))
        return false;
    s = slice_sub(s, 1, s.len);
    if (!take(&s, 2, ':', 0, 23, &hours) || !take(&s, 2, '\0', 0, 59, &minutes))
        return false;
    *offset_s = (hours * 60 + minutes) * (is_west ? -60LL : 60LL);
    return true;
}

static bool take_rfc3339(struct slice s, int64_t *out_us)
{
    struct tm tm = {0};
    struct tm check;
    int64_t offset_s;
    time_t at;

    if (!take(&s, 4, '-', 1970, 9999, &tm.tm_year) || !take(&s, 2, '-', 1, 12, &tm.tm_mon) ||
        !take(&s, 2, 'T', 1, 31, &tm.tm_mday) || !take(&s, 2, ':', 0, 23, &tm.tm_hour) ||
        !take(&s, 2, ':', 0, 59, &tm.tm_min) || !take(&s, 2, '\0', 0, 59, &tm.tm_sec) ||
        !take_zone(s, &offset_s))
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    check = tm;
    at = timegm(&check);
    if (check.tm_mday != tm.tm_mday)
        return false; /* 30 February */
    *out_us = ((int64_t) at - offset_s) * 1000000;
    return *out_us > 0 && *out_us <= SUSPENSION_UNTIL_MAX;
}

int postqueue_until(struct slice text, int64_t now_us, int64_t *out_us, struct err *err)
{
    struct err other = ERR_INIT;
    int64_t s;

    if (take_rfc3339(text, out_us))
        return 0;
    /* a plain number might be meant as any unit, or as a year */
    if (text.len == 0 || ascii_is_digit((unsigned char) text.ptr[text.len - 1]) ||
        num_parse_time(text, 's', UNTIL_SECONDS_MAX, &s, &other) == -1 || s == 0)
        return err_input(err, "not a time from now (30m, 2h, 3d) nor one like "
                              "2030-12-31T18:00:00Z or 2030-12-31T18:00:00+01:00");
    *out_us = now_us + s * 1000000;
    return 0;
}
