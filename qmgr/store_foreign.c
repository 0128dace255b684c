/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_foreign.c - is there mail of Postfix's in the queue directory? Whoever changes from one to the other in place has it
 * there, and must not find it later among what is damaged.
 *
 * A queue file of Postfix's begins with its size record: 'C', a length of one byte, and numbers padded with blanks. Ours begin
 * with a magic that has no 'C' in front. Only the first files of a directory are looked at: where there is one, there are more.
 */
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "qmgr/store.h"

#define LOOKED_AT 64
#define DEPTH     2 /* deferred/A/A1B2... */

static bool is_postfix_file(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    char head[8];
    ssize_t n = fd == -1 ? -1 : fd_pread_all(fd, head, sizeof(head), 0);

    fd_close(&fd);
    if (n != (ssize_t) sizeof(head) || head[0] != 'C' || head[1] < 8)
        return false;
    for (size_t i = 2; i < sizeof(head); i++)
        if (head[i] != ' ' && !ascii_is_digit(head[i]))
            return false;
    return true;
}

/* found gets the path of the first one. */
static bool search(const char *path, int depth, int *looked_at, struct buf *found)
{
    DIR *d = opendir(path);
    struct dirent *e;
    bool is_there = false;

    /* NOLINTNEXTLINE(concurrency-mt-unsafe): before there are threads */
    while (d != NULL && !is_there && *looked_at < LOOKED_AT && (e = readdir(d)) != NULL) {
        struct buf below = BUF_INIT(4096);

        if (e->d_name[0] == '.')
            continue;
        path_join(&below, path, e->d_name);
        if (e->d_type == DT_DIR && depth < DEPTH) {
            is_there = search(buf_cstr(&below), depth + 1, looked_at, found);
        } else if (e->d_type == DT_REG) {
            (*looked_at)++;
            is_there = is_postfix_file(dirfd(d), e->d_name);
            if (is_there)
                buf_put_slice(found, buf_view(&below));
        }
        buf_fini(&below);
    }
    if (d != NULL)
        (void) closedir(d);
    return is_there;
}

int store_refuse_foreign(const char *directory, struct err *err)
{
    static const char *const queues[] = {"incoming", "active", "deferred", "hold"};
    struct buf found = BUF_INIT(4096);
    int ret = 0;

    for (size_t i = 0; i < ARRAY_LEN(queues) && ret == 0; i++) {
        struct buf path = BUF_INIT(4096);
        int looked_at = 0;

        path_join(&path, directory, queues[i]);
        if (search(buf_cstr(&path), 0, &looked_at, &found))
            ret = err_permanent(
                err,
                "%s is mail in Postfix's queue: move Postfix's queue directory away, start, and "
                "run \"postfix import-queue\" on it",
                buf_cstr(&found));
        buf_fini(&path);
    }
    buf_fini(&found);
    return ret;
}
