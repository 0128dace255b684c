/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_state.h - what the disk of sim_disk.h consists of: files with bytes that are durable and writes that are not, names
 * likewise, descriptors, failures that were asked for.
 */
#ifndef PR_TESTS_SIM_STATE_H
#define PR_TESTS_SIM_STATE_H

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
    int read_only;   /* errno of all that changes anything */
    int fail_read; /* errno of pread that touches [fail_from, fail_to) of fail_inode (NULL: of any file) */
    const struct sim_inode *fail_inode;
    uint64_t fail_from, fail_to;
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

/* The same for a call that changes something. */
static inline int sim_enter_change(struct sim_disk *d)
{
    if (sim_enter(d) == -1)
        return -1;
    if (d->read_only == 0)
        return 0;
    errno = d->read_only;
    pthread_mutex_unlock(&d->mutex);
    return -1;
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

#endif
