/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_helper.c - the store's own thread, which does what blocks: syncs, unlinks, recycling, message files.
 * store_housekeeping.c gives it work, and takes the results over on the owner's thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/log.h"
#include "qmgr/store_owner_int.h"

#define HELPER_STACK (256U << 10)

struct job *store_job_new(enum job_type type)
{
    struct job *j = xcalloc(1, sizeof(*j));

    j->type = type;
    j->fd = -1;
    j->paths = VEC_INIT;
    j->err = ERR_INIT;
    return j;
}

void store_job_free(struct job *j)
{
    vec_clear(&j->paths, free);
    vec_fini(&j->paths);
    while (j->promos != NULL) {
        struct promotion *p = j->promos;

        j->promos = p->next;
        store_promotion_free(&p);
    }
    free(j);
}

/* What cannot be removed stays in j->paths. */
static void unlink_all(const struct io_ops *io, struct job *j)
{
    size_t left = 0;

    for (size_t i = 0; i < j->paths.len; i++) {
        char *path = j->paths.items[i];

        if (io->unlink(io->ctx, path) == -1 && errno != ENOENT) {
            store_err_sys(&j->err, "remove", path);
            j->paths.items[left++] = path;
        } else {
            free(path);
        }
    }
    j->paths.len = left;
}

/* Makes all files, then syncs each directory once. */
static void run_promotions(struct store *s, struct job *j)
{
    struct buf dir = BUF_INIT(SIZE_MAX);
    struct vec synced = VEC_INIT; /* char *; few: sub-directories */

    for (struct promotion *p = j->promos; p != NULL; p = p->next)
        store_file_make(s->io, s->directory, STORE_DEFERRED, p);
    for (struct promotion *p = j->promos; p != NULL; p = p->next) {
        bool known = false;

        (void) store_path_dir(&dir, s->directory, STORE_DEFERRED, slice_str(p->id));
        for (size_t i = 0; i < synced.len && !known; i++)
            known = strcmp(synced.items[i], buf_cstr(&dir)) == 0;
        if (known || p->result != 0)
            continue;
        if (s->io->sync_dir(s->io->ctx, buf_cstr(&dir)) == 0) {
            vec_push(&synced, xstrdup(buf_cstr(&dir)));
        } else {
            store_err_sys(&p->err, "sync", buf_cstr(&dir));
            p->result = -1;
        }
    }
    vec_clear(&synced, free);
    vec_fini(&synced);
    buf_fini(&dir);
}

static int sync_file(const struct io_ops *io, const char *path, struct err *err)
{
    int fd = io->open(io->ctx, path, O_RDWR, 0);
    int ret;

    if (fd == -1)
        return errno == ENOENT
                   ? 0
                   : store_err_sys(err, "open", path); /* removed or moved: synced by that */
    ret = io->fdatasync(io->ctx, fd);
    if (ret == -1)
        store_err_sys(err, "sync", path);
    io->close(io->ctx, fd);
    return ret;
}

/* The directories of message files, a bit each. */
static const char message_dirs[] = "0123456789ABCDEF-"; /* - is hold */

static uint32_t dir_bit(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *p;

    if (slash == NULL || slash == path)
        return 0;
    if (slash - path >= 5 && memcmp(slash - 5, "/hold", 5) == 0)
        return 1U << (sizeof(message_dirs) - 2);
    p = slash - path >= 2 && slash[-2] == '/' ? strchr(message_dirs, slash[-1]) : NULL;
    return p == NULL ? 0 : 1U << (p - message_dirs);
}

void store_sync_directories(struct store *s, uint32_t which)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    struct io_stat st;

    for (unsigned i = 0; message_dirs[i] != '\0'; i++) {
        if ((which & 1U << i) == 0)
            continue;
        buf_reset(&path);
        if (message_dirs[i] == '-')
            buf_printf(&path, "%s/hold", s->directory);
        else
            buf_printf(&path, "%s/deferred/%c", s->directory, message_dirs[i]);
        if (s->io->stat_path(s->io->ctx, buf_cstr(&path), &st) == 0 &&
            s->io->sync_dir(s->io->ctx, buf_cstr(&path)) == -1)
            log_warning("cannot sync %s", buf_cstr(&path));
    }
    buf_fini(&path);
}

