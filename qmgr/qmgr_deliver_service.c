/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_deliver_service.c - the transports: their limits, the connections to their agents, and trouble with the service itself.
 *
 * Such trouble (no connection, or it broke off) says nothing about mail or destinations: the transport
 * pauses for a second, longer each time, and its recipients stay in line. Three times in a row: it is suspended for
 * transport_retry_time and what waits for it is deferred.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "qmgr/qmgr_deliver_int.h"

#define FAILS_MAX 3

static void set_limits(struct agents *a)
{
    struct sched_limits limits;
    struct err err = ERR_INIT;

    if (qmgr_config_limits(a->qmgr->gen, sched_transport_name(a->transport), &limits, &err) == -1)
        log_warning("%s", err.text);
    sched_transport_set_limits(a->transport, &limits);
    a->defers = qmgr_config_defers(a->qmgr->gen, slice_str(sched_transport_name(a->transport)));
}

struct agents *agents_of(struct qmgr *q, struct slice name)
{
    bool made;
    struct sched_transport *t = sched_transport(q->sched, name, &made);
    struct buf path = BUF_INIT(SIZE_MAX);
    struct agents *a;

    if (!made)
        return sched_transport_data(t);
    a = xcalloc(1, sizeof(*a));
    a->qmgr = q;
    a->transport = t;
    qmgr_service_path(q, sched_transport_name(t), &path);
    a->links = link_pool_new(q->loop, buf_cstr(&path), "qmgr", &deliver_link_events);
    buf_fini(&path);
    sched_transport_set_data(t, a);
    set_limits(a);
    return a;
}

/* --- trouble ---------------------------------------------------------------------------------------- */

static void give_up(struct sched_dest *d, void *arg)
{
    sched_dest_give_up(d, arg);
}

static void suspend(struct agents *a)
{
    a->suspended_until =
        mono_after_ms(loop_now(a->qmgr->loop), a->qmgr->gen->p.transport_retry_s * 1000);
    sched_each_dest(a->transport, give_up, a->reason);
    qmgr_wake(a->qmgr);
}

void agents_failed(struct agents *a, const char *why)
{
    struct mono_time now = loop_now(a->qmgr->loop);
    int64_t pause_s;

    if (a->paused_until.us != 0)
        return; /* one fault, seen on several connections */
    a->fails++;
    pause_s = 1LL << (a->fails - 1 > 10 ? 10 : a->fails - 1);
    if (pause_s > a->qmgr->gen->p.transport_retry_s)
        pause_s = a->qmgr->gen->p.transport_retry_s;
    a->paused_until = mono_after_ms(now, pause_s * 1000);
    log_warning("transport %s: private/%s: %s", sched_transport_name(a->transport),
                sched_transport_name(a->transport), why);
    snprintf(a->reason, sizeof(a->reason), "mail transport unavailable");
    if (a->fails >= FAILS_MAX)
        suspend(a);
}

/* --- time -------------------------------------------------------------------------------------- */

static void tick_transport(struct sched_transport *t, void *arg)
{
    struct agents *a = sched_transport_data(t);
    struct qmgr *q = a->qmgr;
    const struct mono_time *now = arg;

    if (a->paused_until.us != 0 && now->us >= a->paused_until.us)
        a->paused_until.us = 0;
    if (a->full_until.us != 0 && now->us >= a->full_until.us)
        a->full_until.us = 0;
    if (a->suspended_until.us != 0 && now->us >= a->suspended_until.us)
        a->suspended_until.us = 0;
    link_pool_tick(a->links, *now, q->gen->max_idle_s * 1000);
}

void deliver_tick(struct qmgr *q, struct mono_time now)
{
    sched_tick(q->sched, now);
    sched_each_transport(q->sched, tick_transport, &now);
}

static void reconfigure_transport(struct sched_transport *t, void *arg)
{
    (void) arg;
    set_limits(sched_transport_data(t));
}

void deliver_reconfigure(struct qmgr *q)
{
    sched_each_transport(q->sched, reconfigure_transport, NULL);
}

void agents_revive(struct agents *a)
{
    a->fails = 0;
    a->paused_until.us = a->full_until.us = a->suspended_until.us = 0;
}

static void revive_transport(struct sched_transport *t, void *arg)
{
    (void) arg;
    agents_revive(sched_transport_data(t));
}

void deliver_revive(struct qmgr *q)
{
    sched_revive_all(q->sched);
    sched_each_transport(q->sched, revive_transport, NULL);
}

void deliver_pause(struct qmgr *q, struct slice transport, struct deliver_pause *out)
{
    const struct agents *a = agents_of(q, transport);

    *out = (struct deliver_pause){
        .paused_until = a->paused_until.us != 0 ? a->paused_until : a->full_until,
        .reason = a->paused_until.us != 0 ? a->reason : "takes no more connections",
        .busy = sched_transport_busy(a->transport),
        .processes = sched_transport_limits(a->transport)->processes,
    };
}

static void fini_transport(struct sched_transport *t, void *arg)
{
    struct agents *a = sched_transport_data(t);

    (void) arg;
    link_pool_free(&a->links, free);
    free(a);
    sched_transport_set_data(t, NULL);
}

void deliver_fini(struct qmgr *q)
{
    sched_each_transport(q->sched, fini_transport, NULL);
}
