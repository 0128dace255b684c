/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_db.c - hash and btree: Berkeley DB files as Postfix's postmap leaves them: PATH.db, keys and values with a
 * trailing NUL (tables of other programs have none: both are tried).
 */
#include "maps/map_int.h"

#include <db.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "maps/map_build.h"

#define READ_CACHE   (128 * 1024)       /* berkeley_db_read_buffer_size */
#define CREATE_CACHE (16 * 1024 * 1024) /* berkeley_db_create_buffer_size */

struct db_map {
    struct lock lock; /* a handle is for one thread at a time */
    DB *db;
    struct file_stamp stamp;
    bool with_nul, without_nul; /* what may still be tried; the first hit decides */
    char *file;
};

static int db_error(int code, const char *what, const char *file, struct err *err)
{
    return err_temporary(err, "%s %s: %s", what, file, db_strerror(code));
}

static void db_map_close(void *impl)
{
    struct db_map *m = impl;

    if (m->db != NULL)
        (void) m->db->close(m->db, DB_NOSYNC);
    lock_fini(&m->lock);
    free(m->file);
    free(m);
}

static int open_db(const char *path, DBTYPE type, void **impl, struct err *err)
{
    struct db_map *m = xcalloc(1, sizeof(*m));
    struct buf file = BUF_INIT(4096);
    int fd = -1;
    int code;
    int ret = -1;

    lock_init(&m->lock, LOCK_MAP);
    m->with_nul = m->without_nul = true;
    buf_printf(&file, "%s.db", path);
    m->file = buf_take(&file);
    fd = open(m->file, O_RDONLY | O_CLOEXEC);
    if (fd == -1) {
        err_sys(err, "open database %s", m->file);
        goto done;
    }
    if (file_stamp_fd(fd, &m->stamp, err) == -1)
        goto done;
    code = db_create(&m->db, NULL, 0);
    if (code != 0) {
        db_error(code, "create a handle for", m->file, err);
        goto done;
    }
    m->db->set_errfile(m->db, NULL);
    (void) m->db->set_cachesize(m->db, 0, READ_CACHE, 1);
    code = m->db->open(m->db, NULL, m->file, NULL, type, DB_RDONLY, 0);
    if (code != 0) {
        db_error(code, "open database", m->file, err);
        goto done;
    }
    *impl = m;
    ret = 0;
done:
    fd_close(&fd);
    if (ret == -1)
        db_map_close(m);
    return ret;
}

static int hash_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    (void) env;
    return open_db(path, DB_HASH, impl, err);
}

static int btree_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    (void) env;
    return open_db(path, DB_BTREE, impl, err);
}

static bool db_is_stale(void *impl, const char *path)
{
    const struct db_map *m = impl;

    (void) path;
    return file_stamp_differs(&m->stamp, m->file);
}

static int get(struct db_map *m, struct slice key, bool nul, DBT *value)
{
    char space[512];
    char *heap = NULL;
    DBT k = {.size = (u_int32_t) (key.len + (nul ? 1 : 0))};
    int code;

    if (key.len + 1 > sizeof(space))
        heap = xmalloc(key.len + 1);
    k.data = heap != NULL ? heap : space;
    memcpy(k.data, key.ptr, key.len);
    ((char *) k.data)[key.len] = '\0';
    code = m->db->get(m->db, NULL, &k, value, 0);
    free(heap);
    return code;
}

static enum map_result db_lookup(void *impl, struct slice key, struct buf *value, struct err *err)
{
    struct db_map *m = impl;
    enum map_result result = MAP_NOTFOUND;
    DBT v = {0};
    int code = DB_NOTFOUND;

    lock_take(&m->lock);
    if (m->with_nul) {
        code = get(m, key, true, &v);
        if (code == 0)
            m->without_nul = false;
    }
    if (code == DB_NOTFOUND && m->without_nul) {
        code = get(m, key, false, &v);
        if (code == 0)
            m->with_nul = false;
    }
    if (code == 0) {
        size_t len = v.size;

        if (len > 0 && ((const char *) v.data)[len - 1] == '\0')
            len--;
        buf_put(value, v.data, len);
        result = MAP_FOUND;
    } else if (code != DB_NOTFOUND) {
        db_error(code, "read", m->file, err);
        result = MAP_RETRY;
    }
    lock_release(&m->lock);
    return result;
}

