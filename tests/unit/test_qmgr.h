/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_qmgr.h - a queue manager on the test's own loop, with a real store; the agents and bounce are threads of the test that
 * answer as each case wants.
 */
#ifndef PR_TEST_QMGR_H
#define PR_TEST_QMGR_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/log.h"
#include "mail/deliver.h"
#include "qmgr/qmgr_int.h"

#define WAIT_MS   20000
#define RCPTS_MAX 3000

static const char main_cf[] = "compatibility_level = 3.6\n"
                              "myhostname = mx.example.test\n"
                              "mydestination =\nalias_maps =\n"
                              "minimal_backoff_time = 1s\n"
                              "maximal_backoff_time = 2s\n"
                              "relayhost = [relay.example.test]\n";
static const char master_cf[] = "qmgr unix n - n 300 1 qmgr\n"
                                "cleanup unix n - n - 0 cleanup\n"
                                "bounce unix - - n - 0 bounce\n"
                                "smtp unix - - n - - smtp\n"
                                "relay unix - - n - - smtp\n"
                                "retry unix - - n - - error\n"
                                "error unix - - n - - error\n";

/* How a fake agent answers. */
enum answer {
    ANSWER_SENT,
    ANSWER_DEFER,
    ANSWER_DEAD, /* deferred, and the site is dead */
    ANSWER_BOUNCE,
    ANSWER_BREAK,  /* ends the connection in the middle */
    ANSWER_WAIT,   /* holds on to it until told another answer; then that */
    ANSWER_BY_NAME /* by the recipient's first letter: s, d, b */
};

struct fixture;

struct fake {
    struct fixture *f;
    const char *service;
    int listener;
    pthread_t thread;
};

struct fixture {
    char dir[64];
    struct config *cfg;
    struct qmgr *q;
    struct loop *loop;
    struct store_writer *writer;
    pthread_mutex_t lock;
    enum answer answer;
    unsigned break_times; /* then ANSWER_SENT */
    unsigned requests, rcpts, retried, reports, reported;
    unsigned reports_refused; /* so many are refused first */
    uint32_t report_kind;
    char last_rcpt[100], last_nexthop[100];
    struct mail_envelope extra; /* flags, filter, redirect of what is submitted */
    char report_rcpts[400];
    atomic_bool stopping;
    struct fake fakes[3];
    struct vec threads; /* pthread_t * of connections */
};

static struct fixture *now; /* of the test under way */

/* --- fakes ------------------------------------------------------------------------------------- */

static enum answer answer_for(struct fixture *f, struct slice addr)
{
    if (f->answer != ANSWER_BY_NAME)
        return f->answer;
    return addr.ptr[0] == 's' ? ANSWER_SENT : addr.ptr[0] == 'd' ? ANSWER_DEFER : ANSWER_BOUNCE;
}

static void answer_one(struct fixture *f, struct chan *c, const struct proto_deliver_rcpt *r)
{
    enum answer a = answer_for(f, r->addr);
    struct proto_status msg = {.index = r->index,
                               .outcome = OUTCOME_SENT,
                               .code = SLICE_LIT("2.0.0"),
                               .text = SLICE_LIT("ok")};
    struct err err;

    if (a == ANSWER_DEFER || a == ANSWER_DEAD) {
        msg.outcome = OUTCOME_DEFERRED;
        msg.code = SLICE_LIT("4.4.1");
        msg.text = SLICE_LIT("not now");
        msg.site_dead = a == ANSWER_DEAD;
    } else if (a == ANSWER_BOUNCE) {
        msg.outcome = OUTCOME_BOUNCED;
        msg.code = SLICE_LIT("5.1.1");
        msg.text = SLICE_LIT("no such user");
    }
    assert_int_equal(proto_put(c, &msg_status, &msg, -1, &err), 0);
}

