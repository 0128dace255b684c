/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_lmdb_write.c - building and changing LMDB files, and writing those that are caches.
 *
 * The size limit of a file must be known when its transaction begins: it is taken so large that the rows to come fit whatever
 * they do to the tree. It is address space, not disk space.
 */
#include "maps/map_int.h"

#if PR_HAVE_LMDB
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "maps/map_build.h"
#include "maps/map_lmdb.h"

#define COMMIT_BYTES   (32U << 20) /* while building a new file: bounds the pages in memory */
#define WRITER_WAIT_MS 60000

struct lmdb_builder {
    struct lmdb_map *m;
    MDB_txn *txn;
    bool nul;
    bool fresh;           /* nobody reads the file yet: may be committed in parts */
    uint64_t uncommitted; /* bytes of rows */
    struct buf key, value;
};

static void builder_free(struct lmdb_builder *b)
{
    if (b->txn != NULL)
        mdb_txn_abort(b->txn);
    if (b->m != NULL)
        lmdb_close(b->m);
    buf_fini(&b->key);
    buf_fini(&b->value);
    free(b);
}

/* Each row may be a page of its own at worst; each page that is there may be written anew once. */
static uint64_t room_for(const struct map_build_job *job, uint64_t present)
{
    uint64_t least = (uint64_t) map_file_sizes(job->cfg).lmdb_map;
    uint64_t wanted = present * 2 + job->bytes * 16 + (16U << 20);

    return wanted > least ? (wanted + 0xfffff) & ~(uint64_t) 0xfffff : least;
}

static int begin(struct lmdb_builder *b, struct err *err)
{
    int code = mdb_txn_begin(b->m->env, NULL, 0, &b->txn);

    if (code == 0)
        code = mdb_dbi_open(b->txn, NULL, 0, &b->m->dbi);
    return code == 0 ? 0 : lmdb_error(code, "write", b->m->file, err);
}

static struct lmdb_builder *builder_new(const struct map_build_job *job, bool fresh)
{
    struct lmdb_builder *b = xcalloc(1, sizeof(*b));

    b->nul = job->nul == MAP_NUL_WITH;
    b->fresh = fresh;
    b->key = BUF_INIT(SIZE_MAX);
    b->value = BUF_INIT(SIZE_MAX);
    return b;
}

static int build_create(const char *file, const struct map_build_job *job, void **builder,
                        struct err *err)
{
    struct lmdb_builder *b = builder_new(job, true);

    /* the caller syncs the file when it is complete */
    if (lmdb_open_env(file, MDB_NOSYNC, room_for(job, 0), &b->m, err) == -1 ||
        begin(b, err) == -1) {
        builder_free(b);
        return -1;
    }
    *builder = b;
    return 0;
}

static int build_change(const char *file, const struct map_build_job *job, void **builder,
                        struct err *err)
{
    struct lmdb_builder *b = builder_new(job, false);
    struct stat st;
    int fd = open(file, O_RDWR | O_CLOEXEC);
    int ret = -1;

    /* the lock of fd serves for opening; m's own descriptor keeps it until the transaction's end */
    if (fd == -1 || fstat(fd, &st) == -1)
        err_sys(err, "open database %s", file);
    else if (file_lock(fd, true, WRITER_WAIT_MS) == -1)
        err_sys(err, "lock %s", file);
    else if (lmdb_open_env(file, 0, room_for(job, (uint64_t) st.st_size), &b->m, err) == 0)
        ret = 0;
    if (ret == 0) {
        fd_close(&b->m->fd);
        b->m->fd = fd;
        fd = -1;
        ret = begin(b, err);
    }
    fd_close(&fd);
    if (ret == -1)
        builder_free(b);
    else
        *builder = b;
    return ret;
}

static MDB_val val(struct slice s, bool nul, struct buf *space)
{
    if (!nul)
        return (MDB_val){s.len, (void *) (uintptr_t) s.ptr};
    buf_reset(space);
    buf_put_slice(space, s);
    buf_putc(space, '\0');
    return (MDB_val){space->len, space->ptr};
}

