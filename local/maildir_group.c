/* SPDX-License-Identifier: Apache-2.0 */
/*
 * maildir_group.c - see maildir_group.h.
 *
 * Each file system (st_dev) has a line of its own, so that one that hangs holds up nobody else's mail. The first thread that
 * brings a message leads: round by round it takes what is in line, until nothing is; the others go back to their work.
 *
 * A round. WRITTEN: lies in tmp/, came in since the last round. RENAMED: lies in new/, put there by the last round.
 *     syncfs, on a descriptor that was opened before anything of the round was written (it tells of errors since)
 *         ext4 without a journal writes directories and inodes after it has told the device to empty its cache: an fsync does that
 *         again
 *     RENAMED are durable: done
 *     WRITTEN are durable in tmp/: renamed, as their owners; they are the next round's RENAMED
 * Invariants: (1) nothing appears in new/ before its content is durable; (2) done(0) only after a flush that began after the
 * rename; (3) a flush that failed is a failure of all that it was for, and is not tried again: what is not on disk by then may be lost.
 * A crash leaves what it leaves with messages one by one: files in tmp/, or messages in new/ that are delivered again.
 *
 * One by one (fsync, rename, fsync of new/) when
 *   - a round has one message only: two small flushes cost less than two of the file system;
 *   - syncfs of this kernel or file system promises less than fsync (before 5.8 it does not tell of errors; FUSE, NFS, overlays);
 *   - much else waits to be written (DIRTY_KB), or a flush took long (SLOW_MS): for a while, longer each time. In that state, and
 *     while a flush is late (LATE_MS), threads do not wait in line: each finishes its own message, and those wait for the disk side by
 *     side;
 *   - the message is large (ALONE_BYTES).
 *
 * A disk that does not answer. Whoever asks it to write waits, for ever perhaps, and cannot be called back. So no more than ALONE_THREADS and
 * the leader do that on one file system: what more there is waits in line, without a thread. What has waited for longer than the limit is
 * answered "not delivered" (maildir_job.h), and mail that comes in for the same file system is refused before it is begun, until all that was
 * given up has come back; other file systems' mail goes on. Not covered: a thread that hangs while it writes to tmp/.
 */
#include "local/maildir_group.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/blocking.h"
#include "base/file.h"
#include "base/lock.h"
#include "local/mailbox_int.h"
#include "local/maildir_fs.h"
#include "local/maildir_job.h"

#define DIRTY_MS      100 /* how often that is looked at */
#define SLOW_MS       300
#define LATE_MS       100   /* newcomers do not wait for a flush that has lasted so long already */
#define APART_MS      1000  /* one by one for so long after much was dirty, or a flush was slow */
#define APART_MAX     60000 /* doubled while that happens again */
#define FAILED_MS     60000 /* one by one for so long after a flush that failed */
#define ALONE_BYTES   (1U << 20)
#define ALONE_THREADS 16 /* more do not finish messages of a file system by themselves at once */
#define LINES_MAX     64 /* file systems; what more there are have none */

struct line {
    dev_t dev;
    bool fits;          /* syncfs will do */
    bool flushes_twice; /* ... with an fsync after it */
    /* the group's lock guards: */
    bool is_led;
    unsigned alone; /* threads that finish messages by themselves */
    struct maildir_job_list written;
    struct mono_time apart_until; /* one by one until then */
    struct mono_time flush_began; /* 0: none is on its way */
    /* the leader's: */
    struct mono_time looked; /* at what waits to be written */
    int64_t apart_ms;        /* the last time apart, while one follows the other; 0: all is well */
};

struct maildir_group {
    struct lock lock;
    struct maildir_jobs *jobs;
    bool enabled;
    int meminfo; /* /proc/meminfo */
    size_t nlines GUARDED_BY(lock);
    struct line *lines[LINES_MAX] GUARDED_BY(lock);
};

struct maildir_group *maildir_group_new(bool enabled, int64_t limit_ms)
{
    struct maildir_group *g = xcalloc(1, sizeof(*g));

