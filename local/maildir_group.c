/* SPDX-License-Identifier: Apache-2.0 */
/*
 * maildir_group.c - see maildir_group.h.
 *
 * Each file system (st_dev) has a line of its own, so that one that hangs holds up nobody else's mail. The first thread that
 * brings a message leads: round by round it takes what is in line, until nothing is; the others go back to their work.
 *
 * A round. WRITTEN: lies in tmp/, came in since the last round. RENAMED: lies in new/, put there by the last round.
 *     syncfs, on a descriptor that was opened before anything of the round was written (it tells of errors since)
 *         ext4 without a journal writes directories and inodes after it has told the device to empty its cache: an fsync does that
 *         again
 *     RENAMED are durable: done
 *     WRITTEN are durable in tmp/: renamed, as their owners; they are the next round's RENAMED
 * Invariants: (1) nothing appears in new/ before its content is durable; (2) done(0) only after a flush that began after the
 * rename; (3) a flush that failed is a failure of all that it was for, and is not tried again: what is not on disk by then may be lost.
 * A crash leaves what it leaves with messages one by one: files in tmp/, or messages in new/ that are delivered again.
 *
 * One by one (fsync, rename, fsync of new/) when
 *   - a round has one message only: two small flushes cost less than two of the file system;
 *   - syncfs of this kernel or file system promises less than fsync (before 5.8 it does not tell of errors; FUSE, NFS, overlays);
 *   - much else waits to be written (DIRTY_KB), or a flush took long (SLOW_MS): for a while, longer each time. In that state, and
 *     while a flush is late (LATE_MS), threads do not wait in line: each finishes its own message, and those wait for the disk side by
 *     side;
 *   - the message is large (ALONE_BYTES).
 */
#include "local/maildir_group.h"

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

#include "base/blocking.h"
#include "base/file.h"
#include "base/lock.h"

#define DIRTY_KB    (INT64_C(256) << 10) /* of all file systems: a second or two of a disk's time */
#define DIRTY_MS    100                  /* how often that is looked at */
#define SLOW_MS     300
#define LATE_MS     100   /* newcomers do not wait for a flush that has lasted so long already */
#define APART_MS    1000  /* one by one for so long after much was dirty, or a flush was slow */
#define APART_MAX   60000 /* doubled while that happens again */
#define FAILED_MS   60000 /* one by one for so long after a flush that failed */
#define ALONE_BYTES (1U << 20)
#define LINES_MAX   64 /* file systems; what more there are have none */

struct line {
    dev_t dev;
    bool fits;          /* syncfs will do */
    bool flushes_twice; /* ... with an fsync after it */
    /* the group's lock guards: */
    bool is_led;
    struct maildir_items written;
    struct mono_time apart_until; /* one by one until then */
    struct mono_time flush_began; /* 0: none is on its way */
    /* the leader's: */
    struct mono_time looked; /* at what waits to be written */
    int64_t apart_ms;        /* the last time apart, while one follows the other; 0: all is well */
};

struct maildir_group {
    struct lock lock;
    bool enabled;
    int meminfo; /* /proc/meminfo */
    size_t nlines GUARDED_BY(lock);
    struct line *lines[LINES_MAX] GUARDED_BY(lock);
};

/* syncfs() returns errors of writing since Linux 5.8. */
static bool kernel_tells_errors(void)
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

struct maildir_group *maildir_group_new(bool enabled)
{
    struct maildir_group *g = xcalloc(1, sizeof(*g));

    lock_init(&g->lock, LOCK_MAILDIR);
    g->meminfo = enabled ? open("/proc/meminfo", O_RDONLY | O_CLOEXEC) : -1;
    g->enabled = enabled && g->meminfo != -1 && kernel_tells_errors();
    return g;
}

void maildir_group_free(struct maildir_group **group)
{
    struct maildir_group *g = *group;

    if (g == NULL)
        return;
    for (size_t i = 0; i < g->nlines; i++)
        free(g->lines[i]);
    fd_close(&g->meminfo);
    lock_fini(&g->lock);
    free(g);
    *group = NULL;
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

/* Fills in what flushes of its file system are worth. */
static void look_at_file_system(struct line *l, int fd)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) == -1)
        return;
    switch ((unsigned long) fs.f_type) {
    case EXT4_SUPER_MAGIC: /* ext2 and ext3, too */
        l->fits = true;
        l->flushes_twice = !has_journal(l->dev);
        break;
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case TMPFS_MAGIC:
        l->fits = true;
        break;
    default:
        break;
    }
}

static struct line *line_of_locked(struct maildir_group *g, dev_t dev) REQUIRES(g->lock)
{
    for (size_t i = 0; i < g->nlines; i++)
        if (g->lines[i]->dev == dev)
            return g->lines[i];
    return NULL;
}

