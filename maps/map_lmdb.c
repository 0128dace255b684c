/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_lmdb.c - lmdb: PATH.lmdb, as Postfix's postmap leaves it; keys and values without a trailing NUL.
 *
 * LMDB's own lock file is not used (it would have to be writable by all): as with Postfix, an fcntl(2) lock on the whole file is
 * held around every transaction, shared by readers, exclusive for a writer. Writers of ours that work in a file in use are short.
 *
 * What LMDB reads it trusts: the file is mapped, and a page that lies behind its end would end the process. So the size is
 * compared with what the file says of itself before each lookup.
 */
#include "maps/map_int.h"

#if PR_HAVE_LMDB
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "maps/map_build.h"
#include "maps/map_lmdb.h"

int lmdb_error(int code, const char *what, const char *file, struct err *err)
{
    /* LMDB's own codes but those of a full map; EINVAL: not an LMDB file */
    bool damaged = code == MDB_CORRUPTED || code == MDB_PAGE_NOTFOUND || code == MDB_INVALID ||
                   code == MDB_VERSION_MISMATCH || code == MDB_PANIC || code == MDB_BAD_TXN ||
                   code == MDB_INCOMPATIBLE || code == EINVAL;

    return err_set(err, damaged ? ERR_PERMANENT : ERR_TEMPORARY, "", "%s %s: %s", what, file,
                   mdb_strerror(code));
}

void lmdb_close(void *impl)
{
    struct lmdb_map *m = impl;

    if (m->txn != NULL)
        mdb_txn_abort(m->txn);
    if (m->env != NULL)
        mdb_env_close(m->env);
    fd_close(&m->fd);
    lock_fini(&m->lock);
    free(m->file);
    free(m);
}

/* Does the file have all the pages that it speaks of? */
static int check_size(struct lmdb_map *m, struct err *err)
{
    MDB_envinfo info;
    MDB_stat st;
    struct stat file;

    if (fstat(m->fd, &file) == -1)
        return err_sys(err, "stat %s", m->file);
    if (mdb_env_info(m->env, &info) != 0 || mdb_env_stat(m->env, &st) != 0 ||
        (uint64_t) file.st_size / st.ms_psize <= info.me_last_pgno)
        return err_permanent(err, "%s: damaged: %lld bytes are less than it needs", m->file,
                             (long long) file.st_size);
    m->size = (uint64_t) file.st_size;
    return 0;
}

int lmdb_open_env(const char *file, unsigned flags, uint64_t map_size, struct lmdb_map **out,
                  struct err *err)
{
    struct lmdb_map *m = xcalloc(1, sizeof(*m));
    bool readonly = (flags & MDB_RDONLY) != 0;
    struct stat st;
    int code;

    lock_init(&m->lock, LOCK_MAP);
    m->with_nul = m->without_nul = true;
    m->file = xstrdup(file);
    m->fd = open(file, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (m->fd == -1 || fstat(m->fd, &st) == -1) {
        err_sys(err, "open database %s", file);
        goto fail;
    }
    code = mdb_env_create(&m->env);
    if (code == 0 && map_size > 0)
        code = mdb_env_set_mapsize(m->env, map_size);
    if (code == 0)
        code = mdb_env_open(m->env, file, flags | MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOTLS, 0644);
    if (code != 0) {
        lmdb_error(code, "open database", file, err);
        goto fail;
    }
    if (st.st_size > 0 && check_size(m, err) == -1)
        goto fail;
    *out = m;
    return 0;
fail:
    lmdb_close(m);
    return -1;
}

static int lock_shared(struct lmdb_map *m, struct err *err)
{
    if (file_lock(m->fd, false, LMDB_WAIT_MS) == -1)
        return err_sys(err, "lock %s", m->file);
    return 0;
}

static void unlock(struct lmdb_map *m)
{
    /* a lock that cannot be released ends with the descriptor */
    if (file_unlock(m->fd) == -1)
        fd_close(&m->fd);
}

/* A read-only transaction on the newest rows, with the file locked. */
static int begin(struct lmdb_map *m, struct err *err) REQUIRES(m->lock)
{
    int code;

    if (m->fd == -1)
        return err_temporary(err, "%s: lost its lock", m->file);
    if (lock_shared(m, err) == -1)
        return -1;
    code =
        m->txn != NULL ? mdb_txn_renew(m->txn) : mdb_txn_begin(m->env, NULL, MDB_RDONLY, &m->txn);
    if (code == MDB_MAP_RESIZED) { /* another process made it larger */
        code = mdb_env_set_mapsize(m->env, 0);
        if (code == 0)
            code = m->txn != NULL ? mdb_txn_renew(m->txn)
                                  : mdb_txn_begin(m->env, NULL, MDB_RDONLY, &m->txn);
    }
    if (code == 0 && check_size(m, err) == -1) {
        mdb_txn_reset(m->txn);
    } else if (code == 0) {
        return 0;
    } else {
        lmdb_error(code, "read", m->file, err);
    }
    unlock(m);
    return -1;
}

static void end(struct lmdb_map *m) REQUIRES(m->lock)
{
    mdb_txn_reset(m->txn);
    unlock(m);
}

int lmdb_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    struct buf file = BUF_INIT(4096);
    struct lmdb_map *m = NULL;
    int fd;
    int code;
    int ret = -1;

