/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_disk.h - a file system in memory under the store (struct io_ops) that remembers what was not synced, fails on request,
 * and loses its power: then a random part of the unsynced writes, torn into sectors, and of the unsynced directory changes is
 * lost. For tests; included by one .c each.
 *
 * Bytes of a file are durable after fdatasync, names after sync_dir of a directory that is concerned. Directory changes that are
 * kept at a cut are either a prefix of all, or any subset that makes sense by itself.
 */
#ifndef PR_TESTS_SIM_DISK_H
#define PR_TESTS_SIM_DISK_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qmgr/store_io.h"

#define SIM_SECTOR  512
#define SIM_FD_BASE 100000
#define SIM_FDS     4096

struct sim_bytes {
    unsigned char *p;
    size_t len, cap;
};

struct sim_write {
    struct sim_write *next;
    bool truncate;
    uint64_t offset;
    size_t len;
    unsigned char data[];
};

struct sim_inode {
    uint64_t number;
    struct sim_bytes now, durable;
    struct sim_write *pending, **pending_tail;
    int locked_by; /* fd, or -1 */
    struct sim_inode *next;
};

struct sim_name {
    struct sim_name *next;
    char *path;
    struct sim_inode *inode; /* NULL: a directory */
};

enum sim_change_kind { SIM_LINK, SIM_RENAME, SIM_UNLINK };
struct sim_change {
    struct sim_change *next;
    enum sim_change_kind kind;
    char *path, *to;
    struct sim_inode *inode;
};

struct sim_disk {
    struct io_ops ops;
    pthread_mutex_t mutex;
    uint64_t random;
    struct sim_inode *inodes;
    uint64_t next_inode;
    struct sim_name *names, *durable_names;
    struct sim_change *changes, **changes_tail;
    struct sim_inode *fds[SIM_FDS];
    int open_fds;
    /* failures */
    long cut_after; /* that many calls from now the power goes; -1: never */
    bool dead;
    int fail_sync;   /* errno of fdatasync, 0 none */
    int fail_write;  /* errno of pwritev and allocate */
    int fail_create; /* errno of open(O_CREAT) */
    uint64_t free_bytes;
    long calls;
    long syncs;
};

static inline uint64_t sim_random(struct sim_disk *d, uint64_t below)
{
    d->random ^= d->random << 13;
    d->random ^= d->random >> 7;
    d->random ^= d->random << 17;
    return below == 0 ? 0 : (d->random >> 11) % below;
}

static inline void sim_bytes_size(struct sim_bytes *b, size_t len)
{
    if (len > b->cap) {
        b->cap = len * 2;
        b->p = xrealloc(b->p, b->cap);
    }
    if (len > b->len)
        memset(b->p + b->len, 0, len - b->len);
    b->len = len;
}

static inline void sim_apply(struct sim_bytes *b, const struct sim_write *w, size_t from, size_t to)
{
    if (w->truncate) {
        sim_bytes_size(b, (size_t) w->offset);
        return;
    }
    if (w->offset + to > b->len)
        sim_bytes_size(b, (size_t) w->offset + to);
    memcpy(b->p + w->offset + from, w->data + from, to - from);
}

/* Every call goes through here: -1 when the power is gone. */
static inline int sim_enter(struct sim_disk *d)
{
    pthread_mutex_lock(&d->mutex);
    d->calls++;
    if (d->cut_after >= 0 && d->cut_after-- == 0)
        d->dead = true;
    if (d->dead) {
        pthread_mutex_unlock(&d->mutex);
        errno = EIO;
        return -1;
    }
    return 0;
}

static inline int sim_leave(struct sim_disk *d, int ret, int err)
{
    pthread_mutex_unlock(&d->mutex);
    if (ret == -1)
        errno = err;
    return ret;
}

static inline struct sim_name *sim_find(struct sim_name *list, const char *path)
{
    for (; list != NULL; list = list->next) {
        if (strcmp(list->path, path) == 0)
            return list;
    }
    return NULL;
}

static inline void sim_name_set(struct sim_name **list, const char *path, struct sim_inode *inode)
{
    struct sim_name *n = sim_find(*list, path);

    if (n == NULL) {
        n = xcalloc(1, sizeof(*n));
        n->path = xstrdup(path);
        n->next = *list;
        *list = n;
    }
    n->inode = inode;
}

