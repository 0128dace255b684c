/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.c - a daemon's start: options from master, configuration, log, privileges; then its shape.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/num.h"
#include "mail/address.h"
#include "master/worker_int.h"

#define CONFIG_TEXT_MAX (16U << 20)
#define MALLOC_ARENAS   4 /* many threads, little memory each */

void worker_set_data(struct worker *w, void *data)
{
    w->data = data;
}

void *worker_data(const struct worker *w)
{
    return w->data;
}

const struct config *worker_config(const struct worker *w)
{
    return w->cfg;
}

struct map_env *worker_maps(struct worker *w)
{
    return w->maps;
}

/* Who serves one client at a time has no other ones that would have to wait for a table, and forks: a thread less. */
static void open_aside(const struct worker *w, struct map_env *maps)
{
    if (w->service->shape != WORKER_SINGLE && !w->trial)
        map_env_open_aside(maps);
}

void worker_set_maps(struct worker *w, struct map_env *maps)
{
    w->own_maps = maps;
    open_aside(w, maps);
    if (w->gave_up_root)
        map_env_shut_in(maps, w->do_chroot);
}

struct map_env *worker_maps_in_force(const struct worker *w)
{
    return w->own_maps != NULL ? w->own_maps : w->maps;
}

const char *worker_service_name(const struct worker *w)
{
    return w->name;
}

const char *worker_log_tag(const struct worker *w)
{
    return w->common.syslog_name;
}

char *const *worker_args(const struct worker *w)
{
    return w->args;
}

void worker_socket_path(const struct worker *w, const char *class_, const char *name,
                        struct buf *out)
{
    (void) w; /* the current directory is the queue directory, inside a chroot and outside */
    buf_printf(out, "%s/%s", class_, name);
}

void worker_service_path(const struct worker *w, const char *class_, const char *parameter,
                         struct buf *out)
{
    worker_socket_path(w, class_, config_get(w->cfg, parameter), out);
}

struct loop *worker_loop(struct worker *w)
{
    return w->loop;
}

bool worker_is_draining(const struct worker *w)
{
    return atomic_load(&w->draining);
}

bool worker_is_stopping(const struct worker *w)
{
    return atomic_load(&w->stopping);
}

bool worker_runs_as_root(const struct worker *w)
{
    return w->root;
}

bool worker_wait(struct worker *w, int ms)
{
    struct pollfd p = {.fd = WORKER_FD_STATUS, .events = POLLIN};

    if (poll(&p, 1, ms) > 0)
        worker_hear(w);
    return atomic_load(&w->draining);
}

void worker_leave(struct worker *w)
{
    bool was_draining = atomic_exchange(&w->draining, true);

    if (w->loop != NULL)
        loop_stop(w->loop);
    else if (!was_draining && w->threads != NULL)
        worker_threads_drain(w);
}

void worker_owner(const struct worker *w, uid_t *uid, gid_t *gid)
{
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): before threads exist */
    const struct passwd *pw = geteuid() == 0 ? getpwnam(w->common.mail_owner) : NULL;

    *uid = pw != NULL ? pw->pw_uid : geteuid();
    *gid = pw != NULL ? pw->pw_gid : getegid();
}

static int number_option(const char *text, int max)
{
    int64_t n;
    struct err err = ERR_INIT;

    if (num_parse_i64(slice_str(text), 0, max, &n, &err) == -1)
        fatal("bad option from master: %s", err.text);
    return (int) n;
}

static void take_options(struct worker *w, int argc, char **argv)
{
    int c;

    w->overrides = xcalloc((size_t) argc + 3, sizeof(char *));
    /* "+": what follows the first word that is no option is the daemon's (pipe, spawn) */
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    while ((c = getopt(argc, argv, "+n:t:o:s:m:cuDLTv")) != -1) {
        switch (c) {
        case 'n':
            w->name = optarg;
            break;
        case 't':
            w->is_pass = strcmp(optarg, "pass") == 0;
            w->is_inet = strcmp(optarg, "inet") == 0;
            break;
        case 'o':
            w->overrides[w->noverrides++] = optarg;
            break;
        case 's':
            w->nlisten = number_option(optarg, WORKER_LISTENERS_MAX);
            break;
        case 'm':
            w->capacity = number_option(optarg, INT32_MAX);
            break;
        case 'c':
            w->do_chroot = true;
            break;
        case 'u':
            w->unprivileged = true;
            break;
        case 'D':
            w->debug = true;
            break;
        case 'L':
            atomic_store(&w->has_log, true);
            break;
        case 'T':
            w->trial = true;
            break;
        case 'v':
            log_verbose(log_verbosity() + 1);
            break;
        default:
            fatal("bad option: this program is started by master(8)");
        }
    }
    w->args = argv + optind;
}