static void *serve_agent(void *arg)
{
    struct chan *c = arg;
    struct fixture *f = now;
    struct deliver_request *r;
    struct err err = ERR_INIT;

    proto_hello(c, "fake");
    for (;;) {
        enum chan_result res = chan_flush_wait(c, WAIT_MS, &err);
        bool leave = false;

        if (res == CHAN_OK)
            res = deliver_read(c, 200, &r, &err);
        if (res == CHAN_AGAIN && !atomic_load(&f->stopping))
            continue;
        if (res != CHAN_OK)
            break;
        pthread_mutex_lock(&f->lock);
        f->requests++;
        f->rcpts += (unsigned) r->nrcpts;
        snprintf(f->last_rcpt, sizeof(f->last_rcpt), "%.*s", SLICE_FMT(r->rcpts[0].r.addr));
        snprintf(f->last_nexthop, sizeof(f->last_nexthop), "%.*s", SLICE_FMT(r->msg.nexthop));
        while (f->answer == ANSWER_WAIT && !atomic_load(&f->stopping)) {
            pthread_mutex_unlock(&f->lock);
            usleep(2000);
            pthread_mutex_lock(&f->lock);
        }
        if (f->answer == ANSWER_BREAK) {
            leave = true;
            if (f->break_times > 0 && --f->break_times == 0)
                f->answer = ANSWER_SENT;
        }
        for (size_t i = 0; i < r->nrcpts && !leave; i++)
            answer_one(f, c, &r->rcpts[i].r);
        pthread_mutex_unlock(&f->lock);
        deliver_free(&r);
        if (leave)
            break;
        proto_put_empty(c, PROTO_DONE);
    }
    chan_free(&c);
    return NULL;
}

/* retry: defers with its next hop as the reason, as error(8) does. */
static void *serve_retry(void *arg)
{
    struct chan *c = arg;
    struct fixture *f = now;
    struct deliver_request *r;
    struct err err = ERR_INIT;

    proto_hello(c, "retry");
    while (!atomic_load(&f->stopping)) {
        if (chan_flush_wait(c, WAIT_MS, &err) != CHAN_OK)
            break;
        enum chan_result res = deliver_read(c, 200, &r, &err);
        if (res == CHAN_AGAIN)
            continue;
        if (res != CHAN_OK)
            break;
        pthread_mutex_lock(&f->lock);
        f->retried += (unsigned) r->nrcpts;
        pthread_mutex_unlock(&f->lock);
        for (size_t i = 0; i < r->nrcpts; i++) {
            struct slice text = SLICE_EMPTY;
            struct proto_status msg = {.index = r->rcpts[i].r.index, .outcome = OUTCOME_DEFERRED};

            msg.code = dsn_code_split(r->msg.nexthop, &text);
            msg.text = text;
            assert_int_equal(proto_put(c, &msg_status, &msg, -1, &err), 0);
        }
        proto_put_empty(c, PROTO_DONE);
        deliver_free(&r);
    }
    chan_free(&c);
    return NULL;
}

static void *serve_bounce(void *arg)
{
    struct chan *c = arg;
    struct fixture *f = now;
    struct err err = ERR_INIT;
    struct frame frame;

    proto_hello(c, "bounce");
    while (!atomic_load(&f->stopping)) {
        struct proto_report report;
        struct proto_report_rcpt rcpt;
        struct proto_result result = {.status = PROTO_OK, .text = SLICE_LIT("NEWID1")};
        enum chan_result res;

        if (chan_flush_wait(c, WAIT_MS, &err) != CHAN_OK)
            break;
        res = proto_get_wait(c, &frame, 200, &err);
        if (res == CHAN_AGAIN)
            continue;
        if (res != CHAN_OK)
            break;
        if (frame.fd != -1)
            fd_close(&frame.fd);
        pthread_mutex_lock(&f->lock);
        if (frame.type == PROTO_REPORT && proto_decode(&frame, &msg_report, &report, &err) == 0) {
            f->report_kind = report.kind;
            f->report_rcpts[0] = '\0';
        } else if (frame.type == PROTO_REPORT_RCPT &&
                   proto_decode(&frame, &msg_report_rcpt, &rcpt, &err) == 0) {
            size_t at = strlen(f->report_rcpts);

            f->reported++;
            snprintf(f->report_rcpts + at, sizeof(f->report_rcpts) - at, "%.*s ",
                     SLICE_FMT(rcpt.addr));
        } else if (frame.type == PROTO_END) {
            f->reports++;
            if (f->reports_refused > 0) {
                f->reports_refused--;
                result.status = PROTO_TEMPORARY;
            }
            assert_int_equal(proto_put(c, &msg_result, &result, -1, &err), 0);
        }
        pthread_mutex_unlock(&f->lock);
    }
    chan_free(&c);
    return NULL;
}