    lock_init(&g->lock, LOCK_MAILDIR);
    g->meminfo = enabled ? open("/proc/meminfo", O_RDONLY | O_CLOEXEC) : -1;
    g->enabled = enabled && g->meminfo != -1 && maildir_fs_tells_errors();
    g->jobs = maildir_jobs_new(limit_ms);
    return g;
}

void maildir_group_free(struct maildir_group **group)
{
    struct maildir_group *g = *group;

    if (g == NULL)
        return;
    maildir_jobs_free(&g->jobs);
    for (size_t i = 0; i < g->nlines; i++)
        free(g->lines[i]);
    fd_close(&g->meminfo);
    lock_fini(&g->lock);
    free(g);
    *group = NULL;
}

static struct line *line_of_locked(struct maildir_group *g, dev_t dev) REQUIRES(g->lock)
{
    for (size_t i = 0; i < g->nlines; i++)
        if (g->lines[i]->dev == dev)
            return g->lines[i];
    return NULL;
}

/* NULL: there are too many. */
static struct line *line_of(struct maildir_group *g, const struct maildir_job *job)
{
    struct line *l;
    struct line *fresh;

    lock_take(&g->lock);
    l = line_of_locked(g, job->file.dev);
    lock_release(&g->lock);
    if (l != NULL)
        return l;
    fresh = xcalloc(1, sizeof(*fresh));
    fresh->dev = job->file.dev;
    STAILQ_INIT(&fresh->written);
    if (g->enabled)
        maildir_fs_look(job->file.fd, fresh->dev, &fresh->fits, &fresh->flushes_twice);
    lock_take(&g->lock);
    l = line_of_locked(g, job->file.dev);
    if (l == NULL && g->nlines < LINES_MAX) {
        l = g->lines[g->nlines++] = fresh;
        fresh = NULL;
    }
    lock_release(&g->lock);
    free(fresh);
    return l;
}

/* --- one by one ------------------------------------------------------------------------------------------ */

static void finish_alone(struct maildir_group *g, struct maildir_job *job)
{
    struct err err = ERR_INIT;
    int ret = -1;

    if (!maildir_job_is_given_up(g->jobs, job) && (ret = mailbox_become(&job->owner, &err)) == 0) {
        ret = maildir_finish(&job->file, &err);
        mailbox_become_root();
    }
    maildir_job_end(g->jobs, job, ret, &err);
}

static void finish_each(struct maildir_group *g, struct maildir_job_list *jobs)
{
    struct maildir_job *job;

    while ((job = STAILQ_FIRST(jobs)) != NULL) {
        STAILQ_REMOVE_HEAD(jobs, list);
        finish_alone(g, job);
    }
}

/* --- rounds ---------------------------------------------------------------------------------------------- */

static void stay_apart(struct maildir_group *g, struct line *l, int64_t ms)
{
    lock_take(&g->lock);
    l->apart_until = mono_after_ms(mono_now(), ms);
    lock_release(&g->lock);
}

/* For a while; for longer if it was so after the last time, too. */
static void stay_apart_longer(struct maildir_group *g, struct line *l)
{
    l->apart_ms = l->apart_ms == 0 ? APART_MS : l->apart_ms * 2;
    if (l->apart_ms > APART_MAX)
        l->apart_ms = APART_MAX;
    stay_apart(g, l, l->apart_ms);
}

static void rename_all(struct maildir_group *g, struct maildir_job_list *written,
                       struct maildir_job_list *renamed)
{
    const struct mailbox_owner *is = NULL; /* whose rights we have */
    struct maildir_job *job;

    while ((job = STAILQ_FIRST(written)) != NULL) {
        struct err err = ERR_INIT;
        int ret = 0;

        STAILQ_REMOVE_HEAD(written, list);
        if (maildir_job_is_given_up(g->jobs, job)) {
            if (is != NULL)
                mailbox_become_root();
            is = NULL;
            maildir_job_end(g->jobs, job, -1, &err);
            continue;
        }
        if (is == NULL || is->uid != job->owner.uid || is->gid != job->owner.gid) {
            if (is != NULL)
                mailbox_become_root();
            ret = mailbox_become(&job->owner, &err);
            is = ret == 0 ? &job->owner : NULL;
        }
        if (ret == 0)
            ret = maildir_rename(&job->file, &err);
        if (ret == 0) {
            STAILQ_INSERT_TAIL(renamed, job, list);
            continue;
        }
        if (is != NULL)
            mailbox_become_root();
        is = NULL;
        maildir_job_end(g->jobs, job, -1, &err);
    }
    if (is != NULL)
        mailbox_become_root();
}

