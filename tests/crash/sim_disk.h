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

#include "tests/crash/sim_calls.h"

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
                             sim_begin_sync,
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
    d->fail_sync = d->fail_write = d->fail_create = d->fail_read = d->read_only = 0;
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
