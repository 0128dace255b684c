/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr.c - the queue manager as a whole: start-up, the pump, timers, reload, drain.
 *
 * Whatever may make work possible calls qmgr_wake(); at the end of the turn the pump activates messages, starts
 * deliveries and reports, each a bounded number, and is woken again if there is more.
 *
 * Nothing begins while what was done cannot be noted, as on a file system that became read-only: after a crash all of it would be
 * done again. That shows by a note that fails, or, when there is none, by writing before something begins. What is under way ends, and is remembered here. A full disk is no reason to stop: that its mail leaves is what makes room.
 */
#include <poll.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/metrics.h"
#include "mail/flow.h"
#include "qmgr/qmgr_int.h"

#define CLOCK_FILE     "journal/clock"
#define TICK_MS        1000
#define PROBE_MS       100 /* deliveries begin for so long after it was known that they can be noted */
#define LOCK_WAIT_MS   20000 /* for a predecessor to let go of the queue */
#define DRAIN_MS       10000
#define RESOLVER_STACK (256U << 10)

static void pump(void *arg)
{
    struct qmgr *q = arg;

    q->is_pumping = false;
    if (q->is_draining || q->cannot_note)
        return;
    if (message_activate_some(q))
        qmgr_wake(q);
    if (handover_pump(q))
        qmgr_wake(q);
    if (active_feed(q))
        qmgr_wake(q);
    move_requeues(q);
    flow_set_backlog(q->queue.nactive >= (size_t) q->gen->p.active_limit &&
                     !TAILQ_EMPTY(&q->queue.incoming));
    deliver_pump(q);
    report_pump(q);
}

void qmgr_wake(struct qmgr *q)
{
    if (q->is_pumping || q->loop == NULL)
        return;
    q->is_pumping = true;
    loop_defer(q->loop, pump, q);
}

int64_t qmgr_now_us(struct qmgr *q)
{
    struct wall_time wall = wall_now();
    int64_t jump = qmgr_clock_compare(&q->clock, mono_now(), wall);

    if (jump != 0) {
        log_warning("the clock was set %s by %lld seconds: what waits in the queue keeps its time",
                    jump > 0 ? "forward" : "back",
                    (long long) ((jump > 0 ? jump : -jump) / 1000000));
        q->clock_unsaved = true;
    }
    return qmgr_clock_us(&q->clock, wall);
}

int64_t qmgr_wall_us(const struct qmgr *q, int64_t us)
{
    return us - q->clock.offset_us;
}

struct clock_save {
    struct qmgr *q;
    struct qmgr_clock clock;
    int result;
    struct err err;
};

static void clock_saved(void *arg)
{
    struct clock_save *c = arg;

    if (c->result == -1)
        log_warning("queue: that the clock was set cannot be kept: %s", c->err.text);
    free(c);
}

static void save_clock_job(void *arg)
{
    struct clock_save *c = arg;

    c->result = qmgr_clock_save(CLOCK_FILE, c->q->boot_id, &c->clock, &c->err);
    loop_post(c->q->loop, clock_saved, c);
}

static void save_clock(struct qmgr *q)
{
    struct clock_save *c = xcalloc(1, sizeof(*c));

    q->clock_unsaved = false;
    c->q = q;
    c->clock = q->clock;
    pool_run(q->movers, save_clock_job, c);
}

/* Goes on with the time of the queue manager before. */
static void begin_clock(struct qmgr *q)
{
    struct err err = ERR_INIT;

    (void) qmgr_clock_load(CLOCK_FILE, q->boot_id, &q->clock);
    (void) qmgr_now_us(q);
    q->clock_unsaved = false;
    if (qmgr_clock_save(CLOCK_FILE, q->boot_id, &q->clock, &err) == -1)
        log_warning("queue: the time of day cannot be kept: %s", err.text);
}

