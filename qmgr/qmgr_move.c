/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_move.c - hold, release, set aside, queue anew: what blocks on the disk or on cleanup, on a helper thread. While
 * a message moves nothing else touches the store's handle of it.
 *
 * To queue anew is to give cleanup the message under another id, and then to remove it under its own: killed between the two, both
 * are there. What was to be queued anew while the system was stopped, or while an agent had it, has a note that says so, and is in a line of
 * its own (IN_REQUEUE). When cleanup refuses, the line pauses.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/metrics.h"
#include "mail/intake.h"
#include "mail/queue_id.h"
#include "qmgr/qmgr_int.h"

#define MOVE_RETRY_S  5
#define REQUEUE_PIECE 65536
#define REQUEUES_MAX  16 /* from the line, at once */

struct waiter {
    void (*back)(void *arg, struct queued *qd);
    void *arg;
};

struct move_job {
    struct qmgr *q;
    struct queued *qd;
    TAILQ_ENTRY(move_job) list;
    struct vec waiters; /* struct waiter * */
    bool from_line;
    enum move what;
    char *why;
    void (*done)(void *arg, bool ok);
    void *arg;
    int result;
    struct err err;
    /* MOVE_REQUEUE */
    struct arena *arena;
    struct mail_envelope env;
    struct store_rcpt *rcpts;
    size_t nrcpts;
    int fd;
    uint64_t offset, bytes;
    struct buf cleanup_path;
    struct buf received, filter;
    char new_id[QUEUE_ID_MAX + 1];
};

static void job_free(struct move_job *j)
{
    arena_free(&j->arena);
    fd_close(&j->fd);
    buf_fini(&j->cleanup_path);
    buf_fini(&j->received);
    buf_fini(&j->filter);
    vec_clear(&j->waiters, free);
    vec_fini(&j->waiters);
    free(j->why);
    free(j);
}

/* Gives the message to cleanup again, under a new id; what was delivered before is left out. As from pickup, which brings it in Postfix. */
static int requeue(struct move_job *j, struct err *err)
{
    struct intake_pool *pool = intake_pool_new(buf_cstr(&j->cleanup_path), "qmgr");
    struct mail_envelope env = j->env;
    struct intake *in = NULL;
    struct proto_result result;
    char *piece = xmalloc(REQUEUE_PIECE);
    struct buf from = BUF_INIT(SIZE_MAX);
    int ret = -1;

    log_put_address(&from, env.sender);
    log_info("%s: uid=%ld from=%s orig_id=%.*s", j->new_id, (long) getuid(), buf_cstr(&from),
             SLICE_FMT(env.queue_id));
    buf_fini(&from);
    env.queue_id = slice_str(j->new_id);
    env.filter = buf_view(&j->filter);
    env.redirect = SLICE_EMPTY; /* checks may say so again */
    env.flags |= MAIL_NO_MILTERS | MAIL_RECEIVED_DONE;
    env.flags &=
        ~(uint32_t) (MAIL_HOLD | MAIL_NO_ADDRESS_MAPS | MAIL_DELAY_WARNED | MAIL_FORCED_EXPIRE);
    env.next_retry_us = 0;
    in = intake_begin(pool, &env, err);
    if (in == NULL)
        goto done;
    for (size_t i = 0; i < j->nrcpts; i++) {
        struct mail_rcpt r = j->rcpts[i].r;

        r.code = r.reason = SLICE_EMPTY; /* it is new */
        if (!j->rcpts[i].done && intake_rcpt(in, &r, err) == -1)
            goto done;
    }
    if (intake_data(in, buf_view(&j->received), err) == -1)
        goto done;
    for (uint64_t at = 0; at < j->bytes;) {
        size_t want = j->bytes - at < REQUEUE_PIECE ? (size_t) (j->bytes - at) : REQUEUE_PIECE;
        ssize_t n = fd_pread_all(j->fd, piece, want, (off_t) (j->offset + at));

        if (n < (ssize_t) want) {
            err_temporary(err, "the message cannot be read");
            goto done;
        }
        if (intake_data(in, slice_of(piece, want), err) == -1)
            goto done;
        at += want;
    }
    if (intake_end(in, err) == -1)
        goto done;
    if (intake_wait(in, 300000, &result, err) != CHAN_OK) {
        if (err->kind == ERR_NONE)
            err_temporary(err, "cleanup does not answer");
        goto done;
    }
    if (result.status == PROTO_OK)
        ret = 0;
    else
        err_temporary(err, "cleanup refuses it: %.*s", SLICE_FMT(result.text));
done:
    intake_free(&in);
    intake_pool_free(&pool);
    free(piece);
    return ret;
}

