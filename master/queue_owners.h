/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue_owners.h - whose the files and directories of the queue's store are: mail_owner's, and nobody else's to look into (0600, 0700). A file
 * that a restored backup or root's editor left with another owner is one that qmgr cannot read.
 */
#ifndef PR_QUEUE_OWNERS_H
#define PR_QUEUE_OWNERS_H

#include <sys/types.h>

#include "base/err.h"

struct queue_owners {
    uid_t uid;
    gid_t gid;
    bool repair; /* set right what is not */
    void (*fn)(
        void *arg,
        const char *
            text); /* for each that is not (any more) as it should be: what was the matter, what was done */
    void *arg;
    /* results */
    size_t looked, wrong, repaired;
};

/* Looks at all that lies in the store's directories. May run beside the mail system. Links of any kind are left alone, but told. */
void queue_owners_look(const char *queue_directory, struct queue_owners *q);

#endif
