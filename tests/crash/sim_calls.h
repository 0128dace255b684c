/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_calls.h - the system calls of sim_disk.h, as struct io_ops wants them.
 */
#ifndef PR_TESTS_SIM_CALLS_H
#define PR_TESTS_SIM_CALLS_H

#include "tests/crash/sim_state.h"

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
    if (d->read_only != 0 && (n == NULL || (flags & (O_ACCMODE | O_TRUNC)) != O_RDONLY))
        return sim_leave(d, -1, d->read_only);
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
    if (d->fail_read != 0 && (d->fail_inode == NULL || d->fail_inode == inode) &&
        offset < d->fail_to && offset + len > d->fail_from)
        return sim_leave(d, -1, d->fail_read);
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

    if (sim_enter_change(d) == -1)
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

static inline void sim_begin_sync(void *ctx, int fd, uint64_t offset, uint64_t len)
{
    (void) ctx; /* a disk that does not begin early */
    (void) fd;
    (void) offset;
    (void) len;
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

    if (sim_enter_change(d) == -1)
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
    if (sim_enter_change(d) == -1)
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

    if (sim_enter_change(d) == -1)
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

    if (sim_enter_change(d) == -1)
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
    if (sim_enter_change(d) == -1)
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

#endif
