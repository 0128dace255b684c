/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_build.c - table files from text: written under another name, synced, renamed over the old one; so that a reader has one or
 * the other, and a crash leaves the old.
 *
 * The other name is always FILE.tmp, and whoever builds or changes FILE holds a lock on it: two at once take turns, the second
 * reads its source after the first has finished, and what a crash leaves is used again. A lock on a file that was renamed
 * meanwhile is a lock on the table itself: then it is tried again (invariant: FILE.tmp is the locked file while it is written).
 */
#include "maps/map_build.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/utf8.h"
#include "maps/map_alias.h"
#include "maps/map_build_int.h"
#include "maps/map_int.h"

#define TEXT_MAX     (1U << 30)
#define TURN_MS      600000
#define PROGRESS_MS  250
#define PROGRESS_ROW 4096

struct building {
    const struct map_type *type;
    const struct map_build_options *opt;
    const char *source; /* for warnings: the file, or "stdin" */
    void *builder;
    uint64_t rows;
    struct mono_time shown;
};

static void show_progress(struct building *b)
{
    struct mono_time now;

    if (!b->opt->progress || b->rows % PROGRESS_ROW != 0)
        return;
    now = mono_now();
    if (mono_diff_ms(now, b->shown) < PROGRESS_MS)
        return;
    b->shown = now;
    (void) fprintf(stderr, "\r%s: %llu rows", b->source, (unsigned long long) b->rows);
}

static void end_progress(const struct building *b)
{
    if (b->opt->progress && b->rows >= PROGRESS_ROW)
        (void) fprintf(stderr, "\r%s: %llu rows\n", b->source, (unsigned long long) b->rows);
}

static int put(struct building *b, struct slice key, struct slice value, int line, struct err *err)
{
    struct buf folded = BUF_INIT((size_t) MAP_KEY_MAX * 2);
    struct err why = ERR_INIT;
    int ret = 0;

    map_fold(b->opt->folding, key, &folded);
    if (!buf_ok(&folded)) {
        log_warning("%s, line %d: key is too long -- ignoring this line", b->source, line);
        buf_fini(&folded);
        return 0;
    }
    switch (b->type->builder->put(b->builder, buf_view(&folded), value, b->opt->replace_duplicates,
                                  &why)) {
    case MAP_PUT_OK:
        b->rows++;
        show_progress(b);
        break;
    case MAP_PUT_DUPLICATE:
        if (!b->opt->ignore_duplicates)
            log_warning("%s, line %d: duplicate entry: \"%.*s\"", b->source, line,
                        SLICE_FMT(buf_view(&folded)));
        break;
    case MAP_PUT_BAD_ROW:
        log_warning("%s, line %d: %s -- ignoring this line", b->source, line, why.text);
        break;
    case MAP_PUT_ERROR:
        ret = err_set(err, why.kind, why.dsn, "%s", why.text);
        break;
    }
    buf_fini(&folded);
    return ret;
}

/* "key value" */
static int take_postmap(struct building *b, struct slice line, int number, struct err *err)
{
    struct err why = ERR_INIT;
    struct buf content = BUF_INIT(MAP_VALUE_MAX);
    struct slice key;
    struct slice value;
    int ret = 0;

    if (map_row_split(line, &key, &value, &why) == 0) {
        map_row_warn(b->source, number, key);
        if (!b->opt->file_values)
            ret = put(b, key, value, number, err);
        else if (map_value_of_files(value, &content, &why) == 0)
            ret = put(b, key, buf_view(&content), number, err);
    }
    if (why.kind != ERR_NONE)
        log_warning("%s, line %d: %s -- ignoring this line", b->source, number, why.text);
    buf_fini(&content);
    return ret;
}

/* "name: value, value", aliases(5) */
static int take_alias(struct building *b, struct slice line, int number, struct err *err)
{
    struct err why = ERR_INIT;
    struct buf name = BUF_INIT(SIZE_MAX);
    struct buf value = BUF_INIT(SIZE_MAX);
    int ret = 0;

    if (alias_split(line, &name, &value, &why) == -1)
        log_warning("%s, line %d: %s -- ignoring this line", b->source, number, why.text);
    else
        ret = put(b, buf_view(&name), buf_view(&value), number, err);
    buf_fini(&name);
    buf_fini(&value);
    return ret;
}

