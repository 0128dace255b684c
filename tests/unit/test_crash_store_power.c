/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_crash_store_power.c - random work on the queue store, the power cut or the process killed at a random call, recovery;
 * several times on the same disk. PR_CRASH_ROUNDS: how many disks; PR_CRASH_SEED: one of them only.
 */
#include "base/log.h"
#include "tests/crash/store_model.h"

#define ROOT "q"

static const struct store_options options = {
    .queue_directory = ROOT, .segment_bytes = 32768, .large_bytes = 6000, .min_free_bytes = 0};
static const struct store_events events = {model_found, model_damaged};

struct run {
    struct sim_disk *disk;
    struct model *model;
    struct store *store;
    struct store_writer *writer;
    struct model_put *open_put; /* takes its time */
    uint64_t random;
};

static uint64_t pick(struct run *r, uint64_t below)
{
    r->random = r->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (r->random >> 33) % below;
}

static size_t pick_bytes(struct run *r)
{
    switch (pick(r, 8)) {
    case 0:
        return pick(r, 20000); /* some of them large */
    case 1:
        return 0;
    default:
        return pick(r, 3000);
    }
}

static struct model_msg *pick_message(struct run *r)
{
    for (int i = 0; i < 20 && r->model->count > 0; i++) {
        struct model_msg *m = &r->model->msgs[pick(r, r->model->count)];

        if (m->handle != NULL)
            return m;
    }
    return NULL;
}

static void announce(struct run *r)
{
    struct err err;

    for (;;) {
        uint64_t source = 0;
        uint64_t end = 0;
        bool any;

        pthread_mutex_lock(&r->model->mutex);
        any = r->model->commits_seen < r->model->ncommits;
        if (any) {
            source = r->model->commits[r->model->commits_seen][0];
            end = r->model->commits[r->model->commits_seen++][1];
        }
        pthread_mutex_unlock(&r->model->mutex);
        if (!any)
            return;
        if (r->store != NULL && store_committed(r->store, source, end, &err) == -1)
            MODEL_CHECK(r->model, r->disk->dead, "committed: %s", err.text);
    }
}

static void change_message(struct run *r, struct model_msg *m)
{
    struct store_state state = *store_msg_state(m->handle);
    uint32_t i = (uint32_t) pick(r, MODEL_RCPTS);
    struct err err;

    switch (pick(r, 8)) {
    case 0:
    case 1:
        m->removed = true;
        m->was_file |= store_msg_queue(m->handle) != STORE_JOURNAL;
        if (pick(r, 2) == 0)
            store_msg_remove_later(r->store, m->handle);
        store_msg_remove(r->store, &m->handle);
        break;
    case 2:
        m->done[i] = true;
        store_rcpt_done(r->store, m->handle, i);
        break;
    case 3:
        store_rcpt_deferred(r->store, m->handle, i, SLICE_LIT("4.4.1"),
                            SLICE_LIT("connection refused"));
        /* FALLTHROUGH */
    case 4:
        state.attempts++;
        if (state.attempts > m->attempts)
            m->attempts = state.attempts;
        store_msg_set_state(r->store, m->handle, &state);
        break;
    case 5:
        m->held = store_msg_hold(r->store, m->handle, &err) == 0;
        if (!m->held)
            MODEL_CHECK(r->model, r->disk->dead || strstr(err.text, "just being moved") != NULL,
                        "hold: %s", err.text);
        break;
    case 6:
        m->held = false;
        if (store_msg_queue(m->handle) == STORE_HOLD &&
            store_msg_release(r->store, m->handle, &err) == -1)
            MODEL_CHECK(r->model, r->disk->dead, "release: %s", err.text);
        break;
    case 7:
        if (store_msg_queue(m->handle) != STORE_HOLD)
            store_msg_hold_later(r->store, m->handle);
        break;
    }
}

static void open_store(struct run *r)
{
    struct err err;

    model_forget_seen(r->model);
    if (store_open_io(&options, &r->disk->ops, &events, r->model, false, &r->store, &err) == -1 ||
        store_recover(r->store, &err) == -1) {
        MODEL_CHECK(r->model, r->disk->dead, "recovery: %s", err.text);
        store_abandon(&r->store);
        return;
    }
}

static void open_writer(struct run *r)
{
    struct err err;

    if (store_writer_open_io(&options, &r->disk->ops, model_committed, r->model, &r->writer,
                             &err) == -1) {
        MODEL_CHECK(r->model, r->disk->dead, "writer: %s", err.text);
        r->writer = NULL;
    }
}

static void close_store(struct run *r)
{
    bool orderly;

    if (r->store == NULL)
        return;
    store_close(&r->store);
    orderly = !r->disk->dead;
    for (size_t i = 0; i < r->model->count; i++) {
        struct model_msg *m = &r->model->msgs[i];

        if (orderly && m->removed && m->handle == NULL)
            m->removed_durable = true;
    }
}