/* Reads what requeue() needs. On the loop's thread. */
static int prepare_requeue(struct move_job *j, struct err *err)
{
    const struct config *cfg = j->q->gen->cfg;
    int fd;

    j->arena = arena_new(0);
    queue_id_new(slice_caseeq_str(slice_str(config_get(cfg, "enable_long_queue_ids")), "yes"),
                 j->new_id);
    intake_received(&j->received, config_get(cfg, "myhostname"), config_get(cfg, "mail_name"),
                    getuid(), j->new_id);
    buf_puts(&j->filter, config_get(cfg, "content_filter"));
    qmgr_service_path(j->q, config_get(j->q->gen->cfg, "cleanup_service_name"), &j->cleanup_path);
    if (store_msg_read(j->q->store, j->qd->m, j->arena, &j->env, &j->rcpts, &j->nrcpts, err) ==
            -1 ||
        store_msg_content(j->q->store, j->qd->m, &fd, &j->offset, &j->bytes, err) == -1)
        return -1;
    j->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return j->fd == -1 ? err_sys(err, "duplicate a descriptor") : 0;
}

static void due_now(struct qmgr *q, struct queued *qd, int64_t after_s)
{
    struct store_state s = *store_msg_state(qd->m);

    s.next_retry_us = qmgr_now_us(q) + after_s * 1000000;
    store_msg_set_state(q->store, qd->m, &s);
    queue_place(&q->queue, qd, after_s == 0 ? IN_DUE : IN_DEFERRED);
}

/* It stays where it was. */
static void failed(struct move_job *j)
{
    struct qmgr *q = j->q;

    log_warning("%.*s: cannot be %s: %s", SLICE_FMT(store_msg_id(j->qd->m)),
                j->what == MOVE_HOLD      ? "put on hold"
                : j->what == MOVE_RELEASE ? "released"
                : j->what == MOVE_CORRUPT ? "set aside"
                                          : "queued anew",
                j->err.text);
    if (store_msg_state(j->qd->m)->requeue) {
        queue_place(&q->queue, j->qd, IN_REQUEUE);
        q->requeues_paused = mono_after_ms(loop_now(q->loop), MOVE_RETRY_S * 1000);
    } else if (store_msg_queue(j->qd->m) == STORE_HOLD) {
        queue_place(&q->queue, j->qd, IN_HOLD);
    } else {
        due_now(q, j->qd, MOVE_RETRY_S);
    }
}

static void succeeded(struct move_job *j)
{
    struct qmgr *q = j->q;
    struct queued *qd = j->qd;
    struct slice id = store_msg_id(qd->m);

    switch (j->what) {
    case MOVE_HOLD:
        log_info("%.*s: placed on hold", SLICE_FMT(id));
        queue_place(&q->queue, qd, IN_HOLD);
        break;
    case MOVE_RELEASE:
        log_info("%.*s: released from hold", SLICE_FMT(id));
        due_now(q, qd, 0);
        break;
    case MOVE_CORRUPT:
        log_warning("%.*s: set aside in corrupt/: %s", SLICE_FMT(id), j->why);
        queue_place(&q->queue, qd, IN_CORRUPT);
        queue_forget(&q->queue, &j->qd);
        break;
    case MOVE_REQUEUE:
        log_info("%.*s: requeued as %s", SLICE_FMT(id), j->new_id);
        message_remove(q, qd);
        break;
    }
}

