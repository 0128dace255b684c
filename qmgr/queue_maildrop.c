/* SPDX-License-Identifier: Apache-2.0 */
/* queue_maildrop.c - see queue_maildrop.h. Files are of anybody's making: nothing in them is trusted. */
#include "qmgr/queue_maildrop.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/vec.h"
#include "mail/maildrop.h"
#include "mail/queue_id.h"

struct queue_maildrop {
    DIR *dir;
};

struct queue_maildrop *queue_maildrop_open(const char *queue_directory)
{
    struct queue_maildrop *w = xcalloc(1, sizeof(*w));
    struct buf path = BUF_INIT(SIZE_MAX);

    path_join(&path, queue_directory, "maildrop");
    w->dir = opendir(buf_cstr(&path));
    buf_fini(&path);
    if (w->dir == NULL)
        queue_maildrop_close(&w);
    return w;
}

void queue_maildrop_close(struct queue_maildrop **wp)
{
    if (*wp == NULL)
        return;
    if ((*wp)->dir != NULL)
        closedir((*wp)->dir);
    free(*wp);
    *wp = NULL;
}

/* What a file says; in an arena. */
struct dropped {
    struct mail_envelope env;
    struct vec rcpts; /* struct store_rcpt * */
    uint64_t bytes;   /* of the content */
};

/* What is decoded from it stays with it. */
static struct frame keep(struct arena *arena, const struct frame *f)
{
    struct frame kept = *f;

    kept.payload = arena_slice(arena, f->payload);
    return kept;
}

static int take_frame(const struct frame *frame, struct arena *arena, int content_fd,
                      struct dropped *d, bool *has_envelope, struct err *err)
{
    struct store_rcpt *s;
    struct frame f;

    switch (frame->type) {
    case PROTO_ENVELOPE:
        f = keep(arena, frame);
        *has_envelope = true;
        return proto_decode(&f, &msg_envelope, &d->env, err);
    case PROTO_RCPT:
        f = keep(arena, frame);
        s = arena_alloc(arena, sizeof(*s));
        vec_push(&d->rcpts, s);
        return proto_decode(&f, &msg_rcpt, &s->r, err);
    case PROTO_DATA:
        d->bytes += frame->payload.len;
        if (content_fd != -1 &&
            fd_write_all(content_fd, frame->payload.ptr, frame->payload.len) == -1)
            return err_sys(err, "temporary file");
        return 0;
    default:
        return err_input(err, "frame of unexpected type %u", frame->type);
    }
}

/* The stream of frames in fd. content_fd: gets the content; -1: nothing does. */
static int read_message(int fd, struct arena *arena, int content_fd, struct dropped *d,
                        struct err *err)
{
    struct maildrop_reader r;
    struct frame f;
    bool has_envelope = false;
    int got;

    maildrop_reader_init(&r, fd);
    while ((got = maildrop_read(&r, &f, err)) == 1 && f.type != PROTO_END &&
           take_frame(&f, arena, content_fd, d, &has_envelope, err) == 0)
        ;
    if (got == 0 || (got == 1 && f.type == PROTO_END && !has_envelope))
        err_input(err, "the file has no end");
    maildrop_reader_fini(&r);
    return got == 1 && f.type == PROTO_END && has_envelope ? 0 : -1;
}

/* 1: a message; 0: not one (yet); -1. */
static int read_file(int dir, const char *name, struct arena *arena, int content_fd,
                     struct dropped *d, struct err *err)
{
    struct stat st;
    int ret = -1;
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    *d = (struct dropped){0};
    if (fd == -1) {
        if (errno == ENOENT)
            return 0; /* pickup was faster */
        return err_sys(err, "open maildrop/%s", name);
    }
    if (fstat(fd, &st) == -1) {
        err_sys(err, "maildrop/%s", name);
    } else if (!S_ISREG(st.st_mode) || (st.st_mode & 0100) == 0) {
        ret = 0; /* postdrop is still writing it */
    } else {
        ret = read_message(fd, arena, content_fd, d, err) == 0 ? 1 : -1;
        d->env.arrival_us =
            (uint64_t) st.st_mtim.tv_sec * 1000000 + (uint64_t) st.st_mtim.tv_nsec / 1000;
        if (ret == -1)
            err_prefix(err, "maildrop/%s: ", name);
    }
    fd_close(&fd);
    return ret;
}