static int db_each(void *impl, bool (*fn)(struct slice key, struct slice value, void *arg),
                   void *arg, struct err *err)
{
    struct db_map *m = impl;
    DBC *cursor = NULL;
    DBT k = {0};
    DBT v = {0};
    int code;

    lock_take(&m->lock);
    code = m->db->cursor(m->db, NULL, &cursor, 0);
    while (code == 0 && (code = cursor->get(cursor, &k, &v, DB_NEXT)) == 0) {
        struct slice key = slice_of(k.data, k.size);
        struct slice value = slice_of(v.data, v.size);

        if (key.len > 0 && key.ptr[key.len - 1] == '\0')
            key.len--;
        if (value.len > 0 && value.ptr[value.len - 1] == '\0')
            value.len--;
        if (!fn(key, value, arg))
            break;
    }
    if (cursor != NULL)
        (void) cursor->close(cursor);
    lock_release(&m->lock);
    return code == 0 || code == DB_NOTFOUND ? 0 : db_error(code, "read", m->file, err);
}

/* --- building --------------------------------------------------------------------------------------- */

struct db_builder {
    DB *db;
    char *file;
    mode_t mode;
};

static int create_db(const char *path, mode_t mode, DBTYPE type, void **builder, struct err *err)
{
    struct db_builder *b = xcalloc(1, sizeof(*b));
    int code = db_create(&b->db, NULL, 0);

    b->file = xstrdup(path);
    b->mode = mode;
    if (code == 0) {
        b->db->set_errfile(b->db, NULL);
        (void) b->db->set_cachesize(b->db, 0, CREATE_CACHE, 1);
        code = b->db->open(b->db, NULL, path, NULL, type, DB_CREATE | DB_TRUNCATE, (int) mode);
    }
    if (code != 0) {
        db_error(code, "create", path, err);
        if (b->db != NULL)
            (void) b->db->close(b->db, 0);
        free(b->file);
        free(b);
        return -1;
    }
    *builder = b;
    return 0;
}

static int hash_create(const char *path, mode_t mode, void **builder, struct err *err)
{
    return create_db(path, mode, DB_HASH, builder, err);
}

static int btree_create(const char *path, mode_t mode, void **builder, struct err *err)
{
    return create_db(path, mode, DB_BTREE, builder, err);
}

static int db_put(void *builder, struct slice key, struct slice value, bool replace,
                  struct err *err)
{
    struct db_builder *b = builder;
    struct buf k = BUF_INIT(SIZE_MAX);
    struct buf v = BUF_INIT(SIZE_MAX);
    DBT dk = {0};
    DBT dv = {0};
    int code;

    buf_put_slice(&k, key);
    buf_putc(&k, '\0');
    buf_put_slice(&v, value);
    buf_putc(&v, '\0');
    dk.data = k.ptr;
    dk.size = (u_int32_t) k.len;
    dv.data = v.ptr;
    dv.size = (u_int32_t) v.len;
    code = b->db->put(b->db, NULL, &dk, &dv, replace ? 0 : DB_NOOVERWRITE);
    buf_fini(&k);
    buf_fini(&v);
    if (code == DB_KEYEXIST)
        return 1;
    return code == 0 ? 0 : db_error(code, "write", b->file, err);
}

static int db_finish(void *builder, struct err *err)
{
    struct db_builder *b = builder;
    int code = b->db->close(b->db, 0);
    int ret = 0;

    if (code != 0) {
        ret = db_error(code, "write", b->file, err);
    } else {
        int fd = open(b->file, O_RDWR | O_CLOEXEC);

        if (fd == -1 || fchmod(fd, b->mode) == -1 || fsync(fd) == -1)
            ret = err_sys(err, "write %s", b->file);
        fd_close(&fd);
    }
    free(b->file);
    free(b);
    return ret;
}

static const struct map_builder_type hash_builder = {".db", hash_create, db_put, db_finish};
static const struct map_builder_type btree_builder = {".db", btree_create, db_put, db_finish};

const struct map_type map_type_hash = {.name = "hash",
                                       .flags = MAP_FLAG_FIXED | MAP_FLAG_LOCAL,
                                       .open = hash_open,
                                       .close = db_map_close,
                                       .lookup = db_lookup,
                                       .is_stale = db_is_stale,
                                       .builder = &hash_builder,
                                       .each = db_each};
const struct map_type map_type_btree = {.name = "btree",
                                        .flags = MAP_FLAG_FIXED | MAP_FLAG_LOCAL,
                                        .open = btree_open,
                                        .close = db_map_close,
                                        .lookup = db_lookup,
                                        .is_stale = db_is_stale,
                                        .builder = &btree_builder,
                                        .each = db_each};