/* NULL: there are too many. */
static struct line *line_of(struct maildir_group *g, const struct maildir_item *item)
{
    struct line *l;
    struct line *fresh;

    lock_take(&g->lock);
    l = line_of_locked(g, item->file.dev);
    lock_release(&g->lock);
    if (l != NULL)
        return l;
    fresh = xcalloc(1, sizeof(*fresh));
    fresh->dev = item->file.dev;
    STAILQ_INIT(&fresh->written);
    look_at_file_system(fresh, item->file.fd);
    lock_take(&g->lock);
    l = line_of_locked(g, item->file.dev);
    if (l == NULL && g->nlines < LINES_MAX) {
        l = g->lines[g->nlines++] = fresh;
        fresh = NULL;
    }
    lock_release(&g->lock);
    free(fresh);
    return l;
}

/* --- one by one ------------------------------------------------------------------------------------------ */

static void end(struct maildir_item *item, int result, const struct err *err)
{
    struct err ignored = ERR_INIT;

    /* what is left in tmp/ is its owner's; without his rights it stays there */
    if (item->file.in_tmp && mailbox_become(&item->owner, &ignored) == 0) {
        maildir_close(&item->file);
        mailbox_become_root();
    } else {
        item->file.in_tmp = false;
        maildir_close(&item->file);
    }
    item->done(item, result, err);
}

static void finish_alone(struct maildir_item *item)
{
    struct err err = ERR_INIT;
    int ret = mailbox_become(&item->owner, &err);

    if (ret == 0) {
        ret = maildir_finish(&item->file, &err);
        mailbox_become_root();
    }
    end(item, ret, &err);
}

static void finish_each(struct maildir_items *items)
{
    struct maildir_item *item;

    while ((item = STAILQ_FIRST(items)) != NULL) {
        STAILQ_REMOVE_HEAD(items, list);
        finish_alone(item);
    }
}

/* --- rounds ---------------------------------------------------------------------------------------------- */

static void stay_apart(struct maildir_group *g, struct line *l, int64_t ms)
{
    lock_take(&g->lock);
    l->apart_until = mono_after_ms(mono_now(), ms);
    lock_release(&g->lock);
}

/* For a while; for longer if it was so after the last time, too. */
static void stay_apart_longer(struct maildir_group *g, struct line *l)
{
    l->apart_ms = l->apart_ms == 0 ? APART_MS : l->apart_ms * 2;
    if (l->apart_ms > APART_MAX)
        l->apart_ms = APART_MAX;
    stay_apart(g, l, l->apart_ms);
}

/* The number after "\nNAME:", kB; -1: there is none. */
static int64_t meminfo_kb(const char *text, const char *name)
{
    const char *at = strstr(text, name);

    return at == NULL ? -1 : strtoll(at + strlen(name), NULL, 10);
}

/* Does much wait to be written that is not ours? Asked of all file systems, as nothing tells it of one. */
static bool is_much_dirty(const struct maildir_group *g)
{
    char text[4096];
    ssize_t n = pread(g->meminfo, text, sizeof(text) - 1, 0);
    int64_t dirty;
    int64_t writeback;

    if (n <= 0)
        return true;
    text[n] = '\0';
    dirty = meminfo_kb(text, "\nDirty:");
    writeback = meminfo_kb(text, "\nWriteback:");
    return dirty < 0 || writeback < 0 || dirty + writeback > DIRTY_KB;
}

static void rename_all(struct maildir_items *written, struct maildir_items *renamed)
{
    const struct mailbox_owner *is = NULL; /* whose rights we have */
    struct maildir_item *item;

    while ((item = STAILQ_FIRST(written)) != NULL) {
        struct err err = ERR_INIT;
        int ret = 0;

        STAILQ_REMOVE_HEAD(written, list);
        if (is == NULL || is->uid != item->owner.uid || is->gid != item->owner.gid) {
            if (is != NULL)
                mailbox_become_root();
            ret = mailbox_become(&item->owner, &err);
            is = ret == 0 ? &item->owner : NULL;
        }
        if (ret == 0)
            ret = maildir_rename(&item->file, &err);
        if (ret == 0) {
            STAILQ_INSERT_TAIL(renamed, item, list);
            continue;
        }
        if (is != NULL)
            mailbox_become_root();
        is = NULL;
        end(item, -1, &err);
    }
    if (is != NULL)
        mailbox_become_root();
}

static void end_all(struct maildir_items *items, int result, const struct err *err)
{
    struct maildir_item *item;

    while ((item = STAILQ_FIRST(items)) != NULL) {
        STAILQ_REMOVE_HEAD(items, list);
        end(item, result, err);
    }
}

static void flush_begins(struct maildir_group *g, struct line *l, struct mono_time when)
{
    lock_take(&g->lock);
    l->flush_began = when;
    lock_release(&g->lock);
}

