/* SPDX-License-Identifier: Apache-2.0 */
/* maildir_fs.c - see maildir_fs.h. */
#include "local/maildir_fs.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"

#define DIRTY_KB (INT64_C(256) << 10) /* of all file systems: a second or two of a disk's time */

bool maildir_fs_tells_errors(void)
{
    struct utsname u;
    unsigned long major;
    unsigned long minor;
    char *end;

    if (uname(&u) == -1)
        return false;
    major = strtoul(u.release, &end, 10);
    minor = *end == '.' ? strtoul(end + 1, NULL, 10) : 0;
    return major > 5 || (major == 5 && minor >= 8);
}

/* Is this ext4 with a journal? False where it cannot be told. */
static bool has_journal(dev_t dev)
{
    char link[64];
    char target[PATH_MAX];
    char state[16];
    struct buf path = BUF_INIT(SIZE_MAX);
    const char *name;
    ssize_t n;
    int fd;

    (void) snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(dev), minor(dev));
    n = readlink(link, target, sizeof(target) - 1);
    if (n <= 0)
        return false;
    target[n] = '\0';
    name = strrchr(target, '/');
    buf_printf(&path, "/sys/fs/ext4/%s/journal_task", name != NULL ? name + 1 : target);
    fd = open(buf_cstr(&path), O_RDONLY | O_CLOEXEC);
    n = fd == -1 ? 0 : read(fd, state, sizeof(state));
    fd_close(&fd);
    buf_fini(&path);
    return n > 0 && state[0] >= '0' &&
           state[0] <= '9'; /* the number of a task; without a journal "<none>" */
}

void maildir_fs_look(int fd, dev_t dev, bool *fits, bool *flushes_twice)
{
    struct statfs fs;

    *fits = *flushes_twice = false;
    if (fstatfs(fd, &fs) == -1)
        return;
    switch ((unsigned long) fs.f_type) {
    case EXT4_SUPER_MAGIC: /* ext2 and ext3, too */
        *fits = true;
        *flushes_twice = !has_journal(dev);
        break;
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case TMPFS_MAGIC:
        *fits = true;
        break;
    default:
        break;
    }
}

/* The number after "\nNAME:", kB; -1: there is none. */
static int64_t meminfo_kb(const char *text, const char *name)
{
    const char *at = strstr(text, name);

    return at == NULL ? -1 : strtoll(at + strlen(name), NULL, 10);
}

bool maildir_fs_is_much_dirty(int meminfo)
{
    char text[4096];
    ssize_t n = pread(meminfo, text, sizeof(text) - 1, 0);
    int64_t dirty;
    int64_t writeback;

    if (n <= 0)
        return true;
    text[n] = '\0';
    dirty = meminfo_kb(text, "\nDirty:");
    writeback = meminfo_kb(text, "\nWriteback:");
    return dirty < 0 || writeback < 0 || dirty + writeback > DIRTY_KB;
}