int64_t qmgr_age_us(struct qmgr *q, const struct mail_envelope *env)
{
    (void) qmgr_now_us(q);
    return qmgr_clock_age_us(&q->clock, (int64_t) env->arrival_us, wall_now());
}

void qmgr_service_path(struct qmgr *q, const char *service, struct buf *out)
{
    const struct master_service *s = master_cf_find(q->gen->services, service, SERVICE_UNIX);

    worker_socket_path(q->worker, s != NULL && !s->is_private ? "public" : "private", service, out);
}

/* Said once, and once more when it is over. */
static void judge_notes(struct qmgr *q, bool ok, const struct err *err)
{
    bool is_full = !ok && strcmp(err->dsn, "4.3.1") == 0;

    if (!ok && !q->notes_failed)
        log_warning("queue: what was done cannot be noted: %s%s", err->text,
                    is_full ? "" : "; no delivery begins until it can");
    if (ok && q->notes_failed)
        log_info("queue: what was done is noted again");
    q->notes_failed = !ok;
    if (q->cannot_note && (ok || is_full))
        qmgr_wake(q);
    q->cannot_note = !ok && !is_full;
}

bool qmgr_may_begin(struct qmgr *q)
{
    struct mono_time now = loop_now(q->loop);
    struct err err = ERR_INIT;

    if (q->cannot_note)
        return false;
    if (q->probed.us != 0 && mono_diff_ms(now, q->probed) < PROBE_MS)
        return true;
    if (store_probe(q->store, &err) == -1)
        judge_notes(q, false, &err);
    q->probed = now;
    return !q->cannot_note;
}

static void flush(void *arg)
{
    struct qmgr *q = arg;
    struct err err = ERR_INIT;

    q->is_dirty = false;
    judge_notes(q, store_flush(q->store, &err) == 0, &err);
    if (store_housekeeping(q->store) && !q->notes_failed)
        qmgr_dirty(q);
}

static bool is_quiet(const struct qmgr *q)
{
    size_t waiting;
    size_t busy;

    sched_counts(q->sched, &waiting, &busy);
    return busy == 0 && q->nhelping == 0 && !report_is_busy(q);
}

/* For `postfix metrics`: the longest turn since the mail system was started. */
static void tell_longest_turn(struct qmgr *q)
{
    int64_t us = loop_longest_us(q->loop);

    if (us > atomic_load(q->longest_turn_us))
        atomic_store(q->longest_turn_us, us);
}

static void tick(void *arg)
{
    struct qmgr *q = arg;
    struct mono_time now = loop_now(q->loop);

    (void) qmgr_now_us(q);
    tell_longest_turn(q);
    if (q->clock_unsaved)
        save_clock(q);
    suspend_tick(q);
    deliver_tick(q, now);
    report_tick(q, now);
    flush(q); /* what could not be noted before, too */
    qmgr_wake(q);
    if (q->is_draining && (is_quiet(q) || now.us >= q->drain_until.us)) {
        q->drained(q);
        return;
    }
    loop_timer_set(q->tick, q->is_draining ? 50 : TICK_MS);
}

static void damaged(void *arg, const char *text)
{
    (void) arg;
    log_warning("queue: %s", text);
}

int qmgr_new(struct worker *w, const struct config *cfg, struct qmgr **out, struct err *err)
{
    struct qmgr *q = xcalloc(1, sizeof(*q));

    q->worker = w;
    queue_init(&q->queue);
    qmgr_clock_init(&q->clock, mono_now(), wall_now());
    qmgr_clock_boot_id(q->boot_id);
    q->random = (uint64_t) wall_now().us | 1;
    TAILQ_INIT(&q->clients);
    TAILQ_INIT(&q->abandoned_flushes);
    TAILQ_INIT(&q->moves);
    TAILQ_INIT(&q->suspend_walks);
    TAILQ_INIT(&q->suspend_writes);
    TAILQ_INIT(&q->hungry);
    TAILQ_INIT(&q->starving);
    q->reports_tail = &q->reports;
    q->sched = sched_new();
    q->scratch = BUF_INIT(FRAME_PAYLOAD_MAX);
    q->reading = arena_new(0);
    *out = q;
    return qmgr_config_new(cfg, &q->gen, err);
}

