/* SPDX-License-Identifier: Apache-2.0 */
/* queue_maildrop.c - see queue_maildrop.h. Files are of anybody's making: nothing in them is trusted. */
#include "qmgr/queue_maildrop.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

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

/* The stream of frames in fd. */
static int read_message(int fd, struct arena *arena, struct proto_queue_item *item,
                        struct vec *rcpts, struct err *err)
{
    struct maildrop_reader r;
    struct mail_envelope env = {0};
    struct frame f;
    bool has_envelope = false;
    int got;

    maildrop_reader_init(&r, fd);
    while ((got = maildrop_read(&r, &f, err)) == 1 && f.type != PROTO_END) {
        struct mail_rcpt rcpt;

        if (f.type == PROTO_ENVELOPE) {
            if (proto_decode(&f, &msg_envelope, &env, err) == -1)
                break;
            item->sender = arena_slice(arena, env.sender);
            has_envelope = true;
        } else if (f.type == PROTO_RCPT) {
            struct store_rcpt *s = arena_alloc(arena, sizeof(*s));

            if (proto_decode(&f, &msg_rcpt, &rcpt, err) == -1)
                break;
            s->r.addr = arena_slice(arena, rcpt.addr);
            vec_push(rcpts, s);
        } else if (f.type == PROTO_DATA) {
            item->size += f.payload.len;
        } else {
            err_input(err, "frame of unexpected type %u", f.type);
            break;
        }
    }
    if (got == 0 || (got == 1 && f.type == PROTO_END && !has_envelope))
        err_input(err, "the file has no end");
    maildrop_reader_fini(&r);
    return got == 1 && f.type == PROTO_END && has_envelope ? 0 : -1;
}

/* 1: a message; 0: not one (yet); -1. */
static int read_file(const struct queue_maildrop *w, const char *name, struct arena *arena,
                     struct proto_queue_item *item, struct vec *rcpts, struct err *err)
{
    struct stat st;
    int ret = -1;
    int fd = openat(dirfd(w->dir), name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

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
        *item = (struct proto_queue_item){
            .queue = SLICE_LIT("maildrop"),
            .queue_id = arena_slice(arena, slice_str(name)),
            .arrival_us =
                (uint64_t) st.st_mtim.tv_sec * 1000000 + (uint64_t) st.st_mtim.tv_nsec / 1000,
        };
        ret = read_message(fd, arena, item, rcpts, err) == 0 ? 1 : -1;
        if (ret == -1)
            err_prefix(err, "maildrop/%s: ", name);
    }
    fd_close(&fd);
    return ret;
}

int queue_maildrop_next(struct queue_maildrop *w, struct arena *arena,
                        struct proto_queue_item *item, struct store_rcpt **rcpts, size_t *nrcpts,
                        struct err *err)
{
    const struct dirent *e;

    while ((e = readdir(w->dir)) != NULL) { /* NOLINT(concurrency-mt-unsafe): a walk of its own */
        struct vec found = VEC_INIT;
        int got;

        if (!queue_id_valid(slice_str(e->d_name)))
            continue; /* a temporary file, ".", ".." */
        got = read_file(w, e->d_name, arena, item, &found, err);
        if (got == 1) {
            *nrcpts = found.len;
            *rcpts = arena_alloc(arena, (found.len + 1) * sizeof(**rcpts));
            for (size_t i = 0; i < found.len; i++)
                (*rcpts)[i] = *(struct store_rcpt *) found.items[i];
        }
        vec_fini(&found);
        if (got != 0)
            return got;
    }
    return 0;
}