/* One after the other: each may remove the message, or move it again. */
static void tell_waiters(struct move_job *j, struct slice id)
{
    for (size_t i = 0; i < j->waiters.len; i++) {
        const struct waiter *w = j->waiters.items[i];
        struct store_msg *m = store_find(j->q->store, id);

        w->back(w->arg, m != NULL ? store_msg_data(m) : NULL);
    }
}

static void back_in_loop(void *arg)
{
    struct move_job *j = arg;
    struct qmgr *q = j->q;
    struct store_msg *m = j->qd->m;
    char *id = slice_dup(store_msg_id(m));

    q->nhelping--;
    if (j->from_line)
        q->nrequeues--;
    TAILQ_REMOVE(&q->moves, j, list);
    if (j->result == -1) {
        failed(j);
    } else {
        succeeded(j);
        if (j->what == MOVE_CORRUPT)
            store_msg_remove(q->store, &m);
    }
    qmgr_dirty(q);
    qmgr_wake(q);
    if (j->done != NULL)
        j->done(j->arg, j->result == 0);
    tell_waiters(j, slice_str(id));
    free(id);
    job_free(j);
}

static void run_job(void *arg)
{
    struct move_job *j = arg;
    struct qmgr *q = j->q;

    switch (j->what) {
    case MOVE_HOLD:
        j->result = store_msg_hold(q->store, j->qd->m, &j->err);
        break;
    case MOVE_RELEASE:
        j->result = store_msg_release(q->store, j->qd->m, &j->err);
        break;
    case MOVE_CORRUPT:
        j->result = store_msg_corrupt(q->store, j->qd->m, j->why, &j->err);
        break;
    case MOVE_REQUEUE:
        j->result = requeue(j, &j->err);
        break;
    }
    loop_post(q->loop, back_in_loop, j);
}

static void begin(struct qmgr *q, struct queued *qd, enum move what, const char *why,
                  bool from_line, void (*done)(void *arg, bool ok), void *arg)
{
    struct move_job *j = xcalloc(1, sizeof(*j));

    j->q = q;
    j->qd = qd;
    j->what = what;
    j->why = why != NULL ? xstrdup(why) : NULL;
    j->done = done;
    j->arg = arg;
    j->fd = -1;
    j->cleanup_path = j->received = j->filter = BUF_INIT(SIZE_MAX);
    j->from_line = from_line;
    queue_place(&q->queue, qd, IN_MOVING);
    TAILQ_INSERT_TAIL(&q->moves, j, list);
    q->nhelping++;
    if (what == MOVE_REQUEUE && prepare_requeue(j, &j->err) == -1) {
        j->result = -1;
        loop_post(q->loop, back_in_loop, j);
        return;
    }
    pool_run(q->movers, run_job, j);
}

void move_message(struct qmgr *q, struct queued *qd, enum move what, const char *why,
                  void (*done)(void *arg, bool ok), void *arg)
{
    begin(q, qd, what, why, false, done, arg);
}

void move_wait(struct qmgr *q, const struct queued *qd, void (*back)(void *arg, struct queued *qd),
               void *arg)
{
    struct waiter *w = xcalloc(1, sizeof(*w));
    struct move_job *j;

    *w = (struct waiter){back, arg};
    TAILQ_FOREACH(j, &q->moves, list)
    {
        if (j->qd == qd)
            break;
    }
    if (j == NULL)
        panic("a message is moving that nobody moves");
    vec_push(&j->waiters, w);
}

void move_requeues(struct qmgr *q)
{
    struct queued *qd;

    if (q->requeues_paused.us != 0) {
        if (mono_diff_us(q->requeues_paused, loop_now(q->loop)) > 0)
            return; /* each tick wakes the pump */
        q->requeues_paused.us = 0;
    }
    while (q->nrequeues < REQUEUES_MAX && (qd = TAILQ_FIRST(&q->queue.requeue)) != NULL) {
        q->nrequeues++;
        begin(q, qd, MOVE_REQUEUE, NULL, true, NULL, NULL);
    }
}
