/* SPDX-License-Identifier: Apache-2.0 */
/*
 * master_main.c - master(8): owns the listening sockets and the table of services; reloads as a transaction.
 *
 * Started by postfix(1) with -r FD: there it says "ok", or why it cannot run.
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/num.h"
#include "master/master_services.h"

static struct master master;
static int ready_fd = -1;

NORETURN static void refuse(const char *why)
{
    if (ready_fd != -1 && fd_write_all(ready_fd, why, strlen(why)) == -1)
        _exit(1);
    fatal("%s", why);
}

/* Names of services, to compare two generations. */
static struct service *find(struct vec *services, const struct master_service *cf)
{
    for (size_t i = 0; i < services->len; i++) {
        struct service *s = services->items[i];

        if (s->cf->type == cf->type && strcmp(s->cf->name, cf->name) == 0)
            return s;
    }
    return NULL;
}

/* Opens what the generation needs; on failure nothing of the old is touched. */
static int open_all(const struct generation *g, struct vec *old, struct listeners **out,
                    struct err *err)
{
    struct listeners *all = xcalloc(g->cf->services.len + 1, sizeof(*all));
    struct listeners *have = xcalloc(old->len + 1, sizeof(*have));
    int ret = 0;

    /* copies of the lists, so that what is taken can be put back by forgetting it */
    for (size_t i = 0; i < old->len; i++) {
        const struct listeners *l = &((const struct service *) old->items[i])->listeners;

        have[i].count = l->count;
        have[i].keys = l->keys;
        have[i].fds = xcalloc(l->count + 1, sizeof(int));
        memcpy(have[i].fds, l->fds, l->count * sizeof(int));
    }
    for (size_t i = 0; i < g->cf->services.len && ret == 0; i++) {
        const struct master_service *cf = g->cf->services.items[i];

        if (service_kind(g, cf) == SERVICE_RUN)
            ret = listeners_open(g, cf, have, old->len, &all[i], err);
    }
    /* every socket is a descriptor of its own from here on, old ones by dup: either side can be closed alone */
    for (size_t i = 0; i < g->cf->services.len; i++) {
        for (size_t k = 0; k < all[i].count; k++) {
            bool shared = false;

            for (size_t o = 0; o < old->len; o++)
                for (size_t n = 0; n < have[o].count; n++)
                    shared |=
                        ((const struct service *) old->items[o])->listeners.fds[n] == all[i].fds[k];
            if (shared)
                all[i].fds[k] = fcntl(all[i].fds[k], F_DUPFD_CLOEXEC, 0);
        }
        if (ret == -1)
            listeners_close(&all[i]);
    }
    for (size_t i = 0; i < old->len; i++)
        free(have[i].fds);
    free(have);
    if (ret == -1)
        free(all);
    else
        *out = all;
    return ret;
}

/* Puts the generation in force. Cannot fail. */
static void adopt(struct generation *g, struct listeners *all)
{
    struct master *m = &master;
    struct generation *old = m->gen;
    struct vec services = VEC_INIT;

    m->gen = g;
    for (size_t i = 0; i < g->cf->services.len; i++) {
        const struct master_service *cf = g->cf->services.items[i];
        struct service *s = find(&m->services, cf);

        if (service_kind(g, cf) == SERVICE_ABSORBED) {
            log_debug("service %s (%s) is built in", cf->name, cf->command);
            continue;
        }
        if (service_kind(g, cf) == SERVICE_MISSING) {
            log_warning("%s, line %d: service %s: there is no program %s in %s", g->cf->path,
                        cf->line, cf->name, cf->command, g->common.daemon_directory);
            continue;
        }
        if (s != NULL) {
            service_take_listeners(s, &all[i]);
            s->cf = cf;
            service_drain(s, true);
            for (size_t k = 0; k < m->services.len; k++)
                if (m->services.items[k] == s)
                    m->services.items[k] = NULL;
        } else {
            s = service_new(m, cf, &all[i]);
        }
        vec_push(&services, s);
    }
    /* what is left is gone from master.cf: its workers finish, then it goes */
    for (size_t i = 0; i < m->services.len; i++) {
        struct service *s = m->services.items[i];
        struct listeners none = {0};

        if (s == NULL)
            continue;
        s->removed = true;
        service_take_listeners(s, &none);
        service_drain(s, false);
        loop_timer_cancel(s->wakeup);
        vec_push(&m->leaving, s);
    }
    vec_fini(&m->services);
    m->services = services;
    for (size_t i = 0; i < services.len; i++)
        service_begin(services.items[i]);
    free(all);
    /* services that leave still point into the old generation: it goes with the last of them */
    if (old != NULL && m->leaving.len == 0)
        generation_free(&old);
}

