/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_suspend_walk.c - what a suspension's beginning and end do to the mail that is there.
 *
 * Mail that a suspension concerns is deferred with it as the reason (a walk over the queue sees to what is in line when it begins) until
 * its end, or until the mail has grown too old. When it ends, another walk makes due what it would have held up: mail that has it as its
 * reason, or that it concerns by address; and for a next hop or a transport also what goes there, whatever it was deferred for. Where that
 * is, the routing tables are asked on the pool, some messages at a time, which are read for it and looked up again afterwards: they may have
 * left meanwhile. A message whose attempt is under way then is due at the attempt's end.
 */
#include <stdlib.h>

#include "base/vec.h"
#include "qmgr/qmgr_int.h"

#define LOOKS_A_STEP 4000
#define READS_A_STEP 200
#define RCPTS_A_READ 20 /* a message with more counts as several */

/* Messages of which is asked where they go. */
struct ask {
    struct suspend_walk *walk;
    struct qmgr_config *gen;
    struct arena *arena;
    struct vec
        parts; /* struct part *, of messages that are not active: only what is needed to resolve them */
};

struct suspend_walk {
    struct qmgr *q;
    struct suspension *s; /* it has ended; NULL: one has begun */
    struct ask *ask;      /* under way; NULL: none */
    struct queue_cursor cursor;
    TAILQ_ENTRY(suspend_walk) list;
};

static void walk(void *arg);

/* --- where mail goes ------------------------------------------------------------------------------------ */

static void ask_free(struct ask **ap)
{
    struct ask *a = *ap;

    *ap = NULL;
    if (a == NULL)
        return;
    qmgr_config_unref(&a->gen);
    vec_fini(&a->parts);
    arena_free(&a->arena);
    free(a);
}

/* env and rcpts are in the arena. */
static void ask_add(struct ask *a, const struct mail_envelope *env, struct store_rcpt *rcpts,
                    size_t n)
{
    struct active *m = arena_alloc(a->arena, sizeof(*m));
    struct part *p = arena_alloc(a->arena, sizeof(*p));

    *m = (struct active){.env = *env};
    *p = (struct part){.m = m, .arena = a->arena, .stored = rcpts, .nrcpts = n};
    p->rcpts = arena_alloc(a->arena, (n + 1) * sizeof(*p->rcpts));
    for (size_t i = 0; i < n; i++)
        p->rcpts[i] = (struct rcpt){.part = p,
                                    .s = &rcpts[i],
                                    .addr = env->redirect.len > 0 ? env->redirect : rcpts[i].r.addr,
                                    .state = rcpts[i].done ? RCPT_DONE : RCPT_WAITING};
    vec_push(&a->parts, p);
}

static bool goes_there(const struct suspension *s, const struct part *p)
{
    for (size_t i = 0; i < p->nrcpts; i++) {
        const struct rcpt *r = &p->rcpts[i];
        const struct suspension_mail mail = {.transport = r->transport,
                                             .nexthop = r->nexthop,
                                             .addr = r->addr,
                                             .sender = p->m->env.sender,
                                             .has_sender = true};

        if (r->state == RCPT_WAITING && suspension_concerns(s, &mail))
            return true;
    }
    return false;
}

static void make_due(struct qmgr *q, struct queued *qd)
{
    if (qd->where == IN_DEFERRED)
        queue_place(&q->queue, qd, IN_DUE);
}

static void answered(void *arg)
{
    struct suspend_walk *w = arg;
    struct qmgr *q = w->q;

    q->nhelping--;
    for (size_t i = 0; i < w->ask->parts.len; i++) {
        const struct part *p = w->ask->parts.items[i];
        struct store_msg *m = store_find(q->store, p->m->env.queue_id);

        if (m != NULL && goes_there(w->s, p))
            make_due(q, store_msg_data(m));
    }
    ask_free(&w->ask);
    qmgr_wake(q);
    loop_defer(q->loop, walk, w);
}

