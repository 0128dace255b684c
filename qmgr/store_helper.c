/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_helper.c - the store's own thread, which does what blocks: syncs, unlinks, recycling, message files. And housekeeping,
 * which gives it work and takes the results over on the owner's thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/log.h"
#include "qmgr/store_owner_int.h"

#define SYNC_INTERVAL_MS 200
#define LOOK_INTERVAL_MS 5000
#define RETRY_MS         5000
#define PROMOTE_BATCH    64
#define SEGMENTS_BOUND   64 /* live segments; beyond, the oldest are emptied */
#define HELPER_STACK     (256U << 10)

struct job *store_job_new(enum job_type type)
{
    struct job *j = xcalloc(1, sizeof(*j));

    j->type = type;
    j->fd = -1;
    j->paths = VEC_INIT;
    j->err = ERR_INIT;
    return j;
}

static void job_free(struct job *j)
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

static void unlink_all(const struct io_ops *io, const struct vec *paths)
{
    for (size_t i = 0; i < paths->len; i++) {
        if (io->unlink(io->ctx, paths->items[i]) == -1 && errno != ENOENT)
            log_warning("cannot remove %s", (const char *) paths->items[i]);
    }
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

static void sync_directories(struct store *s, uint32_t which)
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
            unlink_all(s->io, &j->paths);
        break;
    case JOB_UNLINK:
        unlink_all(s->io, &j->paths);
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
        sync_directories(s, j->dirs);
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
        job_free(j);
    }
}

static void wait_for_helper(struct store *s)
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

/* --- results ----------------------------------------------------------------------------------- */

static void take_promotion(struct store *s, struct promotion *p) REQUIRES(s->lock)
{
    struct store_msg *m = htable_get(s->index, slice_str(p->id));
    struct buf path = BUF_INIT(SIZE_MAX);
    struct err err = p->err;
    bool stays = false;

    if (m != NULL && !m->promoting)
        m = NULL;
    if (m != NULL)
        m->promoting = false;
    if (m != NULL && p->result == 0)
        stays = m->pin == NULL && store_promotion_end_locked(s, m, STORE_DEFERRED, p, &err) == 0;
    else if (p->result != 0)
        log_warning("%s: cannot move the message to the deferred queue: %s", p->id, p->err.text);
    /* removed meanwhile, or being delivered: the journal has it */
    if (!stays && p->result == 0)
        store_unlink_later(
            s, xstrdup(store_path_message(&path, s->directory, STORE_DEFERRED, slice_str(p->id))));
    buf_fini(&path);
}

static void take_recycled(struct store *s, struct job *j) REQUIRES(s->lock)
{
    struct segment *seg = j->seg;

    seg->recycling = false;
    if (j->result == 0) {
        for (size_t i = 0; i < s->segments.len; i++) {
            if (s->segments.items[i] == seg) {
                vec_remove(&s->segments, i);
                break;
            }
        }
        store_segment_free(s, seg);
        return;
    }
    if (j->result == -1)
        log_warning("queue: %s", j->err.text);
    seg->retry = mono_after_ms(mono_now(), RETRY_MS);
}

void store_jobs_take_locked(struct store *s)
{
    struct job *list;

    lock_take(&s->helper_lock);
    list = s->results;
    s->results = NULL;
    s->results_tail = &s->results;
    lock_release(&s->helper_lock);
    while (list != NULL) {
        struct job *j = list;

        list = j->next;
        switch (j->type) {
        case JOB_SYNC:
            j->seg->jobs--;
            j->seg->sync_job = false;
            if (j->result == 0) {
                j->seg->name_synced = true;
                break;
            }
            /* those bytes may be gone, which costs duplicates after a crash; large files must stay, then */
            log_warning("queue: %s", j->err.text);
            for (size_t i = 0; i < j->paths.len; i++)
                vec_push(&j->seg->large_done, xstrdup(j->paths.items[i]));
            j->seg->unsynced = true;
            break;
        case JOB_RECYCLE:
            take_recycled(s, j);
            break;
        case JOB_PROMOTE:
            s->promotions--;
            for (struct promotion *p = j->promos; p != NULL; p = p->next)
                take_promotion(s, p);
            break;
        case JOB_SYNC_FILE:
            if (j->result == -1)
                log_warning("queue: %s", j->err.text);
            break;
        case JOB_UNLINK:
        case JOB_SYNC_NAMES:
            break;
        }
        job_free(j);
    }
}

/* --- housekeeping ------------------------------------------------------------------------------ */