/* renamed: those of the last round before, those of this one after. */
static void flush_round(struct maildir_group *g, struct line *l, struct maildir_items *written,
                        struct maildir_items *renamed)
{
    const struct maildir_item *oldest =
        !STAILQ_EMPTY(renamed) ? STAILQ_FIRST(renamed) : STAILQ_FIRST(written);
    struct mono_time start = mono_now();
    struct err err = ERR_INIT;
    int ret;

    flush_begins(g, l, start);
    ret = syncfs(oldest->file.fd);
    if (ret == 0 && l->flushes_twice)
        ret = fsync(oldest->file.fd);
    if (ret == -1)
        err_sys(&err, "flush the file system of %s", oldest->file.tmp);
    flush_begins(g, l, (struct mono_time){0});
    if (ret == -1) {
        stay_apart(g, l, FAILED_MS);
        end_all(renamed, -1, &err);
        end_all(written, -1, &err);
        return;
    }
    if (mono_diff_ms(mono_now(), start) > SLOW_MS)
        stay_apart_longer(g, l);
    else
        l->apart_ms = 0;
    end_all(renamed, 0, NULL);
    rename_all(written, renamed);
}

/* May those of a round share a flush? */
static bool may_share(struct maildir_group *g, struct line *l, size_t n)
{
    struct mono_time now = mono_now();
    bool apart;

    if (n < 2)
        return false;
    lock_take(&g->lock);
    apart = now.us < l->apart_until.us;
    lock_release(&g->lock);
    if (apart || (l->looked.us != 0 && mono_diff_ms(now, l->looked) < DIRTY_MS))
        return !apart;
    l->looked = now;
    if (!is_much_dirty(g))
        return true;
    stay_apart_longer(g, l);
    return false;
}

static size_t count(const struct maildir_items *items)
{
    const struct maildir_item *item;
    size_t n = 0;

    STAILQ_FOREACH(item, items, list)
    n++;
    return n;
}

static void lead(struct maildir_group *g, struct line *l, void (*working)(void))
{
    struct maildir_items written = STAILQ_HEAD_INITIALIZER(written);
    struct maildir_items renamed = STAILQ_HEAD_INITIALIZER(renamed);

    for (;;) {
        lock_take(&g->lock);
        STAILQ_CONCAT(&written, &l->written);
        if (STAILQ_EMPTY(&written) && STAILQ_EMPTY(&renamed)) {
            l->is_led = false;
            lock_release(&g->lock);
            return;
        }
        lock_release(&g->lock);
        working();
        if (may_share(g, l, count(&written) + count(&renamed))) {
            flush_round(g, l, &written, &renamed);
        } else {
            finish_each(&renamed);
            finish_each(&written);
        }
    }
}

/* May it wait for a flush with others? *line: the line of those before it, or NULL. */
static bool is_for_line(struct maildir_group *g, const struct maildir_item *item,
                        struct line **line)
{
    struct line *l = g->enabled && item->bytes <= ALONE_BYTES ? line_of(g, item) : NULL;

    if (l == NULL || !l->fits || (*line != NULL && *line != l))
        return false;
    *line = l;
    return true;
}

/* 0: they wait for the leader; 1: the caller leads; -1: not now, they are the caller's still. */
static int join(struct maildir_group *g, struct line *l, struct maildir_items *items)
{
    struct mono_time now = mono_now();
    int ret = -1;

    lock_take(&g->lock);
    if (now.us >= l->apart_until.us &&
        (l->flush_began.us == 0 || mono_diff_ms(now, l->flush_began) < LATE_MS)) {
        STAILQ_CONCAT(&l->written, items);
        ret = !l->is_led;
        l->is_led = true;
    }
    lock_release(&g->lock);
    return ret;
}

void maildir_group_finish(struct maildir_group *g, struct maildir_items *items,
                          void (*working)(void))
{
    struct maildir_items shared = STAILQ_HEAD_INITIALIZER(shared);
    struct maildir_items alone = STAILQ_HEAD_INITIALIZER(alone);
    struct maildir_item *item;
    struct line *l = NULL;
    int joined = 0;

    while ((item = STAILQ_FIRST(items)) != NULL) {
        STAILQ_REMOVE_HEAD(items, list);
        if (is_for_line(g, item, &l))
            STAILQ_INSERT_TAIL(&shared, item, list);
        else
            STAILQ_INSERT_TAIL(&alone, item, list);
    }
    /* these first: who leads may have to do so for long */
    if (!STAILQ_EMPTY(&alone)) {
        blocking_begin();
        finish_each(&alone);
        blocking_end();
    }
    if (!STAILQ_EMPTY(&shared))
        joined = join(g, l, &shared);
    if (joined == 0)
        return;
    blocking_begin();
    if (joined == 1)
        lead(g, l, working);
    else
        finish_each(&shared);
    blocking_end();
}
