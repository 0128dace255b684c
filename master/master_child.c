/* SPDX-License-Identifier: Apache-2.0 */
/* master_child.c - one worker process: its start, with descriptors at the numbers of worker_int.h, and the talk with it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "master/master_services.h"

/* In the child, between fork and exec. */
static void place_descriptors(const struct service *s, int status, int ring)
{
    int from[WORKER_FD_LISTEN + WORKER_LISTENERS_MAX];
    int n = WORKER_FD_LISTEN + (int) s->listeners.count;

    from[WORKER_FD_STATUS] = status;
    from[WORKER_FD_METRICS] = s->m->metrics_fd;
    from[WORKER_FD_LOG] = s->m->log_fd != -1 ? s->m->log_fd : ring != -1 ? ring : s->m->null_fd;
    from[WORKER_FD_CONFIG] = s->gen->config_fd;
    from[WORKER_FD_LOG_WAKE] = log_relay_wake_fd(s->m->log_relay);
    for (size_t i = 0; i < s->listeners.count; i++)
        from[WORKER_FD_LISTEN + i] = s->listeners.items[i]->fd;
    /* first out of the way of each other, then down; the copies are closed by exec */
    for (int i = WORKER_FD_STATUS; i < n; i++) {
        from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, n);
        if (from[i] == -1)
            _exit(1);
    }
    for (int i = WORKER_FD_STATUS; i < n; i++)
        if (dup2(from[i], i) == -1)
            _exit(1);
    if (dup2(s->m->null_fd, STDIN_FILENO) == -1)
        _exit(1);
}

static void add(struct vec *argv, const char *word)
{
    vec_push(argv, (void *) (uintptr_t) word); /* execve() takes them unchanged */
}

NORETURN static void exec_worker(const struct service *s, int status, int ring, int capacity,
                                 bool stressed)
{
    struct buf path = BUF_INIT(8192);
    struct vec argv = VEC_INIT;
    char listeners[16];
    char max[16];
    sigset_t none;

    sigemptyset(&none);
    (void) pthread_sigmask(SIG_SETMASK, &none, NULL);
    (void) setpgid(0, 0); /* Ctrl-C at a master in the foreground is for the master */
    place_descriptors(s, status, ring);
    service_program(s->gen, s->cf, &path);
    (void) snprintf(listeners, sizeof(listeners), "%zu", s->listeners.count);
    (void) snprintf(max, sizeof(max), "%d", capacity);
    const char *const fixed[] = {s->cf->command,
                                 "-n",
                                 s->cf->name,
                                 "-t",
                                 s->cf->type == SERVICE_INET   ? "inet"
                                 : s->cf->type == SERVICE_PASS ? "pass"
                                                               : "unix",
                                 "-s",
                                 listeners,
                                 "-m",
                                 max};
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        add(&argv, fixed[i]);
    if (s->m->log_fd != -1)
        add(&argv, "-L");
    if (s->cf->chroot && geteuid() == 0)
        add(&argv, "-c");
    if (s->cf->unprivileged)
        add(&argv, "-u");
    if (s->m->debug)
        add(&argv, "-D");
    for (int i = 0; i < log_verbosity(); i++)
        add(&argv, "-v");
    if (stressed) {
        add(&argv, "-o");
        add(&argv, "stress=yes");
    }
    for (char **a = s->cf->args; *a != NULL; a++)
        add(&argv, *a);
    add(&argv, NULL);
    execve(buf_cstr(&path), (char **) argv.items, s->m->environment);
    log_error("exec %s: errno %d", buf_cstr(&path), errno);
    _exit(1);
}

void child_read(struct child *c)
{
    struct service *s = c->service;
    enum chan_result res;
    struct err err = ERR_INIT;
    struct frame f;

    while ((res = chan_get(c->chan, &f, &err)) == CHAN_OK) {
        struct proto_worker_status st;

        if (f.fd != -1)
            fd_close(&f.fd);
        if (f.type == PROTO_TABLE_SAID) {
            table_ask_said(s->m, c, &f);
            continue;
        }
        if (proto_decode(&f, &msg_worker_status, &st, &err) == -1) {
            log_warning("service %s: status of process %d: %s", s->cf->name, (int) c->pid,
                        err.text);
            continue;
        }
        c->ready |= st.ready != 0;
        c->full = st.capacity == 0;
        c->sessions = st.sessions > INT32_MAX ? INT32_MAX : (int) st.sessions;
        c->leaving |= st.leaving != 0;
        if (st.shape != 0 && !c->leaving)
            s->shape = (int) st.shape;
    }
    if (res != CHAN_AGAIN)
        loop_io_free(&c->io); /* its end is told by SIGCHLD */
}

static void on_status(void *arg, unsigned events)
{
    struct child *c = arg;

    (void) events;
    child_read(c);
    service_update(c->service);
}

struct child *child_start(struct service *s, int capacity, bool stressed)
{
    struct log_source *log = NULL;
    struct err err = ERR_INIT;
    struct child *c;
    int pair[2];
    int ring = -1;
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1) {
        log_warning("service %s: socketpair: errno %d -- try again later", s->cf->name, errno);
        return NULL;
    }
    if (s->m->log_fd == -1 && (log = log_relay_add(s->m->log_relay, &ring, &err)) == NULL)
        log_warning("service %s: %s -- each line is sent by itself", s->cf->name, err.text);
    pid = fork();
    if (pid == 0)
        exec_worker(s, pair[1], ring, capacity, stressed);
    fd_close(&pair[1]);
    fd_close(&ring);
    if (pid == -1) {
        log_warning("service %s: fork: errno %d -- try again later", s->cf->name, errno);
        fd_close(&pair[0]);
        log_relay_end(s->m->log_relay, &log);
        return NULL;
    }
    c = xcalloc(1, sizeof(*c));
    c->pid = pid;
    c->service = s;
    c->capacity = capacity;
    c->stressed = stressed;
    c->log = log;
    c->born = mono_now();
    c->chan = chan_new(pair[0]);
    c->io = loop_io_new(s->m->loop, pair[0], LOOP_READ, on_status, c);
    log_debug("service %s: process %d started, up to %d clients", s->cf->name, (int) pid, capacity);
    return c;
}

void child_flush(struct child *c)
{
    struct err err = ERR_INIT;

    if (chan_flush(c->chan, &err) != CHAN_OK)
        log_debug("service %s, process %d: %s", c->service->cf->name, (int) c->pid, err.text);
}

void child_send(struct child *c, uint16_t type, int fd)
{
    chan_put(c->chan, type, SLICE_EMPTY, fd);
    child_flush(c);
}

void child_grant(struct child *c, int capacity)
{
    struct proto_worker_status msg = {.capacity = (uint32_t) capacity};
    struct err err = ERR_INIT;

    if (proto_put(c->chan, &msg_worker_status, &msg, -1, &err) == -1) {
        log_warning("service %s: %s", c->service->cf->name, err.text);
        return;
    }
    c->capacity = capacity;
    child_flush(c);
}

void child_free(struct child *c)
{
    table_ask_gone(c->service->m, c);
    log_relay_end(c->service->m->log_relay, &c->log);
    loop_io_free(&c->io);
    chan_free(&c->chan);
    free(c);
}
