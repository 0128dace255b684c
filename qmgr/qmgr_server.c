/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_server.c - connections to public/qmgr: writers that say how far their journal is durable, and queue commands.
 *
 * Who may do what, by the uid of the peer: COMMITTED, EDIT, MOVE, and suspensions our own and root; FLUSH and LIST whoever can reach the
 * socket (postqueue checks authorized_*_users before). A client's frames wait while a command of its is under way.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "qmgr/qmgr_int.h"

#define FRAMES_A_TURN 256
#define OUTPUT_MAX    (256U << 10) /* of a command, before it waits for its reader */
#define DENIED        "only root and the mail system may do this"

static void client_free_later(struct client *c);

/* A writer has gone: what it wrote and could not announce any more is looked for. */
static void writer_gone(struct client *c)
{
    struct err err = ERR_INIT;

    if (c->source != 0 && store_writer_gone(c->qmgr->store, c->source, &err) == -1)
        log_warning("queue: %s", err.text);
    c->source = 0;
}

static void client_close(struct client *c)
{
    if (c->dead)
        return;
    c->dead = true;
    if (c->command != NULL) {
        c->command->client = NULL;
        c->command->free(c->command);
        c->command = NULL;
    }
    loop_io_free(&c->io);
    chan_free(&c->chan);
    TAILQ_REMOVE(&c->qmgr->clients, c, list);
    writer_gone(c);
    client_free_later(c);
}

/* Memory goes when no posted callback names it any more. */
static void client_free_later(struct client *c)
{
    if (c->dead && c->uses == 0)
        free(c);
}

static void report_trouble(const struct err *err)
{
    log_warning("connection of a queue client: %s", err->text);
}

void client_send(struct client *c)
{
    struct err err = ERR_INIT;

    if (c->dead)
        return;
    switch (chan_flush(c->chan, &err)) {
    case CHAN_OK:
        loop_io_set(c->io, LOOP_READ);
        break;
    case CHAN_AGAIN:
        loop_io_set(c->io, LOOP_READ | LOOP_WRITE);
        break;
    case CHAN_EOF:
    case CHAN_ERROR:
        client_close(c); /* it did not wait for the answer */
        break;
    }
}

void client_answer(struct client *c, enum proto_result_status status, uint64_t count,
                   const char *text)
{
    struct proto_result result = {.status = status, .count = count, .text = slice_str(text)};
    struct err err = ERR_INIT;

    if (c == NULL || c->dead)
        return;
    if (proto_put(c->chan, &msg_result, &result, -1, &err) == -1) {
        report_trouble(&err);
        client_close(c);
        return;
    }
    client_send(c);
}

/* --- commands that take many turns ---------------------------------------------------------------- */

static void client_read(struct client *c);

static void run_step(struct client *c)
{
    struct command *command = c->command;
    enum step step = command->step(command);

    if (c->dead)
        return; /* its answer could not be written; this was seen to then */
    if (step == STEP_DONE) {
        c->command = NULL;
        command->free(command);
    }
    client_send(c);
    if (step == STEP_MORE)
        client_continue(c);
    else if (step == STEP_DONE && !c->dead)
        client_read(c);
}

static void client_turn(void *arg)
{
    struct client *c = arg;

    c->in_turn = false;
    if (!c->dead && c->command != NULL) {
        if (chan_output_len(c->chan) > OUTPUT_MAX)
            client_send(c); /* on_io() goes on when there is room */
        else
            run_step(c);
    }
    c->uses--;
    client_free_later(c);
}

void client_continue(struct client *c)
{
    if (c->dead || c->command == NULL || c->in_turn)
        return;
    c->in_turn = true;
    c->uses++;
    loop_defer(c->qmgr->loop, client_turn, c);
}

/* --- frames ------------------------------------------------------------------------------------ */

static bool is_owner(const struct client *c)
{
    return c->uid == 0 || c->uid == geteuid();
}

static void look_at(struct client *c, uint64_t source, uint64_t end)
{
    struct err err = ERR_INIT;

    if (source != 0 && store_committed(c->qmgr->store, source, end, &err) == -1)
        log_warning("queue: %s", err.text);
}

static bool take_queue_op(struct client *c, const struct frame *f, struct err *err)
{
    struct proto_queue_op op;

    if (proto_decode(f, &msg_queue_op, &op, err) == -1)
        return false;
    if (f->type == PROTO_QUEUE_FLUSH) {
        c->command = flush_command(c, &op);
    } else if (!is_owner(c)) {
        client_answer(c, PROTO_DENIED, 0, DENIED);
    } else {
        c->command = edit_command(c, &op);
    }
    client_continue(c);
    return true;
}

