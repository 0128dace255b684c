/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_list.c - mailq: every message, its sender, the recipients that still wait, and why. A few at a time.
 */
#include <stdlib.h>

#include "base/log.h"
#include "qmgr/qmgr_int.h"

#define ITEMS_A_STEP  100
#define OUTPUT_A_STEP (64U << 10)

struct list {
    struct command command;
    struct qmgr *q;
    struct queue_cursor cursor;
};

static int put_item(struct list *l, struct queued *qd, const struct mail_envelope *env,
                    const struct store_rcpt *rcpts, size_t n, struct err *err)
{
    const struct store_state *s = store_msg_state(qd->m);
    struct chan *c = l->command.client->chan;
    struct proto_queue_item item = {
        .queue = slice_str(queue_name(qd)),
        .queue_id = store_msg_id(qd->m),
        .sender = env->sender,
        .arrival_us = env->arrival_us,
        .size = store_msg_bytes(qd->m),
        .next_retry_us = qd->where == IN_DEFERRED ? (uint64_t) s->next_retry_us : 0,
        .forced_expire = s->forced_expire ? 1 : 0,
    };

    if (proto_put(c, &msg_queue_item, &item, -1, err) == -1)
        return -1;
    for (size_t i = 0; i < n; i++) {
        struct proto_queue_rcpt r = {.addr = rcpts[i].r.addr,
                                     .reason = slice_sub(rcpts[i].reason, 0, 4000)};

        if (rcpts[i].done)
            continue;
        if (proto_put(c, &msg_queue_rcpt, &r, -1, err) == -1)
            return -1;
    }
    return 0;
}

static void list_one(struct list *l, struct queued *qd)
{
    struct err err = ERR_INIT;
    struct mail_envelope env;
    struct store_rcpt *rcpts;
    size_t n;

    if (qd->where == IN_MOVING || qd->where == IN_CORRUPT)
        return; /* between two queues */
    /* an active one, too: what its recipients have come to is noted at once */
    arena_reset(l->q->reading);
    if (store_msg_read(l->q->store, qd->m, l->q->reading, &env, &rcpts, &n, &err) == 0 &&
        put_item(l, qd, &env, rcpts, n, &err) == 0)
        return;
    log_warning("%.*s: cannot be listed: %s", SLICE_FMT(store_msg_id(qd->m)), err.text);
}

static enum step list_step(struct command *command)
{
    struct list *l = (struct list *) command; /* its first member */
    struct chan *c = command->client->chan;

    for (int i = 0; i < ITEMS_A_STEP && chan_output_len(c) < OUTPUT_A_STEP; i++) {
        struct queued *qd = queue_cursor_next(&l->cursor);

        if (qd == NULL) {
            proto_put_empty(c, PROTO_END);
            return STEP_DONE;
        }
        list_one(l, qd);
    }
    return STEP_MORE;
}

static void list_free(struct command *command)
{
    struct list *l = (struct list *) command;

    queue_cursor_end(&l->q->queue, &l->cursor);
    free(l);
}

struct command *list_command(struct client *c)
{
    struct list *l = xcalloc(1, sizeof(*l));

    l->command = (struct command){list_step, list_free, c};
    l->q = c->qmgr;
    queue_cursor_begin(&l->q->queue, &l->cursor);
    return &l->command;
}
