/* SPDX-License-Identifier: Apache-2.0 */
/*
 * maildir.c - see maildir.h. https://cr.yp.to/proto/maildir.html; names are unique by time, microseconds, device and inode, host; in
 * tmp/ by time, process, number in the process, host.
 */
#include "local/maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "local/mailbox_int.h"

static int make_in(const char *dir, const char *name, struct err *err)
{
    struct buf path = BUF_INIT(4096);
    int ret;

    path_join(&path, dir, name);
    ret = dir_make(buf_cstr(&path), 0700, err);
    buf_fini(&path);
    return ret;
}

/*
 * tmp/ is the last: who finds it, and so does not come here, may rely upon the others' being durable. It need not be itself: nothing that
 * matters lies there. Of two who make a Maildir at the same time neither knows what the other one has synced, so each syncs all.
 */
static int make_maildir(const char *dir, struct err *err)
{
    static const char *const names[] = {"", "new", "cur"};
    int ret = 0;

    for (size_t i = 0; i < ARRAY_LEN(names) && ret == 0; i++)
        ret = make_in(dir, names[i], err);
    if (ret == 0)
        ret = mailbox_sync_directories(dir, err);
    if (ret == 0)
        ret = make_in(dir, "tmp", err);
    if (ret == -1)
        err_set(err, ERR_TEMPORARY, "4.2.0", "cannot make the maildir %s: %s", dir, err->text);
    return ret;
}

static int create(const char *dir, struct maildir_file *f, struct err *err)
{
    f->fd = open(f->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (f->fd == -1 && errno == ENOENT) {
        if (make_maildir(dir, err) == -1)
            return -1;
        f->fd = open(f->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    }
    if (f->fd == -1) {
        bool too_long = errno == ENAMETOOLONG;

        err_sys(err, "create maildir file %s", f->tmp);
        return err_set(err, too_long ? ERR_PERMANENT : ERR_TEMPORARY, too_long ? "5.2.0" : "4.2.0",
                       "%s", err->text);
    }
    f->in_tmp = true;
    return 0;
}

int maildir_write(const struct deliver_request *r, const char *dir, const struct mailbox_headers *h,
                  const struct mailbox_options *opt, struct maildir_file *out, struct err *err)
{
    static atomic_uint count;
    struct wall_time now = wall_now();
    struct buf path = BUF_INIT(SIZE_MAX); /* what is too long, the kernel says */
    struct stat st;

    *out = MAILDIR_FILE_INIT;
    buf_printf(&path, "%stmp/%lld.P%dQ%u.%s", dir, (long long) now.us, (int) getpid(),
               atomic_fetch_add(&count, 1), opt->myhostname);
    out->tmp = buf_take(&path);
    buf_printf(&path, "%snew", dir);
    out->new_dir = buf_take(&path);
    if (create(dir, out, err) == -1 ||
        mailbox_write_message(r, out->fd, out->tmp, h, false, err) == -1)
        return -1;
    if (fstat(out->fd, &st) == -1)
        return err_sys(err, "stat %s", out->tmp);
    out->dev = st.st_dev;
    buf_printf(&path, "%snew/%lld.V%llxI%llxM%06lld.%s", dir, (long long) (now.us / 1000000),
               (unsigned long long) st.st_dev, (unsigned long long) st.st_ino,
               (long long) (now.us % 1000000), opt->myhostname);
    out->new = buf_take(&path);
    return 0;
}

int maildir_rename(struct maildir_file *f, struct err *err)
{
    if (rename(f->tmp, f->new) == -1)
        return err_sys(err, "rename to %s", f->new);
    f->in_tmp = false;
    f->in_new = true;
    return 0;
}

int maildir_finish(struct maildir_file *f, struct err *err)
{
    if (!f->in_new) {
        if (fsync(f->fd) == -1)
            return mailbox_write_error(err, f->tmp);
        if (maildir_rename(f, err) == -1)
            return -1;
    }
    return dir_sync(f->new_dir, err);
}

void maildir_close(struct maildir_file *f)
{
    fd_close(&f->fd);
    if (f->in_tmp)
        (void) unlink(f->tmp);
    free(f->tmp);
    free(f->new);
    free(f->new_dir);
    *f = MAILDIR_FILE_INIT;
}