static void sync_companions(struct store *s) REQUIRES(s->lock)
{
    for (size_t i = 0; i < s->segments.len; i++) {
        struct segment *seg = s->segments.items[i];
        struct job *j;

        if (!seg->unsynced || seg->sync_job || seg->companion_fd == -1 || seg->recycling ||
            seg->notes.len > 0)
            continue;
        j = store_job_new(JOB_SYNC);
        j->seg = seg;
        j->fd = seg->companion_fd;
        j->sync_name = !seg->name_synced;
        j->paths = seg->large_done;
        seg->large_done = VEC_INIT;
        seg->unsynced = false;
        seg->sync_job = true;
        seg->jobs++;
        store_job_run(s, j);
    }
}

static void recycle_finished(struct store *s) REQUIRES(s->lock)
{
    struct mono_time now = mono_now();

    for (size_t i = 0; i < s->segments.len; i++) {
        struct segment *seg = s->segments.items[i];
        struct job *j;

        if (!seg->sealed || seg->live > 0 || seg->pins > 0 || seg->jobs > 0 || seg->keep ||
            seg->recycling || seg->large_done.len > 0 || mono_diff_us(seg->retry, now) > 0)
            continue;
        seg->recycling = true;
        j = store_job_new(JOB_RECYCLE);
        j->seg = seg;
        store_job_run(s, j);
    }
}

static bool promote_one(struct store *s, struct store_msg *m, struct job *j) REQUIRES(s->lock)
{
    struct promotion *p;
    struct err err;

    if (m->promoting || m->pin != NULL || m->queue != STORE_JOURNAL)
        return false;
    if (store_promotion_begin_locked(s, m, &p, &err) == -1) {
        log_warning("%s: cannot move the message to the deferred queue: %s", m->id, err.text);
        return false;
    }
    m->promoting = true;
    p->next = j->promos;
    j->promos = p;
    return true;
}

/* True when there is more. */
static bool promote(struct store *s) REQUIRES(s->lock)
{
    struct job *j = store_job_new(JOB_PROMOTE);
    unsigned count = 0;
    bool many = s->segments.len > SEGMENTS_BOUND;
    bool more = false;

    while (s->wanted.len > 0 && count < PROMOTE_BATCH) {
        struct store_msg *m = vec_pop(&s->wanted);

        if (m == NULL)
            continue;
        m->wanted = false;
        count += promote_one(s, m, j);
    }
    more = s->wanted.len > 0;
    for (size_t i = 0; i < s->segments.len && count < PROMOTE_BATCH; i++) {
        struct segment *seg = s->segments.items[i];
        bool sparse = seg->live_bytes < (seg->scanned - JOURNAL_SEGMENT_START) / 4;

        if (!seg->sealed || seg->live == 0 || seg->recycling || (!sparse && !many))
            continue;
        for (struct store_msg *m = seg->first; m != NULL; m = m->next) {
            if (count == PROMOTE_BATCH) {
                more = true;
                break;
            }
            /* mail that waits for its first attempt is about to leave by itself */
            if (m->state.attempts > 0 || many)
                count += promote_one(s, m, j);
        }
        many = false; /* the oldest only */
    }
    if (count == 0) {
        job_free(j);
        return false;
    }
    s->promotions++;
    store_job_run(s, j);
    return more;
}

/* Removed names of message files. */
void store_finish_jobs(struct store *s)
{
    bool unlinked;

    wait_for_helper(s);
    lock_take(&s->lock);
    store_jobs_take_locked(s);
    sync_companions(s);
    lock_release(&s->lock);
    wait_for_helper(s);
    lock_take(&s->lock);
    store_jobs_take_locked(s);
    unlinked = s->unlinked;
    lock_release(&s->lock);
    wait_for_helper(s); /* taking over may have made some more */
    if (unlinked)
        sync_directories(s, UINT32_MAX);
}

bool store_housekeeping(struct store *s)
{
    struct mono_time now = mono_now();
    struct err err;
    bool more = false;

    lock_take(&s->lock);
    store_jobs_take_locked(s);
    if (mono_diff_us(s->next_sync, now) <= 0) {
        s->next_sync = mono_after_ms(now, SYNC_INTERVAL_MS);
        if (store_flush_locked(s, &err) == -1)
            log_warning("queue: %s", err.text);
        sync_companions(s);
        if (s->unlinked_dirs != 0) {
            struct job *j = store_job_new(JOB_SYNC_NAMES);

            j->dirs = s->unlinked_dirs;
            s->unlinked_dirs = 0;
            store_job_run(s, j);
        }
    }
    if (mono_diff_us(s->next_look, now) <= 0) {
        s->next_look = mono_after_ms(now, LOOK_INTERVAL_MS);
        for (size_t i = 0; i < s->segments.len; i++) {
            if (store_segment_look_locked(s, s->segments.items[i], &err) == -1)
                log_warning("queue: %s", err.text);
        }
        if (store_look_for_segments_locked(s, &err) == -1)
            log_warning("queue: %s", err.text);
    }
    recycle_finished(s);
    if (s->promotions == 0)
        more = promote(s);
    lock_release(&s->lock);
    store_announce(s);
    return more;
}
