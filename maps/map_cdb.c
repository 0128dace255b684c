/* SPDX-License-Identifier: Apache-2.0 */
/* map_cdb.c - cdb: PATH.cdb, which is built once and only read; keys and values without a trailing NUL, as with Postfix. */
#include "maps/map_int.h"

#if PR_HAVE_CDB
#include <cdb.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "maps/map_build.h"
#include "maps/map_cdb.h"

struct cdb_map {
    struct lock lock; /* a lookup keeps its place in db */
    struct cdb db;    /* maps the file */
    bool open;
    int fd;
    char *file;
    struct file_stamp stamp;
    bool with_nul, without_nul; /* what may still be tried; the first hit decides */
};

void cdb_map_close(void *impl)
{
    struct cdb_map *m = impl;

    if (m->open)
        cdb_free(&m->db);
    fd_close(&m->fd);
    lock_fini(&m->lock);
    free(m->file);
    free(m);
}

int cdb_map_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    struct cdb_map *m = xcalloc(1, sizeof(*m));
    struct buf file = BUF_INIT(4096);

    (void) env;
    lock_init(&m->lock, LOCK_MAP);
    m->with_nul = m->without_nul = true;
    buf_printf(&file, "%s" CDB_SUFFIX, path);
    m->file = buf_take(&file);
    m->fd = open(m->file, O_RDONLY | O_CLOEXEC);
    if (m->fd == -1) {
        err_sys(err, "open database %s", m->file);
        goto fail;
    }
    if (file_stamp_fd(m->fd, &m->stamp, err) == -1)
        goto fail;
    if (cdb_init(&m->db, m->fd) != 0) {
        if (errno == EPROTO || errno == EINVAL)
            err_permanent(err, "open database %s: damaged", m->file);
        else
            err_sys(err, "open database %s", m->file);
        goto fail;
    }
    m->open = true;
    *impl = m;
    return 0;
fail:
    cdb_map_close(m);
    return -1;
}

bool cdb_map_is_stale(void *impl, const char *path)
{
    const struct cdb_map *m = impl;

    (void) path;
    return file_stamp_differs(&m->stamp, m->file);
}

/* As cdb_find(): 1 found, 0 not, -1 damaged. */
static int find(struct cdb_map *m, struct slice key, bool nul)
{
    char space[512];
    char *heap = NULL;
    char *k = space;
    int found;

    if (!nul)
        return cdb_find(&m->db, key.ptr, (unsigned) key.len);
    if (key.len + 1 > sizeof(space))
        k = heap = xmalloc(key.len + 1);
    memcpy(k, key.ptr, key.len);
    k[key.len] = '\0';
    found = cdb_find(&m->db, k, (unsigned) key.len + 1);
    free(heap);
    return found;
}

static struct slice text_of(const void *ptr, unsigned len)
{
    struct slice s = slice_of(ptr, len);

    if (s.len > 0 && s.ptr[s.len - 1] == '\0')
        s.len--;
    return s;
}

enum map_result cdb_map_lookup(void *impl, struct slice key, struct buf *value, struct err *err)
{
    struct cdb_map *m = impl;
    struct stat st;
    enum map_result res = MAP_NOTFOUND;
    int found = 0;

    lock_take(&m->lock);
    /* a file cut off under its mapping would end the process */
    if (fstat(m->fd, &st) == -1 || st.st_size < m->stamp.size) {
        err_permanent(err, "read %s: the file became shorter while in use", m->file);
        lock_release(&m->lock);
        return MAP_RETRY;
    }
    if (m->without_nul) {
        found = find(m, key, false);
        if (found > 0)
            m->with_nul = false;
    }
    if (found == 0 && m->with_nul) {
        found = find(m, key, true);
        if (found > 0)
            m->without_nul = false;
    }
    if (found > 0) {
        const void *data = cdb_getdata(&m->db);

        if (data == NULL)
            found = -1;
        else
            buf_put_slice(value, text_of(data, cdb_datalen(&m->db)));
        res = MAP_FOUND;
    }
    if (found < 0) {
        err_permanent(err, "read %s: damaged", m->file);
        res = MAP_RETRY;
    }
    lock_release(&m->lock);
    return res;
}

