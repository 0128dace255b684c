/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_retry.h - when a deferred recipient is tried again: the back-off that grows with the age of its message, or a schedule from
 * retry_schedule_maps. Times carry jitter, so that what was deferred together does not come back together.
 */
#ifndef PR_QMGR_RETRY_H
#define PR_QMGR_RETRY_H

#include "base/err.h"
#include "base/slice.h"

#define RETRY_TIMES_MAX 32

/*
 * "1m 5m 15m 1h*": attempts one minute after the first, five minutes after that, and so on: at fixed ages of the message,
 * whatever else (postqueue -f) has it tried in between. The last time repeats if a * follows it; else the recipient fails when the
 * times are over.
 */
struct retry_schedule {
    unsigned count;
    bool repeats;
    int64_t times_s[RETRY_TIMES_MAX];
};
/* -1 with err: not 1..RETRY_TIMES_MAX times of at least a second, or a * that does not end the list. */
NODISCARD int retry_schedule_parse(struct slice text, struct retry_schedule *out, struct err *err);

/* Random bits; state is any number but 0. */
uint32_t retry_random(uint64_t *state);

/* How long until the next attempt, at this age; -1: the times are over. */
int64_t retry_schedule_us(const struct retry_schedule *s, int64_t age_us, uint32_t random);
/* The same by age, between the limits. */
int64_t retry_backoff_us(int64_t age_us, int64_t minimal_s, int64_t maximal_s, uint32_t random);

#endif
