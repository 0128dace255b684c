/* SPDX-License-Identifier: Apache-2.0 */
/* directories.c - the directories of the queue, with Postfix's modes and, as root, owners. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "master/master_int.h"

static int make_one(const struct directory *d, void *arg, struct err *err)
{
    struct stat st;

    (void) arg;
    if (dir_make(d->path, d->mode, err) == -1)
        return -1;
    if (stat(d->path, &st) == -1)
        return err_sys(err, "stat %s", d->path);
    if (geteuid() == 0 && (st.st_uid != d->uid || st.st_gid != d->gid) &&
        chown(d->path, d->uid, d->gid) == -1)
        return err_sys(err, "chown %s", d->path);
    /* after chown, which may clear bits; a directory of somebody else's is as it is */
    if ((geteuid() == 0 || ((st.st_mode & 07777) != d->mode && st.st_uid == geteuid())) &&
        chmod(d->path, d->mode) == -1)
        return err_sys(err, "chmod %s", d->path);
    return 0;
}

int directories_each(const struct generation *g, directory_fn fn, void *arg, struct err *err)
{
    const char *queue = g->common.queue_directory;
    uid_t owner = geteuid();
    gid_t group = getegid();
    gid_t drop = group;
    int ret = 0;

    if (geteuid() == 0) {
        const struct passwd *pw =
            getpwnam(g->common.mail_owner); /* NOLINT(concurrency-mt-unsafe): no threads */
        const struct group *gr =
            getgrnam(g->common.setgid_group); /* NOLINT(concurrency-mt-unsafe): no threads */

        if (pw == NULL)
            return err_permanent(err, "mail_owner: no such user: %s", g->common.mail_owner);
        if (gr == NULL)
            return err_permanent(err, "setgid_group: no such group: %s", g->common.setgid_group);
        if (pw->pw_uid == 0)
            return err_permanent(err, "mail_owner: must not be the super-user");
        owner = pw->pw_uid;
        group = pw->pw_gid;
        drop = gr->gr_gid;
    }
    const struct {
        const char *above;
        const char *name;
        mode_t mode;
        uid_t uid;
        gid_t gid;
    } dirs[] = {
        {g->common.data_directory, "", 0700, owner, group},
        {queue, "pid", 0755, geteuid(), getegid()},
        {queue, "public", 02710, owner, drop},
        {queue, "private", 0700, owner, group},
        /* set-gid: pickup can read what root hands in, too */
        {queue, "maildrop", 03730, owner, drop},
        {queue, "incoming", 0700, owner, group},
        {queue, "active", 0700, owner, group},
        /* the store's own (qmgr/STORE.md), which it makes itself where they are missing */
        {queue, "journal", 0700, owner, group},
        {queue, "deferred", 0700, owner, group},
        {queue, "hold", 0700, owner, group},
        {queue, "corrupt", 0700, owner, group},
        {queue, "large", 0700, owner, group},
    };
    for (size_t i = 0; i < ARRAY_LEN(dirs) && ret == 0; i++) {
        struct buf path = BUF_INIT(8192);
        struct directory d = {
            .mode = dirs[i].mode,
            .uid = dirs[i].uid,
            .gid = dirs[i].gid,
        };

        if (dirs[i].name[0] == '\0')
            buf_puts(&path, dirs[i].above);
        else
            path_join(&path, dirs[i].above, dirs[i].name);
        d.path = buf_cstr(&path);
        ret = fn(&d, arg, err);
        buf_fini(&path);
    }
    return ret;
}

int make_directories(const struct generation *g, struct err *err)
{
    if (dir_make(g->common.queue_directory, 0755, err) == -1)
        return -1;
    return directories_each(g, make_one, NULL, err);
}