static void *accept_all(void *arg)
{
    struct fake *fake = arg;
    struct fixture *f = fake->f;
    void *(*serve)(void *) = strcmp(fake->service, "bounce") == 0  ? serve_bounce
                             : strcmp(fake->service, "retry") == 0 ? serve_retry
                                                                   : serve_agent;

    while (!atomic_load(&f->stopping)) {
        int fd = accept(fake->listener, NULL, NULL);
        pthread_t *t;

        if (fd == -1) {
            usleep(2000);
            continue;
        }
        t = xcalloc(1, sizeof(*t));
        pthread_create(t, NULL, serve, chan_new(fd));
        pthread_mutex_lock(&f->lock);
        vec_push(&f->threads, t);
        pthread_mutex_unlock(&f->lock);
    }
    return NULL;
}

/* --- the fixture --------------------------------------------------------------------------------- */

static void write_text(const char *path, const char *text, const char *more)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fprintf(file, "%s%s", text, more);
    fclose(file);
}

static void committed(void *arg, uint64_t source, uint64_t end)
{
    (void) arg;
    (void) source;
    (void) end;
}

static void fake_start(struct fixture *f, size_t i, const char *service)
{
    struct fake *fake = &f->fakes[i];
    struct err err = ERR_INIT;
    char path[64];

    snprintf(path, sizeof(path), "private/%s", service);
    fake->f = f;
    fake->service = service;
    fake->listener = unix_listen(path, 0600, 100, &err);
    assert_int_not_equal(fake->listener, -1);
    pthread_create(&fake->thread, NULL, accept_all, fake);
}

static void begin_qmgr(struct fixture *f)
{
    struct err err = ERR_INIT;

    f->loop = loop_new();
    if (qmgr_new(NULL, f->cfg, &f->q, &err) == -1 || qmgr_begin(f->q, f->loop, &err) == -1)
        fail_msg("queue manager: %s", err.text);
}

