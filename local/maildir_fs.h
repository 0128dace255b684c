/* SPDX-License-Identifier: Apache-2.0 */
/* maildir_fs.h - what a flush of a whole file system is worth, for maildir_group.c. Any thread. */
#ifndef PR_LOCAL_MAILDIR_FS_H
#define PR_LOCAL_MAILDIR_FS_H

#include <stdbool.h>
#include <sys/types.h>

/* Does this kernel's syncfs() return errors of writing? Since Linux 5.8. */
bool maildir_fs_tells_errors(void);
/* Of the file system dev, on which fd is. fits: a syncfs will do; flushes_twice: with an fsync after it. */
void maildir_fs_look(int fd, dev_t dev, bool *fits, bool *flushes_twice);
/* Does much wait to be written that is not ours? Asked of all file systems, as nothing tells it of one. meminfo: /proc/meminfo */
bool maildir_fs_is_much_dirty(int meminfo);

#endif
