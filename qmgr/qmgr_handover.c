/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_handover.c - postqueue --move-to: mail of the queue is handed to another host.
 *
 * What is selected, of what is in the queue when it begins, gets in a line of its own (IN_HANDOVER), so that nothing else tries it meanwhile;
 * a message that is being delivered follows when the agents that have it are done. From the line messages become active some at a time,
 * and go out as any other mail of the transport smtp to that next hop: its limits hold. But tables are not asked, no
 * suspension, defer_transports or retry time counts, and whatever the host answers other than "taken" leaves the recipient as it
 * was: with its reason, its next attempt, its place in the queue; nothing is bounced, and no sender is told of a delay.
 *
 * In the store a message is in no special state, so that a crash leaves nothing but what was noted: recipients that the host has taken. A
 * handover ends with the connection that asked for it (what agents have comes to its end, and counts), and when the host
 * cannot be reached (its destination is given up as any other would be; or TROUBLE_MAX requests in a row came to nothing where
 * destinations never are). One at a time. Memory does not grow with the number of messages: what stayed is told at once.
 *
 * Counters: meant = moved + stayed + untried + elsewhere + those in line, active or awaited; so elsewhere needs no counting.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "qmgr/next_hop.h"
#include "qmgr/qmgr_int.h"
#include "qmgr/queue_select.h"

#define LOOKS_A_TURN  4000
#define READS_A_TURN  100
#define STARTS_A_TURN 128
#define TURN_US       2000
#define ACTIVE_MAX    500
#define OUTPUT_MAX    (64U << 10) /* so much may wait for its reader before no more is begun */
#define TROUBLE_MAX   20
#define SAY_EVERY_US  250000
#define MOVING_TEXT   "another command deals with it just now"
#define EXPIRED_TEXT  "it is to be returned to its sender (postsuper -e)"
#define REASON_MAX    1000

struct handover {
    struct command command; /* client NULL: it has gone */
    struct qmgr *q;
    uint64_t number;
    struct arena *arena;
    struct proto_queue_select select; /* in it, and what follows */
    struct slice nexthop, by;
    bool held;
    struct queue_cursor cursor;
    uint64_t added;             /* queue.added when it began */
    uint64_t suspensions_ended; /* of qmgr, then */
    struct proto_queue_moved count;
    struct active_list active;
    size_t nactive;
    uint64_t awaited; /* being delivered when they were found */
    unsigned trouble; /* requests in a row that came to nothing */
    bool is_stopped;
    struct buf reason; /* then; empty: nobody waits any more */
    struct mono_time said;
};

struct slice handover_nexthop(const struct handover *h)
{
    return h->nexthop;
}

bool handover_takes_held(const struct handover *h)
{
    return h->held;
}

static bool is_over(const struct handover *h)
{
    return (h->count.found_all != 0 || h->is_stopped) && h->nactive == 0 &&
           h->q->queue.nhandover == 0 && (h->is_stopped || h->awaited == 0);
}

/* --- what the administrator is told ------------------------------------------------------------------ */

static void count_elsewhere(struct handover *h)
{
    struct proto_queue_moved *n = &h->count;

    n->arrived = h->q->queue.added - h->added;
    n->elsewhere = n->meant - n->moved - n->stayed - n->untried - h->q->queue.nhandover -
                   h->nactive - h->awaited;
}

static void say_counts(struct handover *h)
{
    struct err err = ERR_INIT;

    count_elsewhere(h);
    h->said = mono_now();
    if (proto_put(h->command.client->chan, &msg_queue_moved, &h->count, -1, &err) == -1)
        log_warning("how far the queue was moved cannot be told: %s", err.text);
}

static void say_stayed(struct handover *h, const struct proto_queue_stayed *s)
{
    struct err err = ERR_INIT;

    h->count.stayed++;
    if (h->command.client == NULL)
        return;
    if (proto_put(h->command.client->chan, &msg_queue_stayed, s, -1, &err) == -1)
        log_warning("%.*s stays, which cannot be told: %s", SLICE_FMT(s->queue_id), err.text);
    client_continue(h->command.client);
}