static inline bool sim_name_remove(struct sim_name **list, const char *path)
{
    for (; *list != NULL; list = &(*list)->next) {
        if (strcmp((*list)->path, path) == 0) {
            struct sim_name *n = *list;

            *list = n->next;
            free(n->path);
            free(n);
            return true;
        }
    }
    return false;
}

static inline void sim_change_add(struct sim_disk *d, enum sim_change_kind kind, const char *path,
                                  const char *to, struct sim_inode *inode)
{
    struct sim_change *c = xcalloc(1, sizeof(*c));

    c->kind = kind;
    c->path = xstrdup(path);
    c->to = to != NULL ? xstrdup(to) : NULL;
    c->inode = inode;
    *d->changes_tail = c;
    d->changes_tail = &c->next;
}

static inline void sim_change_free(struct sim_change *c)
{
    free(c->path);
    free(c->to);
    free(c);
}

/* On the durable names; what has lost its ground is lost too. */
static inline void sim_change_apply(struct sim_disk *d, const struct sim_change *c)
{
    struct sim_name *n = sim_find(d->durable_names, c->path);

    switch (c->kind) {
    case SIM_LINK:
        sim_name_set(&d->durable_names, c->path, c->inode);
        break;
    case SIM_RENAME:
        if (n == NULL || n->inode != c->inode)
            break;
        sim_name_set(&d->durable_names, c->to, c->inode);
        (void) sim_name_remove(&d->durable_names, c->path);
        break;
    case SIM_UNLINK:
        if (n != NULL && n->inode == c->inode)
            (void) sim_name_remove(&d->durable_names, c->path);
        break;
    }
}

static inline bool sim_in_dir(const char *path, const char *dir)
{
    size_t len = strlen(dir);

    return path != NULL && strncmp(path, dir, len) == 0 && path[len] == '/' &&
           strchr(path + len + 1, '/') == NULL;
}

static inline struct sim_inode *sim_inode_of(struct sim_disk *d, int fd)
{
    int i = fd - SIM_FD_BASE;

    if (i < 0 || i >= SIM_FDS || d->fds[i] == NULL)
        abort();
    return d->fds[i];
}

static inline int sim_open(void *ctx, const char *path, int flags, mode_t mode)
{
    struct sim_disk *d = ctx;
    struct sim_name *n;
    struct sim_inode *inode;
    char dir[4096];

    (void) mode;
    if (sim_enter(d) == -1)
        return -1;
    n = sim_find(d->names, path);
    if (n == NULL && (flags & O_CREAT) == 0)
        return sim_leave(d, -1, ENOENT);
    if (n != NULL && (flags & O_EXCL) != 0)
        return sim_leave(d, -1, EEXIST);
    if (n == NULL) {
        snprintf(dir, sizeof(dir), "%s", path);
        *strrchr(dir, '/') = '\0';
        if (sim_find(d->names, dir) == NULL)
            return sim_leave(d, -1, ENOENT);
        if (d->fail_create != 0)
            return sim_leave(d, -1, d->fail_create);
        inode = xcalloc(1, sizeof(*inode));
        inode->number = ++d->next_inode;
        inode->locked_by = -1;
        inode->pending_tail = &inode->pending;
        inode->next = d->inodes;
        d->inodes = inode;
        sim_name_set(&d->names, path, inode);
        sim_change_add(d, SIM_LINK, path, NULL, inode);
    } else {
        inode = n->inode;
        if ((flags & O_TRUNC) != 0) {
            struct sim_write *w = xcalloc(1, sizeof(*w));

            w->truncate = true;
            sim_apply(&inode->now, w, 0, 0);
            *inode->pending_tail = w;
            inode->pending_tail = &w->next;
        }
    }
    for (int i = 0; i < SIM_FDS; i++) {
        if (d->fds[i] == NULL) {
            d->fds[i] = inode;
            d->open_fds++;
            return sim_leave(d, SIM_FD_BASE + i, 0);
        }
    }
    return sim_leave(d, -1, EMFILE);
}

static inline void sim_close(void *ctx, int fd)
{
    struct sim_disk *d = ctx;
    struct sim_inode *inode;

    pthread_mutex_lock(&d->mutex);
    inode = sim_inode_of(d, fd);
    if (inode->locked_by == fd)
        inode->locked_by = -1;
    d->fds[fd - SIM_FD_BASE] = NULL;
    d->open_fds--;
    pthread_mutex_unlock(&d->mutex);
}