int cdb_map_each(void *impl, bool (*fn)(struct slice key, struct slice value, void *arg), void *arg,
                 struct err *err)
{
    struct cdb_map *m = impl;
    unsigned at;
    int more = 0;

    lock_take(&m->lock);
    cdb_seqinit(&at, &m->db);
    while ((more = cdb_seqnext(&at, &m->db)) > 0) {
        const void *key = cdb_getkey(&m->db);
        const void *data = cdb_getdata(&m->db);

        if (key == NULL || data == NULL) {
            more = -1;
            break;
        }
        if (!fn(text_of(key, cdb_keylen(&m->db)), text_of(data, cdb_datalen(&m->db)), arg)) {
            more = 0;
            break;
        }
    }
    lock_release(&m->lock);
    return more == 0 ? 0 : err_permanent(err, "read %s: damaged", m->file);
}

/* --- building ---------------------------------------------------------------------------------------- */

struct cdb_builder {
    struct cdb_make make;
    int fd;
    char *file;
    bool nul;
    struct buf key, value;
};

static int build_create(const char *file, const struct map_build_job *job, void **builder,
                        struct err *err)
{
    struct cdb_builder *b = xcalloc(1, sizeof(*b));

    b->nul = job->nul == MAP_NUL_WITH;
    b->file = xstrdup(file);
    b->key = BUF_INIT(SIZE_MAX);
    b->value = BUF_INIT(SIZE_MAX);
    b->fd = open(file, O_RDWR | O_CLOEXEC);
    if (b->fd == -1 || cdb_make_start(&b->make, b->fd) != 0) {
        err_sys(err, "create %s", file);
        fd_close(&b->fd);
        free(b->file);
        free(b);
        return -1;
    }
    *builder = b;
    return 0;
}

static struct slice with_nul(struct slice s, bool nul, struct buf *space)
{
    if (!nul)
        return s;
    buf_reset(space);
    buf_put_slice(space, s);
    buf_putc(space, '\0');
    return buf_view(space);
}

static enum map_put_result build_put(void *builder, struct slice key, struct slice value,
                                     bool replace, struct err *err)
{
    struct cdb_builder *b = builder;
    struct slice k = with_nul(key, b->nul, &b->key);
    struct slice v = with_nul(value, b->nul, &b->value);
    int code = cdb_make_put(&b->make, k.ptr, (unsigned) k.len, v.ptr, (unsigned) v.len,
                            replace ? CDB_PUT_REPLACE : CDB_PUT_INSERT);

    if (code == 1 && !replace)
        return MAP_PUT_DUPLICATE;
    if (code >= 0)
        return MAP_PUT_OK;
    err_sys(err, "write %s", b->file);
    return MAP_PUT_ERROR;
}

static int build_finish(void *builder, bool commit, struct err *err)
{
    struct cdb_builder *b = builder;
    int ret = 0;

    if (cdb_make_finish(&b->make) != 0 && commit)
        ret = err_sys(err, "write %s", b->file);
    fd_close(&b->fd);
    free(b->file);
    buf_fini(&b->key);
    buf_fini(&b->value);
    free(b);
    return ret;
}

const struct map_builder_type cdb_builder = {
    .suffix = CDB_SUFFIX,
    .create = build_create,
    .put = build_put,
    .finish = build_finish,
};
const struct map_type map_type_cdb = {.name = "cdb",
                                      .flags = MAP_FLAG_FIXED | MAP_FLAG_LOCAL,
                                      .open = cdb_map_open,
                                      .close = cdb_map_close,
                                      .lookup = cdb_map_lookup,
                                      .is_stale = cdb_map_is_stale,
                                      .builder = &cdb_builder,
                                      .each = cdb_map_each};
#endif