static void run(struct store *s, struct job *j)
{
    struct buf path = BUF_INIT(SIZE_MAX);

    switch (j->type) {
    case JOB_SYNC:
        j->result = s->io->fdatasync(s->io->ctx, j->fd);
        if (j->result == 0 && j->sync_name)
            j->result = s->io->sync_dir(s->io->ctx, store_path(&path, s->directory, "journal"));
        if (j->result == -1)
            store_err_sys(&j->err, "sync", "completion records");
        else
            unlink_all(s->io, j);
        break;
    case JOB_UNLINK:
        unlink_all(s->io, j);
        break;
    case JOB_RECYCLE:
        j->result = store_segment_recycle(s->io, s->directory, j->seg->fd, j->seg->number,
                                          (uint64_t) s->opt.segment_bytes, &j->err);
        break;
    case JOB_PROMOTE:
        run_promotions(s, j);
        break;
    case JOB_SYNC_FILE:
        for (size_t i = 0; i < j->paths.len && j->result == 0; i++)
            j->result = sync_file(s->io, j->paths.items[i], &j->err);
        break;
    case JOB_SYNC_NAMES:
        store_sync_directories(s, j->dirs);
        break;
    }
    buf_fini(&path);
}

static void *helper(void *arg)
{
    struct store *s = arg;

    lock_take(&s->helper_lock);
    for (;;) {
        struct job *j = s->jobs;

        if (s->helper_stop)
            break;
        if (j == NULL) {
            s->helper_busy = false;
            pthread_cond_broadcast(&s->helper_idle);
            lock_wait(&s->helper_lock, &s->helper_work);
            continue;
        }
        s->jobs = j->next;
        if (s->jobs == NULL)
            s->jobs_tail = &s->jobs;
        s->helper_busy = true;
        lock_release(&s->helper_lock);
        run(s, j);
        lock_take(&s->helper_lock);
        j->next = NULL;
        *s->results_tail = j;
        s->results_tail = &j->next;
    }
    lock_release(&s->helper_lock);
    return NULL;
}

void store_job_run(struct store *s, struct job *j)
{
    lock_take(&s->helper_lock);
    if (!s->helper_started) {
        pthread_attr_t attr;

        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, HELPER_STACK);
        if (pthread_create(&s->helper, &attr, helper, s) != 0)
            panic("cannot start the queue's background thread");
        pthread_attr_destroy(&attr);
        s->helper_started = true;
    }
    j->next = NULL;
    *s->jobs_tail = j;
    s->jobs_tail = &j->next;
    s->helper_busy = true;
    pthread_cond_signal(&s->helper_work);
    lock_release(&s->helper_lock);
}

void store_helper_stop(struct store *s)
{
    bool started;

    lock_take(&s->helper_lock);
    s->helper_stop = true;
    started = s->helper_started;
    pthread_cond_signal(&s->helper_work);
    lock_release(&s->helper_lock);
    if (started)
        pthread_join(s->helper, NULL);
    while (s->jobs != NULL || s->results != NULL) {
        struct job **from = s->jobs != NULL ? &s->jobs : &s->results;
        struct job *j = *from;

        *from = j->next;
        store_job_free(j);
    }
}

void store_helper_wait(struct store *s)
{
    lock_take(&s->helper_lock);
    while (s->helper_started && (s->helper_busy || s->jobs != NULL))
        lock_wait(&s->helper_lock, &s->helper_idle);
    lock_release(&s->helper_lock);
}

void store_unlink_later(struct store *s, char *path)
{
    struct job *j = store_job_new(JOB_UNLINK);

    s->unlinked = true;
    s->unlinked_dirs |= dir_bit(path);
    vec_push(&j->paths, path);
    store_job_run(s, j);
}
