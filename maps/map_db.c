/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_db.c - hash and btree: Berkeley DB files as Postfix's postmap leaves them: PATH.db, keys and values with a
 * trailing NUL (tables of other programs have none: both are tried).
 */
#include "maps/map_int.h"

#if PR_HAVE_BDB
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "maps/map_db.h"

/* What the library would print on standard error; the code says enough. */
static void quiet(const DB_ENV *env, const char *prefix, const char *text)
{
    (void) env;
    (void) prefix;
    (void) text;
}

int db_error(int code, const char *what, const char *file, struct err *err)
{
    /* the codes of a file that is not what it should be; system errors are positive */
    bool damaged = code == EINVAL || code == DB_PAGE_NOTFOUND || code == DB_RUNRECOVERY ||
                   code == DB_VERIFY_BAD || code == DB_OLD_VERSION;

    return err_set(err, damaged ? ERR_PERMANENT : ERR_TEMPORARY, "", "%s %s: %s", what, file,
                   damaged && code == EINVAL ? "not a database of this type, or damaged"
                                             : db_strerror(code));
}

void db_map_close(void *impl)
{
    struct db_map *m = impl;

    if (m->db != NULL)
        (void) m->db->close(m->db, m->fd == -1 ? DB_NOSYNC : 0);
    fd_close(&m->fd);
    lock_fini(&m->lock);
    free(m->file);
    free(m);
}

int db_map_open(const char *file, int fd, DBTYPE type, uint32_t flags, uint32_t cache,
                struct db_map **out, struct err *err)
{
    struct db_map *m = xcalloc(1, sizeof(*m));
    int code;

    m->fd = -1;
    lock_init(&m->lock, LOCK_MAP);
    m->with_nul = m->without_nul = true;
    m->file = xstrdup(file);
    if (file_stamp_fd(fd, &m->stamp, err) == -1)
        goto fail;
    /* a cache that was not closed may lack pages: map_used.c is for those */
    if ((flags & DB_RDONLY) != 0 && db_check_pages(fd, file, err) == -1)
        goto fail;
    code = db_create(&m->db, NULL, 0);
    if (code != 0) {
        db_error(code, "create a handle for", file, err);
        goto fail;
    }
    m->db->set_errcall(m->db, quiet);
    (void) m->db->set_cachesize(m->db, 0, cache, 1);
    code = m->db->open(m->db, NULL, file, NULL, type, flags, 0644);
    if (code != 0) {
        db_error(code, "open database", file, err);
        goto fail;
    }
    *out = m;
    return 0;
fail:
    db_map_close(m);
    return -1;
}

static int open_db(const char *path, struct map_env *env, DBTYPE type, void **impl, struct err *err)
{
    struct buf file = BUF_INIT(4096);
    struct db_map *m = NULL;
    int fd;
    int ret = -1;

    buf_printf(&file, "%s.db", path);
    fd = open(buf_cstr(&file), O_RDONLY | O_CLOEXEC);
    if (fd == -1)
        err_sys(err, "open database %s", buf_cstr(&file));
    else
        ret = db_map_open(buf_cstr(&file), fd, type, DB_RDONLY,
                          (uint32_t) map_file_sizes(map_env_config(env)).db_read, &m, err);
    fd_close(&fd);
    buf_fini(&file);
    if (ret == 0)
        *impl = m;
    return ret;
}

static int hash_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    return open_db(path, env, DB_HASH, impl, err);
}

static int btree_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    return open_db(path, env, DB_BTREE, impl, err);
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

const struct map_type map_type_hash = {.name = "hash",
                                       .flags = MAP_FLAG_FIXED | MAP_FLAG_LOCAL,
                                       .open = hash_open,
                                       .close = db_map_close,
                                       .lookup = db_lookup,
                                       .is_stale = db_is_stale,
                                       .builder = &db_hash_builder,
                                       .each = db_each,
                                       .writer = &db_hash_writer};
const struct map_type map_type_btree = {.name = "btree",
                                        .flags = MAP_FLAG_FIXED | MAP_FLAG_LOCAL,
                                        .open = btree_open,
                                        .close = db_map_close,
                                        .lookup = db_lookup,
                                        .is_stale = db_is_stale,
                                        .builder = &db_btree_builder,
                                        .each = db_each,
                                        .writer = &db_btree_writer};
#endif
