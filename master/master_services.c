/* SPDX-License-Identifier: Apache-2.0 */
/* master_services.c - starting, watching and ending the workers of the services. */
#include "master/master_services.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "master/worker_int.h"

#define QUICK_DEATH_MS 1000

static void watch(struct service *s);

static void worker_free(struct child *c)
{
    loop_io_free(&c->io);
    chan_free(&c->chan);
    free(c);
}

static int limit_of(const struct service *s)
{
    int64_t n =
        s->cf->max_processes == -1 ? s->m->gen->p.default_process_limit : s->cf->max_processes;

    return n == 0 ? INT32_MAX : (int) n;
}

static bool is_loop(const struct service *s)
{
    return strcmp(s->cf->command, "qmgr") == 0 || strcmp(s->cf->command, "pickup") == 0;
}

static bool is_single(const struct service *s)
{
    static const char *const names[] = {"local", "virtual", "pipe", "spawn"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(s->cf->command, names[i]) == 0)
            return true;
    return false;
}

/* Clients that the living workers may have at once. */
static int given(const struct service *s)
{
    int n = 0;

    for (size_t i = 0; i < s->children.len; i++)
        n += ((const struct child *) s->children.items[i])->capacity;
    return n;
}

static bool has_room(const struct service *s)
{
    for (size_t i = 0; i < s->children.len; i++) {
        const struct child *c = s->children.items[i];

        if (!c->draining && !c->full)
            return true;
    }
    return false;
}

static void on_status(void *arg, unsigned events)
{
    struct child *c = arg;
    struct err err = ERR_INIT;
    struct frame f;

    (void) events;
    for (;;) {
        struct proto_worker_status st;

        switch (chan_get(c->chan, &f, &err)) {
        case CHAN_AGAIN:
            watch(c->service);
            return;
        case CHAN_EOF:
        case CHAN_ERROR:
            loop_io_free(&c->io); /* its end is told by SIGCHLD */
            return;
        case CHAN_OK:
            break;
        }
        if (proto_decode(&f, &msg_worker_status, &st, &err) == -1) {
            log_warning("service %s: status of process %d: %s", c->service->cf->name, (int) c->pid,
                        err.text);
            continue;
        }
        c->ready |= st.ready != 0;
        c->full = st.capacity == 0;
    }
}

/* In the child, between fork and exec: descriptors to their places. */
static void place_descriptors(struct service *s, int status)
{
    int from[WORKER_FD_LISTEN + 64];
    int n = WORKER_FD_LISTEN + (int) s->listeners.count;
    int high;

    from[WORKER_FD_STATUS] = status;
    from[WORKER_FD_METRICS] = s->m->metrics_fd;
    from[WORKER_FD_LOG] = s->m->log_fd != -1 ? s->m->log_fd : s->m->null_fd;
    for (size_t i = 0; i < s->listeners.count; i++)
        from[WORKER_FD_LISTEN + i] = s->listeners.fds[i];
    /* first out of the way of each other, then down */
    high = n + 64;
    for (int i = WORKER_FD_STATUS; i < n; i++) {
        int fd = fcntl(from[i], F_DUPFD, high);

        if (fd == -1)
            _exit(1);
        from[i] = fd;
    }
    for (int i = WORKER_FD_STATUS; i < n; i++)
        if (dup2(from[i], i) == -1)
            _exit(1);
    for (int i = WORKER_FD_STATUS; i < n; i++)
        close(from[i]);
    if (dup2(s->m->null_fd, 0) == -1)
        _exit(1);
}