static inline void begin(struct fixture *f, const char *more, enum answer answer)
{
    struct store_options opt;
    struct err err = ERR_INIT;

    *f = (struct fixture){.answer = answer};
    now = f;
    pthread_mutex_init(&f->lock, NULL);
    snprintf(f->dir, sizeof(f->dir), "/tmp/test_qmgr.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(chdir(f->dir), 0);
    assert_int_equal(dir_make("private", 0700, &err), 0);
    write_text("main.cf", main_cf, more);
    write_text("master.cf", master_cf, "");
    if (config_load(f->dir, NULL, 0, NULL, &f->cfg, &err) == -1)
        fail_msg("%s", err.text);
    assert_int_equal(store_make_directories(".", geteuid(), getegid(), &err), 0);
    assert_int_equal(store_options_from(f->cfg, &opt, &err), 0);
    opt.queue_directory = ".";
    opt.segment_bytes = 1 << 20;
    assert_int_equal(store_writer_open(&opt, committed, NULL, &f->writer, &err), 0);
    fake_start(f, 0, "smtp");
    fake_start(f, 1, "retry");
    fake_start(f, 2, "bounce");
    begin_qmgr(f);
}

static inline void end(struct fixture *f)
{
    char command[128];

    atomic_store(&f->stopping, true);
    qmgr_end(&f->q);
    loop_free(&f->loop);
    config_unref(&f->cfg);
    for (size_t i = 0; i < ARRAY_LEN(f->fakes); i++) {
        shutdown(f->fakes[i].listener, SHUT_RDWR);
        pthread_join(f->fakes[i].thread, NULL);
        fd_close(&f->fakes[i].listener);
    }
    for (size_t i = 0; i < f->threads.len; i++) {
        pthread_join(*(pthread_t *) f->threads.items[i], NULL);
        free(f->threads.items[i]);
    }
    vec_fini(&f->threads);
    store_writer_close(&f->writer);
    assert_int_equal(chdir("/"), 0);
    snprintf(command, sizeof(command), "rm -rf %s", f->dir);
    assert_int_equal(system(command), 0); /* NOLINT */
}

struct waiting {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
};

static void put_done(void *arg, int result, const struct err *err)
{
    struct waiting *w = arg;

    if (result != 0)
        fprintf(stderr, "commit: %s\n", err->text);
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

/* Puts a message into the queue and tells qmgr. rcpts: "a@x b@x". */
static inline void submit(struct fixture *f, const char *id, const char *sender, const char *rcpts,
                          int64_t age_s, uint32_t notify)
{
    struct mail_envelope env = {
        .queue_id = slice_str(id),
        .sender = slice_str(sender),
        .arrival_us = (uint64_t) (wall_now().us - age_s * 1000000),
        .header_bytes = 14,
        .flags = f->extra.flags,
        .filter = f->extra.filter,
        .redirect = f->extra.redirect,
    };
    static struct mail_rcpt list[RCPTS_MAX];
    size_t n = 0;
    struct slice rest = slice_str(rcpts);
    struct slice addr;
    struct waiting w = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    struct store_put *p = store_put_begin(f->writer);
    struct err err = ERR_INIT;
    uint64_t source;
    uint64_t upto;

    for (; slice_token(&rest, " ", &addr) && n < RCPTS_MAX; n++)
        list[n] = (struct mail_rcpt){.addr = addr, .index = (uint32_t) n, .notify = notify};
    env.rcpt_count = (uint32_t) n;
    assert_int_equal(store_put_write(p, SLICE_LIT("Subject: x\r\n\r\nhello\r\n"), &err), 0);
    store_put_commit(&p, &env, list, n, put_done, &w);
    pthread_mutex_lock(&w.lock);
    while (!w.done)
        pthread_cond_wait(&w.cond, &w.lock);
    pthread_mutex_unlock(&w.lock);
    store_writer_position(f->writer, &source, &upto);
    assert_int_equal(store_committed(f->q->store, source, upto, &err), 0);
}

struct until {
    struct fixture *f;
    bool (*condition)(struct fixture *f);
    struct loop_timer *timer;
    struct mono_time give_up;
    bool met;
};

static void look(void *arg)
{
    struct until *u = arg;

    pthread_mutex_lock(&u->f->lock);
    u->met = u->condition(u->f);
    pthread_mutex_unlock(&u->f->lock);
    if (u->met || mono_now().us > u->give_up.us)
        loop_stop(u->f->loop);
    else
        loop_timer_set(u->timer, 5);
}

static inline void run_until(struct fixture *f, const char *what,
                             bool (*condition)(struct fixture *f))
{
    struct until u = {
        .f = f, .condition = condition, .give_up = mono_after_ms(mono_now(), WAIT_MS)};

    u.timer = loop_timer_new(f->loop, look, &u);
    loop_timer_set(u.timer, 0);
    loop_run(f->loop);
    loop_timer_free(&u.timer);
    if (!u.met)
        fail_msg("timed out: %s; requests %u rcpts %u retried %u reports %u in queue %zu", what,
                 f->requests, f->rcpts, f->retried, f->reports, store_count(f->q->store));
}

static inline void set_answer(struct fixture *f, enum answer answer)
{
    pthread_mutex_lock(&f->lock);
    f->answer = answer;
    pthread_mutex_unlock(&f->lock);
}

static inline bool is_empty(struct fixture *f)
{
    return store_count(f->q->store) == 0;
}

static inline bool is_idle(struct fixture *f)
{
    return f->q->queue.nactive == 0 && TAILQ_EMPTY(&f->q->queue.incoming) &&
           TAILQ_EMPTY(&f->q->queue.due) && f->requests + f->retried > 0;
}

/* The undelivered recipients of a message, as its record says. */
static inline const char *left(struct fixture *f, const char *id)
{
    static char text[1000];
    struct arena *a = arena_new(0);
    struct store_msg *m = store_find(f->q->store, slice_str(id));
    struct mail_envelope env;
    struct store_rcpt *rcpts;
    size_t n;
    struct err err = ERR_INIT;

    text[0] = '\0';
    if (m != NULL) {
        assert_int_equal(store_msg_read(f->q->store, m, a, &env, &rcpts, &n, &err), 0);
        for (size_t i = 0; i < n; i++) {
            size_t at = strlen(text);

            if (!rcpts[i].done)
                snprintf(text + at, sizeof(text) - at, "%.*s(%.*s) ", SLICE_FMT(rcpts[i].r.addr),
                         SLICE_FMT(rcpts[i].reason));
        }
    }
    arena_free(&a);
    return text;
}

#endif
