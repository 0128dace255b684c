/* SPDX-License-Identifier: Apache-2.0 */
/* mailbox_int.h - what mailbox*.c and maildir.c share. */
#ifndef PR_LOCAL_MAILBOX_INT_H
#define PR_LOCAL_MAILBOX_INT_H

#include "local/mailbox.h"

/* Headers and content with LF line ends; mbox: with "From " lines. */
NODISCARD int mailbox_write_message(const struct deliver_request *r, int fd, const char *path,
                                    const struct mailbox_headers *h, bool mbox, struct err *err);
/* The name of path, a file that is open as fd, is durable after this. */
NODISCARD int mailbox_sync_name(const char *path, int fd, struct err *err);
/* The names in the directory path are, and its own, and those of all directories above it on its file system. */
NODISCARD int mailbox_sync_directories(const char *path, struct err *err);
/* Cuts off the last name: "a/b", "a//b/" become "a"; "/a" becomes "/". False: there is nothing above it. */
bool mailbox_go_up(char *path);
/* errno of a write or sync of path, with its code. -1. */
int mailbox_write_error(struct err *err, const char *path);

#endif