static void exec_worker(struct service *s, int status, int capacity)
{
    struct buf path = BUF_INIT(8192);
    struct vec argv = VEC_INIT;
    char listeners[16];
    char max[16];
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    place_descriptors(s, status);
    path_join(&path, s->m->gen->common.daemon_directory, s->cf->command);
    snprintf(listeners, sizeof(listeners), "%zu", s->listeners.count);
    snprintf(max, sizeof(max), "%d", capacity);
    vec_push(&argv, s->cf->command);
    const char *const fixed[] = {"-n", s->cf->name, "-t", service_type_name(s->cf->type),
                                 "-s", listeners,   "-m", max};
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        vec_push(&argv, (void *) (uintptr_t) fixed[i]);
    if (s->m->log_fd != -1)
        vec_push(&argv, (void *) (uintptr_t) "-L");
    if (s->cf->chroot && geteuid() == 0)
        vec_push(&argv, (void *) (uintptr_t) "-c");
    if (s->cf->unprivileged)
        vec_push(&argv, (void *) (uintptr_t) "-u");
    for (char **a = s->cf->args; *a != NULL; a++)
        vec_push(&argv, *a);
    vec_push(&argv, NULL);
    execv(buf_cstr(&path), (char **) argv.items);
    log_error("exec %s: errno %d", buf_cstr(&path), errno);
    _exit(1);
}

static void spawn(struct service *s)
{
    int room = limit_of(s) - given(s);
    int capacity = is_single(s) ? 1 : (int) s->m->gen->p.sessions_per_process;
    struct child *c;
    int pair[2];

    if (is_loop(s)) {
        if (s->children.len > 0)
            return;
        capacity = 1;
    } else if (room < capacity) {
        capacity = room;
    }
    if (capacity < 1) {
        if (mono_diff_ms(mono_now(), s->limit_warned) > 60000 || s->limit_warned.us == 0) {
            log_warning(
                "service \"%s\" has reached its process limit \"%d\": new clients may experience noticeable delays",
                s->cf->name, limit_of(s));
            s->limit_warned = mono_now();
        }
        return;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1) {
        log_error("socketpair: errno %d", errno);
        return;
    }
    c = xcalloc(1, sizeof(*c));
    c->pid = fork();
    if (c->pid == 0)
        exec_worker(s, pair[1], capacity);
    fd_close(&pair[1]);
    if (c->pid == -1) {
        log_warning("fork for service %s: errno %d -- try again later", s->cf->name, errno);
        fd_close(&pair[0]);
        free(c);
        loop_timer_set(s->retry, 1000);
        s->throttled = true;
        return;
    }
    c->service = s;
    c->capacity = capacity;
    c->born = mono_now();
    c->chan = chan_new(pair[0]);
    c->io = loop_io_new(s->m->loop, pair[0], LOOP_READ, on_status, c);
    vec_push(&s->children, c);
    s->used = true;
    log_debug("service %s: process %d started", s->cf->name, (int) c->pid);
}

static void on_client(void *arg, unsigned events)
{
    struct service *s = arg;

    (void) events;
    if (!s->throttled && !s->m->stopping && !has_room(s))
        spawn(s);
    watch(s);
}

/* Master watches a service's listeners while no worker of it does. */
static void watch(struct service *s)
{
    bool wanted = !s->throttled && !s->m->stopping && !has_room(s) &&
                  (is_loop(s) ? s->children.len == 0 : given(s) < limit_of(s));

    for (size_t i = 0; i < s->listeners.count; i++)
        loop_io_set(s->ios[i], wanted ? LOOP_READ : 0);
}

static void on_retry(void *arg)
{
    struct service *s = arg;

    s->throttled = false;
    if (is_loop(s) && !s->m->stopping)
        spawn(s);
    watch(s);
}

static void on_wakeup(void *arg)
{
    struct service *s = arg;

    service_wake(s);
    loop_timer_set(s->wakeup, (int64_t) s->cf->wakeup_s * 1000);
}

void service_wake(struct service *s)
{
    if (s->m->stopping || s->throttled || (s->cf->wakeup_if_used && !s->used))
        return;
    for (size_t i = 0; i < s->children.len; i++) {
        struct child *c = s->children.items[i];
        struct err err = ERR_INIT;

        if (c->draining)
            continue;
        proto_put_empty(c->chan, PROTO_WORKER_WAKEUP);
        if (chan_flush(c->chan, &err) == CHAN_ERROR)
            log_debug("wake-up of %s: %s", s->cf->name, err.text);
        return;
    }
    spawn(s);
    watch(s);
}

