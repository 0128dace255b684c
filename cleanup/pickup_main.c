/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pickup_main.c - pickup(8): brings what lies in maildrop/ into the queue. It wakes up once a minute, and when postdrop knocks.
 *
 * One message at a time, waiting for each: it has nothing else to do. A file is removed after the queue has its message; one that cannot be
 * (a file system that has become read-only) is remembered, so that its message does not come into the queue again each minute. Removals are
 * made durable as often as the store's notes are: a file that a power cut brings back comes into the queue a second time.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/htable.h"
#include "base/log.h"
#include "base/mtime.h"
#include "base/num.h"
#include "cleanup/receive.h"
#include "mail/flow.h"
#include "mail/intake.h"
#include "mail/maildrop.h"
#include "mail/queue_id.h"
#include "master/worker.h"

#define RESULT_TIMEOUT_MS 3600000
#define SYNC_INTERVAL_MS  200

struct pickup {
    struct intake_pool *intake;
    struct receive_options receive;
    const char *myhostname, *mail_name;
    bool long_ids;
    int64_t in_flow_delay_s;
    bool is_unsynced; /* files were removed */
    struct mono_time next_sync;
    struct htable
        *taken; /* names of files that the queue has, and that could not be removed: their inodes */
};

static int start(struct worker *w, struct err *err)
{
    struct pickup *p = xcalloc(1, sizeof(*p));
    struct buf path = BUF_INIT(512);
    const struct config *cfg = worker_config(w);

    p->taken = htable_new(false);
    worker_set_data(w, p);
    if (receive_options_read(cfg, &p->receive, err) == -1)
        return err_prefix(err, "receive_override_options: ");
    if (num_parse_time(slice_str(config_get(cfg, "in_flow_delay")), 's', 10, &p->in_flow_delay_s,
                       err) == -1)
        return err_prefix(err, "in_flow_delay: ");
    worker_service_path(w, "public", "cleanup_service_name", &path);
    p->intake = intake_pool_new(buf_cstr(&path), "pickup");
    p->myhostname = config_get(cfg, "myhostname");
    p->mail_name = config_get(cfg, "mail_name");
    p->long_ids = slice_caseeq_str(slice_str(config_get(cfg, "enable_long_queue_ids")), "yes");
    buf_fini(&path);
    return 0;
}

static int begin(struct pickup *p, struct mail_envelope env, const struct stat *st,
                 struct intake **in, char *id, struct err *err)
{
    struct buf from = BUF_INIT(SIZE_MAX);

    queue_id_new(p->long_ids, id);
    env.queue_id = slice_str(id);
    env.arrival_us =
        (uint64_t) st->st_mtim.tv_sec * 1000000 + (uint64_t) st->st_mtim.tv_nsec / 1000;
    env.flags |= MAIL_LOCAL_ORIGIN | MAIL_RECEIVED_DONE;
    receive_options_put(&p->receive, &env);
    log_put_address(&from, env.sender);
    log_info("%s: uid=%ld from=%s", id, (long) st->st_uid, buf_cstr(&from));
    buf_fini(&from);
    *in = intake_begin(p->intake, &env, err);
    return *in == NULL ? -1 : 0;
}

static int put_received(const struct pickup *p, struct intake *in, const char *id,
                        const struct stat *st, struct err *err)
{
    struct buf line = BUF_INIT(2048);
    int ret;

    intake_received(&line, p->myhostname, p->mail_name, st->st_uid, id);
    ret = intake_data(in, buf_view(&line), err);
    buf_fini(&line);
    return ret;
}

/* 0: in the queue; 1: refused for good; -1: later. */
static int submit(struct pickup *p, int fd, const struct stat *st, char *id, struct err *err)
{
    struct maildrop_reader r;
    struct proto_result result;
    struct intake *in = NULL;
    struct frame f;
    bool ended = false;
    bool content = false;
    int ret = -1;

    maildrop_reader_init(&r, fd);
    while (!ended) {
        struct mail_envelope env;
        struct mail_rcpt rcpt;
        int res = maildrop_read(&r, &f, err);

        if (res <= 0) {
            if (res == 0)
                err_input(err, "the file has no end");
            ret = 1;
            goto done;
        }
        if (f.type == PROTO_ENVELOPE && in == NULL) {
            if (proto_decode(&f, &msg_envelope, &env, err) == -1) {
                ret = 1;
                goto done;
            }
            if (begin(p, env, st, &in, id, err) == -1)
                goto done;
        } else if (f.type == PROTO_RCPT && in != NULL && !content) {
            if (proto_decode(&f, &msg_rcpt, &rcpt, err) == -1) {
                ret = 1;
                goto done;
            }
            if (intake_rcpt(in, &rcpt, err) == -1)
                goto done;
        } else if (f.type == PROTO_DATA && in != NULL) {
            if (!content && put_received(p, in, id, st, err) == -1)
                goto done;
            content = true;
            if (intake_data(in, f.payload, err) == -1)
                goto done;
        } else if (f.type == PROTO_END && in != NULL) {
            ended = true;
        } else {
            err_input(err, "frame of unexpected type %u", f.type);
            ret = 1;
            goto done;
        }
    }
    if ((!content && put_received(p, in, id, st, err) == -1) || intake_end(in, err) == -1 ||
        intake_wait(in, RESULT_TIMEOUT_MS, &result, err) != CHAN_OK)
        goto done;
    if (result.status == PROTO_OK) {
        ret = 0;
    } else {
        err_set(err, ERR_TEMPORARY, "", "%.*s %.*s", SLICE_FMT(result.code),
                SLICE_FMT(result.text));
        ret = result.status == PROTO_PERMANENT ? 1 : -1;
    }
done:
    intake_free(&in);
    maildrop_reader_fini(&r);
    return ret;
}

