/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import_put.c - an imported message into our store, as cleanup does it; or into maildrop/, as postdrop does.
 *
 * The content is read a second time: the envelope may say things behind the content, and what a file has is known to be sound
 * before anything is written.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/lock.h"
#include "base/log.h"
#include "cleanup/import_int.h"
#include "mail/maildrop.h"

/* Reads the content again, and hands it to fn. */
static int read_content(const struct import_put *p, import_content_fn fn, void *arg,
                        struct err *err)
{
    struct arena *arena = arena_new(0);
    struct import_message again;
    struct import_reader r;
    int ret;

    import_message_init(&again, arena);
    import_reader_init(&r, p->f->fd, (uint64_t) p->f->st.st_size);
    ret = import_message_read(&again, &r, fn, arg, err);
    if (ret == 0 && again.facts.bytes != p->m->facts.bytes)
        ret = err_permanent(err, "the file changes while it is read");
    import_reader_fini(&r);
    import_message_fini(&again);
    arena_free(&arena);
    return ret;
}

/* --- the queue --------------------------------------------------------------------------------- */

struct queue_put {
    struct importer *im;
    struct store_put *put;
    struct lock lock;
    pthread_cond_t cond;
    bool over GUARDED_BY(lock);
    int result GUARDED_BY(lock);
    struct err err GUARDED_BY(lock);
};

static int write_store(void *arg, struct slice wire, struct err *err)
{
    struct queue_put *q = arg;

    if (store_put_write(q->put, wire, err) == 0)
        return 0;
    q->im->stopped = true;
    return -1;
}

static void committed(void *arg, int result, const struct err *err)
{
    struct queue_put *q = arg;

    lock_take(&q->lock);
    q->over = true;
    q->result = result;
    if (result == -1)
        q->err = *err;
    (void) pthread_cond_signal(&q->cond);
    lock_release(&q->lock);
}

int import_put_queue(struct import_put *p, struct err *err)
{
    struct queue_put q = {.im = p->f->im, .err = ERR_INIT};
    int ret;

    q.put = store_put_begin(p->f->im->writer);
    ret = read_content(p, write_store, &q, err);
    if (ret == -1) {
        store_put_abort(&q.put);
        return -1;
    }
    lock_init(&q.lock, LOCK_SESSION);
    (void) pthread_cond_init(&q.cond, NULL);
    store_put_commit(&q.put, &p->env, p->rcpts, p->nrcpts, committed, &q);
    lock_take(&q.lock);
    while (!q.over)
        lock_wait(&q.lock, &q.cond);
    ret = q.result;
    if (ret == -1) {
        *err = q.err;
        p->f->im->stopped = q.err.kind == ERR_TEMPORARY;
    }
    lock_release(&q.lock);
    (void) pthread_cond_destroy(&q.cond);
    lock_fini(&q.lock);
    return ret;
}

/* --- maildrop ---------------------------------------------------------------------------------- */

struct maildrop_put {
    struct importer *im;
    int fd;
};

static int put_bytes(const struct maildrop_put *d, struct slice bytes, struct err *err)
{
    if (fd_write_all(d->fd, bytes.ptr, bytes.len) == 0)
        return 0;
    d->im->stopped = true;
    return err_sys(err, "write a file in maildrop");
}

static int write_data(void *arg, struct slice wire, struct err *err)
{
    struct buf frame = BUF_INIT(SIZE_MAX);
    int ret = 0;

    while (wire.len > 0 && ret == 0) {
        struct slice piece = slice_sub(wire, 0, FRAME_PAYLOAD_MAX);

        buf_reset(&frame);
        maildrop_put(&frame, PROTO_DATA, piece);
        ret = put_bytes(arg, buf_view(&frame), err);
        wire = slice_sub(wire, piece.len, wire.len);
    }
    buf_fini(&frame);
    return ret;
}

static int write_envelope(const struct import_put *p, const struct maildrop_put *d, struct err *err)
{
    const struct mail_envelope env = {
        .queue_id = SLICE_LIT("MAILDROP"),
        .sender = p->env.sender,
        .flags = p->env.flags & (MAIL_8BITMIME | MAIL_SMTPUTF8),
        .dsn_ret = p->env.dsn_ret,
        .dsn_envid = p->env.dsn_envid,
        .full_name = p->env.full_name,
    };
    struct buf out = BUF_INIT(SIZE_MAX);
    int ret = maildrop_put_msg(&out, &msg_envelope, &env, err);

    for (size_t i = 0; i < p->nrcpts && ret == 0; i++)
        ret = maildrop_put_msg(&out, &msg_rcpt, &p->rcpts[i], err);
    if (ret == 0)
        ret = put_bytes(d, buf_view(&out), err);
    buf_fini(&out);
    return ret;
}

/* Complete and on disk, with the time of arrival; only then pickup may have it. */
static int finish_file(const struct import_put *p, const struct maildrop_put *d, struct err *err)
{
    const struct timespec when = {.tv_sec = (time_t) (p->env.arrival_us / 1000000),
                                  .tv_nsec = (long) (p->env.arrival_us % 1000000) * 1000};
    struct buf end = BUF_INIT(64);
    int ret;

    maildrop_put(&end, PROTO_END, SLICE_EMPTY);
    ret = put_bytes(d, buf_view(&end), err);
    buf_fini(&end);
    if (ret == 0 && (futimens(d->fd, (const struct timespec[]){when, when}) == -1 ||
                     fchmod(d->fd, 0740) == -1 || fsync(d->fd) == -1)) {
        d->im->stopped = true;
        ret = err_sys(err, "write a file in maildrop");
    }
    return ret;
}

static bool is_there(const char *path, uint64_t arrival_us)
{
    struct stat st;

    return lstat(path, &st) == 0 && (st.st_mode & 0100) != 0 &&
           (uint64_t) st.st_mtim.tv_sec * 1000000 + (uint64_t) st.st_mtim.tv_nsec / 1000 ==
               arrival_us;
}

int import_put_maildrop(struct import_put *p, struct err *err)
{
    struct maildrop_put d = {.im = p->f->im, .fd = -1};
    struct buf path = BUF_INIT(SIZE_MAX);
    struct buf dir = BUF_INIT(SIZE_MAX);
    int ret = -1;

    buf_printf(&dir, "%s/maildrop", d.im->queue_directory);
    buf_printf(&path, "%s/%.*s", buf_cstr(&dir), SLICE_FMT(p->env.queue_id));
    if (is_there(buf_cstr(&path), p->env.arrival_us)) {
        ret = 1;
        goto done;
    }
    d.fd = open(buf_cstr(&path), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (d.fd == -1) {
        d.im->stopped = errno != EEXIST;
        err_sys(err, "create %s", buf_cstr(&path));
        goto done;
    }
    if (write_envelope(p, &d, err) == 0 && read_content(p, write_data, &d, err) == 0 &&
        finish_file(p, &d, err) == 0 && dir_sync(buf_cstr(&dir), err) == 0)
        ret = 0;
    if (ret == -1 && unlink(buf_cstr(&path)) == -1)
        log_warning("cannot remove %s, which is not complete", buf_cstr(&path));
done:
    fd_close(&d.fd);
    buf_fini(&path);
    buf_fini(&dir);
    return ret;
}
