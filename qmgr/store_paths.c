/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_paths.c - where things lie below queue_directory, and their owners.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"
#include "qmgr/store_int.h"

const char *store_path(struct buf *out, const char *queue_directory, const char *name)
{
    buf_reset(out);
    buf_printf(out, "%s/%s", queue_directory, name);
    return buf_cstr(out);
}

static const char *numbered(struct buf *out, const char *dir, const char *sub, uint64_t number,
                            const char *suffix)
{
    buf_reset(out);
    buf_printf(out, "%s/%s/%016" PRIX64 "%s", dir, sub, number, suffix);
    return buf_cstr(out);
}

const char *store_path_segment(struct buf *out, const char *queue_directory, uint64_t number)
{
    return numbered(out, queue_directory, "journal", number, "");
}

const char *store_path_companion(struct buf *out, const char *queue_directory, uint64_t number)
{
    return numbered(out, queue_directory, "journal", number, ".done");
}

const char *store_path_free(struct buf *out, const char *queue_directory, uint64_t number)
{
    return numbered(out, queue_directory, "journal/free", number, "");
}

const char *store_path_large(struct buf *out, const char *queue_directory, uint64_t number)
{
    return numbered(out, queue_directory, "large", number, "");
}

/* Queue ids are times: the digits in front change rarely, so the deferred queue's sub-directory comes from all of them. */
static char hash_digit(struct slice id)
{
    unsigned sum = 0;

    for (size_t i = 0; i < id.len; i++)
        sum = sum * 31 + (unsigned char) id.ptr[i];
    return "0123456789ABCDEF"[(sum ^ sum >> 4 ^ sum >> 8) & 15];
}

const char *store_path_dir(struct buf *out, const char *queue_directory, enum store_queue q,
                           struct slice id)
{
    buf_reset(out);
    buf_printf(out, "%s/", queue_directory);
    switch (q) {
    case STORE_JOURNAL:
        buf_puts(out, "journal");
        break;
    case STORE_DEFERRED:
        buf_printf(out, "deferred/%c", hash_digit(id));
        break;
    case STORE_HOLD:
        buf_puts(out, "hold");
        break;
    case STORE_CORRUPT:
        buf_puts(out, "corrupt");
        break;
    }
    return buf_cstr(out);
}

const char *store_path_message(struct buf *out, const char *queue_directory, enum store_queue q,
                               struct slice id)
{
    (void) store_path_dir(out, queue_directory, q, id);
    buf_putc(out, '/');
    buf_put_slice(out, id);
    return buf_cstr(out);
}

bool store_parse_number(struct slice name, uint64_t *number)
{
    uint64_t n = 0;

    if (name.len != 16)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];

        if (ascii_is_digit((unsigned char) c))
            n = n << 4 | (uint64_t) (c - '0');
        else if (c >= 'A' && c <= 'F')
            n = n << 4 | (uint64_t) (c - 'A' + 10);
        else
            return false;
    }
    *number = n;
    return true;
}

int store_err_sys(struct err *err, const char *what, const char *path)
{
    int saved = errno;
    char text[128];

    return err_set(err, ERR_TEMPORARY, saved == ENOSPC || saved == EDQUOT ? "4.3.1" : "4.3.0",
                   "%s %s: %s", what, path, err_errno_text(saved, text, sizeof(text)));
}

int store_err_read(struct err *err, const char *what)
{
    return errno == EIO
               ? err_set(err, ERR_TEMPORARY, STORE_UNREADABLE, "%s cannot be read: I/O error", what)
               : store_err_sys(err, "read", what);
}

int store_make_directories(const char *queue_directory, uid_t uid, gid_t gid, struct err *err)
{
    static const char *const names[] = {"journal",  "journal/free", "large",
                                        "deferred", "hold",         "corrupt"};
    struct buf path = BUF_INIT(SIZE_MAX);
    struct stat st;
    int ret = -1;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void) store_path(&path, queue_directory, names[i]);
        if (dir_make(buf_cstr(&path), STORE_DIR_MODE, err) == -1)
            goto done;
        if (geteuid() != 0)
            continue;
        if (stat(buf_cstr(&path), &st) == -1) {
            err_sys(err, "%s", buf_cstr(&path));
            goto done;
        }
        if ((st.st_uid != uid || st.st_gid != gid) && chown(buf_cstr(&path), uid, gid) == -1) {
            err_sys(err, "change owner of %s", buf_cstr(&path));
            goto done;
        }
    }
    if (dir_sync(queue_directory, err) == -1)
        goto done;
    ret = 0;
done:
    buf_fini(&path);
    return ret;
}
