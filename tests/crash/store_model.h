/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_model.h - what a test knows about the messages that it put into a store, and checks that the store agrees.
 * Included by one .c each.
 */
#ifndef PR_TESTS_STORE_MODEL_H
#define PR_TESTS_STORE_MODEL_H

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include "base/metrics.h"
#include "mail/queue_id.h"
#include "tests/crash/sim_disk.h"

#define MODEL_MAX   4096
#define MODEL_RCPTS 3

enum model_fate { MODEL_PENDING, MODEL_ACKED, MODEL_FAILED, MODEL_UNKNOWN };

struct model_msg {
    char id[QUEUE_ID_MAX + 1];
    uint64_t seed;
    size_t bytes;
    enum model_fate fate;
    bool held;              /* store_msg_hold returned 0, and nothing was tried since */
    bool was_file;          /* it was not in the journal when it was removed */
    bool removed;           /* store_msg_remove was called */
    bool removed_durable;   /* and made durable */
    bool done[MODEL_RCPTS]; /* store_rcpt_done was called */
    uint32_t attempts;      /* the most that was set */
    int seen;               /* times found since the store was opened */
    struct store_msg *handle;
    struct model *model;
};

struct model {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    struct model_msg msgs[MODEL_MAX];
    size_t count;
    size_t pending;
    bool crash_expected; /* a failure of a commit means nothing */
    uint64_t commits[MODEL_MAX][2];
    size_t ncommits, commits_seen;
    size_t damaged;
    char last_damage[512];
    uint64_t seed;
};

#define MODEL_CHECK(m, cond, ...)                                                                  \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "seed %llu: %s: ", (unsigned long long) (m)->seed, #cond);             \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\n");                                                                 \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static inline void model_content(const struct model_msg *m, unsigned char *out)
{
    uint64_t x = m->seed | 1;

    for (size_t i = 0; i < m->bytes; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out[i] = (unsigned char) (x >> 24);
    }
}

static inline struct model_msg *model_find(struct model *model, struct slice id)
{
    for (size_t i = 0; i < model->count; i++) {
        if (slice_eq_str(id, model->msgs[i].id))
            return &model->msgs[i];
    }
    return NULL;
}

static inline struct model *model_new(uint64_t seed)
{
    struct model *m = xcalloc(1, sizeof(*m));

    pthread_mutex_init(&m->mutex, NULL);
    pthread_cond_init(&m->cond, NULL);
    m->seed = seed;
    return m;
}

static inline void model_free(struct model **m)
{
    pthread_mutex_destroy(&(*m)->mutex);
    pthread_cond_destroy(&(*m)->cond);
    free(*m);
    *m = NULL;
}

/* store_committed_fn */
static inline void model_committed(void *arg, uint64_t source, uint64_t end)
{
    struct model *m = arg;

    pthread_mutex_lock(&m->mutex);
    if (m->ncommits < MODEL_MAX) {
        m->commits[m->ncommits][0] = source;
        m->commits[m->ncommits][1] = end;
        m->ncommits++;
    }
    pthread_mutex_unlock(&m->mutex);
}

/* store_done_fn */
static inline void model_done(void *arg, int result, const struct err *err)
{
    struct model_msg *msg = arg;
    struct model *m = msg->model;

    pthread_mutex_lock(&m->mutex);
    MODEL_CHECK(m, msg->fate == MODEL_PENDING, "%s: done twice", msg->id);
    MODEL_CHECK(m, result == 0 || (err != NULL && err->kind != ERR_NONE),
                "%s: failed without reason", msg->id);
    msg->fate = result == 0 ? MODEL_ACKED : m->crash_expected ? MODEL_UNKNOWN : MODEL_FAILED;
    m->pending--;
    pthread_cond_broadcast(&m->cond);
    pthread_mutex_unlock(&m->mutex);
}

