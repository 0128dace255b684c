/* SPDX-License-Identifier: Apache-2.0 */
/*
 * master_main.c - master(8): owns the listening sockets and the table of services; starts and ends workers.
 *
 * Started by postfix(1), with -r FD: there it says "ok", or why it cannot run.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/num.h"
#include "master/master_services.h"

#define PID_TEXT_BYTES 32    /* of pid/master.pid: what others read has this width */
#define FILES_WANTED   65536 /* descriptors: workers inherit the limit */

struct start {
    const char *dir;
    int ready_fd; /* -1: nobody waits */
};

NORETURN static void refuse(struct start *s, const char *why)
{
    if (s->ready_fd != -1 && fd_write_all(s->ready_fd, why, strlen(why)) == -1)
        log_debug("the command that started us has gone");
    fatal("%s", why);
}

static void reap(struct master *m)
{
    int status;
    pid_t pid;

    /* as process 1 of a container there are children of others, too */
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        bool known = false;

        for (size_t i = 0; i < m->services.len && !known; i++)
            known = service_reap(m->services.items[i], pid, status);
        for (size_t i = 0; i < m->leaving.len && !known; i++) {
            struct service *s = m->leaving.items[i];

            known = service_reap(s, pid, status);
            if (known && s->children.len == 0) {
                vec_remove(&m->leaving, i);
                service_free(&s);
            }
        }
    }
    master_check_end(m);
}

struct signals {
    struct master *m;
    struct loop_io *io;
    int fd;
};

static void on_signal(void *arg, unsigned events)
{
    struct signals *s = arg;
    struct signalfd_siginfo info;

    (void) events;
    while (read(s->fd, &info, sizeof(info)) == sizeof(info)) {
        struct buf why = BUF_INIT(65536);

        switch (info.ssi_signo) {
        case SIGCHLD:
            reap(s->m);
            break;
        case SIGHUP:
            if (master_reload(s->m, &why) == -1)
                log_debug("reload by signal refused"); /* the reason is in the log */
            break;
        default:
            log_info("terminating on signal %d", (int) info.ssi_signo);
            master_stop(s->m, info.ssi_signo == SIGQUIT);
            break;
        }
        buf_fini(&why);
    }
}

static void watch_signals(struct master *m, struct start *start)
{
    static const int wanted[] = {SIGCHLD, SIGHUP, SIGTERM, SIGINT, SIGQUIT};
    static struct signals signals; /* as long as the process */
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        sigaddset(&set, wanted[i]);
    signals.m = m;
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0 ||
        (signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) == -1)
        refuse(start, "signals cannot be received");
    signals.io = loop_io_new(m->loop, signals.fd, LOOP_READ, on_signal, &signals);
}

/* Opens and locks a file; -1 with err. The lock goes with the process, whatever ends it. */
static int lock_file(const char *path, struct err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);

    if (fd == -1)
        return err_sys(err, "open %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    if (errno == EWOULDBLOCK)
        err_temporary(err, "the mail system is already running (%s is locked)", path);
    else
        err_sys(err, "lock %s", path);
    fd_close(&fd);
    return -1;
}

static void take_locks(struct master *m, struct start *start, const struct generation *g)
{
    struct buf path = BUF_INIT(8192);
    struct err err = ERR_INIT;
    char text[PID_TEXT_BYTES + 1];

    m->pid_fd = lock_file("pid/master.pid", &err);
    if (m->pid_fd == -1)
        refuse(start, err.text);
    path_join(&path, g->common.data_directory, "master.lock");
    m->data_lock_fd = lock_file(buf_cstr(&path), &err);
    if (m->data_lock_fd == -1)
        refuse(start, err.text);
    (void) snprintf(text, sizeof(text), "%*d\n", PID_TEXT_BYTES - 1, (int) getpid());
    if (ftruncate(m->pid_fd, 0) == -1 || fd_pwrite_all(m->pid_fd, text, PID_TEXT_BYTES, 0) == -1)
        refuse(start, "cannot write pid/master.pid");
    buf_fini(&path);
}

static void raise_limits(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == -1 || r.rlim_cur >= FILES_WANTED)
        return;
    r.rlim_cur = r.rlim_max < FILES_WANTED ? r.rlim_max : FILES_WANTED;
    if (setrlimit(RLIMIT_NOFILE, &r) == -1)
        log_warning("the limit of open files cannot be raised: errno %d", errno);
}

static void take_options(struct master *m, struct start *start, int argc, char **argv)
{
    struct err err = ERR_INIT;
    int64_t n;
    int c;

    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    while ((c = getopt(argc, argv, "c:r:Dv")) != -1) {
        switch (c) {
        case 'c':
            start->dir = optarg;
            break;
        case 'r':
            if (num_parse_i64(slice_str(optarg), 0, 1000, &n, &err) == -1)
                fatal("option -r: %s", err.text);
            start->ready_fd = (int) n;
            break;
        case 'D':
            m->debug = true;
            break;
        case 'v':
            log_verbose(log_verbosity() + 1);
            break;
        default:
            fatal("usage: master [-Dv] [-c config_dir] [-r descriptor]");
        }
    }
    if (start->ready_fd != -1 && fd_set_cloexec(start->ready_fd, true) == -1)
        fatal("option -r: descriptor %d is not open", start->ready_fd);
}

int main(int argc, char **argv)
{
    static struct master master; /* callbacks point to it until the process is gone */
    struct master *m = &master;
    struct start start = {.dir = NULL, .ready_fd = -1};
    struct buf why = BUF_INIT(65536);
    struct generation *g = NULL;
    struct err err = ERR_INIT;
    char *dir;

    log_open(&(struct log_target){
        .syslog_name = "postfix", .program = "master", .maillog_fd = -1, .to_stderr = true});
    m->log_fd = m->pid_fd = m->data_lock_fd = m->postlog_fd = -1;
    take_options(m, &start, argc, argv);
    (void) signal(SIGPIPE, SIG_IGN);
    raise_limits();
    (void) umask(022);
    if (generation_load(start.dir, &g, &err) == -1 || make_directories(g, &err) == -1)
        refuse(&start, err.text);
    if (chdir(g->common.queue_directory) == -1)
        refuse(&start, "cannot change to the queue directory");
    dir = xstrdup(config_dir(g->cfg)); /* absolute, for we have changed directories */
    take_locks(m, &start, g);
    generation_unref(&g);
    m->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (m->null_fd == -1)
        refuse(&start, "cannot open /dev/null");
    m->metrics_fd = metrics_create(&err);
    if (m->metrics_fd == -1 || fd_set_cloexec(m->metrics_fd, true) == -1)
        refuse(&start, err.text);
    m->loop = loop_new();
    watch_signals(m, &start);
    m->log_relay = log_relay_start(&err);
    if (m->log_relay == NULL)
        refuse(&start, err.text);
    if (control_listen(m, &err) == -1)
        refuse(&start, err.text);
    if (master_load(m, dir, &why) == -1)
        refuse(&start, buf_cstr(&why));
    log_info("daemon started -- version %s, configuration %s", m->gen->common.mail_version, dir);
    free(dir);
    if (start.ready_fd != -1) {
        if (fd_write_all(start.ready_fd, "ok", 2) == -1)
            log_debug("the command that started us has gone");
        fd_close(&start.ready_fd);
    }
    m->notify = manager_notify_new(m->loop);
    manager_notify_ready(m->notify, m->services.len, "");
    buf_fini(&why);
    loop_run(m->loop);
    log_relay_stop(&m->log_relay);
    (void) unlink("private/control");
    return 0;
}
