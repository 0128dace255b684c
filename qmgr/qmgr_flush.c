/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_flush.c - postqueue -f, -i, -s: deferred mail is tried now. Nothing is dead or suspended any more, or it would only
 * be deferred again.
 */
#include <stdlib.h>

#include "base/log.h"
#include "qmgr/qmgr_int.h"

#define ITEMS_A_STEP 200

struct flush {
    struct command command;
    struct qmgr *q;
    char *site; /* NULL: all */
    struct queue_cursor cursor;
    uint64_t count;
};

static void make_due(struct flush *f, struct queued *qd)
{
    if (qd->where == IN_DEFERRED) {
        queue_place(&f->q->queue, qd, IN_DUE);
        f->count++;
    }
}

static bool is_for_site(struct flush *f, struct queued *qd)
{
    struct err err = ERR_INIT;
    struct mail_envelope env;
    struct store_rcpt *rcpts;
    size_t n;

    arena_reset(f->q->reading);
    if (store_msg_read(f->q->store, qd->m, f->q->reading, &env, &rcpts, &n, &err) == -1)
        return true; /* the attempt finds out what is the matter */
    for (size_t i = 0; i < n; i++) {
        struct slice addr = rcpts[i].r.addr;
        ptrdiff_t at = slice_rfind(addr, '@');

        if (!rcpts[i].done && at != -1 &&
            slice_caseeq_str(slice_sub(addr, (size_t) at + 1, addr.len), f->site))
            return true;
    }
    return false;
}

static enum step flush_step(struct command *command)
{
    struct flush *f = (struct flush *) command; /* its first member */

    for (int i = 0; i < ITEMS_A_STEP; i++) {
        struct queued *qd = queue_cursor_next(&f->cursor);

        if (qd == NULL) {
            qmgr_wake(f->q);
            client_answer(command->client, PROTO_OK, f->count, "");
            return STEP_DONE;
        }
        if (qd->where == IN_DEFERRED && (f->site == NULL || is_for_site(f, qd)))
            make_due(f, qd);
    }
    qmgr_wake(f->q);
    return STEP_MORE;
}

static void flush_free(struct command *command)
{
    struct flush *f = (struct flush *) command;

    queue_cursor_end(&f->q->queue, &f->cursor);
    free(f->site);
    free(f);
}

static void flush_id(struct client *c, struct slice id)
{
    struct qmgr *q = c->qmgr;
    struct store_msg *m = store_find(q->store, id);
    struct queued *qd = m != NULL ? store_msg_data(m) : NULL;

    if (qd == NULL) {
        client_answer(c, PROTO_NOT_FOUND, 0, "no such message");
        return;
    }
    if (qd->where == IN_DEFERRED)
        queue_place(&q->queue, qd, IN_DUE);
    qmgr_wake(q);
    client_answer(c, PROTO_OK, 1, "");
}

struct command *flush_command(struct client *c, const struct proto_queue_op *op)
{
    struct qmgr *q = c->qmgr;
    struct flush *f;

    if (op->op < QUEUE_OP_FLUSH_ALL || op->op > QUEUE_OP_FLUSH_ID) {
        client_answer(c, PROTO_PERMANENT, 0, "unknown operation");
        return NULL;
    }
    deliver_revive(q);
    if (op->op == QUEUE_OP_FLUSH_ID) {
        flush_id(c, op->arg);
        return NULL;
    }
    f = xcalloc(1, sizeof(*f));
    f->command = (struct command){flush_step, flush_free, c};
    f->q = q;
    f->site = op->op == QUEUE_OP_FLUSH_SITE ? slice_dup(op->arg) : NULL;
    queue_cursor_begin(&q->queue, &f->cursor);
    return &f->command;
}
