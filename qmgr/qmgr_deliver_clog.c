/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_deliver_clog.c - qmgr_clog_warn_time: a warning when more than a fifth of the room in the active queue is taken by the mail for
 * one destination. The reference warns at the same number, in the same words; of its advice there is what applies here: other mail does
 * not get slower by it before the queue is full.
 */
#include "base/log.h"
#include "qmgr/qmgr_deliver_int.h"

#define CLOG_SHARE 5

/* Deferrals and returns on their way to the log are nobody's mail. */
static bool is_internal(const struct agents *a)
{
    struct slice name = slice_str(sched_transport_name(a->transport));

    return slice_eq_str(name, "retry") || slice_eq_str(name, "error");
}

void clog_check(const struct agents *a, struct sched_dest *d)
{
    const struct qmgr *q = a->qmgr;
    const struct qmgr_params *p = &q->gen->p;
    size_t n = sched_dest_messages(d);
    struct sched_dest_info i;

    if (n <= (size_t) p->active_limit / CLOG_SHARE || p->clog_warn_s == 0 || !p->helpful_warnings ||
        is_internal(a) || !sched_dest_may_warn(d, loop_now(q->loop), p->clog_warn_s * 1000))
        return;
    sched_dest_info(d, &i);
    log_warning("mail for %.*s is using up %zu of %zu active queue entries",
                SLICE_FMT(sched_dest_nexthop(d)), n, q->queue.nactive);
    if (i.limit > 0 && i.busy >= i.limit)
        log_warning("you may need to increase the main.cf %s_destination_concurrency_limit from %u",
                    sched_transport_name(a->transport), i.limit);
    else
        log_warning("you may need to reduce the timeouts of transport %s, so that hosts that do "
                    "not answer are given up sooner",
                    sched_transport_name(a->transport));
    log_warning("to turn off these warnings specify: qmgr_clog_warn_time = 0");
}
