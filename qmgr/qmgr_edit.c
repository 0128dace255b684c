/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_edit.c - postsuper's operations on one message or on all of some queues: delete, hold, release, requeue, expire.
 *
 * A message that an agent has just now is dealt with when the agent is done. The answer does not wait for that, but for a note that says
 * so: the agent may take minutes, and qmgr may be killed meanwhile. The moves of files go on on the helper thread, some at a time; the
 * answer comes after the last one. What another command is moving comes after that, as what it is then: it may have left the queue.
 */
#include <stdlib.h>

#include "base/log.h"
#include "qmgr/qmgr_int.h"

#define ITEMS_A_STEP 200
#define MOVES_MAX    64 /* under way for one command */

struct edit {
    struct command command;
    struct qmgr *q;
    enum proto_queue_operation op;
    char *queue; /* "" for the operation's usual ones */
    bool all;
    bool walked; /* to the end */
    bool met;    /* something that is meant */
    bool noted;  /* something that must be in the page cache before the answer */
    struct queue_cursor cursor;
    uint64_t count;
    size_t moves;
    bool abandoned; /* the client has gone, moves are under way */
};

static void edit_really_free(struct edit *e)
{
    if (e->all)
        queue_cursor_end(&e->q->queue, &e->cursor);
    free(e->queue);
    free(e);
}

static void one_less(struct edit *e)
{
    e->moves--;
    if (!e->abandoned)
        client_continue(e->command.client);
    else if (e->moves == 0)
        edit_really_free(e);
}

static void moved(void *arg, bool ok)
{
    struct edit *e = arg;

    if (ok) {
        e->count++;
        e->noted = true;
    }
    one_less(e);
}

static void move(struct edit *e, struct queued *qd, enum move what)
{
    e->moves++;
    move_message(e->q, qd, what, NULL, moved, e);
}

static void edit_delete(struct edit *e, struct queued *qd)
{
    struct active *m = qd->active;

    e->count++;
    e->noted = true;
    if (m != NULL) {
        if (!m->wants_delete) {
            m->wants_delete = true;
            store_msg_remove_later(e->q->store, qd->m);
            message_withdraw(m);
        }
    } else {
        message_remove(e->q, qd);
    }
}

static void edit_hold(struct edit *e, struct queued *qd)
{
    struct active *m = qd->active;

    if (m != NULL) {
        e->count++;
        if (!m->wants_hold && !m->wants_requeue && !m->wants_delete) {
            m->wants_hold = true;
            store_msg_hold_later(e->q->store, qd->m);
            e->noted = true;
            message_withdraw(m);
        }
    } else if (qd->where != IN_HOLD) {
        move(e, qd, MOVE_HOLD);
    }
}

static void edit_requeue(struct edit *e, struct queued *qd)
{
    struct active *m = qd->active;

    if (m == NULL) {
        move(e, qd, MOVE_REQUEUE);
    } else if (!m->wants_requeue && !m->wants_delete) {
        e->count++;
        e->noted = true;
        m->wants_requeue = true; /* rather than held */
        store_msg_requeue_later(e->q->store, qd->m);
        message_withdraw(m);
    }
}

static void edit_expire(struct edit *e, struct queued *qd)
{
    struct queue *queue = &e->q->queue;
    struct store_state s = *store_msg_state(qd->m);
    enum where where = (enum where) qd->where;

    if (s.forced_expire)
        return;
    e->count++;
    e->noted = true;
    if (where == IN_ACTIVE) {
        store_msg_expire_later(e->q->store, qd->m); /* counts at the end of the attempt */
        return;
    }
    s.forced_expire = true;
    if (where == IN_DEFERRED) {
        queue_place(queue, qd, IN_MOVING);
        s.next_retry_us = qmgr_now_us(e->q);
    }
    store_msg_set_state(e->q->store, qd->m, &s);
    if (where == IN_DEFERRED)
        queue_place(queue, qd, IN_DUE);
    qmgr_wake(e->q);
}

static void apply(struct edit *e, struct queued *qd)
{
    switch (e->op) {
    case QUEUE_OP_DELETE:
        edit_delete(e, qd);
        break;
    case QUEUE_OP_HOLD:
        edit_hold(e, qd);
        break;
    case QUEUE_OP_RELEASE:
        if (qd->where == IN_HOLD)
            move(e, qd, MOVE_RELEASE);
        break;
    case QUEUE_OP_REQUEUE:
        edit_requeue(e, qd);
        break;
    case QUEUE_OP_EXPIRE:
        edit_expire(e, qd);
        break;
    case QUEUE_OP_FLUSH_ALL:
    case QUEUE_OP_FLUSH_SITE:
    case QUEUE_OP_FLUSH_ID:
        break;
    }
}