int worker_read_config(int fd, struct buf *out, struct err *err)
{
    struct stat st;
    char *room;

    if (fd == -1 || fstat(fd, &st) == -1)
        return err_sys(err, "configuration from master");
    if (st.st_size == 0)
        return 0;
    room = st.st_size > CONFIG_TEXT_MAX ? NULL : buf_reserve(out, (size_t) st.st_size);
    if (room == NULL)
        return err_input(err, "configuration from master: too large");
    if (fd_pread_all(fd, room, (size_t) st.st_size, 0) != st.st_size)
        return err_sys(err, "configuration from master");
    buf_advance(out, (size_t) st.st_size);
    return 0;
}

static void load_config(struct worker *w)
{
    struct buf text = BUF_INIT(CONFIG_TEXT_MAX);
    char *process_name = NULL;
    char *process_id = NULL;
    struct err err = ERR_INIT;

    if (asprintf(&process_name, "process_name=%s", w->service->program) == -1 ||
        asprintf(&process_id, "process_id=%d", (int) getpid()) == -1)
        fatal("out of memory");
    w->overrides[w->noverrides++] = process_name;
    w->overrides[w->noverrides++] = process_id;
    if (worker_read_config(WORKER_FD_CONFIG, &text, &err) == -1 ||
        config_load_text(NULL, buf_view(&text), w->overrides, w->noverrides, w->name, &w->cfg,
                         &err) == -1 ||
        config_bind(w->cfg, &config_common_params, &w->common, &err) == -1 ||
        config_bind(w->cfg, &worker_params, &w->p, &err) == -1)
        fatal("%s", err.text);
    buf_fini(&text);
}

static int join_submit_group(const struct worker *w, struct err *err)
{
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads yet */
    const struct group *gr = getgrnam(w->common.setgid_group);
    gid_t groups[64];
    int n = getgroups(63, groups);

    if (gr == NULL)
        return err_permanent(err, "setgid_group: no such group: %s", w->common.setgid_group);
    if (n == -1)
        return err_sys(err, "groups of %s", w->common.mail_owner);
    groups[n++] = gr->gr_gid;
    return setgroups((size_t) n, groups) == -1 ? err_sys(err, "join %s", w->common.setgid_group)
                                               : 0;
}

static int drop_privileges(struct worker *w, struct err *err)
{
    const struct passwd *pw;

    if (geteuid() != 0)
        return 0;
    pw = getpwnam(w->common.mail_owner); /* NOLINT(concurrency-mt-unsafe): no threads yet */
    if (pw == NULL)
        return err_permanent(err, "mail_owner: no such user: %s", w->common.mail_owner);
    if (w->service->keep_root && !w->unprivileged) {
        w->root = true;
    } else if (initgroups(pw->pw_name, pw->pw_gid) == -1 || setgid(pw->pw_gid) == -1) {
        return err_sys(err, "become the group of %s", w->common.mail_owner);
    }
    if (!w->root && w->service->reads_maildrop && join_submit_group(w, err) == -1)
        return -1;
    w->gave_up_root = !w->root;
    if (w->gave_up_root)
        map_env_shut_in(worker_maps_in_force(w), w->do_chroot);
    if (w->do_chroot && (chroot(".") == -1 || chdir("/") == -1))
        return err_sys(err, "chroot to %s", w->common.queue_directory);
    if (w->root)
        return 0;
    if (setuid(pw->pw_uid) == -1)
        return err_sys(err, "become %s", w->common.mail_owner);
    if (pw->pw_uid == 0 || setuid(0) == 0)
        return err_permanent(err, "privileges could not be dropped");
    return 0;
}

void worker_open_log(const struct worker *w)
{
    bool has_log = atomic_load(&w->has_log);
    struct log_target t = {
        .syslog_name = w->common.syslog_name,
        .program = w->service->program,
        .facility = w->common.syslog_facility,
        .maillog_fd = has_log ? WORKER_FD_LOG : -1,
        .no_syslog = has_log,
        .address = strcmp(w->p.log_address_format, "internal") == 0 ? NULL : address_quote,
    };

    log_open(&t);
}

/* Descriptors as promised, and not for programs that the daemon starts. */
static void take_descriptors(struct worker *w)
{
    struct err err = ERR_INIT;

    if (w->nlisten == 0)
        fatal("this program is started by master(8)");
    for (int fd = WORKER_FD_STATUS; fd < WORKER_FD_LISTEN + w->nlisten; fd++)
        if (fd_set_cloexec(fd, true) == -1)
            fatal("descriptor %d from master is missing", fd);
    if (metrics_attach(WORKER_FD_METRICS, &err) == -1)
        fatal("%s", err.text);
    w->status = chan_new(WORKER_FD_STATUS);
    if (!atomic_load(&w->has_log)) {
        struct log_ring *ring = log_ring_map(WORKER_FD_LOG, WORKER_FD_LOG_WAKE, &err);

        if (ring == NULL)
            log_debug("%s -- each line is sent by itself", err.text);
        log_use_ring(ring);
    }
}

