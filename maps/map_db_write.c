/* SPDX-License-Identifier: Apache-2.0 */
/* map_db_write.c - building hash and btree files, and writing those that are caches. */
#include "maps/map_int.h"

#if PR_HAVE_BDB
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "maps/map_build.h"
#include "maps/map_db.h"

#define CACHE_MOST (256U << 20)

struct db_builder {
    struct db_map *m;
    bool nul;
    struct buf key, value; /* with their NUL */
};

/* Pages are written once if they all fit; a large table that does not is slow. */
static uint32_t build_cache(const struct map_build_job *job)
{
    uint32_t size = (uint32_t) map_file_sizes(job->cfg).db_create;
    uint64_t wanted = job->bytes * 3;

    if (wanted > CACHE_MOST)
        wanted = CACHE_MOST;
    return wanted > size ? (uint32_t) wanted : size;
}

static int begin(const char *file, const struct map_build_job *job, DBTYPE type, uint32_t flags,
                 void **builder, struct err *err)
{
    struct db_builder *b;
    struct db_map *m;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    int ret;

    if (fd == -1)
        return err_sys(err, "open %s", file);
    ret = db_map_open(file, fd, type, flags, build_cache(job), &m, err);
    fd_close(&fd);
    if (ret == -1)
        return -1;
    b = xcalloc(1, sizeof(*b));
    b->m = m;
    b->nul = job->nul != MAP_NUL_WITHOUT;
    b->key = BUF_INIT(SIZE_MAX);
    b->value = BUF_INIT(SIZE_MAX);
    *builder = b;
    return 0;
}

static int hash_create(const char *file, const struct map_build_job *job, void **b, struct err *err)
{
    return begin(file, job, DB_HASH, DB_CREATE | DB_TRUNCATE, b, err);
}

static int btree_create(const char *file, const struct map_build_job *job, void **b,
                        struct err *err)
{
    return begin(file, job, DB_BTREE, DB_CREATE | DB_TRUNCATE, b, err);
}

static int hash_change(const char *file, const struct map_build_job *job, void **b, struct err *err)
{
    return begin(file, job, DB_HASH, 0, b, err);
}

static int btree_change(const char *file, const struct map_build_job *job, void **b,
                        struct err *err)
{
    return begin(file, job, DB_BTREE, 0, b, err);
}

static DBT dbt(struct slice s, bool nul, struct buf *space)
{
    buf_reset(space);
    buf_put_slice(space, s);
    if (nul)
        buf_putc(space, '\0');
    return (DBT){.data = space->ptr, .size = (u_int32_t) space->len};
}

static enum map_put_result build_put(void *builder, struct slice key, struct slice value,
                                     bool replace, struct err *err)
{
    struct db_builder *b = builder;
    DBT k = dbt(key, b->nul, &b->key);
    DBT v = dbt(value, b->nul, &b->value);
    int code = b->m->db->put(b->m->db, NULL, &k, &v, replace ? 0 : DB_NOOVERWRITE);

    if (code == DB_KEYEXIST)
        return MAP_PUT_DUPLICATE;
    if (code == 0)
        return MAP_PUT_OK;
    db_error(code, "write", b->m->file, err);
    return MAP_PUT_ERROR;
}

/* Both forms of the key: the file may be another program's. */
static enum map_result remove_key(struct db_map *m, struct slice key, struct buf *space,
                                  struct err *err)
{
    bool found = false;

    for (int nul = 0; nul < 2; nul++) {
        DBT k = dbt(key, nul == 1, space);
        int code = m->db->del(m->db, NULL, &k, 0);

        if (code != 0 && code != DB_NOTFOUND) {
            db_error(code, "delete from", m->file, err);
            return MAP_RETRY;
        }
        found |= code == 0;
    }
    return found ? MAP_FOUND : MAP_NOTFOUND;
}

static enum map_result build_remove(void *builder, struct slice key, struct err *err)
{
    struct db_builder *b = builder;

    return remove_key(b->m, key, &b->key, err);
}