/* Of a message as a whole. */
static void stays(struct handover *h, const struct queued *qd, const char *why)
{
    say_stayed(
        h, &(struct proto_queue_stayed){.queue_id = store_msg_id(qd->m), .reason = slice_str(why)});
}

/* --- which messages ------------------------------------------------------------------------------------ */

static void into_line(struct handover *h, struct queued *qd)
{
    qd->was = qd->where;
    queue_place(&h->q->queue, qd, IN_HANDOVER);
}

enum where handover_back(const struct handover *h, const struct queued *qd)
{
    bool is_due = store_msg_state(qd->m)->forced_expire ||
                  h->suspensions_ended != h->q->suspensions_ended; /* perhaps its own */

    return qd->was == IN_DEFERRED && is_due ? IN_DUE : (enum where) qd->was;
}

static void out_of_line(struct handover *h, struct queued *qd)
{
    queue_place(&h->q->queue, qd, handover_back(h, qd));
}

/* Cheap questions first. True: its record was read. */
static bool is_meant(struct handover *h, const struct queued *qd, bool *out)
{
    const struct proto_queue_select *s = &h->select;
    struct mail_envelope env;
    struct store_rcpt *rcpts;
    size_t n;
    struct err err = ERR_INIT;

    *out = queue_select_name(s, queue_name(qd), store_msg_id(qd->m));
    if (!*out || (s->sender.len == 0 && s->arrived_to_us == 0 && !queue_select_asks_rcpt(s)))
        return false;
    arena_reset(h->q->reading);
    if (store_msg_read(h->q->store, qd->m, h->q->reading, &env, &rcpts, &n, &err) == -1)
        return true; /* when it becomes active it is found out what is the matter */
    *out = queue_select_message(s, env.sender, env.arrival_us, rcpts, n);
    return true;
}

/* It follows when its attempt is over. */
static void await(struct handover *h, struct active *m)
{
    if (message_is_withdrawn(m))
        return; /* to be deleted, held, or queued anew */
    h->count.meant++;
    h->awaited++;
    m->ends_for = h->number;
    message_withdraw(m);
}

static bool find_one(struct handover *h, struct queued *qd)
{
    bool meant;
    bool was_read;

    if (qd->where == IN_CORRUPT || qd->where == IN_REQUEUE)
        return false; /* the latter comes in again as another */
    was_read = is_meant(h, qd, &meant);
    if (!meant)
        return was_read;
    if (qd->where == IN_HOLD && !h->held) {
        h->count.held++;
    } else if (qd->where == IN_ACTIVE) {
        await(h, qd->active);
    } else {
        h->count.meant++;
        if (qd->where == IN_MOVING)
            stays(h, qd, MOVING_TEXT);
        else
            into_line(h, qd);
    }
    return was_read;
}

/* True: there is more to look at. */
static bool find_some(struct handover *h)
{
    int reads = 0;

    for (int i = 0; i < LOOKS_A_TURN && reads < READS_A_TURN; i++) {
        struct queued *qd = queue_cursor_next(&h->cursor);

        if (qd == NULL) {
            h->count.found_all = 1;
            return false;
        }
        reads += find_one(h, qd);
    }
    return true;
}

/* --- their turn ------------------------------------------------------------------------------------------ */

void handover_refuse(struct handover *h, struct queued *qd, const char *why)
{
    stays(h, qd, why);
    out_of_line(h, qd);
}

void handover_is_held(struct handover *h)
{
    h->count.meant--;
    h->count.held++;
}

void handover_begins(struct handover *h, struct active *m)
{
    m->handover = h;
    m->lane = SCHED_RETRY;
    m->is_flushed = true; /* nothing is dead, until it proves to be */
    TAILQ_INSERT_TAIL(&h->active, m, handover_list);
    h->nactive++;
}

void handover_ends(struct active *m)
{
    struct handover *h = m->handover;

    TAILQ_REMOVE(&h->active, m, handover_list);
    h->nactive--;
}