/* In one piece. */
static struct store_rcpt *rcpts_of(const struct dropped *d, struct arena *arena)
{
    struct store_rcpt *rcpts = arena_alloc(arena, (d->rcpts.len + 1) * sizeof(*rcpts));

    for (size_t i = 0; i < d->rcpts.len; i++)
        rcpts[i] = *(struct store_rcpt *) d->rcpts.items[i];
    return rcpts;
}

/* The next name of a message; NULL: that was the last. */
static const char *next_name(DIR *dir)
{
    const struct dirent *e;

    while ((e = readdir(dir)) != NULL) /* NOLINT(concurrency-mt-unsafe): a walk of its own */
        if (queue_id_valid(slice_str(e->d_name)))
            return e->d_name; /* no temporary file, ".", ".." */
    return NULL;
}

int queue_maildrop_next(struct queue_maildrop *w, struct arena *arena,
                        struct proto_queue_item *item, struct store_rcpt **rcpts, size_t *nrcpts,
                        struct err *err)
{
    const char *name;

    while ((name = next_name(w->dir)) != NULL) {
        struct dropped d;
        int got = read_file(dirfd(w->dir), name, arena, -1, &d, err);

        if (got == 1) {
            *item = (struct proto_queue_item){
                .queue = SLICE_LIT("maildrop"),
                .queue_id = arena_slice(arena, slice_str(name)),
                .sender = d.env.sender,
                .arrival_us = d.env.arrival_us,
                .size = d.bytes,
            };
            *nrcpts = d.rcpts.len;
            *rcpts = rcpts_of(&d, arena);
        }
        vec_fini(&d.rcpts);
        if (got != 0)
            return got;
    }
    return 0;
}

static int open_directory(const char *queue_directory, struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    int fd;

    path_join(&path, queue_directory, "maildrop");
    fd = open(buf_cstr(&path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd == -1)
        err_sys(err, "open %s", buf_cstr(&path));
    buf_fini(&path);
    return fd;
}

int queue_maildrop_read(const char *queue_directory, const char *queue_id, struct arena *arena,
                        int content_fd, struct mail_envelope *env, struct store_rcpt **rcpts,
                        size_t *nrcpts, struct err *err)
{
    int dir = open_directory(queue_directory, err);
    struct dropped d;
    int got;

    if (dir == -1)
        return -1;
    got = read_file(dir, queue_id, arena, content_fd, &d, err);
    if (got == 1) {
        *env = d.env;
        env->content_bytes = d.bytes;
        *nrcpts = d.rcpts.len;
        *rcpts = rcpts_of(&d, arena);
    }
    vec_fini(&d.rcpts);
    fd_close(&dir);
    return got;
}

static int remove_one(int dir, const char *name, size_t *count, struct err *err)
{
    if (unlinkat(dir, name, 0) == 0)
        *count += 1;
    else if (errno != ENOENT)
        return err_sys(err, "remove maildrop/%s", name);
    return 0;
}

int queue_maildrop_remove(const char *queue_directory, const char *queue_id, size_t *count,
                          struct err *err)
{
    int dir = open_directory(queue_directory, err);
    int ret;

    if (dir == -1)
        return -1;
    ret = remove_one(dir, queue_id, count, err);
    fd_close(&dir);
    return ret;
}

int queue_maildrop_remove_all(const char *queue_directory, size_t *count, struct err *err)
{
    struct queue_maildrop *w = queue_maildrop_open(queue_directory);
    const char *name;
    int ret = 0;

    if (w == NULL)
        return err_sys(err, "open %s/maildrop", queue_directory);
    while ((name = next_name(w->dir)) != NULL)
        if (remove_one(dirfd(w->dir), name, count, err) == -1)
            ret = -1;
    queue_maildrop_close(&w);
    return ret;
}