static int take_line(struct slice line, int number, void *arg, struct err *err)
{
    struct building *b = arg;

    if (b->opt->utf8_only && !utf8_is_valid(line)) {
        log_warning("%s, line %d: non-UTF-8 input \"%.*s\" -- ignoring this line", b->source,
                    number, SLICE_FMT(line));
        return 0;
    }
    return b->opt->format == MAP_BUILD_ALIASES ? take_alias(b, line, number, err)
                                               : take_postmap(b, line, number, err);
}

/* What alias databases carry beside their rows. */
static int put_alias_marks(struct building *b, struct err *err)
{
    char now[32];
    char host[256];

    if (gethostname(host, sizeof(host)) == -1)
        (void) snprintf(host, sizeof(host), "localhost");
    host[sizeof(host) - 1] = '\0';
    (void) snprintf(now, sizeof(now), "%010ld", (long) time(NULL));
    const struct {
        const char *key, *value;
    } marks[] = {{"@", "@"}, {"YP_LAST_MODIFIED", now}, {"YP_MASTER_NAME", host}};
    for (size_t i = 0; i < ARRAY_LEN(marks); i++)
        if (b->type->builder->put(b->builder, slice_str(marks[i].key), slice_str(marks[i].value),
                                  true, err) == MAP_PUT_ERROR)
            return -1;
    return 0;
}

/* --- the file under construction --------------------------------------------------------------------- */

struct target {
    char *final;     /* "/etc/postfix/virtual.db" */
    char *temporary; /* final + ".tmp" */
    int fd;          /* of temporary, locked */
    struct stat old; /* of final */
    bool had_old;
};

static void target_fini(struct target *t)
{
    if (t->fd != -1)
        (void) unlink(t->temporary); /* still ours: not renamed */
    fd_close(&t->fd);
    free(t->final);
    free(t->temporary);
}

/* Its turn at path's file: temporary is there, empty, and locked. */
static int target_init(struct target *t, const struct map_type *type, const char *path,
                       struct err *err)
{
    struct buf name = BUF_INIT(4096);
    char *real;

    *t = (struct target){.fd = -1};
    buf_printf(&name, "%s%s", path, type->builder->suffix);
    real = realpath(buf_cstr(&name), NULL); /* a link stays a link */
    t->final = real != NULL ? real : xstrdup(buf_cstr(&name));
    buf_reset(&name);
    buf_printf(&name, "%s.tmp", t->final);
    t->temporary = buf_take(&name);
    for (;;) {
        struct stat locked;
        struct stat there;

        t->fd = open(t->temporary, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (t->fd == -1)
            return err_sys(err, "open %s", t->temporary);
        if (file_lock(t->fd, true, TURN_MS) == -1 || fstat(t->fd, &locked) == -1) {
            err_sys(err, "lock %s", t->temporary);
            fd_close(&t->fd); /* another's: not to be removed */
            return -1;
        }
        if (stat(t->temporary, &there) == 0 && there.st_ino == locked.st_ino &&
            there.st_dev == locked.st_dev)
            break;
        fd_close(&t->fd);
    }
    if (ftruncate(t->fd, 0) == -1)
        return err_sys(err, "truncate %s", t->temporary);
    t->had_old = stat(t->final, &t->old) == 0;
    return 0;
}

/* Makes what stands in temporary the table: synced, with the old one's mode and owner, or mode. */
static int target_commit(struct target *t, mode_t mode, struct err *err)
{
    struct slice final = slice_str(t->final);
    ptrdiff_t slash = slice_rfind(final, '/');
    struct buf dir = BUF_INIT(4096);
    int ret = -1;

    buf_put_slice(&dir, slash > 0    ? slice_sub(final, 0, (size_t) slash)
                        : slash == 0 ? SLICE_LIT("/")
                                     : SLICE_LIT("."));
    if (t->had_old)
        mode = t->old.st_mode & 07777;
    if (t->had_old && (t->old.st_uid != geteuid() || t->old.st_gid != getegid()) &&
        fchown(t->fd, t->old.st_uid, t->old.st_gid) == -1 && errno != EPERM)
        err_sys(err, "chown %s", t->temporary);
    else if (fchmod(t->fd, mode) == -1)
        err_sys(err, "chmod %s", t->temporary);
    else if (fsync(t->fd) == -1)
        err_sys(err, "fsync %s", t->temporary);
    else if (rename(t->temporary, t->final) == -1)
        err_sys(err, "rename %s to %s", t->temporary, t->final);
    else
        ret = 0;
    if (ret == 0) {
        fd_close(&t->fd);
        ret = dir_sync(buf_cstr(&dir), err);
    }
    buf_fini(&dir);
    return ret;
}

/* --- building anew ----------------------------------------------------------------------------------- */

static int check_buildable(const struct map_type *type, struct err *err)
{
    return type->builder != NULL
               ? 0
               : err_input(err,
                           "unsupported dictionary type: %s does not support bulk-mode creation.",
                           type->name);
}

/* The rows from source (fd; for warnings its name) into t's temporary file. */
static int fill(struct target *t, struct building *b, const struct map_build_job *job, int fd,
                struct err *err)
{
    int ret;