/* What can never get in is kept aside, where nobody loses it. */
static void set_aside(const char *path, const char *name)
{
    struct buf to = BUF_INIT(4096);

    buf_printf(&to, "corrupt/%s", name);
    if (rename(path, buf_cstr(&to)) == -1)
        log_warning("maildrop file %s could not be moved to corrupt: errno %d", name, errno);
    buf_fini(&to);
}

/* The queue has its message. */
static void remove_file(struct pickup *p, const char *path, const char *name, const struct stat *st)
{
    ino_t *inode = htable_get(p->taken, slice_str(name));
    char text[128];

    if (unlink(path) == 0 || errno == ENOENT) {
        p->is_unsynced = true;
        if (inode != NULL)
            free(htable_remove(p->taken, slice_str(name)));
        return;
    }
    log_warning("maildrop file %s could not be removed, its message is in the queue: %s", name,
                err_errno_text(errno, text, sizeof(text)));
    if (inode == NULL) {
        inode = xmalloc(sizeof(*inode));
        (void) htable_put(p->taken, slice_str(name), inode);
    }
    *inode = st->st_ino;
}

static bool is_taken(const struct pickup *p, const char *name, const struct stat *st)
{
    const ino_t *inode = htable_get(p->taken, slice_str(name));

    return inode != NULL && *inode == st->st_ino;
}

static bool pick_up(struct pickup *p, const char *name)
{
    struct buf path = BUF_INIT(4096);
    struct err err = ERR_INIT;
    char id[QUEUE_ID_MAX + 1] = "";
    struct stat st;
    bool go_on = true;
    int fd;

    buf_printf(&path, "maildrop/%s", name);
    fd = open(buf_cstr(&path), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd == -1 || fstat(fd, &st) == -1) {
        if (errno != ENOENT)
            log_warning("maildrop file %s: errno %d", name, errno);
        goto done;
    }
    /* not executable: postdrop is still writing it */
    if (!S_ISREG(st.st_mode) || (st.st_mode & 0100) == 0)
        goto done;
    if (is_taken(p, name, &st)) {
        remove_file(p, buf_cstr(&path), name, &st);
        goto done;
    }
    switch (submit(p, fd, &st, id, &err)) {
    case 0:
        remove_file(p, buf_cstr(&path), name, &st);
        break;
    case 1:
        log_warning("%s%smaildrop file %s is set aside in corrupt: %s", id,
                    id[0] != '\0' ? ": " : "", name, err.text);
        set_aside(buf_cstr(&path), name);
        break;
    default:
        log_warning("%s%smaildrop file %s waits: %s", id, id[0] != '\0' ? ": " : "", name,
                    err.text);
        go_on = false;
        break;
    }
done:
    fd_close(&fd);
    buf_fini(&path);
    return go_on;
}

static void sync_removals(struct pickup *p, DIR *dir)
{
    char text[128];

    if (fsync(dirfd(dir)) == -1)
        log_warning("maildrop: removed files may come back after a power cut: %s",
                    err_errno_text(errno, text, sizeof(text)));
    p->is_unsynced = false;
    p->next_sync = mono_after_ms(mono_now(), SYNC_INTERVAL_MS);
}

static void wakeup(struct worker *w)
{
    struct pickup *p = worker_data(w);
    DIR *dir = opendir("maildrop");
    const struct dirent *e;
    bool go_on = true;

    if (dir == NULL) {
        log_warning("maildrop: errno %d", errno);
        return;
    }
    while (go_on && (e = readdir(dir)) != NULL) /* NOLINT(concurrency-mt-unsafe): own stream */
        if (e->d_name[0] != '.') {
            if (p->in_flow_delay_s > 0 && flow_must_pause())
                (void) poll(NULL, 0, (int) p->in_flow_delay_s * 1000);
            go_on = pick_up(p, e->d_name);
            if (p->is_unsynced && mono_diff_us(p->next_sync, mono_now()) <= 0)
                sync_removals(p, dir);
        }
    if (p->is_unsynced)
        sync_removals(p, dir);
    closedir(dir);
    intake_pool_trim(p->intake);
}

/* postdrop has something; what it writes does not matter. */
static void accepted(struct worker *w, struct loop *l, const struct worker_client *c)
{
    int fd = c->fd;

    (void) l;
    fd_close(&fd);
    wakeup(w);
}

static int ready(struct worker *w, struct err *err)
{
    (void) err;
    wakeup(w);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct worker_service service = {
        .program = "pickup",
        .shape = WORKER_LOOP,
        .reads_maildrop = true,
        .start = start,
        .ready = ready,
        .accepted = accepted,
        .wakeup = wakeup,
    };

    return worker_main(argc, argv, &service);
}
