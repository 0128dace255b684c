/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_housekeeping.c - what the store does beside its calls: gives its thread (store_helper.c) syncs, promotions and recycling to do,
 * takes the results over on the owner's thread, and tries again what failed.
 *
 * On a disk that takes nothing just now everything here fails, for each message and segment. So each kind of failure is said
 * once, until it has succeeded again, and what concerns the notes is left to store_flush(), which tells the owner.
 */
#include <stdlib.h>

#include "base/log.h"
#include "qmgr/store_owner_int.h"

#define SYNC_INTERVAL_MS 200
#define LOOK_INTERVAL_MS 5000
#define RETRY_MS         5000
#define PROMOTE_BATCH    64
#define SEGMENTS_BOUND   64 /* live segments; beyond, the oldest are emptied */

static void complain(bool *said, const char *what, const struct err *err)
{
    if (!*said)
        log_warning("queue: %s%s", what, err->text);
    *said = true;
}

/* --- what could not be removed ------------------------------------------------------------------- */

static struct slice name_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slice_str(slash == NULL ? path : slash + 1);
}

/* A file of a message that lives is a copy that its journal record made needless. It may come to be the message's file yet, so it stays
 * until the message has gone; nobody waits for that. */
static bool is_of_live_message(struct store *s, const char *path)
{
    return htable_get(s->index, name_of(path)) != NULL;
}

static void take_unremoved(struct store *s, struct job *j) REQUIRES(s->lock)
{
    for (size_t i = 0; i < j->paths.len; i++) {
        if (!is_of_live_message(s, j->paths.items[i])) {
            s->removal_failed = true;
            s->trouble = j->err;
        }
        vec_push(&s->unremoved, j->paths.items[i]);
    }
    vec_clear(&j->paths, NULL);
}

static void retry_removals(struct store *s) REQUIRES(s->lock)
{
    struct vec list = s->unremoved;

    s->unremoved = VEC_INIT;
    s->removal_failed = false;
    for (size_t i = 0; i < list.len; i++) {
        if (is_of_live_message(s, list.items[i])) {
            vec_push(&s->unremoved, list.items[i]);
        } else {
            s->removal_failed = true; /* until the next time knows better */
            store_unlink_later(s, list.items[i]);
        }
    }
    vec_fini(&list);
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
    if (m != NULL && p->result == 0) {
        stays = m->pin == NULL && store_promotion_end_locked(s, m, STORE_DEFERRED, p, &err) == 0;
        s->said_promote = false;
    } else if (p->result == 1 && m != NULL) {
        m->unpromotable = true; /* its next attempt sees to it */
    } else if (p->result == -1) {
        complain(&s->said_promote, "mail cannot be moved to the deferred queue: ", &p->err);
        s->promote_retry = mono_after_ms(mono_now(), RETRY_MS);
    }
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
        s->said_recycle = false;
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
        complain(&s->said_recycle, "", &j->err);
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
                s->sync_failed = false;
                take_unremoved(s, j); /* large files */
                break;
            }
            /* those bytes may be gone, which costs duplicates after a crash; large files must stay, then */
            s->sync_failed = true;
            s->trouble = j->err;
            for (size_t i = 0; i < j->paths.len; i++)
                vec_push(&j->seg->large_done, j->paths.items[i]);
            vec_clear(&j->paths, NULL);
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
                complain(&s->said_sync_file, "", &j->err);
            else
                s->said_sync_file = false;
            break;
        case JOB_UNLINK:
            take_unremoved(s, j);
            break;
        case JOB_SYNC_NAMES:
            break;
        }
        store_job_free(j);
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

    if (m->promoting || m->pin != NULL || m->queue != STORE_JOURNAL || m->unpromotable)
        return false;
    if (store_promotion_begin_locked(s, m, &p, &err) == -1) {
        m->unpromotable = true; /* it cannot be read: its next attempt sees to it */
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
        store_job_free(j);
        return false;
    }
    s->promotions++;
    store_job_run(s, j);
    return more;
}

/* For what no writer has told of. */
static void look(struct store *s) REQUIRES(s->lock)
{
    struct err err = ERR_INIT;
    bool failed = false;

    for (size_t i = 0; i < s->segments.len; i++)
        failed |= store_segment_look_locked(s, s->segments.items[i], &err) == -1;
    failed |= store_look_for_segments_locked(s, &err) == -1;
    if (failed)
        complain(&s->said_look, "", &err);
    else
        s->said_look = false;
}

/* Removed names of message files. */
void store_finish_jobs(struct store *s)
{
    bool unlinked;

    store_helper_wait(s);
    lock_take(&s->lock);
    store_jobs_take_locked(s);
    sync_companions(s);
    lock_release(&s->lock);
    store_helper_wait(s);
    lock_take(&s->lock);
    store_jobs_take_locked(s);
    unlinked = s->unlinked;
    lock_release(&s->lock);
    store_helper_wait(s); /* taking over may have made some more */
    if (unlinked)
        store_sync_directories(s, UINT32_MAX);
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
        if (store_flush_locked(s, &err) == 0) /* what fails is kept, and store_flush() tells */
            sync_companions(s);
        if (s->unremoved.len > 0 || s->removal_failed)
            retry_removals(s);
        if (s->unlinked_dirs != 0) {
            struct job *j = store_job_new(JOB_SYNC_NAMES);

            j->dirs = s->unlinked_dirs;
            s->unlinked_dirs = 0;
            store_job_run(s, j);
        }
    }
    if (mono_diff_us(s->next_look, now) <= 0) {
        s->next_look = mono_after_ms(now, LOOK_INTERVAL_MS);
        look(s);
    }
    recycle_finished(s);
    if (s->promotions == 0 && mono_diff_us(s->promote_retry, now) <= 0)
        more = promote(s);
    lock_release(&s->lock);
    store_announce(s);
    return more;
}
