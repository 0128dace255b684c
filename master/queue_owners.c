/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue_owners.c - see queue_owners.h.
 *
 * Repair is root's work in directories that mail_owner may change. So nothing is done by name: a file is opened without following links, and
 * a second name of it (a hard link to somebody else's file) is a reason to keep off.
 */
#include "master/queue_owners.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"

#define FILE_MODE 0600
#define DIR_MODE  0700
#define DEEPEST   2 /* directories below one of the store's */

static const char *const dirs[] = {"journal", "large", "deferred", "hold", "corrupt"};

static void tell(const struct queue_owners *q, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void tell(const struct queue_owners *q, const char *fmt, ...)
{
    struct buf text = BUF_INIT(8192);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    q->fn(q->arg, buf_cstr(&text));
    buf_fini(&text);
}

static void look_at(struct queue_owners *q, int fd, const struct stat *st, const char *path)
{
    mode_t mode = S_ISDIR(st->st_mode) ? DIR_MODE : FILE_MODE;
    bool owner = st->st_uid != q->uid || st->st_gid != q->gid;
    struct buf what = BUF_INIT(256);
    char why[128];

    q->looked++;
    if (!owner && (st->st_mode & 07777) == mode)
        goto done;
    q->wrong++;
    if (owner)
        buf_printf(&what, "belonged to user %u and group %u, not to %u and %u", st->st_uid,
                   st->st_gid, q->uid, q->gid);
    if ((st->st_mode & 07777) != mode)
        buf_printf(&what, "%shad mode %04o, not %04o", owner ? ", " : "", st->st_mode & 07777,
                   mode);
    if (!q->repair) {
        tell(q, "%s %s", path, buf_cstr(&what));
    } else if ((owner && fchown(fd, q->uid, q->gid) == -1) || fchmod(fd, mode) == -1) {
        tell(q, "%s %s: cannot be set right: %s", path, buf_cstr(&what),
             err_errno_text(errno, why, sizeof(why)));
    } else {
        q->repaired++;
        tell(q, "%s %s: set right", path, buf_cstr(&what));
    }
done:
    buf_fini(&what);
}

/* The directory dir_fd, whose name is path. Closes it. */
static void look_into(struct queue_owners *q, int dir_fd, const char *path, int depth)
{
    struct buf name = BUF_INIT(8192);
    DIR *dir = fdopendir(dir_fd);
    const struct dirent *e;
    struct stat st;
    char why[128];

    if (dir == NULL) {
        fd_close(&dir_fd);
        return;
    }
    /* those of the store themselves are everybody's finding: each check and start sees to them */
    if ((q->repair || depth < DEEPEST) && fstat(dir_fd, &st) == 0)
        look_at(q, dir_fd, &st, path);
    while ((e = readdir(dir)) != NULL) { /* NOLINT(concurrency-mt-unsafe): no threads */
        int fd = -1;

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        buf_reset(&name);
        path_join(&name, path, e->d_name);
        if (fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == -1)
            continue; /* it has gone meanwhile */
        if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
            q->wrong++;
            tell(q, "%s is neither a file nor a directory, and is left alone", buf_cstr(&name));
            continue;
        }
        if (!q->repair && S_ISREG(st.st_mode)) {
            look_at(q, -1, &st, buf_cstr(&name));
            continue;
        }
        fd = openat(dir_fd, e->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd == -1 || fstat(fd, &st) == -1) {
            if (errno != ENOENT) {
                q->wrong++;
                tell(q, "%s cannot be looked at: %s", buf_cstr(&name),
                     err_errno_text(errno, why, sizeof(why)));
            }
            fd_close(&fd);
        } else if (S_ISDIR(st.st_mode) && depth > 0) {
            look_into(q, fd, buf_cstr(&name), depth - 1);
        } else if (S_ISREG(st.st_mode) && st.st_nlink > 1) {
            q->wrong++;
            tell(q, "%s has another name elsewhere, and is left alone", buf_cstr(&name));
            fd_close(&fd);
        } else {
            look_at(q, fd, &st, buf_cstr(&name));
            fd_close(&fd);
        }
    }
    (void) closedir(dir);
    buf_fini(&name);
}

void queue_owners_look(const char *queue_directory, struct queue_owners *q)
{
    struct buf path = BUF_INIT(8192);

    q->looked = q->wrong = q->repaired = 0;
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        int fd;

        buf_reset(&path);
        path_join(&path, queue_directory, dirs[i]);
        fd = open(buf_cstr(&path), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd != -1) /* what is not there is made when it is needed */
            look_into(q, fd, buf_cstr(&path), DEEPEST);
    }
    buf_fini(&path);
}
