/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_resolve.c - asks the routing tables where each recipient of a part goes: at once when it has few and no answer can
 * block, else on the pool of resolvers. While a job is under way it alone touches the part's arena and recipients.
 */
#include <stdlib.h>

#include "base/log.h"
#include "qmgr/qmgr_int.h"

#define RESOLVE_HERE_MAX 200 /* recipients; more would keep other mail waiting */

struct resolve_job {
    struct part *p;
    struct qmgr_config *gen;
};

static struct slice domain_of(struct slice addr)
{
    ptrdiff_t at = slice_rfind(addr, '@');

    return at == -1 ? SLICE_EMPTY : slice_sub(addr, (size_t) at + 1, addr.len);
}

/* FILTER: "transport:nexthop"; without a next hop the recipient's domain. */
static void resolve_filter(const struct qmgr_config *g, struct part *p, struct rcpt *r)
{
    struct slice filter = p->m->env.filter;
    ptrdiff_t colon = slice_find(filter, ':');

    r->transport = slice_sub(filter, 0, colon == -1 ? filter.len : (size_t) colon);
    r->nexthop = colon == -1 ? SLICE_EMPTY : slice_sub(filter, (size_t) colon + 1, filter.len);
    if (r->nexthop.len == 0) /* in the arena: a reload may end the configuration */
        r->nexthop = arena_slice(p->arena, slice_str(g->p.filter_nexthop));
    if (r->nexthop.len == 0) {
        r->nexthop = domain_of(r->addr);
    }
}

/* What was found last: most recipients of a message have the same. */
struct found_schedule {
    bool is_set;
    struct slice domain, nexthop, transport; /* of the recipient that it was looked up for */
    const struct retry_schedule *schedule;
};

/* Asked for the domain and its parents, the next hop, the transport ("smtp:"). */
static enum map_result ask_schedule(const struct qmgr_config *g, const struct rcpt *r,
                                    struct buf *value, struct err *err)
{
    struct buf key = BUF_INIT(SIZE_MAX);
    struct slice domain = domain_of(r->addr);
    enum map_result res = MAP_NOTFOUND;

    if (domain.len > 0)
        res = map_domain_lookup(g->schedules, domain, false, value, err);
    if (res == MAP_NOTFOUND && r->nexthop.len > 0 && !slice_caseeq(r->nexthop, domain))
        res = map_list_lookup(g->schedules, r->nexthop, 0, value, NULL, err);
    if (res == MAP_NOTFOUND) {
        buf_put_slice(&key, r->transport);
        buf_putc(&key, ':');
        res = map_list_lookup(g->schedules, buf_view(&key), 0, value, NULL, err);
    }
    buf_fini(&key);
    return res;
}

static void find_schedule(const struct qmgr_config *g, struct part *p, struct rcpt *r,
                          struct found_schedule *last)
{
    struct buf value = BUF_INIT(2000);
    struct err err = ERR_INIT;
    struct retry_schedule s;
    enum map_result res;

    if (last->is_set && slice_eq(last->domain, domain_of(r->addr)) &&
        slice_eq(last->nexthop, r->nexthop) && slice_eq(last->transport, r->transport)) {
        r->schedule = last->schedule;
        return;
    }
    res = ask_schedule(g, r, &value, &err);
    if (res == MAP_FOUND && retry_schedule_parse(buf_view(&value), &s, &err) == 0) {
        struct retry_schedule *kept = arena_alloc(p->arena, sizeof(*kept));

        *kept = s;
        r->schedule = kept;
    } else if (res != MAP_NOTFOUND) { /* then by age: waiting longer or shorter loses nothing */
        log_warning("%.*s: retry_schedule_maps: recipient %.*s: %s", SLICE_FMT(p->m->env.queue_id),
                    SLICE_FMT(r->addr), err.text);
    }
    *last =
        (struct found_schedule){true, domain_of(r->addr), r->nexthop, r->transport, r->schedule};
    buf_fini(&value);
}

static void resolve_one(const struct qmgr_config *g, struct part *p, struct rcpt *r,
                        struct route_result *res)
{
    struct err err = ERR_INIT;

    if (p->m->env.filter.len > 0) {
        resolve_filter(g, p, r);
        return;
    }
    buf_reset(&res->transport);
    buf_reset(&res->nexthop);
    buf_reset(&res->recipient);
    if (route_resolve(g->route, p->m->env.sender, r->addr, res, &err) == MAP_FOUND) {
        r->transport = arena_slice(p->arena, buf_view(&res->transport));
        r->nexthop = arena_slice(p->arena, buf_view(&res->nexthop));
        if (!slice_eq(buf_view(&res->recipient), r->addr))
            r->addr = arena_slice(p->arena, buf_view(&res->recipient));
    } else {
        r->transport = SLICE_LIT("retry");
        r->nexthop = slice_str(arena_printf(p->arena, "4.3.0 %s", err.text));
    }
}

void resolve_part(const struct qmgr_config *g, struct part *p)
{
    struct route_result res;
    struct found_schedule last = {0};

    route_result_init(&res);
    for (size_t i = 0; i < p->nrcpts; i++) {
        if (p->rcpts[i].state != RCPT_WAITING)
            continue;
        resolve_one(g, p, &p->rcpts[i], &res);
        if (!map_list_is_empty(g->schedules))
            find_schedule(g, p, &p->rcpts[i], &last);
    }
    route_result_fini(&res);
}

static void back_in_loop(void *arg)
{
    struct resolve_job *job = arg;
    struct part *p = job->p;

    p->m->qmgr->nhelping--;
    qmgr_config_unref(&job->gen);
    free(job);
    message_resolved(p);
}

static void run_job(void *arg)
{
    struct resolve_job *job = arg;

    resolve_part(job->gen, job->p);
    loop_post(job->p->m->qmgr->loop, back_in_loop, job);
}

/* All to one host, whatever the tables say. */
static void resolve_handover(struct part *p)
{
    for (size_t i = 0; i < p->nrcpts; i++) {
        p->rcpts[i].transport = SLICE_LIT(HANDOVER_TRANSPORT);
        p->rcpts[i].nexthop = handover_nexthop(p->m->handover);
    }
}

void resolve_message(struct part *p)
{
    struct qmgr *q = p->m->qmgr;
    struct resolve_job *job;

    p->phase = PHASE_RESOLVING;
    if (p->m->handover != NULL) {
        resolve_handover(p);
        message_resolved(p);
        return;
    }
    if (p->nrcpts <= RESOLVE_HERE_MAX &&
        (q->gen->is_local_only ||
         (p->m->env.filter.len > 0 && map_list_is_empty(q->gen->schedules)))) {
        resolve_part(q->gen, p);
        message_resolved(p);
        return;
    }
    job = xcalloc(1, sizeof(*job));
    job->p = p;
    job->gen = qmgr_config_ref(q->gen);
    q->nhelping++;
    pool_run(q->resolvers, run_job, job);
}