static void collect(bool is_fatal, const char *text, void *arg)
{
    struct buf *b = arg;

    if (!is_fatal) {
        log_warning("%s", text);
        return;
    }
    if (b->len > 0)
        buf_puts(b, "; ");
    buf_puts(b, text);
}

/* Reads files and checks everything; why gets the reasons. */
static struct generation *prepare(const char *dir, struct listeners **all, struct buf *why)
{
    struct generation *g = NULL;
    struct err err = ERR_INIT;

    if (generation_load(dir, &g, &err) == -1) {
        buf_puts(why, err.text);
        return NULL;
    }
    if (check_generation(g, collect, why) > 0) {
        generation_free(&g);
        return NULL;
    }
    if (open_all(g, &master.services, all, &err) == -1) {
        buf_puts(why, err.text);
        generation_free(&g);
    }
    return g;
}

static int open_maillog(const struct generation *g, struct err *err)
{
    const char *path = g->common.maillog_file;
    int fd;

    if (path[0] == '\0')
        return -1;
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd == -1)
        err_sys(err, "maillog_file %s", path);
    return fd;
}

static void open_log(const struct generation *g)
{
    log_open(&(struct log_target){.syslog_name = g->common.syslog_name,
                                  .program = "master",
                                  .facility = g->common.syslog_facility,
                                  .maillog_fd = master.log_fd,
                                  .no_syslog = g->common.maillog_file[0] != '\0'});
}

static int reload(struct buf *why)
{
    struct listeners *all = NULL;
    struct err err = ERR_INIT;
    struct generation *g = prepare(config_dir(master.gen->cfg), &all, why);
    int log_fd = -1;

    if (g == NULL) {
        log_error("reload refused, the old configuration goes on: %s", buf_cstr(why));
        return -1;
    }
    log_fd = open_maillog(g, &err);
    if (log_fd != -1 || g->common.maillog_file[0] == '\0') {
        fd_close(&master.log_fd);
        master.log_fd = log_fd;
    }
    open_log(g);
    adopt(g, all);
    log_info("reload -- version %s, configuration %s", g->common.mail_version, config_dir(g->cfg));
    return 0;
}

/* --- stopping --------------------------------------------------------------------------------------- */

static void finish_if_empty(void)
{
    size_t n = 0;

    for (size_t i = 0; i < master.services.len; i++)
        n += ((const struct service *) master.services.items[i])->children.len;
    for (size_t i = 0; i < master.leaving.len; i++)
        n += ((const struct service *) master.leaving.items[i])->children.len;
    if (master.stopping && n == 0)
        loop_stop(master.loop);
}

static void on_each(void (*fn)(struct service *, int), int arg)
{
    for (size_t i = 0; i < master.services.len; i++)
        fn(master.services.items[i], arg);
    for (size_t i = 0; i < master.leaving.len; i++)
        fn(master.leaving.items[i], arg);
}

static struct loop_timer *stop_timer;
static int stop_signal;

static void on_stop_timer(void *arg)
{
    (void) arg;
    stop_signal = stop_signal == 0 ? SIGTERM : SIGKILL;
    on_each(service_kill, stop_signal);
    loop_timer_set(stop_timer, 2000);
}

static void drain_one(struct service *s, int unused)
{
    (void) unused;
    service_drain(s, false);
}

