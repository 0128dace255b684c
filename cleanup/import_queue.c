/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import_queue.c - walks the queue directory of a stopped Postfix: DIR/hold, deferred, active, incoming, maildrop, corrupt, and the
 * directories of one letter in them (hash_queue_names, hash_queue_depth). Nothing in it is changed; no symbolic link is followed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "cleanup/import_int.h"
#include "cleanup/import_log.h"

#define DEPTH_MAX 16 /* of directories */

static const char *const names[IMPORT_STATES] = {
    [IMPORT_HOLD] = "hold",         [IMPORT_DEFERRED] = "deferred", [IMPORT_ACTIVE] = "active",
    [IMPORT_INCOMING] = "incoming", [IMPORT_MAILDROP] = "maildrop", [IMPORT_CORRUPT] = "corrupt",
};

/* What is done with each file: its path below DIR, its name. */
typedef void (*file_fn)(struct importer *im, const char *path, const char *name, void *arg);

void import_failed(struct importer *im, const char *path, const struct err *err)
{
    log_warning("%s/%s: not imported: %s", im->name, path, err->text);
    im->failed++;
}

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* 0, or -1 with err: what is in it cannot be told, or not all of it. */
static int list(const struct importer *im, const char *path, struct vec *out, struct err *err)
{
    int fd = openat(im->dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    const struct dirent *e;
    DIR *dir;
    int code;

    if (fd == -1 && errno == ENOENT)
        return 0; /* an empty queue */
    if (fd == -1)
        return err_sys(err, "open");
    dir = fdopendir(fd);
    if (dir == NULL) {
        err_sys(err, "open");
        fd_close(&fd);
        return -1;
    }
    errno = 0;
    while ((e = readdir(dir)) != NULL) /* NOLINT(concurrency-mt-unsafe): own stream */
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            vec_push(out, xstrdup(e->d_name));
    code = errno;
    (void) closedir(dir);
    errno = code;
    vec_sort(out, compare);
    return code != 0 ? err_sys(err, "read") : 0;
}

/* A directory of one letter is a part of its parent. */
static bool is_part(const struct importer *im, const char *path, const char *name)
{
    struct stat st;

    return strlen(name) == 1 && fstatat(im->dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISDIR(st.st_mode);
}

static void walk(struct importer *im, const char *path, int depth, file_fn fn, void *arg)
{
    struct vec entries = VEC_INIT;
    struct err err = ERR_INIT;

    if (list(im, path, &entries, &err) == -1)
        import_failed(im, path, &err);
    for (size_t i = 0; i < entries.len && !im->stopped; i++) {
        const char *name = entries.items[i];
        struct buf child = BUF_INIT(SIZE_MAX);

        buf_printf(&child, "%s/%s", path, name);
        if (depth < DEPTH_MAX && is_part(im, buf_cstr(&child), name))
            walk(im, buf_cstr(&child), depth + 1, fn, arg);
        else
            fn(im, buf_cstr(&child), name, arg);
        buf_fini(&child);
    }
    vec_clear(&entries, free);
    vec_fini(&entries);
}

/* --- logfiles ---------------------------------------------------------------------------------- */

static void on_log(struct importer *im, const char *path, const char *name, void *arg)
{
    (void) im;
    free(htable_put(arg, slice_str(name), xstrdup(path)));
}

static struct htable *find_logs(struct importer *im, const char *dir)
{
    struct htable *t = htable_new(false);

    walk(im, dir, 0, on_log, t);
    return t;
}

/* --- queue files ------------------------------------------------------------------------------- */

/* 0, or 1: not a message, and none is missing; -1 */
static int open_file(struct import_file *f, struct err *err)
{
    f->fd = openat(f->im->dir, f->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (f->fd == -1)
        return errno == ELOOP ? err_input(err, "it is a symbolic link") : err_sys(err, "open");
    if (fstat(f->fd, &f->st) == -1)
        return err_sys(err, "stat");
    if (S_ISDIR(f->st.st_mode))
        return err_input(err, "it is a directory");
    if (!S_ISREG(f->st.st_mode))
        return err_input(err, "it is not a file");
    /* still being written: whom it came from has no answer, and keeps it */
    if ((f->st.st_mode & 0100) == 0 && f->state != IMPORT_CORRUPT) {
        log_info("%s/%s: was not complete when the mail system stopped, its sender has it",
                 f->im->name, f->path);
        f->im->unfinished++;
        return 1;
    }
    if (!queue_id_valid(f->id))
        return err_input(err, "its name is not a queue id");
    return 0;
}

static void on_file(struct importer *im, const char *path, const char *name, void *arg)
{
    struct import_file f = {.im = im,
                            .state = *(const enum import_state *) arg,
                            .path = path,
                            .id = slice_str(name),
                            .fd = -1};
    struct err err = ERR_INIT;

    switch (open_file(&f, &err)) {
    case 0:
        import_file(&f);
        break;
    case -1:
        import_failed(im, path, &err);
        break;
    }
    fd_close(&f.fd);
}

void import_queue(struct importer *im)
{
    im->logs[IMPORT_DEFER_LOG] = find_logs(im, "defer");
    im->logs[IMPORT_BOUNCE_LOG] = find_logs(im, "bounce");
    im->traces = find_logs(im, "trace");
    for (enum import_state state = 0; state < IMPORT_STATES && !im->stopped; state++)
        walk(im, names[state], 0, on_file, &state);
    htable_free(&im->logs[IMPORT_DEFER_LOG], free);
    htable_free(&im->logs[IMPORT_BOUNCE_LOG], free);
    htable_free(&im->traces, free);
}