    if (b->type->builder->create(t->temporary, job, &b->builder, err) == -1)
        return -1;
    ret = map_lines_fd(fd, take_line, b, err);
    if (ret == -1)
        err_prefix(err, "%s: ", b->source);
    if (ret == 0 && b->opt->format == MAP_BUILD_ALIASES)
        ret = put_alias_marks(b, err);
    end_progress(b);
    if (b->type->builder->finish(b->builder, ret == 0, ret == 0 ? err : NULL) == -1)
        ret = -1;
    return ret;
}

int map_build(const struct map_type *type, const char *path, const struct map_build_options *opt,
              struct err *err)
{
    struct building b = {.type = type, .opt = opt, .source = path, .shown = mono_now()};
    struct map_build_job job = {.cfg = opt->cfg, .nul = opt->nul};
    struct privileges before;
    struct target t;
    struct stat st;
    mode_t mode = 0644;
    int fd = -1;
    int ret = -1;

    if (check_buildable(type, err) == -1)
        return -1;
    if (stat(path, &st) == -1)
        return err_sys(err, "open %s", path);
    if (privileges_lower(&before, &st, !opt->keep_privileges, err) == -1)
        return -1;
    if (!opt->default_mode)
        mode = 0600 | (st.st_mode & 044);
    if (target_init(&t, type, path, err) == 0) {
        /* not before its turn: the source may have changed */
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd == -1 || fstat(fd, &st) == -1) {
            err_sys(err, "open %s", path);
        } else {
            job.bytes = S_ISREG(st.st_mode) ? (uint64_t) st.st_size : TEXT_MAX;
            ret = fill(&t, &b, &job, fd, err);
        }
        if (ret == 0)
            ret = target_commit(&t, mode, err);
    }
    fd_close(&fd);
    target_fini(&t);
    if (privileges_restore(&before, ret == 0 ? err : NULL) == -1)
        ret = -1;
    return ret;
}

/* --- changing a table -------------------------------------------------------------------------------- */

static int copy_file(const char *from, int to, struct err *err)
{
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    char chunk[65536];
    ssize_t n = -1;

    if (fd == -1)
        return err_sys(err, "open %s", from);
    while ((n = fd_read_some(fd, chunk, sizeof(chunk))) > 0)
        if (fd_write_all(to, chunk, (size_t) n) == -1)
            break;
    if (n != 0)
        err_sys(err, "copy %s", from);
    fd_close(&fd);
    return n == 0 ? 0 : -1;
}

/*
 * Calls work with b's builder on path's table: in the file itself, or on a copy that becomes the table. A missing table is made
 * if create, else an error.
 */
static int change(struct building *b, const char *path, uint64_t bytes, bool create,
                  int (*work)(struct building *b, void *arg, struct err *err), void *arg,
                  struct err *err)
{
    const struct map_builder_type *how = b->type->builder;
    struct map_build_job job = {.cfg = b->opt->cfg, .nul = b->opt->nul, .bytes = bytes};
    struct privileges before;
    struct target t;
    struct stat st;
    int ret = -1;
    bool there;
    bool direct;