/* True: there is more to begin now. */
static bool start_some(struct handover *h)
{
    struct queue *queue = &h->q->queue;
    const struct client *c = h->command.client;
    int64_t until_us = mono_now().us + TURN_US;
    struct queued *qd;

    for (int i = 0; h->nactive < ACTIVE_MAX && (qd = TAILQ_FIRST(&queue->handover)) != NULL; i++) {
        if (chan_output_len(c->chan) > OUTPUT_MAX)
            return false; /* step() goes on */
        if (i == STARTS_A_TURN || (i % 8 == 7 && mono_now().us > until_us))
            return true;
        if (store_msg_state(qd->m)->forced_expire) {
            handover_refuse(h, qd, EXPIRED_TEXT);
        } else {
            queue_place(queue, qd, IN_MOVING);
            message_hand_over(h->q, qd, h);
        }
    }
    return false;
}

void handover_kept(struct active *m, const struct rcpt *r, struct slice why)
{
    if (why.len == 0 || m->kept++ > 0)
        return;
    m->kept_addr = arena_slice(m->arena, r->s->r.addr);
    m->kept_reason = arena_slice(m->arena, slice_sub(why, 0, MAIL_REASON_MAX));
}

void handover_feedback(struct handover *h, enum sched_outcome outcome, struct slice why)
{
    if (outcome == SCHED_GOOD)
        h->trouble = 0;
    else if (outcome == SCHED_BAD && ++h->trouble >= TROUBLE_MAX)
        handover_stop(h, why);
}

void handover_result(struct active *m, bool moved, bool is_left)
{
    struct handover *h = m->handover;

    if (moved) {
        h->count.moved++;
    } else if (is_left && m->kept > 0) {
        say_stayed(h, &(struct proto_queue_stayed){.queue_id = store_msg_id(m->qd->m),
                                                   .sender = m->env.sender,
                                                   .addr = m->kept_addr,
                                                   .reason = m->kept_reason,
                                                   .others = m->kept - 1});
    } else if (is_left) {
        h->count.untried++;
    }
    if (h->command.client != NULL)
        client_continue(h->command.client);
}

bool handover_waited_for(struct qmgr *q, const struct active *m)
{
    struct handover *h = q->handover;

    if (h == NULL || m->ends_for != h->number)
        return false;
    h->awaited--;
    if (h->is_stopped)
        h->count.untried++;
    if (h->command.client != NULL)
        client_continue(h->command.client);
    return !h->is_stopped;
}

/* --- the end ------------------------------------------------------------------------------------------------ */

void handover_stop(struct handover *h, struct slice why)
{
    if (h->is_stopped)
        return;
    h->is_stopped = true;
    buf_put_slice(&h->reason, slice_sub(why, 0, REASON_MAX));
    qmgr_wake(h->q); /* the caller may stand in the middle of a message */
}

/* What is in line goes back to where it was. True: there is more. */
static bool give_back(struct handover *h)
{
    struct queue *queue = &h->q->queue;
    struct active *next;
    struct queued *qd;

    for (struct active *m = TAILQ_FIRST(&h->active); m != NULL; m = next) {
        next = TAILQ_NEXT(m, handover_list);
        message_withdraw(m);
    }
    for (int i = 0; i < LOOKS_A_TURN && (qd = TAILQ_FIRST(&queue->handover)) != NULL; i++) {
        h->count.untried++;
        out_of_line(h, qd);
    }
    return queue->nhandover > 0;
}

static void log_end(struct handover *h)
{
    const struct proto_queue_moved *n = &h->count;
    unsigned long long stay = n->stayed + n->untried;

    count_elsewhere(h);
    log_info("moved %llu messages to %.*s by %.*s, %llu stay%s%s", (unsigned long long) n->moved,
             SLICE_FMT(h->nexthop), SLICE_FMT(h->by), stay, h->reason.len > 0 ? ": " : "",
             buf_cstr(&h->reason));
}

static void really_free(struct handover *h)
{
    h->q->handover = NULL;
    queue_cursor_end(&h->q->queue, &h->cursor);
    buf_fini(&h->reason);
    arena_free(&h->arena);
    free(h);
}

