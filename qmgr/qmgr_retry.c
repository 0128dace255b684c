/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr_retry.c - see qmgr_retry.h. */
#include "qmgr/qmgr_retry.h"

#include "base/num.h"

#define SECOND_US     1000000LL
#define TIME_MAX_S    (100LL * 86400)
#define JITTER_SHARE  10                /* a tenth */
#define JITTER_MAX_US (600 * SECOND_US) /* of a scheduled time */

int retry_schedule_parse(struct slice text, struct retry_schedule *out, struct err *err)
{
    struct retry_schedule s = {0};
    struct slice rest = text;
    struct slice word;

    while (slice_token(&rest, ", \t\r\n", &word)) {
        if (s.repeats)
            return err_input(err, "bad retry schedule: %.*s: nothing may follow *",
                             SLICE_FMT(text));
        if (s.count == RETRY_TIMES_MAX)
            return err_input(err, "bad retry schedule: %.*s: more than %d times", SLICE_FMT(text),
                             RETRY_TIMES_MAX);
        if (word.len > 1 && word.ptr[word.len - 1] == '*') {
            s.repeats = true;
            word.len--;
        }
        if (num_parse_time(word, 's', TIME_MAX_S, &s.times_s[s.count], err) == -1)
            return err_prefix(err, "bad retry schedule: %.*s: ", SLICE_FMT(text));
        if (s.times_s[s.count++] == 0)
            return err_input(err, "bad retry schedule: %.*s: a time of 0", SLICE_FMT(text));
    }
    if (s.count == 0)
        return err_input(err, "bad retry schedule: it is empty");
    *out = s;
    return 0;
}

uint32_t retry_random(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *state = x;
    return (uint32_t) (x >> 32);
}

/* 0..most */
static int64_t share(int64_t most, uint32_t random)
{
    return (int64_t) ((double) most * random / UINT32_MAX);
}

int64_t retry_schedule_us(const struct retry_schedule *s, int64_t age_us, uint32_t random)
{
    int64_t at = 0; /* the age at which an attempt is due */
    int64_t jitter;
    int64_t step = 0;

    /* an attempt that came late, or took long, counts for the one that would be due at once */
    for (unsigned i = 0; i < s->count; i++) {
        step = s->times_s[i] * SECOND_US;
        at += step;
        if (at - age_us >= step / 2)
            break;
    }
    if (at - age_us < step / 2) {
        int64_t late = age_us - at + step / 2;

        if (!s->repeats)
            return -1;
        at += (late + step - 1) / step * step;
    }
    jitter = step / JITTER_SHARE;
    if (jitter > JITTER_MAX_US)
        jitter = JITTER_MAX_US;
    return at - age_us + share(jitter, random);
}

int64_t retry_backoff_us(int64_t age_us, int64_t minimal_s, int64_t maximal_s, uint32_t random)
{
    int64_t least = minimal_s * SECOND_US;
    int64_t most = maximal_s * SECOND_US;
    int64_t delay = age_us < least ? least : age_us > most ? most : age_us;
    int64_t from = delay - delay / JITTER_SHARE;
    int64_t to = delay + delay / JITTER_SHARE;

    if (from < least)
        from = least;
    if (to > most)
        to = most;
    return from + share(to - from, random);
}
