/* SPDX-License-Identifier: Apache-2.0 */
/*
 * maildir_job.h - the messages that maildir_group.c finishes, each answered once: by the thread that finishes it, or, when that takes longer than the
 * limit (a disk that does not answer), by a thread that looks after them. Then it counts as not delivered; what the first thread finds to
 * be left of it, however late, is removed. Internal to the group.
 */
#ifndef PR_LOCAL_MAILDIR_JOB_H
#define PR_LOCAL_MAILDIR_JOB_H

#include "local/maildir_group.h"

struct maildir_job {
    struct maildir_file file; /* the item's, taken from it */
    dev_t dev;                /* of the file */
    struct mailbox_owner owner;
    uint64_t bytes;
    STAILQ_ENTRY(maildir_job) list; /* of whoever has it */
    /* maildir_job.c's: */
    TAILQ_ENTRY(maildir_job) all;
    struct maildir_item *item; /* NULL: given up */
    struct mono_time since;
};

STAILQ_HEAD(maildir_job_list, maildir_job);

struct maildir_jobs;

struct maildir_jobs *maildir_jobs_new(int64_t limit_ms);
void maildir_jobs_free(struct maildir_jobs **j); /* none is under way */
struct maildir_job *maildir_job_new(struct maildir_jobs *j, struct maildir_item *item);
/* May become true at any time until the end. */
bool maildir_job_is_given_up(struct maildir_jobs *j, const struct maildir_job *job);
/* Closes the file, removes it if it is not delivered, answers. With root's rights; job is gone. */
void maildir_job_end(struct maildir_jobs *j, struct maildir_job *job, int result,
                     const struct err *err);
/* Were messages on this file system given up that have not come to their end yet? */
bool maildir_jobs_hang(struct maildir_jobs *j, dev_t dev);
/* ... on any? Costs nothing. */
bool maildir_jobs_hang_anywhere(const struct maildir_jobs *j);

#endif
