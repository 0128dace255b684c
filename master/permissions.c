/* SPDX-License-Identifier: Apache-2.0 */
/* permissions.c - see permissions.h. */
#include "master/permissions.h"

#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "master/queue_owners.h"

/* Run by ordinary users with the rights of setgid_group: they hand mail in, and show the queue. */
static const char *const set_gid_commands[] = {"postdrop", "postqueue"};
#define SET_GID_MODE 02755

static const char set_right[] = "\"postfix set-permissions\" and each start set it right";

static int find_group(const struct generation *g, gid_t *gid, struct err *err)
{
    const struct group *gr =
        getgrnam(g->common.setgid_group); /* NOLINT(concurrency-mt-unsafe): no threads */

    if (gr == NULL)
        return err_permanent(err, "setgid_group: no such group: %s", g->common.setgid_group);
    *gid = gr->gr_gid;
    return 0;
}

int permissions_set(const struct generation *g, struct err *err)
{
    gid_t gid = 0;

    if (geteuid() != 0)
        return err_permanent(err, "owners can be set by root only");
    if (make_directories(g, err) == -1 || find_group(g, &gid, err) == -1)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(set_gid_commands); i++) {
        struct buf path = BUF_INIT(8192);
        int ret = 0;

        path_join(&path, g->common.command_directory, set_gid_commands[i]);
        /* chown first: it clears the set-gid bit */
        if (chown(buf_cstr(&path), 0, gid) == -1)
            ret = err_sys(err, "chown %s", buf_cstr(&path));
        else if (chmod(buf_cstr(&path), SET_GID_MODE) == -1)
            ret = err_sys(err, "chmod %s", buf_cstr(&path));
        buf_fini(&path);
        if (ret == -1)
            return -1;
    }
    return 0;
}

struct look {
    check_report_fn fn;
    void *arg;
    uid_t owner; /* whose programs and files are to be: root's, or the user's who runs all */
};

PRINTF_LIKE(2, 3) static void warn(const struct look *l, const char *fmt, ...)
{
    struct buf text = BUF_INIT(8192);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    l->fn(false, buf_cstr(&text), l->arg);
    buf_fini(&text);
}

/* A file or directory that somebody else could change. */
static void look_at(const struct look *l, const char *dir, const char *name)
{
    struct buf path = BUF_INIT(8192);
    struct stat st;

    path_join(&path, dir, name);
    /* what is not there is somebody else's finding */
    if (stat(buf_cstr(&path), &st) == 0) {
        if (st.st_uid != l->owner && st.st_uid != 0)
            warn(l, "%s: its owner is user %u, who can change it: \"chown root\" is wanted",
                 buf_cstr(&path), st.st_uid);
        if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
            warn(l, "%s: %s can write it: \"chmod go-w\" is wanted", buf_cstr(&path),
                 (st.st_mode & S_IWOTH) != 0 ? "everybody" : "its group");
    }
    buf_fini(&path);
}

static void look_at_all(const struct look *l, const char *dir)
{
    struct dirent *e;
    DIR *d;

    look_at(l, dir, ".");
    d = opendir(dir);
    while (d != NULL && (e = readdir(d)) != NULL) /* NOLINT(concurrency-mt-unsafe): no threads */
        if (e->d_name[0] != '.')
            look_at(l, dir, e->d_name);
    if (d != NULL)
        (void) closedir(d);
}

static void look_at_set_gid(const struct look *l, const struct generation *g)
{
    struct err err = ERR_INIT;
    gid_t gid = 0;

    if (find_group(g, &gid, &err) == -1) {
        warn(l, "%s", err.text);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(set_gid_commands); i++) {
        struct buf path = BUF_INIT(8192);
        struct stat st;

        path_join(&path, g->common.command_directory, set_gid_commands[i]);
        if (stat(buf_cstr(&path), &st) == 0 &&
            (st.st_gid != gid || (st.st_mode & 07111) != (SET_GID_MODE & 07111)))
            warn(l,
                 "%s: not set-gid to group %s, so that ordinary users cannot submit mail: run "
                 "\"postfix set-permissions\"",
                 buf_cstr(&path), g->common.setgid_group);
        buf_fini(&path);
    }
}

/* What is not there yet is made by check and start. */
static int look_at_directory(const struct directory *d, void *arg, struct err *err)
{
    const struct look *l = arg;
    struct stat st;

    (void) err;
    if (lstat(d->path, &st) == -1)
        return 0;
    if (S_ISLNK(st.st_mode))
        warn(l, "%s: is a symbolic link: others may decide where it leads; a directory is wanted",
             d->path);
    else if (!S_ISDIR(st.st_mode))
        warn(l, "%s: is not a directory: move it away", d->path);
    else if (st.st_uid != d->uid || st.st_gid != d->gid)
        warn(l, "%s: belongs to user %u and group %u, not to %u and %u: %s", d->path, st.st_uid,
             st.st_gid, d->uid, d->gid, set_right);
    else if ((st.st_mode & 07777) != d->mode)
        warn(l, "%s: has mode %04o, not %04o: %s", d->path, st.st_mode & 07777, d->mode, set_right);
    return 0;
}

#define QUEUE_FINDINGS                                                                             \
    10 /* told; of a queue that was restored by somebody else all files are wrong */

struct queue_look {
    const struct look *l;
    unsigned told;
};

static void on_queue_file(void *arg, const char *text)
{
    struct queue_look *q = arg;

    if (q->told++ < QUEUE_FINDINGS)
        warn(q->l, "%s: stop the mail system and run \"postsuper -s\"", text);
}

static void look_at_queue(const struct look *l, const struct generation *g)
{
    struct queue_look look = {l, 0};
    struct queue_owners q = {geteuid(), getegid(), false, on_queue_file, &look, 0, 0, 0};
    const struct passwd *pw =
        getpwnam(g->common.mail_owner); /* NOLINT(concurrency-mt-unsafe): no threads */

    if (geteuid() == 0 && pw == NULL)
        return; /* directories_each() has told */
    if (geteuid() == 0) {
        q.uid = pw->pw_uid;
        q.gid = pw->pw_gid;
    }
    queue_owners_look(g->common.queue_directory, &q);
    if (q.wrong > QUEUE_FINDINGS)
        warn(l, "%s: %zu more files like these", g->common.queue_directory,
             q.wrong - QUEUE_FINDINGS);
}

void permissions_check(const struct generation *g, check_report_fn fn, void *arg)
{
    struct look l = {fn, arg, geteuid()};
    struct err err = ERR_INIT;

    look_at_all(&l, config_dir(g->cfg));
    look_at(&l, g->common.queue_directory, ".");
    if (directories_each(g, look_at_directory, &l, &err) == -1)
        warn(&l, "%s", err.text);
    look_at_queue(&l, g);
    if (geteuid() != 0 || strcmp(config_dir(g->cfg), CONFIG_DEFAULT_DIR) != 0)
        return;
    look_at_all(&l, g->common.daemon_directory);
    look_at_set_gid(&l, g);
}
