/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_list.c - mailq: every message, its sender, the recipients that still wait, and what they wait for. A few at a time; nothing is
 * gathered, so that a list of any length needs no memory, and mail goes on meanwhile.
 */
#include <stdlib.h>

#include "base/log.h"
#include "qmgr/qmgr_waits.h"
#include "qmgr/queue_maildrop.h"
#include "qmgr/queue_select.h"

#define LOOKS_A_STEP  4000
#define READS_A_STEP  100
#define OUTPUT_A_STEP (64U << 10)

struct list {
    struct command command;
    struct qmgr *q;
    struct arena *arena;              /* for what is selected */
    struct proto_queue_select select; /* in it */
    uint32_t site;                    /* queue_site() of the domain that is selected; 0: none */
    struct queue_maildrop *maildrop;  /* NULL: walked to its end */
    struct queue_cursor cursor;
};

/* --- what is told of a message ------------------------------------------------------------------- */

/* The recipients of an active message that are in memory, by their index. */
static const struct rcpt **in_memory(const struct active *m, size_t n, struct arena *arena)
{
    const struct rcpt **by_index = arena_alloc(arena, (n + 1) * sizeof(const struct rcpt *));
    const struct part *p;

    TAILQ_FOREACH(p, &m->parts, list)
    {
        for (size_t i = 0; i < p->nrcpts; i++)
            if (p->rcpts[i].s->r.index < n)
                by_index[p->rcpts[i].s->r.index] = &p->rcpts[i];
    }
    return by_index;
}

static int put_rcpts(const struct list *l, const struct queued *qd, struct slice sender,
                     const struct store_rcpt *rcpts, size_t n, struct err *err)
{
    struct qmgr *q = l->q;
    const struct rcpt **known =
        qd != NULL && qd->active != NULL ? in_memory(qd->active, n, q->reading) : NULL;

    for (size_t i = 0; i < n; i++) {
        struct waits w = {"", SLICE_EMPTY, 0};

        if (rcpts[i].done)
            continue;
        if (known != NULL)
            waits_of_active(q, rcpts[i].r.index < n ? known[rcpts[i].r.index] : NULL, q->reading,
                            &w);
        else if (qd != NULL && qd->where == IN_DEFERRED)
            waits_of_deferred(q, sender, &rcpts[i], q->reading, &w);
        struct proto_queue_rcpt r = {
            .addr = rcpts[i].r.addr,
            .reason = slice_sub(rcpts[i].reason, 0, 4000),
            .waits_for = slice_str(w.word),
            .waits_text = slice_sub(w.text, 0, MAIL_REASON_MAX),
            .waits_until_us = (uint64_t) w.until_us,
        };
        if (proto_put(l->command.client->chan, &msg_queue_rcpt, &r, -1, err) == -1)
            return -1;
    }
    return 0;
}

static int put_item(const struct list *l, const struct queued *qd, const struct mail_envelope *env,
                    const struct store_rcpt *rcpts, size_t n, struct err *err)
{
    const struct store_state *s = store_msg_state(qd->m);
    struct waits w;

    waits_of_message(l->q, qd, env, l->q->reading, &w);
    struct proto_queue_item item = {
        .queue = slice_str(queue_name(qd)),
        .queue_id = store_msg_id(qd->m),
        .sender = env->sender,
        .arrival_us = env->arrival_us,
        .size = store_msg_bytes(qd->m),
        .next_retry_us =
            qd->where == IN_DEFERRED ? (uint64_t) qmgr_wall_us(l->q, s->next_retry_us) : 0,
        .forced_expire = s->forced_expire ? 1 : 0,
        .waits_for = slice_str(w.word),
        .waits_text = slice_sub(w.text, 0, MAIL_REASON_MAX),
        .waits_until_us = (uint64_t) w.until_us,
    };
    if (proto_put(l->command.client->chan, &msg_queue_item, &item, -1, err) == -1)
        return -1;
    return put_rcpts(l, qd, env->sender, rcpts, n, err);
}