static int build_finish(void *builder, bool commit, struct err *err)
{
    struct db_builder *b = builder;
    DB *db = b->m->db;
    int code;
    int ret = 0;

    b->m->db = NULL;
    code = db->close(db, commit ? 0 : DB_NOSYNC);
    if (commit && code != 0)
        ret = db_error(code, "write", b->m->file, err);
    db_map_close(b->m);
    buf_fini(&b->key);
    buf_fini(&b->value);
    free(b);
    return ret;
}

const struct map_builder_type db_hash_builder = {
    .suffix = ".db",
    .create = hash_create,
    .change = hash_change,
    .put = build_put,
    .remove = build_remove,
    .finish = build_finish,
};
const struct map_builder_type db_btree_builder = {
    .suffix = ".db",
    .create = btree_create,
    .change = btree_change,
    .put = build_put,
    .remove = build_remove,
    .finish = build_finish,
};

/* --- caches ------------------------------------------------------------------------------------------ */

static int open_cache(const char *path, struct map_env *env, DBTYPE type, void **impl,
                      struct err *err)
{
    struct buf file = BUF_INIT(4096);
    struct stat st;
    struct db_map *m = NULL;
    int fd;
    int ret = -1;

    buf_printf(&file, "%s.db", path);
    fd = open(buf_cstr(&file), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd == -1 || fstat(fd, &st) == -1) {
        err_sys(err, "open cache %s", buf_cstr(&file));
    } else if (file_lock(fd, true, 0) == -1) {
        err_sys(err, "lock cache %s (in use by another process?)", buf_cstr(&file));
    } else {
        uint32_t flags = st.st_size == 0 ? DB_CREATE | DB_TRUNCATE : 0;

        ret = db_map_open(buf_cstr(&file), fd, type, flags,
                          (uint32_t) map_file_sizes(map_env_config(env)).db_read, &m, err);
    }
    buf_fini(&file);
    if (ret == -1) {
        fd_close(&fd);
        return -1;
    }
    m->fd = fd;
    *impl = m;
    return 0;
}

static int hash_open_cache(const char *path, struct map_env *env, void **impl, struct err *err)
{
    return open_cache(path, env, DB_HASH, impl, err);
}

static int btree_open_cache(const char *path, struct map_env *env, void **impl, struct err *err)
{
    return open_cache(path, env, DB_BTREE, impl, err);
}

static int cache_update(void *impl, struct slice key, struct slice value, struct err *err)
{
    struct db_map *m = impl;
    struct buf ks = BUF_INIT(SIZE_MAX);
    struct buf vs = BUF_INIT(SIZE_MAX);
    DBT k = dbt(key, true, &ks);
    DBT v = dbt(value, true, &vs);
    int code;

    lock_take(&m->lock);
    code = m->db->put(m->db, NULL, &k, &v, 0);
    lock_release(&m->lock);
    buf_fini(&ks);
    buf_fini(&vs);
    return code == 0 ? 0 : db_error(code, "write", m->file, err);
}

static enum map_result cache_remove(void *impl, struct slice key, struct err *err)
{
    struct db_map *m = impl;
    struct buf space = BUF_INIT(SIZE_MAX);
    enum map_result res;

    lock_take(&m->lock);
    res = remove_key(m, key, &space, err);
    lock_release(&m->lock);
    buf_fini(&space);
    return res;
}

static int cache_sync(void *impl, struct err *err)
{
    struct db_map *m = impl;
    int code;

    lock_take(&m->lock);
    code = m->db->sync(m->db, 0);
    lock_release(&m->lock);
    return code == 0 ? 0 : db_error(code, "write", m->file, err);
}

const struct map_writer_type db_hash_writer = {
    .suffix = ".db",
    .open = hash_open_cache,
    .update = cache_update,
    .remove = cache_remove,
    .sync = cache_sync,
};
const struct map_writer_type db_btree_writer = {
    .suffix = ".db",
    .open = btree_open_cache,
    .update = cache_update,
    .remove = cache_remove,
    .sync = cache_sync,
};
#endif