    (void) env;
    buf_printf(&file, "%s" LMDB_SUFFIX, path);
    fd = open(buf_cstr(&file), O_RDONLY | O_CLOEXEC);
    if (fd == -1) {
        err_sys(err, "open database %s", buf_cstr(&file));
    } else if (file_lock(fd, false, LMDB_WAIT_MS) == -1) {
        err_sys(err, "lock %s", buf_cstr(&file));
    } else if (lmdb_open_env(buf_cstr(&file), MDB_RDONLY, 0, &m, err) == 0) {
        lock_take(&m->lock);
        if (file_stamp_fd(m->fd, &m->stamp, err) == 0 && begin(m, err) == 0) {
            code = mdb_dbi_open(m->txn, NULL, 0, &m->dbi);
            if (code == 0)
                ret = 0;
            else
                lmdb_error(code, "open database", buf_cstr(&file), err);
            end(m);
        }
        lock_release(&m->lock);
        if (ret == -1)
            lmdb_close(m);
    }
    fd_close(&fd);
    buf_fini(&file);
    if (ret == 0)
        *impl = m;
    return ret;
}

bool lmdb_is_stale(void *impl, const char *path)
{
    const struct lmdb_map *m = impl;
    struct stat st;

    (void) path;
    /* what changed within the file is seen by the next transaction: another file counts */
    return m->fd == -1 ||
           (stat(m->file, &st) == 0 && (st.st_dev != m->stamp.dev || st.st_ino != m->stamp.ino));
}

/* A value larger than its file is none. */
static bool is_sane(const struct lmdb_map *m, const MDB_val *v)
{
    return v->mv_size <= m->size;
}

static int get(struct lmdb_map *m, struct slice key, bool nul, MDB_val *v)
{
    char space[512]; /* longer keys than LMDB's limit cannot be there */
    MDB_val k = {key.len + (nul ? 1 : 0), space};

    if (k.mv_size > sizeof(space) || k.mv_size == 0 ||
        k.mv_size > (size_t) mdb_env_get_maxkeysize(m->env))
        return MDB_NOTFOUND;
    memcpy(space, key.ptr, key.len);
    if (nul)
        space[key.len] = '\0';
    return mdb_get(m->txn, m->dbi, &k, v);
}

static struct slice without_nul(const MDB_val *v)
{
    struct slice s = slice_of(v->mv_data, v->mv_size);

    if (s.len > 0 && s.ptr[s.len - 1] == '\0')
        s.len--;
    return s;
}

static enum map_result find(struct lmdb_map *m, struct slice key, struct buf *value,
                            struct err *err)
{
    int code = MDB_NOTFOUND;
    MDB_val v;

    if (m->without_nul) {
        code = get(m, key, false, &v);
        if (code == 0)
            m->with_nul = false;
    }
    if (code == MDB_NOTFOUND && m->with_nul) {
        code = get(m, key, true, &v);
        if (code == 0)
            m->without_nul = false;
    }
    if (code == MDB_NOTFOUND)
        return MAP_NOTFOUND;
    if (code == 0 && !is_sane(m, &v))
        code = MDB_CORRUPTED;
    if (code != 0) {
        lmdb_error(code, "read", m->file, err);
        return MAP_RETRY;
    }
    buf_put_slice(value, without_nul(&v));
    return MAP_FOUND;
}

enum map_result lmdb_lookup(void *impl, struct slice key, struct buf *value, struct err *err)
{
    struct lmdb_map *m = impl;
    enum map_result res = MAP_RETRY;

    lock_take(&m->lock);
    if (begin(m, err) == 0) {
        res = find(m, key, value, err);
        end(m);
    }
    lock_release(&m->lock);
    return res;
}

int lmdb_each(void *impl, bool (*fn)(struct slice key, struct slice value, void *arg), void *arg,
              struct err *err)
{
    struct lmdb_map *m = impl;
    MDB_cursor *cursor = NULL;
    MDB_val k;
    MDB_val v;
    int code;

    lock_take(&m->lock);
    if (begin(m, err) == -1) {
        lock_release(&m->lock);
        return -1;
    }
    code = mdb_cursor_open(m->txn, m->dbi, &cursor);
    while (code == 0 && (code = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0) {
        if (!is_sane(m, &k) || !is_sane(m, &v))
            code = MDB_CORRUPTED;
        else if (!fn(without_nul(&k), without_nul(&v), arg))
            break;
    }
    if (cursor != NULL)
        mdb_cursor_close(cursor);
    end(m);
    lock_release(&m->lock);
    return code == 0 || code == MDB_NOTFOUND ? 0 : lmdb_error(code, "read", m->file, err);
}

const struct map_type map_type_lmdb = {.name = "lmdb",
                                       .flags = MAP_FLAG_FIXED | MAP_FLAG_LOCAL,
                                       .open = lmdb_open,
                                       .close = lmdb_close,
                                       .lookup = lmdb_lookup,
                                       .is_stale = lmdb_is_stale,
                                       .builder = &lmdb_builder,
                                       .each = lmdb_each,
                                       .writer = &lmdb_writer};
#endif