/* What is known to be deferred for another domain alone need not be read. */
static bool may_be_for_site(const struct list *l, const struct queued *qd)
{
    return l->site == 0 || qd->where != IN_DEFERRED || qd->site == SITE_UNKNOWN ||
           qd->site == SITE_SEVERAL || qd->site == l->site;
}

/* True: its record was read. */
static bool list_one(struct list *l, struct queued *qd)
{
    struct err err = ERR_INIT;
    struct mail_envelope env;
    struct store_rcpt *rcpts;
    size_t n;

    if (qd->where == IN_MOVING || qd->where == IN_CORRUPT)
        return false; /* between two queues */
    if (!queue_select_name(&l->select, queue_name(qd), store_msg_id(qd->m)) ||
        !may_be_for_site(l, qd))
        return false;
    /* an active one, too: what its recipients have come to is noted at once */
    arena_reset(l->q->reading);
    if (store_msg_read(l->q->store, qd->m, l->q->reading, &env, &rcpts, &n, &err) == -1)
        goto trouble;
    if (qd->where == IN_DEFERRED)
        qd->site = queue_site_of(rcpts, n);
    if (queue_select_message(&l->select, env.sender, env.arrival_us, rcpts, n) &&
        put_item(l, qd, &env, rcpts, n, &err) == -1)
        goto trouble;
    return true;
trouble:
    log_warning("%.*s: cannot be listed: %s", SLICE_FMT(store_msg_id(qd->m)), err.text);
    return true;
}

/* --- maildrop ------------------------------------------------------------------------------------- */

static void list_dropped(struct list *l)
{
    struct proto_queue_item item;
    struct store_rcpt *rcpts;
    size_t n;
    struct err err = ERR_INIT;

    arena_reset(l->q->reading);
    switch (queue_maildrop_next(l->maildrop, l->q->reading, &item, &rcpts, &n, &err)) {
    case 1:
        if (!queue_select_name(&l->select, "maildrop", item.queue_id) ||
            !queue_select_message(&l->select, item.sender, item.arrival_us, rcpts, n))
            break;
        item.waits_for = SLICE_LIT("pickup");
        item.waits_text = SLICE_LIT("to be picked up");
        if (proto_put(l->command.client->chan, &msg_queue_item, &item, -1, &err) == -1 ||
            put_rcpts(l, NULL, item.sender, rcpts, n, &err) == -1)
            log_warning("maildrop file cannot be listed: %s", err.text);
        break;
    case 0:
        queue_maildrop_close(&l->maildrop);
        break;
    default: /* pickup says so, too, and sets it aside */
        log_debug("%s", err.text);
        break;
    }
}

/* --- the walk ------------------------------------------------------------------------------------ */

static enum step list_step(struct command *command)
{
    struct list *l = (struct list *) command; /* its first member */
    struct chan *c = command->client->chan;
    int reads = 0;

    for (int i = 0; i < LOOKS_A_STEP && reads < READS_A_STEP && chan_output_len(c) < OUTPUT_A_STEP;
         i++) {
        struct queued *qd;

        if (l->maildrop != NULL) {
            list_dropped(l);
            reads++;
            continue;
        }
        qd = queue_cursor_next(&l->cursor);
        if (qd == NULL) {
            proto_put_empty(c, PROTO_END);
            return STEP_DONE;
        }
        reads += list_one(l, qd);
    }
    return STEP_MORE;
}

static void list_free(struct command *command)
{
    struct list *l = (struct list *) command;

    queue_cursor_end(&l->q->queue, &l->cursor);
    queue_maildrop_close(&l->maildrop);
    arena_free(&l->arena);
    free(l);
}

struct command *list_command(struct client *c, const struct proto_queue_select *select)
{
    struct list *l = xcalloc(1, sizeof(*l));

    l->command = (struct command){list_step, list_free, c};
    l->q = c->qmgr;
    l->arena = arena_new(0);
    l->select = *select;
    queue_select_keep(&l->select, l->arena);
    if (l->select.domain.len > 0 && l->select.domain.ptr[0] != '.')
        l->site = queue_site(l->select.domain);
    l->maildrop = queue_maildrop_open(".");
    queue_cursor_begin(&l->q->queue, &l->cursor);
    return &l->command;
}
