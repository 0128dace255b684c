/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mailbox.h - putting a message into a Maildir or an mbox file, as its owner, durably. Shared by local and virtual.
 */
#ifndef PR_LOCAL_MAILBOX_H
#define PR_LOCAL_MAILBOX_H

#include <sys/types.h>

#include "mail/deliver.h"

/* Whose file system rights delivery has. */
struct mailbox_owner {
    uid_t uid;
    gid_t gid;
};

struct mailbox_options {
    const char *myhostname;
    int64_t lock_attempts, lock_delay_s, stale_lock_s;
    int64_t size_limit; /* of an mbox file, or of a Maildir message; 0: none */
    bool fcntl_lock, dotlock, flock_lock;
    bool strict_ownership; /* an mbox file must be its owner's */
};

/* Headers that delivery puts in front. Any may be empty. */
struct mailbox_headers {
    struct slice return_path;  /* sender; always written, "<>" when empty */
    struct slice original_to;  /* X-Original-To */
    struct slice delivered_to; /* Delivered-To */
};

/* Becomes the owner for file access (effective ids of this thread alone), and back. Not as root: only checks that it is the same user. */
NODISCARD int mailbox_become(const struct mailbox_owner *owner, struct err *err);
void mailbox_become_root(void);

/*
 * path ends in "/": a Maildir, made if missing (0700). Written to tmp/, synced, renamed to new/, new/ synced (maildir.h). Else an mbox:
 * locked, appended, synced, with its name if it was empty; cut back to its old length when anything fails. err: dsn 4.x or 5.x codes: 4.2.0 locked, 5.2.2 too large,
 * 4.3.1 disk full, ... *at (NULL: not wanted): where in the mbox the message begins.
 */
NODISCARD int mailbox_deliver(const struct deliver_request *r, const char *path,
                              const struct mailbox_owner *owner,
                              const struct mailbox_headers *headers,
                              const struct mailbox_options *opt, off_t *at, struct err *err);

#endif
