/* SPDX-License-Identifier: Apache-2.0 */
/* directories.c - the directories of the queue, with Postfix's modes and, as root, owners. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "master/master_int.h"

static int make_one(const char *dir, const char *name, mode_t mode, uid_t uid, gid_t gid,
                    struct err *err)
{
    struct buf path = BUF_INIT(8192);
    struct stat st;
    int ret = 0;

    path_join(&path, dir, name);
    if (dir_make(buf_cstr(&path), mode, err) == -1)
        ret = -1;
    else if (stat(buf_cstr(&path), &st) == -1)
        ret = err_sys(err, "stat %s", buf_cstr(&path));
    else if (geteuid() == 0 && (st.st_uid != uid || st.st_gid != gid) &&
             chown(buf_cstr(&path), uid, gid) == -1)
        ret = err_sys(err, "chown %s", buf_cstr(&path));
    /* after chown, which may clear bits; a directory of somebody else's is as it is */
    else if ((geteuid() == 0 || ((st.st_mode & 07777) != mode && st.st_uid == geteuid())) &&
             chmod(buf_cstr(&path), mode) == -1)
        ret = err_sys(err, "chmod %s", buf_cstr(&path));
    buf_fini(&path);
    return ret;
}

int make_directories(const struct generation *g, struct err *err)
{
    const char *queue = g->common.queue_directory;
    uid_t owner = geteuid();
    gid_t group = getegid();
    gid_t drop = group;

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
        const char *name;
        mode_t mode;
        uid_t uid;
        gid_t gid;
    } dirs[] = {
        {"pid", 0755, geteuid(), getegid()},
        {"public", 02710, owner, drop},
        {"private", 0700, owner, group},
        {"maildrop", 03730, owner, drop}, /* set-gid: pickup can read what root hands in, too */
        {"incoming", 0700, owner, group},
        {"active", 0700, owner, group},
    };
    if (dir_make(queue, 0755, err) == -1 ||
        make_one(g->common.data_directory, "", 0700, owner, group, err) == -1)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        if (make_one(queue, dirs[i].name, dirs[i].mode, dirs[i].uid, dirs[i].gid, err) == -1)
            return -1;
    return 0;
}
