/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import_queue_main.c - import-queue(8), for "postfix import-queue": takes the mail of a stopped Postfix into our queue.
 *
 * It is a writer of the store beside cleanup: what it has put is durable, and while the mail system runs qmgr is told at once. While that is
 * stopped it has the queue's lock as well, so that nothing starts meanwhile. Foreign bytes are parsed as mail_owner, with the
 * one privilege to read files of others.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "cleanup/cleanup_int.h"
#include "cleanup/import_int.h"
#include "qmgr/queue_client.h"

#define STATUS_SOME 1 /* something stays out */
#define STATUS_NONE 2 /* it did not begin */

struct command {
    struct queue_client q;
    struct importer im;
    struct notify *notify; /* NULL: the mail system is stopped */
    int pid_fd;            /* keeps Postfix from starting there */
};

NORETURN static void usage(void)
{
    fatal("usage: import-queue [-c config_dir] [-v] directory");
}

/* Its master holds a lock on this file. With a lock of ours it will not start; the file stays as it is. */
static void lock_directory(struct command *c)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char why[128];

    c->pid_fd = openat(c->im.dir, "pid/master.pid", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (c->pid_fd == -1) {
        if (errno != ENOENT)
            fatal("%s/pid/master.pid: %s: cannot tell whether Postfix runs", c->im.name,
                  err_errno_text(errno, why, sizeof(why)));
        return;
    }
    if (flock(c->pid_fd, LOCK_SH | LOCK_NB) == -1 ||
        (fcntl(c->pid_fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK))
        fatal("the Postfix of %s is running: stop it first", c->im.name);
}

static bool has_queue(const struct command *c)
{
    static const char *const any[] = {"incoming", "active", "deferred", "hold", "maildrop"};

    for (size_t i = 0; i < ARRAY_LEN(any); i++)
        if (faccessat(c->im.dir, any[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            return true;
    return false;
}

static void open_directory(struct command *c, const char *name)
{
    const char *ours = c->q.common.queue_directory;
    struct stat a;
    struct stat b;
    char why[128];

    c->im.name = name;
    c->im.dir = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->im.dir == -1 || fstat(c->im.dir, &a) == -1)
        fatal("%s: %s", name, err_errno_text(errno, why, sizeof(why)));
    if (stat(ours, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        fatal("%s is the queue directory of this mail system: move Postfix's directories in it "
              "(incoming, active, deferred, hold, maildrop, corrupt, defer, bounce, trace) to "
              "another one, and name that",
              name);
    if (!has_queue(c))
        fatal("%s is not a queue directory: there is no incoming, active, deferred, hold or "
              "maildrop in it",
              name);
    lock_directory(c);
}

/* Becomes mail_owner; as root that was, may still read what belongs to others. */
static void drop_privilege(const struct command *c)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};

    if (geteuid() != 0)
        return;
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == -1)
        fatal("keep capabilities: errno %d", errno);
    queue_client_become_owner(&c->q);
    data[0].permitted = data[0].effective = 1U << CAP_DAC_READ_SEARCH;
    if (syscall(SYS_capset, &head, data) == -1) {
        data[0].permitted = data[0].effective = 0;
        if (syscall(SYS_capset, &head, data) == -1)
            fatal("drop capabilities: errno %d", errno);
        log_warning("only files that %s may read will be found", c->q.common.mail_owner);
    }
}

static void make_directories_of_store(const struct command *c)
{
    const char *dir = c->q.common.queue_directory;
    struct err err = ERR_INIT;
    uid_t uid = geteuid();
    gid_t gid = getegid();

    if (uid == 0) {
        const struct passwd *pw =
            getpwnam(c->q.common.mail_owner); /* NOLINT(concurrency-mt-unsafe): no threads */

        if (pw == NULL)
            fatal("mail_owner: no such user: %s", c->q.common.mail_owner);
        uid = pw->pw_uid;
        gid = pw->pw_gid;
    }
    if (store_make_directories(dir, uid, gid, &err) == -1)
        fatal("%s", err.text);
}

static void on_damage(void *arg, const char *text)
{
    (void) arg;
    log_warning("%s", text);
}

/* What is in our queue now; and either the queue's lock, or the way to the qmgr that has it. */
static void open_present(struct command *c, const struct store_options *opt)
{
    static const struct store_events events = {NULL, on_damage};
    struct chan *chan;
    struct err err = ERR_INIT;
    int ret;

    chan = queue_client_connect(&c->q, &err);
    if (chan != NULL) {
        struct buf path = BUF_INIT(SIZE_MAX);

        chan_free(&chan);
        buf_printf(&path, "%s/public/%s", opt->queue_directory,
                   config_get(c->q.cfg, "queue_service_name"));
        c->notify = notify_new(buf_cstr(&path));
        buf_fini(&path);
        ret = store_open_readonly(opt, &events, c, &c->im.present, &err);
    } else {
        ret = store_open(opt, &events, c, &c->im.present, &err);
    }
    if (ret == -1 || store_recover(c->im.present, &err) == -1)
        fatal("%s", err.text);
}

/* While the mail system is stopped. */
static void nobody_to_tell(void *arg, uint64_t source, uint64_t end)
{
    (void) arg;
    (void) source;
    (void) end;
}

static void open_ours(struct command *c)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    struct store_options opt;
    struct err err = ERR_INIT;

    queue_client_store_options(&c->q, &opt);
    path_join(&path, c->q.common.data_directory, "imported");
    if (import_ledger_open(buf_cstr(&path), &c->im.ledger, &err) == -1)
        fatal("%s", err.text);
    buf_fini(&path);
    open_present(c, &opt);
    if (store_writer_open(&opt, c->notify != NULL ? notify_committed : nobody_to_tell, c->notify,
                          &c->im.writer, &err) == -1)
        fatal("%s", err.text);
    c->im.queue_directory = opt.queue_directory;
    c->im.long_ids =
        slice_caseeq_str(slice_str(config_get(c->q.cfg, "enable_long_queue_ids")), "yes");
    c->im.arena = arena_new(0);
}

/* It would look by itself once a minute. */
static void wake_pickup(const struct command *c)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    int fd;

    if (c->im.imported[IMPORT_MAILDROP] == 0 || c->notify == NULL)
        return;
    buf_printf(&path, "%s/public/%s", c->im.queue_directory,
               config_get(c->q.cfg, "pickup_service_name"));
    fd = unix_connect(buf_cstr(&path), 0, NULL);
    if (fd == -1 || fd_write_all(fd, "W", 1) == -1)
        log_debug("pickup is not woken");
    fd_close(&fd);
    buf_fini(&path);
}