static bool take_move(struct client *c, const struct frame *f, struct err *err)
{
    struct proto_queue_move move;

    if (proto_decode(f, &msg_queue_move, &move, err) == -1)
        return false;
    if (!is_owner(c))
        client_answer(c, PROTO_DENIED, 0, DENIED);
    else
        c->command = handover_command(c, &move);
    client_continue(c);
    return true;
}

/* COMMITTED is only remembered: of many in a row the last says it all. */
static bool take_frame(struct client *c, const struct frame *f, struct proto_committed *latest,
                       struct err *err)
{
    struct proto_committed msg;
    struct proto_queue_select select;
    struct proto_suspension suspension;

    if (f->type == PROTO_HELLO) {
        c->greeted = true;
        return proto_check_hello(f, err) == 0;
    }
    if (!c->greeted) {
        err_input(err, "frame of type %u before the hello", f->type);
        return false;
    }
    switch (f->type) {
    case PROTO_COMMITTED:
        if (proto_decode(f, &msg_committed, &msg, err) == -1)
            return false;
        if (!is_owner(c)) {
            err_input(err, "uid %u may not write to the queue", (unsigned) c->uid);
            return false;
        }
        if (latest->source != msg.source)
            look_at(c, latest->source, latest->end);
        *latest = msg;
        c->source = msg.source;
        return true;
    case PROTO_QUEUE_FLUSH:
    case PROTO_QUEUE_EDIT:
        return take_queue_op(c, f, err);
    case PROTO_QUEUE_LIST:
        if (proto_decode(f, &msg_queue_select, &select, err) == -1)
            return false;
        c->command = list_command(c, &select);
        client_continue(c);
        return true;
    case PROTO_QUEUE_MOVE:
        return take_move(c, f, err);
    case PROTO_QUEUE_SUSPENSION:
        if (proto_decode(f, &msg_suspension, &suspension, err) == -1)
            return false;
        if (suspension.op != SUSPENSION_LIST && !is_owner(c))
            client_answer(c, PROTO_DENIED, 0, DENIED);
        else
            c->command = suspend_command(c, &suspension);
        client_continue(c);
        return true;
    default:
        err_input(err, "unexpected frame of type %u", f->type);
        return false;
    }
}

static void client_read(struct client *c)
{
    struct proto_committed latest = {0};
    bool over = false;

    for (int i = 0; i < FRAMES_A_TURN && !c->dead && c->command == NULL; i++) {
        struct err err = ERR_INIT;
        struct frame f;
        enum chan_result res = chan_get(c->chan, &f, &err);

        if (res == CHAN_AGAIN)
            break;
        over = res != CHAN_OK;
        if (res == CHAN_OK) {
            over = !take_frame(c, &f, &latest, &err);
            if (f.fd != -1)
                fd_close(&f.fd);
        }
        if (over) {
            if (res != CHAN_EOF)
                report_trouble(&err);
            break;
        }
    }
    look_at(c, latest.source, latest.end);
    if (over)
        client_close(c);
}

/* Frames may be left in the buffer, of which the descriptor knows nothing. */
static void read_again(void *arg)
{
    struct client *c = arg;

    if (!c->dead && c->command == NULL)
        client_read(c);
    if (!c->dead && c->command == NULL && chan_has_frame(c->chan)) {
        loop_defer(c->qmgr->loop, read_again, c);
        return;
    }
    c->uses--;
    client_free_later(c);
}

static void on_io(void *arg, unsigned events)
{
    struct client *c = arg;

    c->uses++; /* stays while this runs; read_again() lets go */
    if ((events & LOOP_WRITE) != 0) {
        client_send(c);
        client_continue(c);
    }
    if (!c->dead && (events & LOOP_HANGUP) != 0 && c->command != NULL)
        client_close(c); /* nobody waits for it */
    read_again(c);
}

void server_accepted(struct qmgr *q, int fd)
{
    struct client *c;
    uid_t uid;

    if (unix_peer_uid(fd, &uid) == -1) {
        log_warning("connection of a queue client: its owner is not known");
        fd_close(&fd);
        return;
    }
    c = xcalloc(1, sizeof(*c));
    c->qmgr = q;
    c->uid = uid;
    c->chan = chan_new(fd);
    c->io = loop_io_new(q->loop, fd, LOOP_READ, on_io, c);
    TAILQ_INSERT_TAIL(&q->clients, c, list);
    proto_hello(c->chan, "qmgr");
    client_send(c);
}

void server_fini(struct qmgr *q)
{
    struct client *c;

    while ((c = TAILQ_FIRST(&q->clients)) != NULL) {
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): what is freed has left the list */
        c->source = 0; /* the next queue manager looks for itself */
        client_close(c);
    }
}