static void stop(bool now)
{
    if (!master.stopping) {
        master.stopping = true;
        log_info("terminating on signal 15");
        on_each(drain_one, 0);
        stop_timer = loop_timer_new(master.loop, on_stop_timer, NULL);
    }
    loop_timer_set(stop_timer, now ? 0 : master.gen->p.stop_grace_s * 1000);
    finish_if_empty();
}

/* --- signals and control ------------------------------------------------------------------------------ */

static void reap(void)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        bool known = false;

        for (size_t i = 0; i < master.services.len && !known; i++)
            known = service_reap(master.services.items[i], pid, status);
        for (size_t i = 0; i < master.leaving.len && !known; i++) {
            struct service *s = master.leaving.items[i];

            known = service_reap(s, pid, status);
            if (known && s->children.len == 0) {
                vec_remove(&master.leaving, i);
                service_free(&s);
            }
        }
    }
    finish_if_empty();
}

static void on_signal(void *arg, unsigned events)
{
    struct signalfd_siginfo info;
    int fd = *(int *) arg;

    (void) events;
    while (read(fd, &info, sizeof(info)) == sizeof(info)) {
        struct buf why = BUF_INIT(65536);

        switch (info.ssi_signo) {
        case SIGCHLD:
            reap();
            break;
        case SIGHUP:
            (void) reload(&why); /* the reason is in the log */
            break;
        default:
            stop(info.ssi_signo == SIGQUIT);
            break;
        }
        buf_fini(&why);
    }
}

struct control {
    struct chan *chan;
    struct loop_io *io;
};

static void answer(struct control *c, int status, const char *text)
{
    struct proto_result result = {.status = (uint32_t) status,
                                  .text = slice_sub(slice_str(text), 0, 4000)};
    struct err err = ERR_INIT;

    if (proto_put(c->chan, &msg_result, &result, -1, &err) == -1 ||
        chan_flush(c->chan, &err) != CHAN_OK)
        log_warning("answer to postfix(1): %s", err.text);
}

static void on_control(void *arg, unsigned events)
{
    struct control *c = arg;
    struct proto_control op;
    struct err err = ERR_INIT;
    struct frame f;
    enum chan_result res;

    (void) events;
    while ((res = chan_get(c->chan, &f, &err)) == CHAN_OK) {
        struct buf why = BUF_INIT(65536);

        if (f.type == PROTO_HELLO)
            continue;
        if (proto_decode(&f, &msg_control, &op, &err) == -1) {
            answer(c, PROTO_PERMANENT, err.text);
        } else if (op.op == CONTROL_RELOAD) {
            int ret = reload(&why);

            answer(c, ret == 0 ? PROTO_OK : PROTO_PERMANENT, buf_cstr(&why));
        } else if (op.op == CONTROL_WAKE) {
            bool found = false;

            for (size_t i = 0; i < master.services.len; i++) {
                struct service *s = master.services.items[i];

                if (slice_eq_str(op.arg, s->cf->name)) {
                    found = true;
                    service_wake(s);
                }
            }
            answer(c, found ? PROTO_OK : PROTO_NOT_FOUND, found ? "" : "no such service");
        } else if (op.op == CONTROL_STOP) {
            answer(c, PROTO_OK, "");
            stop(false);
        } else {
            answer(c, PROTO_OK, "");
        }
        buf_fini(&why);
    }
    if (res == CHAN_AGAIN)
        return;
    loop_io_free(&c->io);
    chan_free(&c->chan);
    free(c);
}

static void on_control_client(void *arg, unsigned events)
{
    int listener = *(int *) arg;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct control *c;
    uid_t uid;

    (void) events;
    if (fd == -1)
        return;
    if (unix_peer_uid(fd, &uid) == -1 || (uid != 0 && uid != geteuid())) {
        fd_close(&fd);
        return;
    }
    c = xcalloc(1, sizeof(*c));
    c->chan = chan_new(fd);
    proto_hello(c->chan, "master");
    c->io = loop_io_new(master.loop, fd, LOOP_READ, on_control, c);
}

/* --- start ---------------------------------------------------------------------------------------------- */

