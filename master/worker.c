/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.c - a daemon's start: options from master, configuration, log, privileges; then its shape.
 */
#include "master/worker_int.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <malloc.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/num.h"

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

const char *worker_service_name(const struct worker *w)
{
    return w->name;
}

const char *worker_log_tag(const struct worker *w)
{
    return w->common.syslog_name;
}

void worker_socket_path(const struct worker *w, const char *class_, const char *name,
                        struct buf *out)
{
    (void) w; /* the current directory is the queue directory, inside a chroot and outside */
    buf_printf(out, "%s/%s", class_, name);
}

struct loop *worker_loop(struct worker *w)
{
    return w->loop;
}

bool worker_is_draining(const struct worker *w)
{
    return atomic_load(&w->draining);
}

bool worker_runs_as_root(const struct worker *w)
{
    return w->root;
}

static int number_option(const char *text, int max)
{
    int64_t n;
    struct err err = ERR_INIT;

    if (num_parse_i64(slice_str(text), 0, max, &n, &err) == -1)
        fatal("bad option from master: %s", err.text);
    return (int) n;
}

static void take_options(struct worker *w, int argc, char **argv, bool *has_log)
{
    int c;

    w->overrides = xcalloc((size_t) argc + 1, sizeof(char *));
    /* -S NAME... is what the daemon itself defines: none today */
    while ((c = getopt(argc, argv, "n:t:o:s:m:cuLv")) != -1) {
        switch (c) {
        case 'n':
            w->name = optarg;
            break;
        case 't':
            w->is_inet = strcmp(optarg, "inet") == 0;
            break;
        case 'o':
            w->overrides[w->noverrides++] = optarg;
            break;
        case 's':
            w->nlisten = number_option(optarg, 1000);
            break;
        case 'm':
            w->capacity = number_option(optarg, 1000000);
            break;
        case 'c':
            w->do_chroot = true;
            break;
        case 'u':
            w->unprivileged = true;
            break;
        case 'L':
            *has_log = true;
            break;
        case 'v':
            log_verbose(log_verbosity() + 1);
            break;
        default:
            fatal("bad option: this program is started by master");
        }
    }
}

static int drop_privileges(struct worker *w, struct err *err)
{
    const struct passwd *pw;

    if (geteuid() != 0)
        return 0;
    pw = getpwnam(w->common.mail_owner); /* no threads yet */ /* NOLINT(concurrency-mt-unsafe) */
    if (pw == NULL)
        return err_permanent(err, "mail_owner: no such user: %s", w->common.mail_owner);
    if (w->do_chroot && chroot(".") == -1)
        return err_sys(err, "chroot to %s", w->common.queue_directory);
    if (w->do_chroot && chdir("/") == -1)
        return err_sys(err, "chdir after chroot");
    if (w->service->keep_root && !w->unprivileged) {
        w->root = true;
        return 0;
    }
    if (initgroups(pw->pw_name, pw->pw_gid) == -1 || setgid(pw->pw_gid) == -1 ||
        setuid(pw->pw_uid) == -1)
        return err_sys(err, "become %s", w->common.mail_owner);
    if (setuid(0) == 0)
        return err_permanent(err, "privileges could not be dropped");
    return 0;
}

static void open_log(const struct worker *w, bool has_log)
{
    struct log_target t = {
        .syslog_name = w->common.syslog_name,
        .program = w->program,
        .facility = w->common.syslog_facility,
        .maillog_fd = has_log ? WORKER_FD_LOG : -1,
        .no_syslog = w->common.maillog_file[0] != '\0',
    };

    log_open(&t);
}

int worker_main(int argc, char **argv, const struct worker_service *service)
{
    static struct worker worker;
    struct worker *w = &worker;
    struct err err = ERR_INIT;
    bool has_log = false;
    int ret;

    w->service = service;
    w->program = xstrdup(service->program);
    w->name = w->program;
    w->capacity = 1;
    lock_init(&w->lock, LOCK_WORKER);
    log_open(&(struct log_target){
        .syslog_name = "postfix", .program = service->program, .maillog_fd = -1});
    take_options(w, argc, argv, &has_log);
    signal(SIGPIPE, SIG_IGN);
    mallopt(M_ARENA_MAX, 4); /* many threads, little memory each */
    if (w->nlisten == 0)
        fatal("this program is started by master(8)");
    if (config_load(NULL, w->overrides, w->noverrides, w->name, &w->cfg, &err) == -1 ||
        config_bind(w->cfg, &config_common_params, &w->common, &err) == -1 ||
        config_bind(w->cfg, &worker_params, &w->p, &err) == -1)
        fatal("%s", err.text);
    open_log(w, has_log);
    for (int fd = WORKER_FD_STATUS; fd < WORKER_FD_LISTEN + w->nlisten; fd++)
        if (fd_set_cloexec(fd, true) == -1 && (fd != WORKER_FD_LOG || has_log))
            fatal("descriptor %d from master is missing", fd);
    if (metrics_attach(WORKER_FD_METRICS, &err) == -1)
        fatal("%s", err.text);
    w->status = chan_new(WORKER_FD_STATUS);
    w->maps = map_env_new(w->cfg);
    if (chdir(w->common.queue_directory) == -1)
        fatal("chdir %s: errno %d", w->common.queue_directory, errno);
    if (service->shape == WORKER_LOOP)
        w->loop = loop_new();
    if (service->start != NULL && service->start(w, &err) == -1)
        fatal("%s", err.text);
    if (drop_privileges(w, &err) == -1)
        fatal("%s", err.text);
    umask(077);
    if (service->ready != NULL && service->ready(w, &err) == -1)
        fatal("%s", err.text);
    switch (service->shape) {
    case WORKER_THREADED:
        ret = worker_run_threaded(w);
        break;
    case WORKER_SINGLE:
        ret = worker_run_single(w);
        break;
    default:
        ret = worker_run_loop(w);
        break;
    }
    if (service->stop != NULL)
        service->stop(w);
    chan_free(&w->status);
    return ret;
}