struct service *service_new(struct master *m, const struct master_service *cf,
                            struct listeners *listeners)
{
    struct service *s = xcalloc(1, sizeof(*s));

    s->m = m;
    s->cf = cf;
    s->retry = loop_timer_new(m->loop, on_retry, s);
    s->wakeup = loop_timer_new(m->loop, on_wakeup, s);
    service_take_listeners(s, listeners);
    return s;
}

void service_take_listeners(struct service *s, struct listeners *listeners)
{
    for (size_t i = 0; s->ios != NULL && i < s->listeners.count; i++)
        loop_io_free(&s->ios[i]);
    free(s->ios);
    listeners_close(&s->listeners);
    s->listeners = *listeners;
    *listeners = (struct listeners){0};
    s->ios = xcalloc(s->listeners.count + 1, sizeof(struct loop_io *));
    for (size_t i = 0; i < s->listeners.count; i++)
        s->ios[i] = loop_io_new(s->m->loop, s->listeners.fds[i], 0, on_client, s);
}

void service_begin(struct service *s)
{
    if (s->cf->wakeup_s > 0)
        loop_timer_set(s->wakeup, (int64_t) s->cf->wakeup_s * 1000);
    else
        loop_timer_cancel(s->wakeup);
    if (is_loop(s) && s->children.len == 0)
        spawn(s);
    watch(s);
}

void service_drain(struct service *s, bool reload)
{
    for (size_t i = 0; i < s->children.len; i++) {
        struct child *c = s->children.items[i];
        struct err err = ERR_INIT;
        bool in_place = reload && is_loop(s);

        if (c->draining)
            continue;
        c->draining = !in_place;
        proto_put_empty(c->chan, in_place ? PROTO_WORKER_RELOAD : PROTO_WORKER_DRAIN);
        if (chan_flush(c->chan, &err) == CHAN_ERROR)
            log_debug("drain of %s: %s", s->cf->name, err.text);
    }
}

void service_kill(struct service *s, int sig)
{
    for (size_t i = 0; i < s->children.len; i++)
        (void) kill(((const struct child *) s->children.items[i])->pid, sig);
}

static void report_end(const struct service *s, const struct child *c, int status)
{
    if (WIFSIGNALED(status))
        log_warning("process %s/%s pid %d killed by signal %d", s->m->gen->common.daemon_directory,
                    s->cf->command, (int) c->pid, WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0)
        log_warning("process %s/%s pid %d exit status %d", s->m->gen->common.daemon_directory,
                    s->cf->command, (int) c->pid, WEXITSTATUS(status));
}

bool service_reap(struct service *s, pid_t pid, int status)
{
    for (size_t i = 0; i < s->children.len; i++) {
        struct child *c = s->children.items[i];
        bool failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;

        if (c->pid != pid)
            continue;
        if (!s->m->stopping || failed)
            report_end(s, c, status);
        if (failed && !c->ready && !s->m->stopping && WIFEXITED(status)) {
            log_warning("%s: bad command startup -- throttling", s->cf->command);
            s->throttled = true;
            loop_timer_set(s->retry, s->m->gen->p.service_throttle_time_s * 1000);
        } else if (failed && is_loop(s) && mono_diff_ms(mono_now(), c->born) < QUICK_DEATH_MS &&
                   !s->m->stopping) {
            s->throttled = true;
            loop_timer_set(s->retry, QUICK_DEATH_MS);
        }
        vec_remove(&s->children, i);
        worker_free(c);
        if (is_loop(s) && !s->throttled && !s->m->stopping && !s->removed)
            spawn(s);
        watch(s);
        return true;
    }
    return false;
}

void service_free(struct service **service)
{
    struct service *s = *service;

    if (s == NULL)
        return;
    for (size_t i = 0; i < s->children.len; i++)
        worker_free(s->children.items[i]);
    vec_fini(&s->children);
    for (size_t i = 0; i < s->listeners.count; i++)
        loop_io_free(&s->ios[i]);
    free(s->ios);
    listeners_close(&s->listeners);
    loop_timer_free(&s->retry);
    loop_timer_free(&s->wakeup);
    free(s);
    *service = NULL;
}