/* A predecessor that is asked to leave may hold the queue for a moment. */
static int open_store(struct qmgr *q, struct err *err)
{
    static const struct store_events events = {message_found, damaged};
    struct mono_time give_up = mono_after_ms(mono_now(), LOCK_WAIT_MS);
    struct store_options opt;

    if (store_options_from(q->gen->cfg, &opt, err) == -1)
        return -1;
    opt.queue_directory = ".";
    while (store_open(&opt, &events, q, &q->store, err) == -1) {
        if (err->kind != ERR_TEMPORARY || mono_diff_ms(give_up, mono_now()) <= 0)
            return -1;
        (void) poll(NULL, 0, 50);
    }
    return 0;
}

int qmgr_begin(struct qmgr *q, struct loop *loop, struct err *err)
{
    q->loop = loop;
    q->longest_turn_us = metrics_counter("qmgr_longest_turn_us");
    q->resolvers = pool_new("resolve", (unsigned) q->gen->p.resolver_threads, RESOLVER_STACK);
    q->movers = pool_new("move", 1, 0);
    q->flush = loop_timer_new(q->loop, flush, q);
    q->tick = loop_timer_new(q->loop, tick, q);
    q->delayed = loop_timer_new(q->loop, deliver_delay_over, q);
    if (open_store(q, err) == -1)
        return -1;
    begin_clock(q);
    suspend_begin(q); /* before mail is found: nothing of it is to be tried */
    if (store_recover(q->store, err) == -1)
        return -1;
    if (store_count(q->store) > 0)
        log_info("%zu messages in the queue", store_count(q->store));
    loop_timer_set(q->tick, TICK_MS);
    qmgr_dirty(q);
    qmgr_wake(q);
    return 0;
}

int qmgr_reload(struct qmgr *q, const struct config *cfg, struct err *err)
{
    struct qmgr_config *g;

    if (qmgr_config_new(cfg, &g, err) == -1)
        return -1;
    worker_set_maps(q->worker, g->maps); /* before others ask them */
    qmgr_config_unref(&q->gen);
    q->gen = g;
    deliver_reconfigure(q);
    qmgr_wake(q);
    return 0;
}

void qmgr_drain(struct qmgr *q, void (*drained)(struct qmgr *q))
{
    q->is_draining = true;
    q->drained = drained;
    q->drain_until = mono_after_ms(mono_now(), DRAIN_MS);
    loop_timer_set(q->tick, 0);
}

void qmgr_end(struct qmgr **qp)
{
    struct qmgr *q = *qp;
    struct queued *qd;

    *qp = NULL;
    /* what the pools' jobs would post is not heard any more; what they did is on disk */
    pool_free(&q->resolvers);
    pool_free(&q->movers);
    server_fini(q);
    flush_fini(q);
    suspend_fini(q);
    report_fini(q);
    deliver_fini(q);
    TAILQ_FOREACH(qd, &q->queue.all, all)
    {
        if (qd->active != NULL)
            message_forget(qd->active);
    }
    handover_fini(q);
    queue_fini(&q->queue);
    if (q->store != NULL) {
        struct err err = ERR_INIT;

        /* corrections that were too small to be jumps are in it */
        if (qmgr_clock_save(CLOCK_FILE, q->boot_id, &q->clock, &err) == -1)
            log_warning("queue: the time of day cannot be kept: %s", err.text);
        store_close(&q->store);
    }
    sched_free(&q->sched);
    qmgr_config_unref(&q->gen);
    loop_timer_free(&q->tick);
    loop_timer_free(&q->delayed);
    loop_timer_free(&q->flush);
    buf_fini(&q->scratch);
    arena_free(&q->reading);
    free(q);
}
