/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_lmdb.c - lmdb: PATH.lmdb, as Postfix's postmap leaves it; keys and values without a trailing NUL.
 *
 * LMDB's own lock file is not used (it would have to be writable by all): as with Postfix, an fcntl(2) lock on the whole file is
 * held around every transaction, shared by readers, exclusive for a writer. Writers of ours that work in a file in use are short.
 *
 * What LMDB reads it trusts: the file is mapped, and a page that lies behind its end would end the process. So the size is
 * compared with what the file says of itself before each lookup. Where it notices that a page is not what it must be (a block of
 * zeros), it would end the process too: there is a way out of it, to "try again". The transaction is of no use then, and the file is
 * opened anew.
 */
#include "maps/map_int.h"

#if PR_HAVE_LMDB
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "maps/map_build.h"
#include "maps/map_lmdb.h"

#define PAGE_SIZE_AT                                                                               \
    40 /* in the file: behind the page's head of 16, magic, version, address, size of the map */

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

/* Two pages say what the file is. Both have to give the same page size, by which all others are found; the library tells the rest. */
static int check_head(const struct lmdb_map *m, uint64_t size, struct err *err)
{
    uint32_t page = 0;
    uint32_t other = 0;

    if (pread(m->fd, &page, sizeof(page), PAGE_SIZE_AT) != sizeof(page) || page < 512 ||
        page > 65536 || (page & (page - 1)) != 0 || size < 2 * (uint64_t) page ||
        pread(m->fd, &other, sizeof(other), (off_t) page + PAGE_SIZE_AT) != sizeof(other) ||
        other != page)
        return err_permanent(err, "open database %s: no LMDB file, or damaged", m->file);
    return 0;
}

/* The library would end the process when this returns. Without an escape (builders, writers) it does. */
static void on_assert(MDB_env *env, const char *text)
{
    struct lmdb_map *m = mdb_env_get_userctx(env);

    (void) text;
    if (m != NULL && m->escape != NULL)
        longjmp(*m->escape, 1); // NOLINT(cert-err52-cpp): there is no other way
}

/* fn(m, arg) between begin() and end(); false: it ended in a page that cannot be, and m is of no use any more. */
static bool guarded(struct lmdb_map *m, void (*fn)(struct lmdb_map *m, void *arg), void *arg)
{
    jmp_buf escape;

    if (setjmp(escape) == 0) {
        m->escape = &escape;
        fn(m, arg);
    } else {
        m->is_damaged = true;
    }
    m->escape = NULL;
    return !m->is_damaged;
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
    if (st.st_size > 0 && check_head(m, (uint64_t) st.st_size, err) == -1)
        goto fail;
    code = mdb_env_create(&m->env);
    if (code == 0)
        code = mdb_env_set_userctx(m->env, m);
    if (code == 0)
        code = mdb_env_set_assert(m->env, on_assert);
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

static int damaged(const struct lmdb_map *m, struct err *err)
{
    return err_permanent(err, "%s: damaged: a page is not what it should be", m->file);
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
    if (m->is_damaged)
        return damaged(m, err);
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
    return m->fd == -1 || m->is_damaged ||
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

struct finding {
    struct slice key;
    struct buf *value;
    struct err *err;
    enum map_result res;
};

static void run_find(struct lmdb_map *m, void *arg)
{
    struct finding *f = arg;

    f->res = find(m, f->key, f->value, f->err);
}

enum map_result lmdb_lookup(void *impl, struct slice key, struct buf *value, struct err *err)
{
    struct lmdb_map *m = impl;
    struct finding f = {key, value, err, MAP_RETRY};

    lock_take(&m->lock);
    if (begin(m, err) == 0) {
        if (!guarded(m, run_find, &f))
            (void) damaged(m, err);
        end(m);
    }
    lock_release(&m->lock);
    return f.res;
}

struct listing {
    bool (*fn)(struct slice key, struct slice value, void *arg);
    void *arg;
    MDB_cursor *cursor;
    int code;
};

static void run_list(struct lmdb_map *m, void *arg)
{
    struct listing *l = arg;
    MDB_val k;
    MDB_val v;

    l->code = mdb_cursor_open(m->txn, m->dbi, &l->cursor);
    while (l->code == 0 && (l->code = mdb_cursor_get(l->cursor, &k, &v, MDB_NEXT)) == 0) {
        if (!is_sane(m, &k) || !is_sane(m, &v))
            l->code = MDB_CORRUPTED;
        else if (!l->fn(without_nul(&k), without_nul(&v), l->arg))
            break;
    }
}

int lmdb_each(void *impl, bool (*fn)(struct slice key, struct slice value, void *arg), void *arg,
              struct err *err)
{
    struct lmdb_map *m = impl;
    struct listing l = {.fn = fn, .arg = arg};

    lock_take(&m->lock);
    if (begin(m, err) == -1) {
        lock_release(&m->lock);
        return -1;
    }
    if (!guarded(m, run_list, &l))
        l.code = MDB_CORRUPTED;
    if (l.cursor != NULL)
        mdb_cursor_close(l.cursor);
    end(m);
    lock_release(&m->lock);
    return l.code == 0 || l.code == MDB_NOTFOUND ? 0 : lmdb_error(l.code, "read", m->file, err);
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