static int commit_part(struct lmdb_builder *b, struct err *err)
{
    int code = mdb_txn_commit(b->txn);

    b->txn = NULL;
    b->uncommitted = 0;
    if (code != 0)
        return lmdb_error(code, "write", b->m->file, err);
    return begin(b, err);
}

static enum map_put_result build_put(void *builder, struct slice key, struct slice value,
                                     bool replace, struct err *err)
{
    struct lmdb_builder *b = builder;
    MDB_val k = val(key, b->nul, &b->key);
    MDB_val v = val(value, b->nul, &b->value);
    size_t longest = (size_t) mdb_env_get_maxkeysize(b->m->env);
    int code;

    if (k.mv_size == 0 || k.mv_size > longest) {
        err_input(err, "an LMDB table has no keys longer than %zu bytes", longest);
        return MAP_PUT_BAD_ROW;
    }
    if (b->fresh && b->uncommitted > COMMIT_BYTES && commit_part(b, err) == -1)
        return MAP_PUT_ERROR;
    b->uncommitted += k.mv_size + v.mv_size;
    code = mdb_put(b->txn, b->m->dbi, &k, &v, replace ? 0 : MDB_NOOVERWRITE);
    if (code == MDB_KEYEXIST)
        return MAP_PUT_DUPLICATE;
    if (code == 0)
        return MAP_PUT_OK;
    lmdb_error(code, "write", b->m->file, err);
    return MAP_PUT_ERROR;
}

/* Both forms of the key: the file may be another program's. */
static enum map_result remove_key(struct lmdb_map *m, MDB_txn *t, struct slice key,
                                  struct buf *space, struct err *err)
{
    bool found = false;

    for (int nul = 0; nul < 2; nul++) {
        MDB_val k = val(key, nul == 1, space);
        int code = k.mv_size == 0 || k.mv_size > (size_t) mdb_env_get_maxkeysize(m->env)
                       ? MDB_NOTFOUND
                       : mdb_del(t, m->dbi, &k, NULL);

        if (code != 0 && code != MDB_NOTFOUND) {
            lmdb_error(code, "delete from", m->file, err);
            return MAP_RETRY;
        }
        found |= code == 0;
    }
    return found ? MAP_FOUND : MAP_NOTFOUND;
}

static enum map_result build_remove(void *builder, struct slice key, struct err *err)
{
    struct lmdb_builder *b = builder;

    return remove_key(b->m, b->txn, key, &b->key, err);
}

static int build_finish(void *builder, bool commit, struct err *err)
{
    struct lmdb_builder *b = builder;
    int ret = 0;

    if (commit) {
        int code = mdb_txn_commit(b->txn);

        b->txn = NULL;
        if (code != 0)
            ret = lmdb_error(code, "write", b->m->file, err);
    }
    builder_free(b);
    return ret;
}

const struct map_builder_type lmdb_builder = {
    .suffix = LMDB_SUFFIX,
    .create = build_create,
    .change = build_change,
    .in_place = true,
    .put = build_put,
    .remove = build_remove,
    .finish = build_finish,
};

/* --- caches ------------------------------------------------------------------------------------------ */

static int open_cache(const char *path, struct map_env *env, void **impl, struct err *err)
{
    struct buf file = BUF_INIT(4096);
    struct lmdb_map *m = NULL;
    MDB_txn *txn = NULL;
    int fd;
    int ret = -1;

    buf_printf(&file, "%s" LMDB_SUFFIX, path);
    fd = open(buf_cstr(&file), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd == -1) {
        err_sys(err, "open cache %s", buf_cstr(&file));
    } else if (file_lock(fd, true, WRITER_WAIT_MS) == -1) {
        err_sys(err, "lock cache %s", buf_cstr(&file));
    } else if (lmdb_open_env(buf_cstr(&file), MDB_NOSYNC,
                             (uint64_t) map_file_sizes(map_env_config(env)).lmdb_map, &m,
                             err) == 0) {
        /* a new file gets its first pages here, so that it can be read */
        int code = mdb_txn_begin(m->env, NULL, 0, &txn);

        if (code == 0)
            code = mdb_dbi_open(txn, NULL, 0, &m->dbi);
        if (code == 0)
            code = mdb_txn_commit(txn);
        else
            mdb_txn_abort(txn);
        if (code == 0)
            ret = 0;
        else
            lmdb_error(code, "open cache", m->file, err);
        if (ret == -1)
            lmdb_close(m);
    }
    fd_close(&fd);
    buf_fini(&file);
    if (ret == 0)
        *impl = m;
    return ret;
}

