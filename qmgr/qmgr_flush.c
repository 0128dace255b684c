/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_flush.c - postqueue -f, -i, -s, and ETRN: deferred mail is tried now. For that mail no site is dead, no transport suspended or
 * in defer_transports, or it would only be deferred again.
 *
 * Mail that is just being deferred, as its site was found dead, is active yet, and is tried again when that is done.
 *
 * One site: it must be one of fast_flush_domains. The domain of what is deferred is kept with each message, as a number, so
 * that only messages are read that are for the site, for several, or that nobody has looked at since the process began.
 */
#include <stdlib.h>

#include "base/log.h"
#include "qmgr/qmgr_int.h"

#define LOOKS_A_STEP 4000
#define READS_A_STEP 200

struct flush {
    struct command command;
    struct qmgr *q;
    char *site; /* NULL: all */
    uint32_t site_number;
    bool is_asked; /* whether the site is eligible is known, and it is */
    struct queue_cursor cursor;
    uint64_t count;
    /* fast_flush_domains is being asked, on the pool */
    struct qmgr_config *gen;
    enum map_result answer;
    struct err err;
    bool abandoned; /* the client has gone meanwhile */
    TAILQ_ENTRY(flush) abandoned_list;
};

static void make_due(struct flush *f, struct queued *qd)
{
    qd->flushed = true;
    queue_place(&f->q->queue, qd, IN_DUE);
    f->count++;
}

/* Reads it. Notes whose it is. */
static bool is_for_site(struct flush *f, struct queued *qd)
{
    struct err err = ERR_INIT;
    struct mail_envelope env;
    struct store_rcpt *rcpts;
    size_t n;
    bool found = false;

    arena_reset(f->q->reading);
    if (store_msg_read(f->q->store, qd->m, f->q->reading, &env, &rcpts, &n, &err) == -1)
        return true; /* the attempt finds out what is the matter */
    qd->site = queue_site_of(rcpts, n);
    for (size_t i = 0; i < n; i++) {
        struct slice addr = rcpts[i].r.addr;
        ptrdiff_t at = slice_rfind(addr, '@');

        if (rcpts[i].done)
            continue;
        found |= at != -1 && slice_caseeq_str(slice_sub(addr, (size_t) at + 1, addr.len), f->site);
    }
    return found;
}

static bool may_be_for_site(const struct flush *f, const struct queued *qd)
{
    return qd->site == SITE_UNKNOWN || qd->site == SITE_SEVERAL || qd->site == f->site_number;
}

/* --- is the site eligible? ------------------------------------------------------------------------ */

static void really_free(struct flush *f)
{
    qmgr_config_unref(&f->gen);
    free(f->site);
    free(f);
}

static void ask(void *arg)
{
    struct flush *f = arg;

    f->answer = match_list_host(f->gen->flush_domains, slice_str(f->site), SLICE_EMPTY, &f->err);
}

static void answered(void *arg)
{
    struct flush *f = arg;

    f->q->nhelping--;
    qmgr_config_unref(&f->gen);
    if (f->abandoned) {
        TAILQ_REMOVE(&f->q->abandoned_flushes, f, abandoned_list);
        really_free(f);
    } else {
        client_continue(f->command.client);
    }
}

static void ask_on_pool(void *arg)
{
    struct flush *f = arg;

    ask(f);
    loop_post(f->q->loop, answered, f);
}

static enum step ask_first(struct flush *f)
{
    struct qmgr *q = f->q;

    f->is_asked = true;
    f->gen = qmgr_config_ref(q->gen);
    if ((match_list_flags(f->gen->flush_domains) & MAP_FLAG_LOCAL) != 0) {
        ask(f);
        qmgr_config_unref(&f->gen);
        return STEP_MORE;
    }
    q->nhelping++;
    pool_run(q->resolvers, ask_on_pool, f);
    return STEP_WAITS;
}

/* --- the walk ---------------------------------------------------------------------------------------- */

static enum step walk(struct flush *f)
{
    size_t reads = 0;

    for (int i = 0; i < LOOKS_A_STEP && reads < READS_A_STEP; i++) {
        struct queued *qd = queue_cursor_next(&f->cursor);

        if (qd == NULL) {
            client_answer(f->command.client, PROTO_OK, f->count, "");
            qmgr_wake(f->q);
            return STEP_DONE;
        }
        if (qd->where == IN_ACTIVE) {
            f->count += message_ask(qd->active, f->site);
            reads++;
        }
        if (qd->where != IN_DEFERRED || (f->site != NULL && !may_be_for_site(f, qd)))
            continue;
        reads += f->site != NULL;
        if (f->site == NULL || is_for_site(f, qd))
            make_due(f, qd);
    }
    qmgr_wake(f->q);
    return STEP_MORE;
}

static enum step flush_step(struct command *command)
{
    struct flush *f = (struct flush *) command; /* its first member */
    struct buf text = BUF_INIT(400);

    if (f->site == NULL)
        return walk(f);
    if (!f->is_asked)
        return ask_first(f);
    switch (f->answer) {
    case MAP_FOUND:
        return walk(f);
    case MAP_NOTFOUND:
        buf_printf(&text, "Flush service is not configured for destination \"%.300s\"", f->site);
        client_answer(command->client, PROTO_NOT_FOUND, 0, buf_cstr(&text));
        break;
    case MAP_RETRY:
        log_warning("fast_flush_domains: %s: %s", f->site, f->err.text);
        client_answer(command->client, PROTO_TEMPORARY, 0, "fast_flush_domains cannot be asked");
        break;
    }
    buf_fini(&text);
    return STEP_DONE;
}

static void flush_free(struct command *command)
{
    struct flush *f = (struct flush *) command;

    queue_cursor_end(&f->q->queue, &f->cursor);
    if (f->gen != NULL) { /* answered() comes yet, or flush_fini() */
        f->abandoned = true;
        TAILQ_INSERT_TAIL(&f->q->abandoned_flushes, f, abandoned_list);
    } else {
        really_free(f);
    }
}

void flush_fini(struct qmgr *q)
{
    struct flush *f;

    while ((f = TAILQ_FIRST(&q->abandoned_flushes)) != NULL) {
        TAILQ_REMOVE(&q->abandoned_flushes, f, abandoned_list);
        really_free(f);
    }
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
    if (qd->where == IN_DEFERRED) {
        qd->flushed = true;
        queue_place(&q->queue, qd, IN_DUE);
    } else if (qd->where == IN_ACTIVE) {
        (void) message_ask(qd->active, NULL);
    }
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
    if (op->op == QUEUE_OP_FLUSH_ID) {
        flush_id(c, op->arg);
        return NULL;
    }
    if (op->op == QUEUE_OP_FLUSH_ALL)
        deliver_revive(q);
    f = xcalloc(1, sizeof(*f));
    f->command = (struct command){flush_step, flush_free, c};
    f->q = q;
    if (op->op == QUEUE_OP_FLUSH_SITE) {
        f->site = slice_dup(op->arg);
        f->site_number = queue_site(op->arg);
    }
    queue_cursor_begin(&q->queue, &f->cursor);
    return &f->command;
}
