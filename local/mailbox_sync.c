/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mailbox_sync.c - names of mailboxes, made durable: see mailbox_int.h. A file that was synced is no file yet if its name can be lost, or
 * that of a directory above it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/blocking.h"
#include "base/file.h"
#include "local/mailbox_int.h"

/* What one may enter but not read, one cannot sync; then all of its file system, which fd is on. */
static int sync_directory(const char *dir, int fd, struct err *err)
{
    int d = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int ret;

    if (d == -1 && errno != EACCES)
        return err_sys(err, "open directory %s", dir);
    blocking_begin();
    ret = d == -1 ? syncfs(fd) : fsync(d);
    blocking_end();
    if (ret == -1)
        err_sys(err, "sync directory %s", dir);
    fd_close(&d);
    return ret;
}

bool mailbox_go_up(char *path)
{
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/')
        n--;
    if (n == 1 && path[0] == '/')
        return false;
    while (n > 0 && path[n - 1] != '/')
        n--;
    if (n == 0)
        return false;
    while (n > 1 && path[n - 1] == '/')
        n--;
    path[n] = '\0';
    return true;
}

int mailbox_sync_name(const char *path, int fd, struct err *err)
{
    char *dir = xstrdup(path);
    int ret = sync_directory(mailbox_go_up(dir) ? dir : ".", fd, err);

    free(dir);
    return ret;
}

int mailbox_sync_directories(const char *path, struct err *err)
{
    char *dir = xstrdup(path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat top;
    struct stat st;
    int ret;

    ret = fd == -1 || fstat(fd, &top) == -1 ? err_sys(err, "open directory %s", dir) : 0;
    while (ret == 0 && stat(dir, &st) == 0 && st.st_dev == top.st_dev) {
        ret = sync_directory(dir, fd, err);
        if (!mailbox_go_up(dir))
            break;
    }
    fd_close(&fd);
    free(dir);
    return ret;
}