/* One transaction: update when value is not NULL. A full file gets room for twice as much and another try. */
static enum map_result write_row(struct lmdb_map *m, struct slice key, const struct slice *value,
                                 struct err *err) REQUIRES(m->lock)
{
    struct buf space = BUF_INIT(SIZE_MAX);
    enum map_result res = MAP_RETRY;

    if (file_lock(m->fd, true, WRITER_WAIT_MS) == -1) {
        err_sys(err, "lock %s", m->file);
        return MAP_RETRY;
    }
    for (int tries = 0; tries < 3; tries++) {
        MDB_envinfo info;
        MDB_txn *txn = NULL;
        int code = mdb_txn_begin(m->env, NULL, 0, &txn);

        if (code == MDB_MAP_RESIZED) {
            code = mdb_env_set_mapsize(m->env, 0);
            if (code == 0)
                code = mdb_txn_begin(m->env, NULL, 0, &txn);
        }
        if (code == 0 && value != NULL) {
            MDB_val k = {key.len, (void *) (uintptr_t) key.ptr};
            MDB_val v = {value->len, (void *) (uintptr_t) value->ptr};

            code = mdb_put(txn, m->dbi, &k, &v, 0);
            res = MAP_FOUND;
        } else if (code == 0) {
            res = remove_key(m, txn, key, &space, err);
            if (res == MAP_RETRY) { /* err is filled */
                mdb_txn_abort(txn);
                break;
            }
        }
        if (code == 0)
            code = mdb_txn_commit(txn);
        else if (txn != NULL)
            mdb_txn_abort(txn);
        if (code == 0)
            break;
        res = MAP_RETRY;
        if (code == MDB_MAP_FULL && mdb_env_info(m->env, &info) == 0 &&
            mdb_env_set_mapsize(m->env, info.me_mapsize * 2) == 0)
            continue;
        lmdb_error(code, "write", m->file, err);
        break;
    }
    buf_fini(&space);
    if (file_unlock(m->fd) == -1)
        fd_close(&m->fd);
    return res;
}

static int cache_update(void *impl, struct slice key, struct slice value, struct err *err)
{
    struct lmdb_map *m = impl;
    size_t longest = (size_t) mdb_env_get_maxkeysize(m->env);
    enum map_result res;

    if (key.len > longest)
        return err_input(err, "%s: no keys longer than %zu bytes", m->file, longest);
    lock_take(&m->lock);
    res = write_row(m, key, &value, err);
    lock_release(&m->lock);
    return res == MAP_RETRY ? -1 : 0;
}

static enum map_result cache_remove(void *impl, struct slice key, struct err *err)
{
    struct lmdb_map *m = impl;
    enum map_result res;

    lock_take(&m->lock);
    res = write_row(m, key, NULL, err);
    lock_release(&m->lock);
    return res;
}

static int cache_sync(void *impl, struct err *err)
{
    struct lmdb_map *m = impl;
    int code = mdb_env_sync(m->env, 1);

    return code == 0 ? 0 : lmdb_error(code, "write", m->file, err);
}

const struct map_writer_type lmdb_writer = {
    .suffix = LMDB_SUFFIX,
    .open = open_cache,
    .update = cache_update,
    .remove = cache_remove,
    .sync = cache_sync,
};
#endif