static inline ssize_t sim_pread(void *ctx, int fd, void *data, size_t len, uint64_t offset)
{
    struct sim_disk *d = ctx;
    struct sim_inode *inode;

    if (sim_enter(d) == -1)
        return -1;
    inode = sim_inode_of(d, fd);
    if (offset >= inode->now.len)
        len = 0;
    else if (len > inode->now.len - offset)
        len = inode->now.len - (size_t) offset;
    if (len > 0)
        memcpy(data, inode->now.p + offset, len);
    sim_leave(d, 0, 0);
    return (ssize_t) len;
}

static inline int sim_pwritev(void *ctx, int fd, struct iovec *iov, int count, uint64_t offset)
{
    struct sim_disk *d = ctx;
    struct sim_inode *inode;
    struct sim_write *w;
    size_t len = 0;
    size_t at = 0;

    if (sim_enter(d) == -1)
        return -1;
    if (d->fail_write != 0)
        return sim_leave(d, -1, d->fail_write);
    inode = sim_inode_of(d, fd);
    for (int i = 0; i < count; i++)
        len += iov[i].iov_len;
    w = xcalloc(1, sizeof(*w) + len);
    w->offset = offset;
    w->len = len;
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len > 0)
            memcpy(w->data + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    sim_apply(&inode->now, w, 0, len);
    *inode->pending_tail = w;
    inode->pending_tail = &w->next;
    return sim_leave(d, 0, 0);
}

static inline void sim_make_durable(struct sim_inode *inode)
{
    while (inode->pending != NULL) {
        struct sim_write *w = inode->pending;

        inode->pending = w->next;
        sim_apply(&inode->durable, w, 0, w->len);
        free(w);
    }
    inode->pending_tail = &inode->pending;
}

static inline int sim_fdatasync(void *ctx, int fd)
{
    struct sim_disk *d = ctx;

    if (sim_enter(d) == -1)
        return -1;
    d->syncs++;
    if (d->fail_sync != 0)
        return sim_leave(d, -1, d->fail_sync);
    sim_make_durable(sim_inode_of(d, fd));
    return sim_leave(d, 0, 0);
}

static inline int sim_sync_dir(void *ctx, const char *path)
{
    struct sim_disk *d = ctx;
    const struct sim_change *last = NULL;

    if (sim_enter(d) == -1)
        return -1;
    if (sim_find(d->names, path) == NULL)
        return sim_leave(d, -1, ENOENT);
    for (const struct sim_change *c = d->changes; c != NULL; c = c->next) {
        if (sim_in_dir(c->path, path) || sim_in_dir(c->to, path))
            last = c;
    }
    while (last != NULL && d->changes != NULL) {
        struct sim_change *c = d->changes;
        bool stop = c == last;

        d->changes = c->next;
        sim_change_apply(d, c);
        sim_change_free(c);
        if (stop)
            break;
    }
    if (d->changes == NULL)
        d->changes_tail = &d->changes;
    return sim_leave(d, 0, 0);
}

static inline int sim_truncate(void *ctx, int fd, uint64_t bytes)
{
    struct sim_disk *d = ctx;
    struct sim_inode *inode;
    struct sim_write *w;

    if (sim_enter(d) == -1)
        return -1;
    inode = sim_inode_of(d, fd);
    w = xcalloc(1, sizeof(*w));
    w->truncate = true;
    w->offset = bytes;
    sim_apply(&inode->now, w, 0, 0);
    *inode->pending_tail = w;
    inode->pending_tail = &w->next;
    return sim_leave(d, 0, 0);
}

static inline int sim_allocate(void *ctx, int fd, uint64_t bytes)
{
    struct sim_disk *d = ctx;

    (void) fd;
    (void) bytes;
    if (sim_enter(d) == -1)
        return -1;
    if (d->fail_write != 0)
        return sim_leave(d, -1, d->fail_write);
    return sim_leave(d, 0, 0);
}

static inline int sim_stat_fd(void *ctx, int fd, struct io_stat *st)
{
    struct sim_disk *d = ctx;
    struct sim_inode *inode;

    if (sim_enter(d) == -1)
        return -1;
    inode = sim_inode_of(d, fd);
    *st = (struct io_stat){inode->number, inode->now.len, 0};
    return sim_leave(d, 0, 0);
}

