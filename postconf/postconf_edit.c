/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postconf_edit.c - postconf -e, -X and -# on main.cf. Only the lines of the parameters that are named change; comments,
 * order and mode stay. A file is replaced as a whole (old or new, never half), and one postconf edits at a time: it holds a
 * lock on the configuration directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "base/file.h"
#include "base/log.h"
#include "postconf/postconf_int.h"

#define FILE_MAX (16U << 20)

struct request {
    char *name;
    char *value;    /* NULL: with -X and -# */
    unsigned found; /* times in the file */
};

struct edit {
    struct vec requests; /* struct request * */
    struct htable *by_name;
};

/* The directory that p means, absolute. */
static char *directory(const struct postconf *p)
{
    struct config *cfg = NULL;
    struct err err = ERR_INIT;
    char *dir;

    if (config_load_text(p->dir, SLICE_EMPTY, NULL, 0, NULL, &cfg, &err) == -1)
        fatal("%s", err.text);
    dir = xstrdup(config_dir(cfg));
    config_unref(&cfg);
    return dir;
}

static int lock_directory(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char text[200];

    if (fd == -1)
        fatal("open %s: %s", dir, err_errno_text(errno, text, sizeof(text)));
    while (flock(fd, LOCK_EX) == -1)
        if (errno != EINTR)
            fatal("lock %s: %s", dir, err_errno_text(errno, text, sizeof(text)));
    return fd;
}

int postconf_edit_file(const struct postconf *p, const char *file,
                       void (*fn)(const struct postconf *p, struct slice text, struct buf *out,
                                  void *arg),
                       void *arg)
{
    char *dir = directory(p);
    int lock = lock_directory(dir);
    struct buf path = BUF_INIT(PATH_MAX);
    struct buf text = BUF_INIT(FILE_MAX);
    struct buf out = BUF_INIT(FILE_MAX);
    struct err err = ERR_INIT;
    char *target;
    char reason[200];

    path_join(&path, dir, file);
    /* behind a symbolic link the file is replaced, not the link */
    target = realpath(buf_cstr(&path), NULL);
    if (target == NULL)
        fatal("open %s: %s", buf_cstr(&path), err_errno_text(errno, reason, sizeof(reason)));
    if (file_read(target, &text, &err) == -1)
        fatal("%s", err.text);
    fn(p, buf_view(&text), &out, arg);
    if (!buf_ok(&out))
        fatal("%s: would become longer than %u bytes", target, FILE_MAX);
    if (!slice_eq(buf_view(&text), buf_view(&out)) &&
        file_replace(target, buf_view(&out), 0644, &err) == -1)
        fatal("%s", err.text);
    fd_close(&lock);
    buf_fini(&path);
    buf_fini(&text);
    buf_fini(&out);
    free(target);
    free(dir);
    return 0;
}

bool postconf_next_line(struct slice *text, struct slice *line)
{
    ptrdiff_t nl;

    if (text->len == 0)
        return false;
    nl = slice_find(*text, '\n');
    *line = slice_sub(*text, 0, nl == -1 ? text->len : (size_t) nl);
    *text = nl == -1 ? SLICE_EMPTY : slice_sub(*text, (size_t) nl + 1, text->len);
    return true;
}

static void add_request(struct edit *e, struct slice name, const struct slice *value)
{
    struct request *r = htable_get(e->by_name, name);

    if (r == NULL) {
        r = xcalloc(1, sizeof(*r));
        r->name = slice_dup(name);
        vec_push(&e->requests, r);
        (void) htable_put(e->by_name, name, r);
    } else if (value != NULL) {
        log_warning("ignoring earlier request: '%s = %s'", r->name, r->value);
    }
    free(r->value);
    r->value = value != NULL ? slice_dup(*value) : NULL;
}

static void take_request(struct edit *e, const char *text, char mode)
{
    struct slice name = slice_trim(slice_str(text), NULL);
    struct slice value = SLICE_EMPTY;
    ptrdiff_t eq = slice_find(name, '=');

    if (strpbrk(text, "\r\n") != NULL)
        fatal("-e, -X, or -# accepts no multi-line input");
    if (mode == 'e') {
        if (eq == -1)
            fatal("missing '=' after attribute name: \"%s\"", text);
        value = slice_trim(slice_sub(name, (size_t) eq + 1, name.len), NULL);
        name = slice_trim(slice_sub(name, 0, (size_t) eq), NULL);
        if (name.len == 0)
            fatal("missing attribute name: \"%s\"", text);
    } else if (eq != -1) {
        fatal("-X or -# requires names without value: \"%s\"", text);
    } else if (name.len == 0) {
        fatal("-X or -# requires non-blank parameter names");
    }
    for (size_t i = 0; i < name.len; i++)
        if (ascii_is_space((unsigned char) name.ptr[i]))
            fatal("missing '=' after attribute name: \"%s\"", text);
    if (name.ptr[0] == '#')
        fatal("a parameter name cannot begin with '#': \"%s\"", text);
    add_request(e, name, mode == 'e' ? &value : NULL);
}

static void put_line(struct buf *out, const char *before, struct slice line)
{
    buf_puts(out, before);
    buf_put_slice(out, line);
    buf_putc(out, '\n');
}

/* The request that the logical line that begins here is about, or NULL. */
static struct request *request_of(const struct edit *e, struct slice line)
{
    ptrdiff_t eq = slice_find(line, '=');

    if (eq == -1)
        return NULL;
    return htable_get(e->by_name, slice_trim(slice_sub(line, 0, (size_t) eq), NULL));
}

static void edit(const struct postconf *p, struct slice text, struct buf *out, void *arg)
{
    const struct edit *e = arg;
    struct request *now = NULL; /* of the logical line that we are in */
    struct slice line;

    while (postconf_next_line(&text, &line)) {
        struct slice trimmed = slice_trim(line, NULL);

        if (trimmed.len == 0 || trimmed.ptr[0] == '#') {
            put_line(out, "", line);
            continue;
        }
        if (!ascii_is_space((unsigned char) line.ptr[0])) {
            now = request_of(e, line);
            if (now != NULL) {
                now->found++;
                if (p->edit == 'e')
                    buf_printf(out, "%s = %s\n", now->name, now->value);
            }
        }
        if (now == NULL)
            put_line(out, "", line);
        else if (p->edit == '#')
            put_line(out, "#", line);
    }
    for (size_t i = 0; i < e->requests.len; i++) {
        const struct request *r = e->requests.items[i];

        if (p->edit == 'e' && r->found > 1)
            log_warning("main.cf: multiple entries for \"%s\"", r->name);
        if (p->edit == 'e' && r->found == 0)
            buf_printf(out, "%s = %s\n", r->name, r->value);
    }
}

static void request_free(void *p)
{
    struct request *r = p;

    free(r->name);
    free(r->value);
    free(r);
}

int postconf_edit_main_cf(const struct postconf *p)
{
    struct edit e = {VEC_INIT, htable_new(false)};
    int status;

    if (p->count == 0)
        fatal(p->edit == 'e' ? "-e requires name=value argument"
                             : "-X or -# requires parameter names");
    for (size_t i = 0; i < p->count; i++)
        take_request(&e, p->names[i], p->edit);
    status = postconf_edit_file(p, "main.cf", edit, &e);
    htable_free(&e.by_name, NULL);
    vec_clear(&e.requests, request_free);
    vec_fini(&e.requests);
    return status;
}