    if (how->change == NULL)
        return err_input(err, "%s tables are built as a whole: rows cannot be added or removed",
                         b->type->name);
    there = map_table_stat(b->type, path, &st) == 0;
    if (!there && !create)
        return err_sys(err, "open database %s%s", path, how->suffix);
    if (privileges_lower(&before, &st, there && !b->opt->keep_privileges, err) == -1)
        return -1;
    if (target_init(&t, b->type, path, err) == 0) {
        direct = how->in_place && t.had_old;
        if (!t.had_old)
            ret = how->create(t.temporary, &job, &b->builder, err);
        else if (direct || copy_file(t.final, t.fd, err) == 0)
            ret = how->change(direct ? t.final : t.temporary, &job, &b->builder, err);
        if (ret == 0) {
            ret = work(b, arg, err);
            if (how->finish(b->builder, ret == 0, ret == 0 ? err : NULL) == -1)
                ret = -1;
            if (ret == 0 && !direct)
                ret = target_commit(&t, 0644, err);
        }
    }
    target_fini(&t);
    if (privileges_restore(&before, ret == 0 ? err : NULL) == -1)
        ret = -1;
    return ret;
}

static int add_rows(struct building *b, void *arg, struct err *err)
{
    const struct buf *text = arg;
    int ret = map_lines_each(buf_view(text), take_line, b, err);

    if (ret == 0 && b->opt->format == MAP_BUILD_ALIASES)
        ret = put_alias_marks(b, err);
    end_progress(b);
    return ret;
}

int map_build_add(const struct map_type *type, const char *path, int fd,
                  const struct map_build_options *opt, struct err *err)
{
    struct building b = {.type = type, .opt = opt, .source = "stdin", .shown = mono_now()};
    struct buf text = BUF_INIT(TEXT_MAX);
    ssize_t n = 0;
    int ret = -1;

    if (check_buildable(type, err) == -1)
        return -1;
    /* all of it before the table is touched: it may come slowly */
    for (;;) {
        char *room = buf_reserve(&text, 65536);

        if (room == NULL) {
            err_input(err, "standard input is larger than %u bytes", TEXT_MAX);
            break;
        }
        n = fd_read_some(fd, room, 65536);
        if (n == -1)
            err_sys(err, "read standard input");
        if (n <= 0)
            break;
        buf_advance(&text, (size_t) n);
    }
    if (buf_ok(&text) && n == 0)
        ret = change(&b, path, text.len, true, add_rows, &text, err);
    buf_fini(&text);
    return ret;
}

struct removal {
    bool (*next)(struct slice *key, void *arg);
    void *arg;
    bool found;
};

static int remove_rows(struct building *b, void *arg, struct err *err)
{
    struct removal *r = arg;
    struct slice key;

    while (r->next(&key, r->arg)) {
        struct buf folded = BUF_INIT((size_t) MAP_KEY_MAX * 2);
        enum map_result res = MAP_NOTFOUND;

        map_fold(b->opt->folding, key, &folded);
        if (buf_ok(&folded))
            res = b->type->builder->remove(b->builder, buf_view(&folded), err);
        buf_fini(&folded);
        if (res == MAP_RETRY)
            return -1;
        r->found |= res == MAP_FOUND;
    }
    return 0;
}

int map_build_remove(const struct map_type *type, const char *path,
                     bool (*next)(struct slice *key, void *arg), void *arg,
                     const struct map_build_options *opt, bool *found, struct err *err)
{
    struct building b = {.type = type, .opt = opt, .source = path, .shown = mono_now()};
    struct removal r = {next, arg, false};

    if (type->builder == NULL || type->builder->remove == NULL)
        return err_input(err, "%s tables cannot be changed", type->name);
    if (change(&b, path, 0, false, remove_rows, &r, err) == -1)
        return -1;
    *found = r.found;
    return 0;
}

int map_table_stat(const struct map_type *type, const char *path, struct stat *st)
{
    struct buf name = BUF_INIT(4096);
    int ret;

    buf_printf(&name, "%s%s", path, type->builder->suffix);
    ret = stat(buf_cstr(&name), st);
    buf_fini(&name);
    return ret;
}