/* Clients of a listener that is bound to one address all have it as theirs. */
static void learn_addresses(struct worker *w)
{
    for (int i = 0; i < w->nlisten && w->is_inet; i++) {
        struct worker_client *n = &w->listen_names[i];
        const struct sockaddr_in *in = (const struct sockaddr_in *) &n->local;
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) &n->local;

        n->local_len = sizeof(n->local);
        if (getsockname(WORKER_FD_LISTEN + i, (struct sockaddr *) &n->local, &n->local_len) == -1 ||
            (n->local.ss_family == AF_INET && in->sin_addr.s_addr == htonl(INADDR_ANY)) ||
            (n->local.ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr)))
            n->local_len = 0;
    }
}

/* Option -D: debugger_command, in the shell; it names $process_id and puts itself into the background. */
static void run_debugger(const struct worker *w)
{
    const char *command = config_get(w->cfg, "debugger_command");
    pid_t pid;

    if (command == NULL || command[0] == '\0')
        return;
    pid = fork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *) NULL);
        _exit(127);
    }
    if (pid == -1 || waitpid(pid, NULL, 0) == -1)
        log_warning("debugger_command: errno %d", errno);
}

/* What keeps root does not take its users' tables from a process without privilege. */
static void open_maps(struct worker *w)
{
    bool as_root = w->service->keep_root && !w->unprivileged && geteuid() == 0;

    w->maps = map_env_new(w->cfg);
    map_env_set_proxy(w->maps, as_root ? MAP_PROXY_NEVER : MAP_PROXY_ALWAYS);
    open_aside(w, w->maps);
}

/* Option -T: the start is tried on a configuration that is not in force. The reason goes to standard error. */
static int try_start(struct worker *w)
{
    struct err err = ERR_INIT;

    log_open(&(struct log_target){
        .program = w->service->program, .maillog_fd = -1, .to_stderr = true, .no_syslog = true});
    load_config(w);
    open_maps(w);
    if (chdir(w->common.queue_directory) == -1)
        fatal("chdir %s: errno %d", w->common.queue_directory, errno);
    if (w->service->shape == WORKER_LOOP)
        w->loop = loop_new();
    if (w->service->start != NULL && w->service->start(w, &err) == -1)
        fatal("%s", err.text);
    return 0;
}

int worker_main(int argc, char **argv, const struct worker_service *service)
{
    static struct worker worker; /* sessions and callbacks point to it until the process is gone */
    struct worker *w = &worker;
    struct err err = ERR_INIT;
    int ret = 1;

    w->service = service;
    w->name = service->program;
    w->capacity = 1;
    lock_init(&w->lock, LOCK_WORKER);
    log_open(&(struct log_target){
        .syslog_name = "postfix", .program = service->program, .maillog_fd = -1});
    take_options(w, argc, argv);
    if (atomic_load(&w->has_log))
        log_open(&(struct log_target){.syslog_name = "postfix",
                                      .program = service->program,
                                      .maillog_fd = WORKER_FD_LOG,
                                      .no_syslog = true});
    if (w->trial)
        return try_start(w);
    (void) signal(SIGPIPE, SIG_IGN);
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    (void) mallopt(M_ARENA_MAX, MALLOC_ARENAS);
    take_descriptors(w);
    load_config(w);
    worker_open_log(w);
    if (w->debug)
        run_debugger(w);
    learn_addresses(w);
    open_maps(w);
    if (chdir(w->common.queue_directory) == -1)
        fatal("chdir %s: errno %d", w->common.queue_directory, errno);
    if (service->shape == WORKER_LOOP)
        w->loop = loop_new();
    if ((service->start != NULL && service->start(w, &err) == -1) || drop_privileges(w, &err) == -1)
        fatal("%s", err.text);
    (void) umask(077);
    if (service->ready != NULL && service->ready(w, &err) == -1)
        fatal("%s", err.text);
    switch (service->shape) {
    case WORKER_THREADED:
        ret = worker_run_threaded(w);
        break;
    case WORKER_SINGLE:
        ret = worker_run_single(w);
        break;
    case WORKER_LOOP:
        ret = worker_run_loop(w);
        break;
    }
    if (service->stop != NULL)
        service->stop(w);
    return ret;
}