static inline void model_wait(struct model *m)
{
    pthread_mutex_lock(&m->mutex);
    while (m->pending > 0)
        pthread_cond_wait(&m->cond, &m->mutex);
    pthread_mutex_unlock(&m->mutex);
}

/* A message on its way in. */
struct model_put {
    struct model *model;
    struct model_msg *msg;
    struct store_put *put;
    unsigned char *content;
    size_t written;
};

static inline struct model_put *model_put_begin(struct model *m, struct store_writer *w,
                                                size_t bytes)
{
    struct model_put *p = xcalloc(1, sizeof(*p));

    p->model = m;
    p->put = store_put_begin(w);
    pthread_mutex_lock(&m->mutex);
    MODEL_CHECK(m, m->count < MODEL_MAX, "too many messages");
    p->msg = &m->msgs[m->count++];
    pthread_mutex_unlock(&m->mutex);
    queue_id_new(false, p->msg->id);
    p->msg->seed = (uint64_t) queue_id_us(slice_str(p->msg->id)) * 0x9E3779B97F4A7C15ULL;
    p->msg->bytes = bytes;
    p->msg->model = m;
    p->content = xmalloc(bytes + 1);
    model_content(p->msg, p->content);
    return p;
}

/* What fails here, fails the commit. */
static inline void model_put_write(struct model_put *p, size_t upto)
{
    struct err err;

    while (p->written < upto) {
        size_t n = upto - p->written < 1000 ? upto - p->written : 1000;

        if (store_put_write(p->put, slice_of((char *) p->content + p->written, n), &err) == -1)
            break;
        p->written += n;
    }
}

static inline struct model_msg *model_put_commit(struct model_put **pp)
{
    struct model_put *p = *pp;
    struct model_msg *msg = p->msg;
    struct mail_envelope env = {0};
    struct mail_rcpt rcpts[MODEL_RCPTS] = {0};

    *pp = NULL;
    pthread_mutex_lock(&p->model->mutex);
    p->model->pending++;
    pthread_mutex_unlock(&p->model->mutex);
    model_put_write(p, msg->bytes);
    env.queue_id = slice_str(msg->id);
    env.sender = SLICE_LIT("sender@example.com");
    env.arrival_us = msg->seed;
    env.rcpt_count = MODEL_RCPTS;
    for (uint32_t i = 0; i < MODEL_RCPTS; i++) {
        rcpts[i].addr = i == 0   ? SLICE_LIT("a@example.net")
                        : i == 1 ? SLICE_LIT("b@example.net")
                                 : SLICE_LIT("c@x");
        rcpts[i].index = i;
    }
    store_put_commit(&p->put, &env, rcpts, MODEL_RCPTS, model_done, msg);
    free(p->content);
    free(p);
    return msg;
}

static inline void model_put_abort(struct model_put **pp)
{
    struct model_put *p = *pp;

    *pp = NULL;
    p->msg->fate = p->model->crash_expected ? MODEL_UNKNOWN : MODEL_FAILED;
    store_put_abort(&p->put);
    free(p->content);
    free(p);
}

/* Hands a new message in. */
static inline struct model_msg *model_put(struct model *m, struct store_writer *w, size_t bytes)
{
    struct model_put *p = model_put_begin(m, w, bytes);

    return model_put_commit(&p);
}

/* store_events */
static inline void model_found(void *arg, struct store_msg *h)
{
    struct model *m = arg;
    struct model_msg *msg = model_find(m, store_msg_id(h));

    MODEL_CHECK(m, msg != NULL, "%s was never put", (const char *) store_msg_id(h).ptr);
    msg->seen++;
    MODEL_CHECK(m, msg->seen == 1, "%s found twice", msg->id);
    msg->handle = h;
    store_msg_set_data(h, msg);
}

static inline void model_damaged(void *arg, const char *text)
{
    struct model *m = arg;

    m->damaged++;
    snprintf(m->last_damage, sizeof(m->last_damage), "%s", text);
}

