/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_fixture.h - a store with its writer and owner on a simulated disk, for the tests of what that may do to them.
 */
#ifndef PR_TESTS_STORE_FIXTURE_H
#define PR_TESTS_STORE_FIXTURE_H

#include "qmgr/journal.h"
#include "tests/crash/store_model.h"

#define ROOT "q"

static struct store_options options = {
    .queue_directory = ROOT, .segment_bytes = 32768, .large_bytes = 6000, .min_free_bytes = 0};
static const struct store_events events = {model_found, model_damaged};

struct fixture {
    struct sim_disk *disk;
    struct model *model;
    struct store *store;
    struct store_writer *writer;
};

static inline struct fixture *begin(void)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    struct err err;

    f->disk = sim_new(42, ROOT);
    f->model = model_new(42);
    options.min_free_bytes = 0;
    if (store_writer_open_io(&options, &f->disk->ops, model_committed, f->model, &f->writer,
                             &err) == -1)
        fail_msg("%s", err.text);
    return f;
}

static inline void recover(struct fixture *f)
{
    struct err err;

    model_forget_seen(f->model);
    f->model->damaged = 0;
    if (store_open_io(&options, &f->disk->ops, &events, f->model, false, &f->store, &err) == -1 ||
        store_recover(f->store, &err) == -1)
        fail_msg("%s", err.text);
}

static inline void end(struct fixture *f)
{
    store_writer_close(&f->writer);
    store_close(&f->store);
    assert_int_equal(f->disk->open_fds, 0);
    sim_free(&f->disk);
    model_free(&f->model);
    free(f);
}

static inline enum model_fate put(struct fixture *f, size_t bytes)
{
    struct model_msg *m = model_put(f->model, f->writer, bytes);

    model_wait(f->model);
    return m->fate;
}

static inline void set(struct fixture *f, int *field, int value)
{
    pthread_mutex_lock(&f->disk->mutex);
    *field = value;
    pthread_mutex_unlock(&f->disk->mutex);
}

/* The only segment that has records. */
static inline struct sim_inode *segment_inode(struct fixture *f)
{
    struct sim_inode *best = NULL;

    for (const struct sim_name *n = f->disk->names; n != NULL; n = n->next) {
        if (sim_in_dir(n->path, ROOT "/journal") && n->inode != NULL && n->inode->now.len > 5000 &&
            n->inode->now.p[JOURNAL_SEGMENT_START] != 0)
            best = n->inode;
    }
    assert_non_null(best);
    return best;
}

/* Some file of a directory. */
static inline struct sim_name *name_in(struct fixture *f, const char *dir)
{
    struct sim_name *n = f->disk->names;

    while (n != NULL && (n->inode == NULL || !sim_in_dir(n->path, dir)))
        n = n->next;
    return n;
}

#endif