static void end_all(struct maildir_group *g, struct maildir_job_list *jobs, int result,
                    const struct err *err)
{
    struct maildir_job *job;

    while ((job = STAILQ_FIRST(jobs)) != NULL) {
        STAILQ_REMOVE_HEAD(jobs, list);
        maildir_job_end(g->jobs, job, result, err);
    }
}

static void flush_begins(struct maildir_group *g, struct line *l, struct mono_time when)
{
    lock_take(&g->lock);
    l->flush_began = when;
    lock_release(&g->lock);
}

/* renamed: those of the last round before, those of this one after. */
static void flush_round(struct maildir_group *g, struct line *l, struct maildir_job_list *written,
                        struct maildir_job_list *renamed)
{
    const struct maildir_job *oldest =
        !STAILQ_EMPTY(renamed) ? STAILQ_FIRST(renamed) : STAILQ_FIRST(written);
    struct mono_time start = mono_now();
    struct err err = ERR_INIT;
    int ret;

    flush_begins(g, l, start);
    ret = syncfs(oldest->file.fd);
    if (ret == 0 && l->flushes_twice)
        ret = fsync(oldest->file.fd);
    if (ret == -1)
        err_sys(&err, "flush the file system of %s", oldest->file.tmp);
    flush_begins(g, l, (struct mono_time){0});
    if (ret == -1) {
        stay_apart(g, l, FAILED_MS);
        end_all(g, renamed, -1, &err);
        end_all(g, written, -1, &err);
        return;
    }
    if (mono_diff_ms(mono_now(), start) > SLOW_MS)
        stay_apart_longer(g, l);
    else
        l->apart_ms = 0;
    end_all(g, renamed, 0, NULL);
    rename_all(g, written, renamed);
}

/* May those of a round share a flush? */
static bool may_share(struct maildir_group *g, struct line *l, size_t n)
{
    struct mono_time now = mono_now();
    bool apart;

    if (n < 2 || !l->fits)
        return false;
    lock_take(&g->lock);
    apart = now.us < l->apart_until.us;
    lock_release(&g->lock);
    if (apart || (l->looked.us != 0 && mono_diff_ms(now, l->looked) < DIRTY_MS))
        return !apart;
    l->looked = now;
    if (!maildir_fs_is_much_dirty(g->meminfo))
        return true;
    stay_apart_longer(g, l);
    return false;
}

static size_t count(const struct maildir_job_list *jobs)
{
    const struct maildir_job *job;
    size_t n = 0;

    STAILQ_FOREACH(job, jobs, list)
    n++;
    return n;
}

static void lead(struct maildir_group *g, struct line *l, void (*working)(void))
{
    struct maildir_job_list written = STAILQ_HEAD_INITIALIZER(written);
    struct maildir_job_list renamed = STAILQ_HEAD_INITIALIZER(renamed);

    for (;;) {
        lock_take(&g->lock);
        STAILQ_CONCAT(&written, &l->written);
        if (STAILQ_EMPTY(&written) && STAILQ_EMPTY(&renamed)) {
            l->is_led = false;
            lock_release(&g->lock);
            return;
        }
        lock_release(&g->lock);
        working();
        if (may_share(g, l, count(&written) + count(&renamed))) {
            flush_round(g, l, &written, &renamed);
        } else {
            finish_each(g, &renamed);
            finish_each(g, &written);
        }
    }
}