bool handover_pump(struct qmgr *q)
{
    struct handover *h = q->handover;
    bool more = false;

    if (h == NULL)
        return false;
    if (h->is_stopped) {
        more = give_back(h);
    } else {
        if (h->count.found_all == 0)
            more = find_some(h);
        more = start_some(h) || more;
    }
    if (!is_over(h))
        return more;
    if (h->command.client != NULL) {
        client_continue(h->command.client);
    } else {
        log_end(h);
        really_free(h);
    }
    return false;
}

static enum step step(struct command *command)
{
    struct handover *h = (struct handover *) command; /* its first member */
    struct client *c = command->client;
    struct err err = ERR_INIT;
    enum proto_result_status status = h->is_stopped ? PROTO_TEMPORARY : PROTO_OK;

    qmgr_wake(h->q); /* there may be room for output again */
    if (!is_over(h)) {
        if (mono_diff_us(mono_now(), h->said) >= SAY_EVERY_US)
            say_counts(h);
        return STEP_WAITS;
    }
    h->count.untried += h->awaited; /* they are on their way here */
    h->awaited = 0;
    say_counts(h);
    log_end(h);
    /* "moved" is not taken back when the process is killed */
    if (store_flush(h->q->store, &err) == -1) {
        log_warning("queue: what was moved cannot be noted: %s", err.text);
        qmgr_dirty(h->q);
        client_answer(c, PROTO_TEMPORARY, h->count.moved, err.text);
    } else {
        client_answer(c, status, h->count.moved, buf_cstr(&h->reason));
    }
    return STEP_DONE;
}

static void handover_free(struct command *command)
{
    struct handover *h = (struct handover *) command;

    h->command.client = NULL;
    if (is_over(h))
        really_free(h);
    else
        handover_stop(h, SLICE_LIT("who asked for it has gone"));
}

void handover_fini(struct qmgr *q)
{
    if (q->handover != NULL)
        really_free(q->handover);
}

/* --- the beginning -------------------------------------------------------------------------------------------- */

static bool is_acceptable(struct qmgr *q, const struct proto_queue_move *p, struct err *err)
{
    if (next_hop_check(p->nexthop, err) == -1)
        return false;
    if (q->handover != NULL) {
        err_temporary(err, "the queue is being moved to %.*s just now",
                      SLICE_FMT(q->handover->nexthop));
        return false;
    }
    /* what the other host has and is not noted as done, a crash would give it again */
    if (q->cannot_note && store_flush(q->store, err) == -1) {
        err->kind = ERR_TEMPORARY;
        return false;
    }
    if (master_cf_find(q->gen->services, HANDOVER_TRANSPORT, SERVICE_UNIX) == NULL) {
        err_permanent(err, "master.cf has no service " HANDOVER_TRANSPORT);
        return false;
    }
    return true;
}

struct command *handover_command(struct client *client, const struct proto_queue_move *p)
{
    struct qmgr *q = client->qmgr;
    struct err err = ERR_INIT;
    struct handover *h;

    if (!is_acceptable(q, p, &err)) {
        client_answer(client, err.kind == ERR_TEMPORARY ? PROTO_TEMPORARY : PROTO_PERMANENT, 0,
                      err.text);
        return NULL;
    }
    h = xcalloc(1, sizeof(*h));
    h->command = (struct command){step, handover_free, client};
    h->q = q;
    h->number = ++q->handovers;
    h->arena = arena_new(0);
    h->select = p->select;
    queue_select_keep(&h->select, h->arena);
    h->nexthop = arena_slice(h->arena, p->nexthop);
    h->by = p->by.len > 0 ? arena_slice(h->arena, p->by) : SLICE_LIT("unknown");
    h->held = p->held != 0;
    h->added = q->queue.added;
    h->suspensions_ended = q->suspensions_ended;
    h->reason = BUF_INIT(SIZE_MAX);
    TAILQ_INIT(&h->active);
    queue_cursor_begin(&q->queue, &h->cursor);
    queue_cursor_bound(&q->queue, &h->cursor);
    q->handover = h;
    log_info("moving mail to %.*s by %.*s", SLICE_FMT(h->nexthop), SLICE_FMT(h->by));
    qmgr_wake(q);
    return &h->command;
}
