/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr_main.c - the qmgr(8) process: the queue manager on the worker framework. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include "base/file.h"
#include "base/log.h"
#include "qmgr/qmgr_int.h"

#define WRITABLE_POLL_MS 200

/* The flag alone does not tell: ext4 that was aborted lacks it (Linux 6.15 and later), and refuses every change all the same. */
static bool is_read_only(void)
{
    struct statvfs st;
    int fd;
    bool is;

    if (statvfs(".", &st) == 0 && (st.f_flag & ST_RDONLY) != 0)
        return true;
    fd = open("journal", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600); /* a file without a name */
    is = fd == -1 && errno == EROFS;
    fd_close(&fd);
    return is;
}

/* Nothing of the store can be opened on a file system that is read-only. To leave would have master start another qmgr, again and again. */
static void wait_for_writable(struct worker *w)
{
    bool said = false;

    while (is_read_only()) {
        if (!said)
            log_warning("queue: its file system is read-only; waiting for that to end");
        said = true;
        if (worker_wait(w, WRITABLE_POLL_MS))
            exit(0); /* there is nothing that was begun */
    }
    if (said)
        log_info("queue: its file system can be written again");
}

static int start(struct worker *w, struct err *err)
{
    struct qmgr *q;
    uid_t uid;
    gid_t gid;

    worker_owner(w, &uid, &gid);
    /* read-only: ready() waits for that to end; directories that are missing then, the next qmgr makes */
    if (store_refuse_foreign(".", err) == -1 ||
        (!is_read_only() && store_make_directories(".", uid, gid, err) == -1) ||
        qmgr_new(w, worker_config(w), &q, err) == -1)
        return -1;
    worker_set_data(w, q);
    worker_set_maps(w, q->gen->maps);
    return 0;
}

/* Without privileges: what the store makes belongs to mail_owner. */
static int ready(struct worker *w, struct err *err)
{
    wait_for_writable(w);
    return qmgr_begin(worker_data(w), worker_loop(w), err);
}

static void accepted(struct worker *w, struct loop *l, const struct worker_client *client)
{
    (void) l;
    server_accepted(worker_data(w), client->fd);
}

static bool reload(struct worker *w, const struct config *cfg, struct err *err)
{
    return qmgr_reload(worker_data(w), cfg, err) == 0;
}

static void wakeup(struct worker *w)
{
    qmgr_wake(worker_data(w));
}

static void drained(struct qmgr *q)
{
    worker_leave(q->worker);
}

static void drain(struct worker *w)
{
    qmgr_drain(worker_data(w), drained);
}

static void stop(struct worker *w)
{
    struct qmgr *q = worker_data(w);

    qmgr_end(&q);
}

int main(int argc, char **argv)
{
    static const struct worker_service service = {
        .program = "qmgr",
        .reads_maildrop = true, /* to list what pickup has not fetched yet */
        .shape = WORKER_LOOP,
        .start = start,
        .ready = ready,
        .accepted = accepted,
        .reload = reload,
        .wakeup = wakeup,
        .drain = drain,
        .stop = stop,
    };

    return worker_main(argc, argv, &service);
}