/* The store's idea of a message against the model's. */
static inline void model_check_msg(struct model *m, struct store *s, const struct io_ops *io,
                                   struct model_msg *msg)
{
    struct arena *arena = arena_new(0);
    struct mail_envelope env;
    struct store_rcpt *rcpts;
    size_t nrcpts;
    uint64_t offset, bytes;
    int fd;
    struct err err;
    unsigned char *want = xmalloc(msg->bytes + 1);
    unsigned char *got = xmalloc(msg->bytes + 1);

    if (store_msg_read(s, msg->handle, arena, &env, &rcpts, &nrcpts, &err) == -1) {
        /* Removed when it was in a file, or on its way: what is left of it after a power cut may lack its large part. */
        MODEL_CHECK(
            m, msg->removed && (msg->was_file || store_msg_queue(msg->handle) != STORE_JOURNAL),
            "%s: %s", msg->id, err.text);
        goto done;
    }
    MODEL_CHECK(m, nrcpts == MODEL_RCPTS && slice_eq_str(rcpts[1].r.addr, "b@example.net"),
                "%s: recipients", msg->id);
    MODEL_CHECK(m, slice_eq_str(env.sender, "sender@example.com") && env.arrival_us == msg->seed,
                "%s: envelope", msg->id);
    for (size_t i = 0; i < nrcpts; i++)
        MODEL_CHECK(m, !rcpts[i].done || msg->done[i], "%s: recipient %zu was never done", msg->id,
                    i);
    MODEL_CHECK(m, store_msg_state(msg->handle)->attempts <= msg->attempts, "%s: attempts",
                msg->id);
    if (store_msg_content(s, msg->handle, &fd, &offset, &bytes, &err) == -1)
        MODEL_CHECK(m, false, "%s: content: %s", msg->id, err.text);
    MODEL_CHECK(m, bytes == msg->bytes, "%s: %llu bytes, wanted %zu", msg->id,
                (unsigned long long) bytes, msg->bytes);
    model_content(msg, want);
    MODEL_CHECK(m, io->pread(io->ctx, fd, got, msg->bytes, offset) == (ssize_t) msg->bytes,
                "%s: content", msg->id);
    MODEL_CHECK(m, memcmp(want, got, msg->bytes) == 0, "%s: content differs", msg->id);
    if (store_msg_queue(msg->handle) == STORE_JOURNAL) /* gives the content back */
        store_msg_set_state(
            s, msg->handle,
            &(struct store_state){.attempts = store_msg_state(msg->handle)->attempts});
done:
    free(want);
    free(got);
    arena_free(&arena);
}

/* After recovery: everything that was accepted and not removed is there. */
static inline void model_check_all(struct model *m, struct store *s, const struct io_ops *io)
{
    for (size_t i = 0; i < m->count; i++) {
        struct model_msg *msg = &m->msgs[i];

        if (msg->fate == MODEL_ACKED && !msg->removed)
            MODEL_CHECK(m, msg->seen == 1,
                        "%s (%zu bytes) was accepted and is lost; last damage: %s", msg->id,
                        msg->bytes, m->last_damage);
        MODEL_CHECK(m, !msg->removed_durable || msg->seen == 0, "%s came back", msg->id);
        MODEL_CHECK(m, msg->fate != MODEL_FAILED || msg->seen == 0, "%s was refused and is there",
                    msg->id);
        MODEL_CHECK(m,
                    !msg->held || msg->removed || msg->handle == NULL ||
                        store_msg_queue(msg->handle) == STORE_HOLD,
                    "%s was on hold, is in queue %d", msg->id, (int) store_msg_queue(msg->handle));
        if (msg->handle != NULL)
            model_check_msg(m, s, io, msg);
    }
}

static inline void model_forget_seen(struct model *m)
{
    for (size_t i = 0; i < m->count; i++) {
        m->msgs[i].seen = 0;
        m->msgs[i].handle = NULL;
    }
}

#endif
