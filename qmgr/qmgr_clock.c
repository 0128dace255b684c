/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr_clock.c - see qmgr_clock.h. */
#include "qmgr/qmgr_clock.h"

#include <string.h>

#define JUMP_US 30000000 /* less than this is a correction: it is followed */

void qmgr_clock_init(struct qmgr_clock *c, struct mono_time mono, struct wall_time wall)
{
    *c = (struct qmgr_clock){.mono = mono, .wall_us = wall.us};
}

int64_t qmgr_clock_compare(struct qmgr_clock *c, struct mono_time mono, struct wall_time wall)
{
    int64_t expected = c->wall_us + (mono.us - c->mono.us);
    int64_t jump = wall.us - expected;

    c->mono = mono;
    c->wall_us = wall.us;
    if (jump > -JUMP_US && jump < JUMP_US)
        return 0;
    c->offset_us -= jump;
    if (c->nsteps == CLOCK_STEPS) {
        memmove(c->steps, c->steps + 1, (CLOCK_STEPS - 1) * sizeof(c->steps[0]));
        c->nsteps--;
    }
    c->steps[c->nsteps++] = (struct clock_step){expected, wall.us};
    return jump;
}

int64_t qmgr_clock_us(const struct qmgr_clock *c, struct wall_time wall)
{
    return wall.us + c->offset_us;
}

int64_t qmgr_clock_age_us(const struct qmgr_clock *c, int64_t arrival_us, struct wall_time wall)
{
    int64_t offset = c->offset_us;
    int64_t age;

    /* from the last one back: was it after this step that the clock said so? If not, the offset was another then. */
    for (unsigned i = c->nsteps; i > 0; i--) {
        const struct clock_step *s = &c->steps[i - 1];
        int64_t after = s->after_us;

        if (arrival_us >= after)
            break;
        offset += s->after_us - s->before_us;
    }
    age = qmgr_clock_us(c, wall) - (arrival_us + offset);
    return age > 0 ? age : 0;
}
