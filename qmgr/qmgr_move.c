/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_move.c - hold, release, set aside, queue anew: what blocks on the disk or on cleanup, on a helper thread. While
 * a message moves nothing else touches the store's handle of it.
 */
#include <fcntl.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/log.h"
#include "base/metrics.h"
#include "mail/intake.h"
#include "mail/queue_id.h"
#include "qmgr/qmgr_int.h"

#define MOVE_RETRY_S  5
#define REQUEUE_PIECE 65536

struct move_job {
    struct qmgr *q;
    struct queued *qd;
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
    bool long_ids;
    char new_id[QUEUE_ID_MAX + 1];
};

static void job_free(struct move_job *j)
{
    arena_free(&j->arena);
    fd_close(&j->fd);
    buf_fini(&j->cleanup_path);
    free(j->why);
    free(j);
}

/* Gives the message to cleanup again, under a new id; what was delivered before is left out. */
static int requeue(struct move_job *j, struct err *err)
{
    struct intake_pool *pool = intake_pool_new(buf_cstr(&j->cleanup_path), "qmgr");
    struct mail_envelope env = j->env;
    struct intake *in = NULL;
    struct proto_result result;
    char *piece = xmalloc(REQUEUE_PIECE);
    int ret = -1;

    queue_id_new(j->long_ids, j->new_id);
    env.queue_id = slice_str(j->new_id);
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
    const char *long_ids = config_get(j->q->gen->cfg, "enable_long_queue_ids");
    int fd;

    j->arena = arena_new(0);
    j->long_ids = long_ids != NULL && slice_caseeq_str(slice_str(long_ids), "yes");
    worker_service_path(j->q->worker, "public", "cleanup_service_name", &j->cleanup_path);
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

    s.next_retry_us = wall_now().us + after_s * 1000000;
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
    if (store_msg_queue(j->qd->m) == STORE_HOLD)
        queue_place(&q->queue, j->qd, IN_HOLD);
    else
        due_now(q, j->qd, MOVE_RETRY_S);
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

static void back_in_loop(void *arg)
{
    struct move_job *j = arg;
    struct qmgr *q = j->q;
    struct store_msg *m = j->qd->m;

    q->nhelping--;
    if (j->qd->removing && !(j->result == 0 && j->what == MOVE_REQUEUE)) {
        message_remove(q, j->qd);
    } else if (j->result == -1) {
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

void move_message(struct qmgr *q, struct queued *qd, enum move what, const char *why,
                  void (*done)(void *arg, bool ok), void *arg)
{
    struct move_job *j = xcalloc(1, sizeof(*j));

    j->q = q;
    j->qd = qd;
    j->what = what;
    j->why = why != NULL ? xstrdup(why) : NULL;
    j->done = done;
    j->arg = arg;
    j->fd = -1;
    j->cleanup_path = BUF_INIT(SIZE_MAX);
    queue_place(&q->queue, qd, IN_MOVING);
    q->nhelping++;
    if (what == MOVE_REQUEUE && prepare_requeue(j, &j->err) == -1) {
        j->result = -1;
        loop_post(q->loop, back_in_loop, j);
        return;
    }
    pool_run(q->movers, run_job, j);
}
