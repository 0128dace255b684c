/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_retry_schedule.c - any bytes as a value of retry_schedule_maps: what is taken brings each age a next attempt, or ends. */
#include <stdint.h>
#include <stdlib.h>

#include "qmgr/qmgr_retry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int64_t ages_s[] = {0, 1, 59, 60, 3600, 86400, 432000, 100LL * 86400};
    struct retry_schedule s;
    struct err err = ERR_INIT;
    bool over = false;

    if (retry_schedule_parse(slice_of((const char *) data, size), &s, &err) == -1) {
        if (err.text[0] == '\0')
            abort();
        return 0;
    }
    if (s.count < 1 || s.count > RETRY_TIMES_MAX)
        abort();
    for (unsigned i = 0; i < s.count; i++)
        if (s.times_s[i] < 1)
            abort();
    for (size_t i = 0; i < sizeof(ages_s) / sizeof(ages_s[0]); i++) {
        int64_t least = retry_schedule_us(&s, ages_s[i] * 1000000, 0);
        int64_t most = retry_schedule_us(&s, ages_s[i] * 1000000, UINT32_MAX);

        /* a schedule that repeats has no end; one that has ended does not begin again */
        if ((least < 0) != (most < 0) || (least < 0 && s.repeats) || (least >= 0 && over))
            abort();
        over = least < 0;
    }
    return 0;
}
