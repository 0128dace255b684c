/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr_waits.c - see qmgr_waits.h. */
#include "qmgr/qmgr_waits.h"

#include "qmgr/queue_select.h"

static int64_t wall_of(const struct qmgr *q, struct mono_time t)
{
    return wall_now().us + mono_diff_us(t, loop_now(q->loop));
}

static bool is_future(const struct qmgr *q, struct mono_time t)
{
    return t.us != 0 && mono_diff_us(t, loop_now(q->loop)) > 0;
}

static void set(struct waits *w, const char *word, const char *text, int64_t until_us)
{
    *w = (struct waits){word, slice_str(text), until_us};
}

void waits_of_message(struct qmgr *q, const struct queued *qd, const struct mail_envelope *env,
                      struct arena *arena, struct waits *out)
{
    set(out, "", "", 0);
    switch ((enum where) qd->where) {
    case IN_HOLD:
        *out = (struct waits){"hold", queue_hold_text(env), 0};
        break;
    case IN_DEFERRED:
        set(out, "retry", "next attempt", qmgr_wall_us(q, store_msg_state(qd->m)->next_retry_us));
        break;
    case IN_INCOMING:
    case IN_DUE:
        if (q->queue.nactive >= (size_t) q->gen->p.active_limit)
            set(out, "turn",
                arena_printf(arena, "%zu others are active, qmgr_message_active_limit",
                             q->queue.nactive),
                0);
        else
            set(out, "turn", "in line to be active", 0);
        break;
    case IN_ACTIVE:
        if (qd->active->handover != NULL)
            set(out, "move",
                arena_printf(arena, "being moved to %.*s",
                             SLICE_FMT(handover_nexthop(qd->active->handover))),
                0);
        else
            set(out, "delivery", "being delivered", 0);
        break;
    case IN_HANDOVER:
        set(out, "move",
            arena_printf(arena, "to be moved to %.*s", SLICE_FMT(handover_nexthop(q->handover))),
            0);
        break;
    case IN_REQUEUE:
        set(out, "requeue", "in line to be queued anew", 0);
        break;
    case IN_MOVING:
    case IN_CORRUPT:
        break;
    }
}

static void set_suspended(struct waits *w, const struct suspension *s, struct arena *arena)
{
    set(w, "suspended", suspension_wait_text(s, arena), s->until_us);
}

static void set_dead(struct qmgr *q, const struct sched_dest *d, const struct sched_dest_info *i,
                     struct arena *arena, struct waits *out)
{
    set(out, "dead",
        arena_printf(arena, "destination %.*s is not tried", SLICE_FMT(sched_dest_nexthop(d))),
        wall_of(q, i->dead_until));
}

static void waits_in_line(struct qmgr *q, const struct rcpt *r, struct arena *arena,
                          struct waits *out)
{
    const struct sched_dest *d = sched_dest_find(q->sched, r->transport, r->nexthop, r->addr);
    struct sched_dest_info i;
    struct deliver_pause pause;

    deliver_pause(q, r->transport, &pause);
    if (d == NULL)
        return;
    sched_dest_info(d, &i);
    if (is_future(q, i.dead_until))
        set_dead(q, d, &i, arena, out);
    else if (is_future(q, pause.paused_until))
        set(out, "transport",
            arena_printf(arena, "service %.*s: %s", SLICE_FMT(r->transport), pause.reason),
            wall_of(q, pause.paused_until));
    else if (is_future(q, i.not_before))
        set(out, "rate",
            arena_printf(arena, "destination_rate_delay of %.*s to %.*s", SLICE_FMT(r->transport),
                         SLICE_FMT(r->nexthop)),
            wall_of(q, i.not_before));
    else if (is_future(q, i.transport_not_before))
        set(out, "rate",
            arena_printf(arena, "transport_rate_delay of %.*s", SLICE_FMT(r->transport)),
            wall_of(q, i.transport_not_before));
    else if (i.busy > 0 && i.busy >= i.window)
        set(out, "concurrency",
            arena_printf(arena, "%u deliveries to %.*s are under way, its limit now", i.busy,
                         SLICE_FMT(r->nexthop)),
            0);
    else if (pause.processes > 0 && pause.busy >= pause.processes)
        set(out, "processes",
            arena_printf(arena, "all %u of %.*s are busy", pause.processes,
                         SLICE_FMT(r->transport)),
            0);
    else
        set(out, "turn", arena_printf(arena, "in line for %.*s", SLICE_FMT(r->transport)), 0);
}

void waits_of_active(struct qmgr *q, const struct rcpt *r, struct arena *arena, struct waits *out)
{
    set(out, "", "", 0);
    if (r == NULL) {
        set(out, "memory", "recipients of the message before it, qmgr_message_recipient_limit", 0);
        return;
    }
    switch ((enum rcpt_state) r->state) {
    case RCPT_WAITING:
        if (r->part->phase == PHASE_RESOLVING)
            set(out, "lookup", "tables that say where it goes", 0);
        else
            waits_in_line(q, r, arena, out);
        break;
    case RCPT_INFLIGHT:
        set(out, "delivery", arena_printf(arena, "with service %.*s", SLICE_FMT(r->transport)), 0);
        break;
    case RCPT_FAILED:
        set(out, "report", "the report to its sender", 0);
        break;
    case RCPT_DEFERRED:
        set(out, "attempt", "the end of this attempt", 0);
        break;
    case RCPT_DONE:
        break;
    }
}

void waits_of_deferred(struct qmgr *q, struct slice sender, const struct store_rcpt *r,
                       struct arena *arena, struct waits *out)
{
    const struct suspension *s = suspension_find(
        &q->suspensions,
        &(struct suspension_mail){.sender = sender, .addr = r->r.addr, .has_sender = true});
    struct slice addr = r->r.addr;
    ptrdiff_t at = slice_rfind(addr, '@');
    struct slice site = at == -1 ? SLICE_EMPTY : slice_sub(addr, (size_t) at + 1, addr.len);
    const struct sched_dest *d = sched_find_dead(q->sched, site);
    struct sched_dest_info i;

    set(out, "", "", 0);
    if (s == NULL) /* what its next hop and transport were is known of the last attempt alone */
        s = suspension_of_reason(&q->suspensions, r->reason);
    if (s != NULL) {
        set_suspended(out, s, arena);
        return;
    }
    if (d == NULL)
        return;
    sched_dest_info(d, &i);
    set_dead(q, d, &i, arena, out);
}