/* Without a power cut meanwhile. */
static void check(struct run *r)
{
    long saved;
    bool dead;

    pthread_mutex_lock(&r->disk->mutex);
    saved = r->disk->cut_after;
    dead = r->disk->dead;
    r->disk->cut_after = -1;
    pthread_mutex_unlock(&r->disk->mutex);
    if (r->store != NULL && !dead)
        model_check_all(r->model, r->store, &r->disk->ops);
    pthread_mutex_lock(&r->disk->mutex);
    r->disk->cut_after = saved;
    pthread_mutex_unlock(&r->disk->mutex);
}

static void finish_open(struct run *r)
{
    if (r->open_put != NULL)
        (void) model_put_commit(&r->open_put);
}

static void put(struct run *r)
{
    if (r->writer == NULL)
        return;
    if (r->open_put != NULL) {
        model_put_write(r->open_put, pick(r, r->open_put->msg->bytes + 1));
        if (pick(r, 4) == 0)
            finish_open(r);
    } else if (pick(r, 10) == 0) {
        r->open_put = model_put_begin(r->model, r->writer, pick(r, 20000));
        return;
    }
    (void) model_put(r->model, r->writer, pick_bytes(r));
}

static void step(struct run *r)
{
    struct model_msg *m;

    switch (pick(r, 24)) {
    case 0:
        if (r->store != NULL)
            (void) store_housekeeping(r->store);
        break;
    case 1:
        if (r->store != NULL) {
            struct err err;

            if (store_flush(r->store, &err) == -1)
                MODEL_CHECK(r->model, r->disk->dead, "flush: %s", err.text);
        }
        break;
    case 2:
        if (pick(r, 4) == 0) {
            finish_open(r);
            store_writer_close(&r->writer);
            open_writer(r);
        }
        break;
    case 3:
        if (pick(r, 6) == 0) {
            model_wait(r->model);
            announce(r);
            close_store(r);
            open_store(r);
            check(r);
        }
        break;
    case 4:
    case 5:
        model_wait(r->model);
        /* FALLTHROUGH */
    case 6:
    case 7:
        announce(r);
        break;
    default:
        if (pick(r, 2) == 0) {
            put(r);
        } else if (r->store != NULL && (m = pick_message(r)) != NULL) {
            change_message(r, m);
        }
        break;
    }
}

/* Until the power goes. */
static void generation(struct run *r, bool power)
{
    int steps = 30 + (int) pick(r, 80);

    r->model->ncommits = r->model->commits_seen = 0;
    r->model->crash_expected = true;
    open_writer(r);
    if (r->store == NULL)
        open_store(r);
    pthread_mutex_lock(&r->disk->mutex);
    r->disk->cut_after = (long) pick(r, 600);
    pthread_mutex_unlock(&r->disk->mutex);
    for (int i = 0; i < steps; i++)
        step(r);
    if (pick(r, 2) == 0)
        finish_open(r);
    pthread_mutex_lock(&r->disk->mutex);
    r->disk->dead = true;
    pthread_mutex_unlock(&r->disk->mutex);
    if (r->open_put != NULL)
        model_put_abort(&r->open_put);
    model_wait(r->model);
    store_writer_abandon(&r->writer);
    store_abandon(&r->store);
    if (power)
        sim_power_cut(r->disk);
    else
        sim_kill(r->disk);
    open_store(r);
    model_check_all(r->model, r->store, &r->disk->ops);
}

static void round_of(uint64_t seed)
{
    struct run r = {.disk = sim_new(seed, ROOT), .model = model_new(seed), .random = seed * 77 + 1};
    int generations = 1 + (int) pick(&r, 5);

    open_store(&r);
    for (int i = 0; i < generations; i++)
        generation(&r, pick(&r, 4) != 0);
    store_close(&r.store);
    MODEL_CHECK(r.model, r.disk->open_fds == 0, "%d descriptors are left open", r.disk->open_fds);
    sim_free(&r.disk);
    model_free(&r.model);
}

static void test_rounds(void **state)
{
    const char *one = getenv("PR_CRASH_SEED");
    const char *rounds = getenv("PR_CRASH_ROUNDS");
    uint64_t n = rounds != NULL ? strtoull(rounds, NULL, 10) : 500;

    (void) state;
    if (one != NULL) {
        round_of(strtoull(one, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= n; seed++)
        round_of(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rounds)};

    log_open(&(struct log_target){
        .program = "test", .facility = "mail", .maillog_fd = -1, .no_syslog = true});
    return cmocka_run_group_tests(tests, NULL, NULL);
}