static void lock_pid_file(void)
{
    char text[64];

    master.lock_fd = open("pid/master.pid", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (master.lock_fd == -1)
        refuse("cannot open pid/master.pid");
    if (flock(master.lock_fd, LOCK_EX | LOCK_NB) == -1)
        refuse("the mail system is already running");
    snprintf(text, sizeof(text), "%31d\n", (int) getpid());
    if (ftruncate(master.lock_fd, 0) == -1 || fd_pwrite_all(master.lock_fd, text, 32, 0) == -1)
        refuse("cannot write pid/master.pid");
}

static void raise_limits(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max < 65536 ? r.rlim_max : 65536;
        (void) setrlimit(RLIMIT_NOFILE, &r);
    }
}

int main(int argc, char **argv)
{
    static int signals;
    static int control;
    struct listeners *all = NULL;
    struct buf why = BUF_INIT(65536);
    struct err err = ERR_INIT;
    struct generation *g = NULL;
    struct loop_io *io_signals;
    struct loop_io *io_control;
    sigset_t set;
    int c;

    log_open(&(struct log_target){
        .syslog_name = "postfix", .program = "master", .maillog_fd = -1, .to_stderr = true});
    while ((c = getopt(argc, argv, "c:r:v")) != -1) {
        int64_t n;

        if (c == 'c' &&
            setenv("MAIL_CONFIG", optarg, 1) == -1) /* NOLINT(concurrency-mt-unsafe): no threads */
            fatal("out of memory");
        if (c == 'r' && num_parse_i64(slice_str(optarg), 0, 1000, &n, &err) == 0)
            ready_fd = (int) n;
        if (c == 'v')
            log_verbose(log_verbosity() + 1);
    }
    if (ready_fd != -1)
        (void) !fd_set_cloexec(ready_fd, true);
    signal(SIGPIPE, SIG_IGN);
    raise_limits();
    umask(022);
    master.log_fd = master.lock_fd = -1;
    if (generation_load(NULL, &g, &err) == -1 || make_directories(g, &err) == -1)
        refuse(err.text);
    if (chdir(g->common.queue_directory) == -1)
        refuse("cannot change to the queue directory");
    /* workers find the same files, whatever directory they were named from */
    if (setenv("MAIL_CONFIG", config_dir(g->cfg), 1) ==
        -1) /* NOLINT(concurrency-mt-unsafe): no threads */
        refuse("out of memory");
    lock_pid_file();
    master.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    master.metrics_fd = metrics_create(&err);
    if (master.null_fd == -1 || master.metrics_fd == -1)
        refuse(master.null_fd == -1 ? "cannot open /dev/null" : err.text);
    master.log_fd = open_maillog(g, &err);
    if (master.log_fd == -1 && g->common.maillog_file[0] != '\0')
        refuse(err.text);
    generation_free(&g);
    master.loop = loop_new();
    g = prepare(NULL, &all, &why);
    if (g == NULL)
        refuse(buf_cstr(&why));
    control = unix_listen("private/control", 0600, 16, &err);
    if (control == -1)
        refuse(err.text);
    open_log(g);
    sigemptyset(&set);
    const int wanted[] = {SIGCHLD, SIGHUP, SIGTERM, SIGINT, SIGQUIT};
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        sigaddset(&set, wanted[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals == -1)
        refuse("signalfd failed");
    io_signals = loop_io_new(master.loop, signals, LOOP_READ, on_signal, &signals);
    io_control = loop_io_new(master.loop, control, LOOP_READ, on_control_client, &control);
    adopt(g, all);
    log_info("daemon started -- version %s, configuration %s", g->common.mail_version,
             config_dir(g->cfg));
    if (ready_fd != -1) {
        if (fd_write_all(ready_fd, "ok", 2) == -1)
            log_warning("the command that started us has gone");
        fd_close(&ready_fd);
    }
    buf_fini(&why);
    loop_run(master.loop);
    loop_io_free(&io_signals);
    loop_io_free(&io_control);
    (void) unlink("private/control");
    return 0;
}