/* May it wait for a flush with others? *line: the line of those before it, or NULL. */
static bool is_for_line(struct maildir_group *g, const struct maildir_job *job, struct line **line)
{
    struct line *l = g->enabled && job->bytes <= ALONE_BYTES ? line_of(g, job) : NULL;

    if (l == NULL || !l->fits || (*line != NULL && *line != l))
        return false;
    *line = l;
    return true;
}

/* They wait for the leader. True: the caller leads. */
static bool wait_in_line_locked(struct line *l, struct maildir_job_list *jobs)
{
    bool leads = !l->is_led;

    STAILQ_CONCAT(&l->written, jobs);
    l->is_led = true;
    return leads;
}

/* False: not now, they are the caller's still. *leads: he leads. */
static bool join(struct maildir_group *g, struct line *l, struct maildir_job_list *jobs,
                 bool *leads)
{
    struct mono_time now = mono_now();
    bool joins;

    lock_take(&g->lock);
    joins = now.us >= l->apart_until.us &&
            (l->flush_began.us == 0 || mono_diff_ms(now, l->flush_began) < LATE_MS);
    if (joins)
        *leads = wait_in_line_locked(l, jobs);
    lock_release(&g->lock);
    return joins;
}

/* Finishes the message in this thread, unless so many threads do that on this file system that it may be out of order: it must not have them all. */
static void finish_here(struct maildir_group *g, struct maildir_job *job, void (*working)(void))
{
    struct maildir_job_list one = STAILQ_HEAD_INITIALIZER(one);
    struct line *l = line_of(g, job);
    bool leads = false;
    bool here = true;

    if (l != NULL) {
        lock_take(&g->lock);
        here = l->alone < ALONE_THREADS;
        if (here) {
            l->alone++;
        } else {
            STAILQ_INSERT_TAIL(&one, job, list);
            leads = wait_in_line_locked(l, &one);
        }
        lock_release(&g->lock);
    }
    if (here)
        finish_alone(g, job);
    if (here && l != NULL) {
        lock_take(&g->lock);
        l->alone--;
        lock_release(&g->lock);
    }
    if (leads)
        lead(g, l, working);
}

static void finish_each_here(struct maildir_group *g, struct maildir_job_list *jobs,
                             void (*working)(void))
{
    struct maildir_job *job;

    if (STAILQ_EMPTY(jobs))
        return;
    blocking_begin();
    while ((job = STAILQ_FIRST(jobs)) != NULL) {
        STAILQ_REMOVE_HEAD(jobs, list);
        finish_here(g, job, working);
    }
    blocking_end();
}

void maildir_group_finish(struct maildir_group *g, struct maildir_items *items,
                          void (*working)(void))
{
    struct maildir_job_list shared = STAILQ_HEAD_INITIALIZER(shared);
    struct maildir_job_list alone = STAILQ_HEAD_INITIALIZER(alone);
    struct maildir_item *item;
    struct line *l = NULL;
    bool leads = false;

    while ((item = STAILQ_FIRST(items)) != NULL) {
        struct maildir_job *job;

        STAILQ_REMOVE_HEAD(items, list);
        job = maildir_job_new(g->jobs, item);
        if (is_for_line(g, job, &l))
            STAILQ_INSERT_TAIL(&shared, job, list);
        else
            STAILQ_INSERT_TAIL(&alone, job, list);
    }
    /* these first: who leads may have to do so for long */
    finish_each_here(g, &alone, working);
    if (!STAILQ_EMPTY(&shared) && !join(g, l, &shared, &leads))
        finish_each_here(g, &shared, working);
    if (!leads)
        return;
    blocking_begin();
    lead(g, l, working);
    blocking_end();
}

bool maildir_group_refuses(struct maildir_group *g, const char *path, struct err *err)
{
    char *at;
    struct stat st;
    bool found = false;

    if (!maildir_jobs_hang_anywhere(g->jobs))
        return false;
    at = xstrdup(path);
    do
        found = stat(at, &st) == 0;
    while (!found && mailbox_go_up(at));
    free(at);
    if (!found || !maildir_jobs_hang(g->jobs, st.st_dev))
        return false;
    err_set(err, ERR_TEMPORARY, "4.3.0", "the disk of %s does not answer", path);
    return true;
}
