/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postmulti_destroy.c - takes the files of an instance away: those that the mail system made, and no others.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "master/postmulti_int.h"

static int run_command(const struct instance *i, const char *name, const char *word)
{
    struct buf path = BUF_INIT(8192);
    char *words[] = {xstrdup(name), xstrdup(word), NULL};
    int status;

    path_join(&path, i->common.command_directory, name);
    status = postmulti_run(i, buf_cstr(&path), words);
    free(words[0]);
    free(words[1]);
    buf_fini(&path);
    return status;
}

/* DIR/NAME into path, or DIR where name is "". */
static const char *place(struct buf *path, const char *dir, const char *name)
{
    if (name[0] == '\0')
        buf_puts(path, dir);
    else
        path_join(path, dir, name);
    return buf_cstr(path);
}

/* Says so where there is something in it. */
static void remove_empty(const char *dir, const char *name)
{
    struct buf path = BUF_INIT(8192);
    char why[128];

    if (rmdir(place(&path, dir, name)) == -1 && errno != ENOENT)
        log_warning("%s is not removed: %s", buf_cstr(&path),
                    err_errno_text(errno, why, sizeof(why)));
    buf_fini(&path);
}

/* Removes the entries of a directory: directories or the others. */
static void remove_entries(const char *path, bool directories)
{
    DIR *d = opendir(path);
    struct dirent *e;
    char why[128];

    while (d != NULL && (e = readdir(d)) != NULL) { /* NOLINT(concurrency-mt-unsafe): no threads */
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            (e->d_type == DT_DIR) != directories)
            continue;
        if (unlinkat(dirfd(d), e->d_name, directories ? AT_REMOVEDIR : 0) == -1)
            log_warning("%s/%s is not removed: %s", path, e->d_name,
                        err_errno_text(errno, why, sizeof(why)));
    }
    if (d != NULL)
        (void) closedir(d);
}

/* Removes a directory with the files in it. */
static void remove_directory(const char *dir, const char *name)
{
    struct buf path = BUF_INIT(8192);

    remove_entries(place(&path, dir, name), false);
    buf_fini(&path);
    remove_empty(dir, name);
}

/* Removes a directory with the empty directories in it. */
static void remove_subdirectories(const char *dir, const char *name)
{
    struct buf path = BUF_INIT(8192);

    remove_entries(place(&path, dir, name), true);
    buf_fini(&path);
    remove_empty(dir, name);
}

static void remove_file(const char *dir, const char *name)
{
    struct buf path = BUF_INIT(8192);

    path_join(&path, dir, name);
    if (unlink(buf_cstr(&path)) == -1 && errno != ENOENT)
        log_warning("remove %s: errno %d", buf_cstr(&path), errno);
    buf_fini(&path);
}

/* postqueue -j prints a line for each message; what was handed in and not yet taken up lies in maildrop/. */
static bool queue_is_empty(const struct instance *i)
{
    struct buf path = BUF_INIT(8192);
    struct buf out = BUF_INIT(1U << 20);
    char *words[] = {xstrdup("postqueue"), xstrdup("-j"), NULL};
    bool empty;
    DIR *d;

    if (access(i->common.queue_directory, F_OK) == -1 && errno == ENOENT)
        empty = true; /* it was never started */
    else {
        path_join(&path, i->common.command_directory, "postqueue");
        empty = postmulti_capture(i, buf_cstr(&path), words, &out) == 0 && out.len == 0;
        buf_reset(&path);
    }
    d = opendir(place(&path, i->common.queue_directory, "maildrop"));
    for (struct dirent *e;
         d != NULL && (e = readdir(d)) != NULL;) /* NOLINT(concurrency-mt-unsafe) */
        empty = empty && e->d_name[0] == '.';
    if (d != NULL)
        (void) closedir(d);
    free(words[0]);
    free(words[1]);
    buf_fini(&path);
    buf_fini(&out);
    return empty;
}

void postmulti_check_destroy(const struct instance *i)
{
    if (i->p.enable)
        fatal("%s is enabled: disable it first", config_dir(i->cfg));
    if (run_command(i, "postfix", "status") == 0)
        fatal("%s is running: stop it first", config_dir(i->cfg));
    if (!queue_is_empty(i))
        fatal("the queue in %s is not empty, or cannot be read", i->common.queue_directory);
}

void postmulti_remove(const struct instance *i)
{
    /* the queue is empty: what lies in its journal is done with. Files of mail that came meanwhile stay */
    static const char *const emptied[] = {"pid", "public", "private", "journal/free", "journal"};
    static const char *const kept[] = {"large",    "hold",     "corrupt",
                                       "maildrop", "incoming", "active"};
    const char *queue = i->common.queue_directory;

    for (size_t n = 0; n < ARRAY_LEN(emptied); n++)
        remove_directory(queue, emptied[n]);
    remove_subdirectories(queue, "deferred");
    for (size_t n = 0; n < ARRAY_LEN(kept); n++)
        remove_empty(queue, kept[n]);
    remove_empty(queue, "");
    remove_directory(i->common.data_directory, "");
    remove_file(config_dir(i->cfg), "master.cf");
    remove_file(config_dir(i->cfg), "main.cf");
    remove_empty(config_dir(i->cfg), "");
}