static inline int sim_stat_path(void *ctx, const char *path, struct io_stat *st)
{
    struct sim_disk *d = ctx;
    struct sim_name *n;

    if (sim_enter(d) == -1)
        return -1;
    n = sim_find(d->names, path);
    if (n == NULL)
        return sim_leave(d, -1, ENOENT);
    *st = (struct io_stat){n->inode != NULL ? n->inode->number : 0,
                           n->inode != NULL ? n->inode->now.len : 0, 0};
    return sim_leave(d, 0, 0);
}

static inline int sim_rename(void *ctx, const char *from, const char *to, bool replace)
{
    struct sim_disk *d = ctx;
    struct sim_name *n;
    struct sim_inode *inode;

    if (sim_enter(d) == -1)
        return -1;
    n = sim_find(d->names, from);
    if (n == NULL)
        return sim_leave(d, -1, ENOENT);
    if (!replace && sim_find(d->names, to) != NULL)
        return sim_leave(d, -1, EEXIST);
    inode = n->inode;
    sim_name_set(&d->names, to, inode);
    (void) sim_name_remove(&d->names, from);
    sim_change_add(d, SIM_RENAME, from, to, inode);
    return sim_leave(d, 0, 0);
}

static inline int sim_unlink(void *ctx, const char *path)
{
    struct sim_disk *d = ctx;
    struct sim_name *n;

    if (sim_enter(d) == -1)
        return -1;
    n = sim_find(d->names, path);
    if (n == NULL)
        return sim_leave(d, -1, ENOENT);
    sim_change_add(d, SIM_UNLINK, path, NULL, n->inode);
    (void) sim_name_remove(&d->names, path);
    return sim_leave(d, 0, 0);
}

static inline int sim_mkdir(void *ctx, const char *path, mode_t mode)
{
    struct sim_disk *d = ctx;

    (void) mode;
    if (sim_enter(d) == -1)
        return -1;
    if (sim_find(d->names, path) != NULL)
        return sim_leave(d, -1, EEXIST);
    sim_name_set(&d->names, path, NULL);
    sim_change_add(d, SIM_LINK, path, NULL, NULL);
    return sim_leave(d, 0, 0);
}

static inline int sim_lock(void *ctx, int fd)
{
    struct sim_disk *d = ctx;
    struct sim_inode *inode;

    if (sim_enter(d) == -1)
        return -1;
    inode = sim_inode_of(d, fd);
    if (inode->locked_by != -1 && inode->locked_by != fd)
        return sim_leave(d, -1, EWOULDBLOCK);
    inode->locked_by = fd;
    return sim_leave(d, 0, 0);
}

static inline int sim_unlock(void *ctx, int fd)
{
    struct sim_disk *d = ctx;
    struct sim_inode *inode;

    if (sim_enter(d) == -1)
        return -1;
    inode = sim_inode_of(d, fd);
    if (inode->locked_by == fd)
        inode->locked_by = -1;
    return sim_leave(d, 0, 0);
}

static inline int sim_list(void *ctx, const char *path, void (*fn)(void *arg, const char *name),
                           void *arg)
{
    struct sim_disk *d = ctx;
    char **names = NULL;
    size_t count = 0;

    if (sim_enter(d) == -1)
        return -1;
    if (sim_find(d->names, path) == NULL)
        return sim_leave(d, -1, ENOENT);
    for (const struct sim_name *n = d->names; n != NULL; n = n->next) {
        if (sim_in_dir(n->path, path)) {
            names = xrealloc(names, (count + 1) * sizeof(*names));
            names[count++] = xstrdup(n->path + strlen(path) + 1);
        }
    }
    sim_leave(d, 0, 0);
    for (size_t i = 0; i < count; i++) {
        fn(arg, names[i]);
        free(names[i]);
    }
    free(names);
    return 0;
}

static inline int sim_free_bytes(void *ctx, const char *path, uint64_t *bytes)
{
    struct sim_disk *d = ctx;

    (void) path;
    if (sim_enter(d) == -1)
        return -1;
    *bytes = d->free_bytes;
    return sim_leave(d, 0, 0);
}

