/* SPDX-License-Identifier: Apache-2.0 */
/*
 * maildir.h - one message on its way into a Maildir. It lies in tmp/; when that is durable, it is renamed to new/; when that is durable,
 * it is delivered. What makes it durable is either maildir_finish(), for this message alone, or maildir_group.h, for many at once.
 *
 * All of it wants the owner's rights (mailbox_become). Threads: one at a time for each file.
 */
#ifndef PR_LOCAL_MAILDIR_H
#define PR_LOCAL_MAILDIR_H

#include <sys/types.h>

#include "local/mailbox.h"

struct maildir_file {
    int fd;
    dev_t dev; /* the file system that it is on */
    bool in_tmp, in_new;
    char *tmp, *new, *new_dir; /* paths */
};

#define MAILDIR_FILE_INIT ((struct maildir_file){.fd = -1})

/* dir ends in "/"; it is made if missing (0700). 0: the message lies in tmp/, not durable yet. -1: there is nothing of it; maildir_close()
 * all the same. */
NODISCARD int maildir_write(const struct deliver_request *r, const char *dir,
                            const struct mailbox_headers *h, const struct mailbox_options *opt,
                            struct maildir_file *out, struct err *err);
/* From tmp/, where it is durable, to new/. */
NODISCARD int maildir_rename(struct maildir_file *f, struct err *err);
/* All that is left to do for this message: synced, renamed, new/ synced. Blocks on the disk. */
NODISCARD int maildir_finish(struct maildir_file *f, struct err *err);
/* Closes it; what still lies in tmp/ is removed. */
void maildir_close(struct maildir_file *f);

#endif