static void ask_on_pool(void *arg)
{
    struct suspend_walk *w = arg;

    for (size_t i = 0; i < w->ask->parts.len; i++)
        resolve_part(w->ask->gen, w->ask->parts.items[i]);
    loop_post(w->q->loop, answered, w);
}

/* --- the walk ------------------------------------------------------------------------------------------- */

static void walk_free(struct suspend_walk *w)
{
    queue_cursor_end(&w->q->queue, &w->cursor);
    TAILQ_REMOVE(&w->q->suspend_walks, w, list);
    suspension_free(&w->s);
    ask_free(&w->ask);
    free(w);
}

static struct ask *ask_of(struct suspend_walk *w)
{
    if (w->ask == NULL) {
        w->ask = xcalloc(1, sizeof(*w->ask));
        w->ask->gen = qmgr_config_ref(w->q->gen);
        w->ask->arena = arena_new(0);
    }
    return w->ask;
}

/* True: it has waited for the end. If that is not known yet, it is to be asked. *count: its recipients. */
static bool waits_for(struct suspend_walk *w, const struct queued *qd, size_t *count)
{
    struct arena *arena = w->s->kind == SUSPEND_SENDER ? w->q->reading : ask_of(w)->arena;
    struct mail_envelope env;
    struct store_rcpt *rcpts;
    size_t n;
    struct err err = ERR_INIT;

    arena_reset(w->q->reading);
    if (store_msg_read(w->q->store, qd->m, arena, &env, &rcpts, &n, &err) == -1)
        return true; /* the attempt finds out what is the matter */
    *count = n;
    for (size_t i = 0; i < n; i++) {
        const struct suspension_mail mail = {
            .addr = rcpts[i].r.addr, .sender = env.sender, .has_sender = true};

        if (!rcpts[i].done &&
            (suspension_is_reason(w->s, rcpts[i].reason) || suspension_concerns(w->s, &mail)))
            return true;
    }
    if (w->s->kind != SUSPEND_SENDER)
        ask_add(w->ask, &env, rcpts, n);
    return false;
}

/* One message; what that counts. */
static size_t look_at(struct suspend_walk *w, struct queued *qd)
{
    size_t count = 0;

    if (w->s == NULL) {
        if (qd->active == NULL)
            return 0;
        deliver_suspend(qd->active);
        return 1;
    }
    if (qd->where != IN_DEFERRED)
        return 0;
    if (waits_for(w, qd, &count))
        make_due(w->q, qd);
    return 1 + count / RCPTS_A_READ;
}

static void walk(void *arg)
{
    struct suspend_walk *w = arg;
    struct qmgr *q = w->q;
    struct queued *qd = NULL;
    size_t reads = 0;

    for (int i = 0; i < LOOKS_A_STEP && reads < READS_A_STEP; i++) {
        qd = queue_cursor_next(&w->cursor);
        if (qd == NULL)
            break;
        reads += look_at(w, qd);
    }
    qmgr_wake(q);
    if (w->ask != NULL && w->ask->parts.len == 0)
        ask_free(&w->ask);
    if (w->ask != NULL) {
        q->nhelping++;
        pool_run(q->resolvers, ask_on_pool, w);
    } else if (qd != NULL) {
        loop_defer(q->loop, walk, w);
    } else {
        walk_free(w);
    }
}

void suspend_walk_begin(struct qmgr *q, struct suspension *s)
{
    struct suspend_walk *w = xcalloc(1, sizeof(*w));

    w->q = q;
    w->s = s;
    queue_cursor_begin(&q->queue, &w->cursor);
    TAILQ_INSERT_TAIL(&q->suspend_walks, w, list);
    loop_defer(q->loop, walk, w);
}

void suspend_walk_fini(struct qmgr *q)
{
    struct suspend_walk *w;

    while ((w = TAILQ_FIRST(&q->suspend_walks)) != NULL)
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): what is freed has left the list */
        walk_free(w);
}