static inline struct sim_disk *sim_new(uint64_t seed, const char *root)
{
    static const char *const dirs[] = {"",          "/journal", "/journal/free", "/large",
                                       "/deferred", "/hold",    "/corrupt"};
    struct sim_disk *d = xcalloc(1, sizeof(*d));

    d->ops = (struct io_ops){d,
                             sim_open,
                             sim_close,
                             sim_pread,
                             sim_pwritev,
                             sim_fdatasync,
                             sim_sync_dir,
                             sim_truncate,
                             sim_allocate,
                             sim_stat_fd,
                             sim_stat_path,
                             sim_rename,
                             sim_unlink,
                             sim_mkdir,
                             sim_lock,
                             sim_unlock,
                             sim_list,
                             sim_free_bytes};
    pthread_mutex_init(&d->mutex, NULL);
    d->random = seed * 0x9E3779B97F4A7C15ULL + 0x123456789ABCDEFULL;
    d->cut_after = -1;
    d->free_bytes = UINT64_MAX;
    d->changes_tail = &d->changes;
    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
        char path[4096];

        snprintf(path, sizeof(path), "%s%s", root, dirs[i]);
        sim_name_set(&d->names, path, NULL);
        sim_name_set(&d->durable_names, path, NULL);
    }
    return d;
}

static inline void sim_names_free(struct sim_name **list)
{
    while (*list != NULL) {
        struct sim_name *n = *list;

        *list = n->next;
        free(n->path);
        free(n);
    }
}

/* What the disk has after a power cut; all descriptors are gone. Nobody may be using the disk. */
static inline void sim_power_cut(struct sim_disk *d)
{
    bool any_subset = sim_random(d, 2) == 0;
    uint64_t keep_of_8 = sim_random(d, 9);
    bool lost_one = false;

    while (d->changes != NULL) {
        struct sim_change *c = d->changes;

        d->changes = c->next;
        if (sim_random(d, 8) >= keep_of_8)
            lost_one = true;
        else if (any_subset || !lost_one)
            sim_change_apply(d, c);
        sim_change_free(c);
    }
    d->changes_tail = &d->changes;
    for (struct sim_inode *inode = d->inodes; inode != NULL; inode = inode->next) {
        while (inode->pending != NULL) {
            struct sim_write *w = inode->pending;

            inode->pending = w->next;
            if (w->truncate) {
                if (sim_random(d, 8) < keep_of_8)
                    sim_apply(&inode->durable, w, 0, 0);
            } else {
                for (size_t from = 0; from < w->len;) {
                    size_t to =
                        (size_t) (((w->offset + from) / SIM_SECTOR + 1) * SIM_SECTOR - w->offset);

                    if (to > w->len)
                        to = w->len;
                    if (sim_random(d, 8) < keep_of_8)
                        sim_apply(&inode->durable, w, from, to);
                    from = to;
                }
            }
            free(w);
        }
        inode->pending_tail = &inode->pending;
        sim_bytes_size(&inode->now, 0);
        sim_bytes_size(&inode->now, inode->durable.len);
        if (inode->durable.len > 0)
            memcpy(inode->now.p, inode->durable.p, inode->durable.len);
        inode->locked_by = -1;
    }
    sim_names_free(&d->names);
    for (const struct sim_name *n = d->durable_names; n != NULL; n = n->next)
        sim_name_set(&d->names, n->path, n->inode);
    memset(d->fds, 0, sizeof(d->fds));
    d->open_fds = 0;
    d->dead = false;
    d->cut_after = -1;
    d->fail_sync = d->fail_write = d->fail_create = 0;
}

/* A process that was killed: the disk is as it is, its descriptors are closed. */
static inline void sim_kill(struct sim_disk *d)
{
    for (struct sim_inode *inode = d->inodes; inode != NULL; inode = inode->next)
        inode->locked_by = -1;
    memset(d->fds, 0, sizeof(d->fds));
    d->open_fds = 0;
    d->dead = false;
    d->cut_after = -1;
}

static inline void sim_free(struct sim_disk **dp)
{
    struct sim_disk *d = *dp;

    *dp = NULL;
    while (d->changes != NULL) {
        struct sim_change *c = d->changes;

        d->changes = c->next;
        sim_change_free(c);
    }
    while (d->inodes != NULL) {
        struct sim_inode *inode = d->inodes;

        d->inodes = inode->next;
        while (inode->pending != NULL) {
            struct sim_write *w = inode->pending;

            inode->pending = w->next;
            free(w);
        }
        free(inode->now.p);
        free(inode->durable.p);
        free(inode);
    }
    sim_names_free(&d->names);
    sim_names_free(&d->durable_names);
    pthread_mutex_destroy(&d->mutex);
    free(d);
}

#endif
