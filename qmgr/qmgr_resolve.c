/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_resolve.c - asks the routing tables where each recipient of a message goes: at once when no answer can
 * block, else on the pool of resolvers. While a job is under way it alone touches the message's arena and recipients.
 */
#include <stdlib.h>

#include "qmgr/qmgr_int.h"

struct resolve_job {
    struct active *m;
    struct qmgr_config *gen;
};

/* FILTER: "transport:nexthop"; without a next hop the recipient's domain. */
static void resolve_filter(const struct qmgr_config *g, struct active *m, struct rcpt *r)
{
    struct slice filter = m->env.filter;
    ptrdiff_t colon = slice_find(filter, ':');

    r->transport = slice_sub(filter, 0, colon == -1 ? filter.len : (size_t) colon);
    r->nexthop = colon == -1 ? SLICE_EMPTY : slice_sub(filter, (size_t) colon + 1, filter.len);
    if (r->nexthop.len == 0) /* in the arena: a reload may end the configuration */
        r->nexthop = arena_slice(m->arena, slice_str(g->p.filter_nexthop));
    if (r->nexthop.len == 0) {
        ptrdiff_t at = slice_rfind(r->addr, '@');

        if (at != -1)
            r->nexthop = slice_sub(r->addr, (size_t) at + 1, r->addr.len);
    }
}

static void resolve_one(const struct qmgr_config *g, struct active *m, struct rcpt *r,
                        struct route_result *res)
{
    struct err err = ERR_INIT;

    if (m->env.filter.len > 0) {
        resolve_filter(g, m, r);
        return;
    }
    buf_reset(&res->transport);
    buf_reset(&res->nexthop);
    buf_reset(&res->recipient);
    if (route_resolve(g->route, m->env.sender, r->addr, res, &err) == MAP_FOUND) {
        r->transport = arena_slice(m->arena, buf_view(&res->transport));
        r->nexthop = arena_slice(m->arena, buf_view(&res->nexthop));
        if (!slice_eq(buf_view(&res->recipient), r->addr))
            r->addr = arena_slice(m->arena, buf_view(&res->recipient));
    } else {
        r->transport = SLICE_LIT("retry");
        r->nexthop = slice_str(arena_printf(m->arena, "4.3.0 %s", err.text));
    }
}

static void resolve_all(const struct qmgr_config *g, struct active *m)
{
    struct route_result res;

    route_result_init(&res);
    for (size_t i = 0; i < m->nrcpts; i++)
        if (m->rcpts[i].state == RCPT_WAITING)
            resolve_one(g, m, &m->rcpts[i], &res);
    route_result_fini(&res);
}

static void back_in_loop(void *arg)
{
    struct resolve_job *job = arg;
    struct active *m = job->m;

    m->qmgr->nhelping--;
    qmgr_config_unref(&job->gen);
    free(job);
    message_resolved(m);
}

static void run_job(void *arg)
{
    struct resolve_job *job = arg;

    resolve_all(job->gen, job->m);
    loop_post(job->m->qmgr->loop, back_in_loop, job);
}

void resolve_message(struct active *m)
{
    struct qmgr *q = m->qmgr;
    struct resolve_job *job;

    m->phase = PHASE_RESOLVING;
    if (m->env.filter.len > 0 || route_is_local_only(q->gen->route)) {
        resolve_all(q->gen, m);
        message_resolved(m);
        return;
    }
    job = xcalloc(1, sizeof(*job));
    job->m = m;
    job->gen = qmgr_config_ref(q->gen);
    q->nhelping++;
    pool_run(q->resolvers, run_job, job);
}