static void close_ours(struct command *c)
{
    store_writer_close(&c->im.writer);
    notify_free(&c->notify);
    store_close(&c->im.present);
    import_ledger_close(&c->im.ledger);
    arena_free(&c->im.arena);
}

static int summary(const struct importer *im)
{
    const unsigned long *n = im->imported;
    unsigned long total = 0;

    for (size_t i = 0; i < IMPORT_STATES; i++)
        total += n[i];
    log_info("%s: imported %lu message%s (hold %lu, deferred %lu, active %lu, incoming %lu, "
             "maildrop %lu, corrupt %lu)",
             im->name, total, total == 1 ? "" : "s", n[IMPORT_HOLD], n[IMPORT_DEFERRED],
             n[IMPORT_ACTIVE], n[IMPORT_INCOMING], n[IMPORT_MAILDROP], n[IMPORT_CORRUPT]);
    log_info("%s: %lu imported before, %lu with nobody left to deliver to, %lu incomplete, %lu not "
             "imported",
             im->name, im->repeated, im->finished, im->unfinished, im->failed);
    if (im->stopped)
        log_error("stopped before the end, as the queue cannot take more: what is in it is "
                  "passed over when the command is given again");
    return im->failed > 0 || im->stopped ? STATUS_SOME : 0;
}

int main(int argc, char **argv)
{
    struct command c = {.pid_fd = -1};
    const char *config_dir_given = NULL;
    int verbose = 0;
    int option;
    int status;

    log_fatal_status(STATUS_NONE);
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    while ((option = getopt(argc, argv, "c:v")) != -1) {
        if (option == 'c')
            config_dir_given = optarg;
        else if (option == 'v')
            verbose++;
        else
            usage();
    }
    if (optind + 1 != argc)
        usage();
    queue_client_init(&c.q, "import-queue", config_dir_given);
    log_fatal_status(STATUS_NONE);
    log_verbose(verbose);
    (void) umask(077);
    (void) signal(SIGPIPE, SIG_IGN); /* a daemon that has gone is no reason to stop */
    open_directory(&c, argv[optind]);
    make_directories_of_store(&c);
    drop_privilege(&c);
    open_ours(&c);
    import_queue(&c.im);
    wake_pickup(&c);
    status = summary(&c.im);
    close_ours(&c);
    fd_close(&c.pid_fd);
    fd_close(&c.im.dir);
    queue_client_fini(&c.q);
    return status;
}