static bool is_meant(const struct edit *e, const struct queued *qd)
{
    const char *name = queue_name(qd);

    if (qd->where == IN_REQUEUE && e->op != QUEUE_OP_DELETE)
        return false;
    if (e->queue[0] != '\0')
        return strcmp(e->queue, name) == 0;
    switch (e->op) {
    case QUEUE_OP_HOLD:
        return strcmp(name, "hold") != 0;
    case QUEUE_OP_RELEASE:
        return strcmp(name, "hold") == 0;
    default:
        return true;
    }
}

static void consider(struct edit *e, struct queued *qd);

/* qd is moved no more; NULL: it has left the queue. */
static void came_back(void *arg, struct queued *qd)
{
    struct edit *e = arg;

    if (qd != NULL)
        consider(e, qd);
    one_less(e);
}

static void consider(struct edit *e, struct queued *qd)
{
    if (qd->where == IN_MOVING) {
        e->moves++;
        move_wait(e->q, qd, came_back, e);
    } else if (is_meant(e, qd)) {
        e->met = true;
        apply(e, qd);
    }
}

static enum step edit_step(struct command *command)
{
    struct edit *e = (struct edit *) command; /* its first member */
    struct err err = ERR_INIT;

    for (int i = 0; e->all && !e->walked && i < ITEMS_A_STEP && e->moves < MOVES_MAX; i++) {
        struct queued *qd = queue_cursor_next(&e->cursor);

        if (qd == NULL)
            e->walked = true;
        else
            consider(e, qd);
    }
    if ((e->all && !e->walked) || e->moves > 0)
        return e->moves > 0 && (e->walked || !e->all || e->moves == MOVES_MAX) ? STEP_WAITS
                                                                               : STEP_MORE;
    if (e->noted && store_flush(e->q->store, &err) == -1)
        qmgr_dirty(e->q); /* tried again, and said then */
    /* a full disk must not keep anybody from deleting what fills it */
    if (err.kind != ERR_NONE &&
        (e->op != QUEUE_OP_DELETE || !slice_eq_str(slice_str(err.dsn), "4.3.1"))) {
        log_warning("queue: what was asked cannot be noted: %s", err.text);
        client_answer(command->client, PROTO_TEMPORARY, e->count, err.text);
    } else if (!e->all && !e->met) {
        client_answer(command->client, PROTO_NOT_FOUND, 0, "no such message");
    } else {
        client_answer(command->client, PROTO_OK, e->count, "");
    }
    return STEP_DONE;
}

static void edit_free(struct command *command)
{
    struct edit *e = (struct edit *) command;

    if (e->moves > 0)
        e->abandoned = true;
    else
        edit_really_free(e);
}

struct command *edit_command(struct client *c, const struct proto_queue_op *op)
{
    struct qmgr *q = c->qmgr;
    struct store_msg *m;
    struct edit *e;
    struct err err = ERR_INIT;

    /* nothing that a crash would undo is begun */
    if (q->cannot_note && store_flush(q->store, &err) == -1) {
        client_answer(c, PROTO_TEMPORARY, 0, err.text);
        return NULL;
    }
    if (op->op < QUEUE_OP_DELETE || op->op > QUEUE_OP_EXPIRE) {
        client_answer(c, PROTO_PERMANENT, 0, "unknown operation");
        return NULL;
    }
    e = xcalloc(1, sizeof(*e));
    e->command = (struct command){edit_step, edit_free, c};
    e->q = q;
    e->op = (enum proto_queue_operation) op->op;
    e->queue = slice_dup(op->queue);
    e->all = slice_eq_str(op->arg, "ALL");
    if (e->all) {
        queue_cursor_begin(&q->queue, &e->cursor);
        return &e->command;
    }
    m = store_find(q->store, op->arg);
    if (m == NULL || store_msg_data(m) == NULL) {
        edit_really_free(e);
        client_answer(c, PROTO_NOT_FOUND, 0, "no such message");
        return NULL;
    }
    consider(e, store_msg_data(m));
    return &e->command;
}
