/* SPDX-License-Identifier: Apache-2.0 */
/* maildir_job.c - see maildir_job.h. */
#include "local/maildir_job.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/log.h"

#define STACK_BYTES  ((size_t) 256 * 1024)
#define LOOK_MS_MAX  5000 /* how often it is looked for those that take too long, at least */
#define LOOKS        4    /* ... in the time of the limit */
#define GIVEN_UP_DSN "4.3.0"

TAILQ_HEAD(all_jobs, maildir_job);

struct maildir_jobs {
    struct lock lock;
    int64_t limit_ms;
    pthread_t thread;
    pthread_cond_t stop;
    bool is_stopped GUARDED_BY(lock);
    struct all_jobs under_way GUARDED_BY(lock); /* the oldest first */
    struct all_jobs given_up GUARDED_BY(lock);
    atomic_uint ngiven_up;
};

/* NULL: none takes too long. Else its item is the caller's to answer. */
static struct maildir_item *give_up_locked(struct maildir_jobs *j, struct err *err)
    REQUIRES(j->lock)
{
    struct maildir_job *job = TAILQ_FIRST(&j->under_way);
    struct maildir_item *item;

    if (job == NULL || mono_diff_ms(mono_now(), job->since) < j->limit_ms)
        return NULL;
    err_set(err, ERR_TEMPORARY, GIVEN_UP_DSN,
            "the disk does not answer: in %lld seconds it has not written the message to %s",
            (long long) j->limit_ms / 1000, job->file.new_dir);
    TAILQ_REMOVE(&j->under_way, job, all);
    TAILQ_INSERT_TAIL(&j->given_up, job, all);
    atomic_fetch_add(&j->ngiven_up, 1);
    item = job->item;
    job->item = NULL;
    return item;
}

static void *look_after(void *arg)
{
    struct maildir_jobs *j = arg;
    int64_t period_ms = j->limit_ms / LOOKS < LOOK_MS_MAX ? j->limit_ms / LOOKS : LOOK_MS_MAX;

    lock_take(&j->lock);
    while (!j->is_stopped) {
        struct err err = ERR_INIT;
        struct maildir_item *item = give_up_locked(j, &err);

        if (item == NULL) {
            (void) lock_wait_until(&j->lock, &j->stop, mono_after_ms(mono_now(), period_ms));
            continue;
        }
        lock_release(&j->lock);
        item->done(item, -1, &err);
        lock_take(&j->lock);
    }
    lock_release(&j->lock);
    return NULL;
}

struct maildir_jobs *maildir_jobs_new(int64_t limit_ms)
{
    struct maildir_jobs *j = xcalloc(1, sizeof(*j));
    pthread_attr_t attr;
    int code;

    lock_init(&j->lock, LOCK_MAILDIR_JOBS);
    j->limit_ms = limit_ms;
    TAILQ_INIT(&j->under_way);
    TAILQ_INIT(&j->given_up);
    pthread_cond_init(&j->stop, NULL);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    code = pthread_create(&j->thread, &attr, look_after, j);
    pthread_attr_destroy(&attr);
    if (code != 0)
        fatal("no thread can be started: errno %d", code);
    return j;
}

void maildir_jobs_free(struct maildir_jobs **jobs)
{
    struct maildir_jobs *j = *jobs;

    if (j == NULL)
        return;
    lock_take(&j->lock);
    j->is_stopped = true;
    pthread_cond_signal(&j->stop);
    lock_release(&j->lock);
    (void) pthread_join(j->thread, NULL);
    pthread_cond_destroy(&j->stop);
    lock_fini(&j->lock);
    free(j);
    *jobs = NULL;
}

struct maildir_job *maildir_job_new(struct maildir_jobs *j, struct maildir_item *item)
{
    struct maildir_job *job = xcalloc(1, sizeof(*job));

    job->file = item->file;
    item->file = MAILDIR_FILE_INIT;
    job->dev = job->file.dev;
    job->owner = item->owner;
    job->bytes = item->bytes;
    job->item = item;
    lock_take(&j->lock);
    job->since = mono_now();
    TAILQ_INSERT_TAIL(&j->under_way, job, all);
    lock_release(&j->lock);
    return job;
}

bool maildir_job_is_given_up(struct maildir_jobs *j, const struct maildir_job *job)
{
    bool is;

    lock_take(&j->lock);
    is = job->item == NULL;
    lock_release(&j->lock);
    return is;
}

/* What is left in tmp/, or of a message that was not delivered, is its owner's; without his rights it stays there. */
static void close_file(struct maildir_job *job, bool is_delivered)
{
    struct maildir_file *f = &job->file;
    struct err ignored = ERR_INIT;

    if ((f->in_tmp || (f->in_new && !is_delivered)) && mailbox_become(&job->owner, &ignored) == 0) {
        if (f->in_new)
            (void) unlink(f->new);
        maildir_close(f);
        mailbox_become_root();
        return;
    }
    f->in_tmp = false;
    maildir_close(f);
}

void maildir_job_end(struct maildir_jobs *j, struct maildir_job *job, int result,
                     const struct err *err)
{
    struct maildir_item *item;

    lock_take(&j->lock);
    item = job->item;
    if (item != NULL) {
        TAILQ_REMOVE(&j->under_way, job, all);
        lock_release(&j->lock);
        close_file(job, result == 0);
        item->done(item, result, err);
        free(job);
        return;
    }
    lock_release(&j->lock);
    close_file(job, false);
    /* only now: until then mail for this file system is better not begun */
    lock_take(&j->lock);
    TAILQ_REMOVE(&j->given_up, job, all);
    atomic_fetch_sub(&j->ngiven_up, 1);
    lock_release(&j->lock);
    free(job);
}

bool maildir_jobs_hang_anywhere(const struct maildir_jobs *j)
{
    return atomic_load_explicit(&j->ngiven_up, memory_order_relaxed) > 0;
}

bool maildir_jobs_hang(struct maildir_jobs *j, dev_t dev)
{
    const struct maildir_job *job;
    bool found = false;

    lock_take(&j->lock);
    TAILQ_FOREACH(job, &j->given_up, all)
    found |= job->dev == dev;
    lock_release(&j->lock);
    return found;
}
