/* SPDX-License-Identifier: Apache-2.0 */
/*
 * maildir_group.h - many messages for Maildirs made durable at once, as the journal does it for what comes in.
 *
 * What a message costs in a Maildir is its two flushes: of the file in tmp/, then of its name in new/. Here one flush of the file
 * system (syncfs) counts for all messages that wait: for some their file becomes durable, for others, renamed after the last one, their name. So
 * each message waits for two flushes as before, but pays for a share of them only.
 *
 * It is not for every file system, nor for every moment: what else is not written yet on the same file system is waited for, too. See
 * maildir_group.c for when messages are finished one by one.
 */
#ifndef PR_LOCAL_MAILDIR_GROUP_H
#define PR_LOCAL_MAILDIR_GROUP_H

#include <sys/queue.h>

#include "local/maildir.h"

/* One message. The caller's, until done() is called. */
struct maildir_item {
    struct maildir_file file; /* as maildir_write() left it; the group takes it */
    struct mailbox_owner owner;
    uint64_t bytes; /* about so large is it */
    /* The message is durable in new/ (0), or is not delivered (-1, err). Called once, by this thread or another one,
     * without locks, with root's rights; it must not block. */
    void (*done)(struct maildir_item *item, int result, const struct err *err);
    STAILQ_ENTRY(maildir_item) list; /* the group's */
};

STAILQ_HEAD(maildir_items, maildir_item);

struct maildir_group;

/* enabled: else each message is finished by itself. limit_ms: after so long a message is answered as not delivered, and will not be. Before a
 * chroot: looks at /proc. Starts a thread. */
struct maildir_group *maildir_group_new(bool enabled, int64_t limit_ms);
void maildir_group_free(struct maildir_group **g); /* no item is with it */
/*
 * Has messages finished; the list is emptied. Any thread, with root's rights. It may have to finish other threads' messages, too, for as
 * long as there are any; working() is called before each round of that.
 */
void maildir_group_finish(struct maildir_group *g, struct maildir_items *items,
                          void (*working)(void));
/* Has the file system of this mailbox, which need not be there yet, not answered within the limit? Then err says so, and nothing should be begun. */
bool maildir_group_refuses(struct maildir_group *g, const char *path, struct err *err);

#endif
