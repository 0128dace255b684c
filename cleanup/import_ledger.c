/* SPDX-License-Identifier: Apache-2.0 */
/* import_ledger.c - see import_ledger.h. */
#include "cleanup/import_ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/htable.h"
#include "base/num.h"

struct import_ledger {
    int fd;
    char *path;
    struct htable *entries; /* id: struct entry, a list */
};

struct entry {
    uint64_t arrival_us, bytes;
    struct entry *next;
};

static void entry_free(void *entry)
{
    struct entry *e = entry;

    while (e != NULL) {
        struct entry *next = e->next;

        free(e);
        e = next;
    }
}

static void remember(struct import_ledger *l, struct slice id, uint64_t arrival_us, uint64_t bytes)
{
    struct entry *e = xcalloc(1, sizeof(*e));

    *e = (struct entry){arrival_us, bytes, htable_get(l->entries, id)};
    (void) htable_put(l->entries, id, e);
}

static int take_line(struct import_ledger *l, struct slice line, struct err *err)
{
    struct slice id;
    struct slice arrival;
    struct slice bytes;
    int64_t numbers[2];

    if (!slice_token(&line, " ", &id) || !slice_token(&line, " ", &arrival) ||
        !slice_token(&line, " ", &bytes))
        return err_permanent(err, "a field is missing");
    if (num_parse_i64(arrival, 0, INT64_MAX, &numbers[0], err) == -1 ||
        num_parse_i64(bytes, 0, INT64_MAX, &numbers[1], err) == -1)
        return -1;
    remember(l, id, (uint64_t) numbers[0], (uint64_t) numbers[1]);
    return 0;
}

static int load(struct import_ledger *l, struct err *err)
{
    struct buf text = BUF_INIT(SIZE_MAX);
    struct slice rest;
    int ret = file_read(l->path, &text, err);

    rest = buf_view(&text);
    for (int number = 1; ret == 0 && rest.len > 0; number++) {
        ptrdiff_t nl = slice_find(rest, '\n');

        if (nl == -1) { /* a crash while it was written */
            if (ftruncate(l->fd, (off_t) (text.len - rest.len)) == -1)
                ret = err_sys(err, "shorten %s", l->path);
            break;
        }
        if (nl > 0)
            ret = take_line(l, slice_sub(rest, 0, (size_t) nl), err);
        if (ret == -1)
            err_prefix(err, "%s, line %d: ", l->path, number);
        rest = slice_sub(rest, (size_t) nl + 1, rest.len);
    }
    buf_fini(&text);
    return ret;
}

int import_ledger_open(const char *path, struct import_ledger **out, struct err *err)
{
    struct import_ledger *l = xcalloc(1, sizeof(*l));

    l->path = xstrdup(path);
    l->entries = htable_new(false);
    l->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (l->fd == -1)
        err_sys(err, "open %s", path);
    else if (flock(l->fd, LOCK_EX | LOCK_NB) == -1)
        (void) (errno == EWOULDBLOCK ? err_temporary(err, "another import is running")
                                     : err_sys(err, "lock %s", path));
    else if (load(l, err) == 0) {
        *out = l;
        return 0;
    }
    import_ledger_close(&l);
    return -1;
}

void import_ledger_close(struct import_ledger **lp)
{
    struct import_ledger *l = *lp;

    *lp = NULL;
    if (l == NULL)
        return;
    fd_close(&l->fd);
    htable_free(&l->entries, entry_free);
    free(l->path);
    free(l);
}

bool import_ledger_has_id(const struct import_ledger *l, struct slice id)
{
    return htable_get(l->entries, id) != NULL;
}

bool import_ledger_has(const struct import_ledger *l, struct slice id, uint64_t arrival_us,
                       uint64_t bytes)
{
    for (const struct entry *e = htable_get(l->entries, id); e != NULL; e = e->next)
        if (e->arrival_us == arrival_us && e->bytes == bytes)
            return true;
    return false;
}

int import_ledger_add(struct import_ledger *l, struct slice id, uint64_t arrival_us, uint64_t bytes,
                      struct slice new_id, struct err *err)
{
    struct buf line = BUF_INIT(1024);
    int ret = 0;

    buf_printf(&line, "%.*s %" PRIu64 " %" PRIu64 " %.*s\n", SLICE_FMT(id), arrival_us, bytes,
               SLICE_FMT(new_id));
    if (fd_write_all(l->fd, line.ptr, line.len) == -1 || fdatasync(l->fd) == -1)
        ret = err_sys(err, "write %s", l->path);
    else
        remember(l, id, arrival_us, bytes);
    buf_fini(&line);
    return ret;
}
