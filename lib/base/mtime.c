/* SPDX-License-Identifier: Apache-2.0 */
/* mtime.c - see mtime.h. */
#include "base/mtime.h"

#include <time.h>

struct mono_time mono_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (struct mono_time){(int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000};
}

struct mono_time mono_after_ms(struct mono_time t, int64_t ms)
{
    int64_t us;

    if (t.us == INT64_MAX || __builtin_mul_overflow(ms, (int64_t) 1000, &us) ||
        __builtin_add_overflow(t.us, us, &us))
        return ms < 0 ? t : MONO_NEVER;
    return (struct mono_time){us};
}

int64_t mono_diff_us(struct mono_time later, struct mono_time earlier)
{
    int64_t us;

    if (__builtin_sub_overflow(later.us, earlier.us, &us))
        return later.us > earlier.us ? INT64_MAX : INT64_MIN;
    return us;
}

int64_t mono_diff_ms(struct mono_time later, struct mono_time earlier)
{
    return mono_diff_us(later, earlier) / 1000;
}

int mono_poll_ms(struct mono_time t)
{
    int64_t us;

    if (t.us == INT64_MAX)
        return -1;
    us = mono_diff_us(t, mono_now());
    if (us <= 0)
        return 0;
    return us / 1000 >= INT32_MAX ? INT32_MAX : (int) ((us + 999) / 1000);
}

struct wall_time wall_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (struct wall_time){(int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000};
}

int64_t wall_seconds(struct wall_time t)
{
    return t.us / 1000000;
}

/* Names are written out: strftime's depend on the locale. */
static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

static void local(struct wall_time t, struct tm *tm)
{
    time_t s = (time_t) wall_seconds(t);

    if (localtime_r(&s, tm) == NULL)
        *tm = (struct tm){.tm_mday = 1, .tm_year = 70, .tm_wday = 4};
}

void wall_rfc5322(struct wall_time t, struct buf *out)
{
    struct tm tm;
    long minutes;

    local(t, &tm);
    minutes = (tm.tm_gmtoff < 0 ? -tm.tm_gmtoff : tm.tm_gmtoff) / 60;
    buf_printf(out, "%s, %2d %s %d %02d:%02d:%02d %c%02ld%02ld", days[tm.tm_wday], tm.tm_mday,
               months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec,
               tm.tm_gmtoff < 0 ? '-' : '+', minutes / 60, minutes % 60);
    if (tm.tm_zone != NULL && tm.tm_zone[0] != '\0')
        buf_printf(out, " (%s)", tm.tm_zone);
}

void wall_syslog(struct wall_time t, struct buf *out)
{
    struct tm tm;

    local(t, &tm);
    buf_printf(out, "%s %2d %02d:%02d:%02d", months[tm.tm_mon], tm.tm_mday, tm.tm_hour, tm.tm_min,
               tm.tm_sec);
}

void wall_mailq(struct wall_time t, struct buf *out)
{
    struct tm tm;

    local(t, &tm);
    buf_printf(out, "%s %s %2d %02d:%02d:%02d", days[tm.tm_wday], months[tm.tm_mon], tm.tm_mday,
               tm.tm_hour, tm.tm_min, tm.tm_sec);
}
