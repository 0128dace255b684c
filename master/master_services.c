/* SPDX-License-Identifier: Apache-2.0 */
/*
 * master_services.c - when a service's workers are started, told to leave, and counted.
 *
 * maxproc bounds clients at once over all workers of a service. A worker is given the clients it may have when it is started:
 * sessions_per_process, or what the limit leaves. A worker that leaves counts with the clients that it still has; what it
 * frees is given to those that were started with less, so that reloads do not split a service into ever smaller workers.
 * The one exception: see is_shared().
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/log.h"
#include "master/master_services.h"

#define RETRY_MS       1000 /* after a failed fork, or a loop worker that ended quickly */
#define QUICK_DEATH_MS 1000
#define LIMIT_WARN_MS  60000
#define STRESS_MS      1000000 /* how long stress lasts after the limit was reached */
#define SHARED_CLIENTS 5000
#define NO_LIMIT       INT32_MAX

static bool has_shape(const struct service *s, enum worker_shape shape)
{
    return s->shape == 1 + (int) shape;
}

/* proxymap(8) serves all who ask from few processes: its limit is of processes, and bounds the connections to databases. */
static bool is_shared(const struct service *s)
{
    return strcmp(s->cf->command, "proxymap") == 0;
}

/* Clients of one worker. */
static int64_t share_of(const struct service *s)
{
    return is_shared(s) ? SHARED_CLIENTS : s->gen->p.sessions_per_process;
}

static int limit_of(const struct service *s)
{
    int64_t n = s->cf->max_processes == -1 ? s->gen->p.default_process_limit : s->cf->max_processes;

    if (is_shared(s))
        n *= SHARED_CLIENTS;
    return n <= 0 || n > NO_LIMIT ? NO_LIMIT : (int) n;
}

/* Clients that the living workers may have at once. */
static int given(const struct service *s)
{
    int64_t n = 0;

    for (size_t i = 0; i < s->children.len; i++) {
        const struct child *c = s->children.items[i];

        n += c->leaving ? c->sessions : c->capacity;
    }
    return n > NO_LIMIT ? NO_LIMIT : (int) n;
}

/* Some worker takes the next client, or will when it is up. */
static bool has_room(const struct service *s)
{
    for (size_t i = 0; i < s->children.len; i++) {
        const struct child *c = s->children.items[i];

        if (!c->leaving && !c->full)
            return true;
    }
    return false;
}

/* Whether a worker may be started now, if there is reason. */
static bool may_start(const struct service *s)
{
    if (s->throttled || s->removed || s->m->stopping)
        return false;
    /* a loop worker is the only one: the next waits until it has left */
    if (has_shape(s, WORKER_LOOP))
        return s->children.len == 0;
    return given(s) < limit_of(s);
}

static bool is_resident(const struct service *s)
{
    return s->cf->wakeup_s > 0 && !s->cf->wakeup_if_used;
}

static void throttle(struct service *s, int64_t ms)
{
    s->throttled = true;
    loop_timer_set(s->retry, ms);
}

/* The limit was reached lately: clients that come now are to be served with stress=yes. */
static bool is_stressed(const struct service *s)
{
    return (s->cf->type == SERVICE_INET || s->cf->type == SERVICE_PASS) &&
           s->limit_reached.us != 0 && mono_diff_ms(mono_now(), s->limit_reached) < STRESS_MS;
}

/* NULL: not now; tried again later. */
static struct child *start(struct service *s)
{
    int room = limit_of(s) - given(s);
    int64_t capacity = share_of(s);
    struct child *c;

    if (has_shape(s, WORKER_SINGLE))
        capacity = 1;
    if (capacity > room)
        capacity = room;
    c = child_start(s, (int) capacity, is_stressed(s));
    if (c == NULL) {
        throttle(s, RETRY_MS);
        return NULL;
    }
    vec_push(&s->children, c);
    s->used = true;
    return c;
}

/* Some worker that takes clients is full, and none has room. */
static bool is_busy(const struct service *s)
{
    for (size_t i = 0; i < s->children.len; i++) {
        const struct child *c = s->children.items[i];

        if (c->ready && c->full && !c->leaving)
            return !has_room(s);
    }
    return false;
}

/* All workers are full, and there may be no more. */
static void report_limit(struct service *s)
{
    struct mono_time now = mono_now();
    const char *where = s->listeners.count > 0 ? s->listeners.items[0]->key : "";
    const char *port = strrchr(where, s->cf->type == SERVICE_INET ? ':' : ' ');

    if (limit_of(s) == 1 || has_shape(s, WORKER_LOOP) || given(s) < limit_of(s) || !is_busy(s))
        return;
    if (s->limit_reached.us == 0 || mono_diff_ms(now, s->limit_reached) > LIMIT_WARN_MS) {
        log_warning("service \"%s\" (%s) has reached its process limit \"%d\": new clients may "
                    "experience noticeable delays",
                    s->cf->name, port != NULL ? port + 1 : where, limit_of(s));
        log_warning("to avoid this condition, raise maxproc in %s or shorten the time per client",
                    s->gen->cf->path);
    }
    s->limit_reached = now;
}

/* What the limit has to spare goes to workers that were started with less than a full share. */
static void spread(struct service *s)
{
    int64_t share = share_of(s);
    int room = limit_of(s) - given(s);

    for (size_t i = 0; i < s->children.len && room > 0; i++) {
        struct child *c = s->children.items[i];
        int more = (int) (share < c->capacity ? 0 : share - c->capacity);

        if (c->leaving || !c->ready || more == 0 || !has_shape(s, WORKER_THREADED))
            continue;
        if (more > room)
            more = room;
        child_grant(c, c->capacity + more);
        room -= more;
    }
}

/*
 * How many clients it still has, it tells at once; until then no other worker gets their share. given_up: sockets of its are
 * not served by anybody else.
 */
static void tell_drain(struct service *s, struct child *c, bool given_up)
{
    child_send(c, given_up ? PROTO_WORKER_DRAIN_ALL : PROTO_WORKER_DRAIN, -1);
    c->leaving = true;
    if (c->ready && has_shape(s, WORKER_THREADED))
        c->sessions = c->capacity;
}

static void tell_reload(struct service *s, struct child *c)
{
    c->reload_due = false;
    if (has_shape(s, WORKER_LOOP)) {
        child_send(c, PROTO_WORKER_RELOAD, s->gen->config_fd);
        return;
    }
    tell_drain(s, c, false);
}

/*
 * Postfix's processes meet stress, and its end, with their next client. A worker's configuration does not change, and it may
 * have hundreds of clients: those end as they began, and another worker takes the new ones.
 */
static void replace_by_stress(struct service *s)
{
    bool stressed = is_stressed(s);

    for (size_t i = 0; i < s->children.len; i++) {
        struct child *c = s->children.items[i];

        if (c->ready && !c->leaving && c->stressed != stressed)
            tell_drain(s, c, false);
    }
}

void service_update(struct service *s)
{
    bool wanted;

    for (size_t i = 0; i < s->children.len; i++) {
        struct child *c = s->children.items[i];

        if (!c->ready)
            continue;
        s->failed_starts = 0;
        if (has_shape(s, WORKER_SINGLE))
            c->capacity = 1;
        if (c->reload_due && !c->leaving)
            tell_reload(s, c);
    }
    spread(s);
    if (s->m->stopping || s->removed)
        return;
    report_limit(s);
    replace_by_stress(s);
    wanted = may_start(s) && !has_room(s);
    for (size_t i = 0; s->ios != NULL && i < s->listeners.count; i++)
        loop_io_set(s->ios[i], wanted ? LOOP_READ : 0);
}

static void on_client(void *arg, unsigned events)
{
    struct service *s = arg;

    (void) events;
    if (may_start(s) && !has_room(s) && start(s) == NULL)
        log_debug("service %s: no worker now", s->cf->name);
    service_update(s);
}

static void on_retry(void *arg)
{
    struct service *s = arg;

    s->throttled = false;
    if (is_resident(s))
        service_wake(s);
    service_update(s);
}

static void on_wakeup(void *arg)
{
    struct service *s = arg;

    service_wake(s);
    loop_timer_set(s->wakeup, (int64_t) s->wakeup_s * 1000);
}

void service_wake(struct service *s)
{
    struct child *to = NULL;

    if (s->cf->wakeup_if_used && !s->used)
        return;
    for (size_t i = 0; i < s->children.len && to == NULL; i++)
        if (!((struct child *) s->children.items[i])->leaving)
            to = s->children.items[i];
    if (to == NULL && may_start(s))
        to = start(s);
    if (to != NULL)
        child_send(to, PROTO_WORKER_WAKEUP, -1);
    service_update(s);
}

struct service *service_new(struct master *m, struct generation *gen,
                            const struct master_service *cf)
{
    struct service *s = xcalloc(1, sizeof(*s));

    s->m = m;
    s->gen = generation_ref(gen);
    s->cf = cf;
    s->retry = loop_timer_new(m->loop, on_retry, s);
    s->wakeup = loop_timer_new(m->loop, on_wakeup, s);
    return s;
}

void service_unwatch(struct service *s)
{
    for (size_t i = 0; s->ios != NULL && i < s->listeners.count; i++)
        loop_io_free(&s->ios[i]);
    free(s->ios);
    s->ios = NULL;
}

void service_drop_listeners(struct service *s)
{
    service_unwatch(s);
    listeners_release(&s->listeners);
}

static bool same_words(char *const *a, char *const *b)
{
    while (*a != NULL && *b != NULL && strcmp(*a, *b) == 0) {
        a++;
        b++;
    }
    return *a == NULL && *b == NULL;
}

/* What a running process cannot change. */
static bool same_entry(const struct master_service *a, const struct master_service *b)
{
    return strcmp(a->command, b->command) == 0 && a->unprivileged == b->unprivileged &&
           a->chroot == b->chroot && a->is_private == b->is_private && same_words(a->args, b->args);
}

static bool same_listeners(const struct listeners *a, const struct listeners *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (a->items[i] != b->items[i])
            return false;
    return true;
}

void service_adopt(struct service *s, struct generation *gen, const struct master_service *cf,
                   struct listeners *listeners)
{
    bool given_up = !same_listeners(&s->listeners, listeners);
    /* in a chroot a worker cannot read again what main.cf names: files, tables, names of hosts */
    bool is_shut_in = cf->chroot && geteuid() == 0;
    bool same = same_entry(s->cf, cf) && !given_up && !is_shut_in &&
                strcmp(s->gen->common.daemon_directory, gen->common.daemon_directory) == 0 &&
                strcmp(s->gen->common.mail_owner, gen->common.mail_owner) == 0;
    bool same_program = strcmp(s->cf->command, cf->command) == 0;
    struct generation *old = s->gen;

    service_drop_listeners(s);
    s->listeners = *listeners;
    *listeners = (struct listeners){0};
    s->ios = xcalloc(s->listeners.count + 1, sizeof(struct loop_io *));
    for (size_t i = 0; i < s->listeners.count; i++)
        s->ios[i] = loop_io_new(s->m->loop, s->listeners.items[i]->fd, 0, on_client, s);
    s->gen = generation_ref(gen);
    s->cf = cf;
    generation_unref(&old);
    /* an administrator who mended something need not wait */
    s->throttled = false;
    s->failed_starts = 0;
    loop_timer_cancel(s->retry);
    for (size_t i = 0; i < s->children.len; i++) {
        struct child *c = s->children.items[i];

        if (c->leaving)
            continue;
        if (!same)
            tell_drain(s, c, given_up);
        else if (s->shape == 0)
            c->reload_due = true;
        else
            tell_reload(s, c);
    }
    if (!same_program)
        s->shape = 0;
}

void service_begin(struct service *s)
{
    if (s->wakeup_s != s->cf->wakeup_s) {
        /* an unchanged one goes on: reloads in quick succession must not put it off for ever */
        s->wakeup_s = s->cf->wakeup_s;
        if (s->wakeup_s > 0)
            loop_timer_set(s->wakeup, (int64_t) s->wakeup_s * 1000);
        else
            loop_timer_cancel(s->wakeup);
    }
    if (is_resident(s) && !has_room(s))
        service_wake(s);
    service_update(s);
}

void service_drain(struct service *s, bool stop)
{
    for (size_t i = 0; i < s->children.len; i++) {
        struct child *c = s->children.items[i];

        if (stop || !c->leaving)
            child_send(c, stop ? PROTO_WORKER_STOP : PROTO_WORKER_DRAIN_ALL, -1);
        c->leaving = true;
    }
    service_unwatch(s);
}

void service_new_log(struct service *s)
{
    for (size_t i = 0; i < s->children.len; i++)
        child_send(s->children.items[i], PROTO_WORKER_LOG, s->m->log_fd);
}

void service_kill(struct service *s, int sig)
{
    for (size_t i = 0; i < s->children.len; i++)
        (void) kill(((const struct child *) s->children.items[i])->pid, sig);
}

/* How it ended: Postfix's lines. */
static void report_end(const struct service *s, const struct child *c, int status)
{
    struct buf path = BUF_INIT(8192);

    service_program(s->gen, s->cf, &path);
    if (WIFSIGNALED(status))
        log_warning("process %s pid %d killed by signal %d%s", buf_cstr(&path), (int) c->pid,
                    WTERMSIG(status), WTERMSIG(status) == SIGALRM ? " (watchdog timeout)" : "");
    else if (WEXITSTATUS(status) != 0)
        log_warning("process %s pid %d exit status %d", buf_cstr(&path), (int) c->pid,
                    WEXITSTATUS(status));
    buf_fini(&path);
}

/*
 * A worker that ended before it was ready. One that says so (exit status) has a reason that will not go away by itself; one
 * that was killed by hand is replaced at once, one that crashes is not started again and again.
 */
static void failed_start(struct service *s, int status)
{
    struct buf path = BUF_INIT(8192);
    bool killed =
        WIFSIGNALED(status) && (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGTERM);

    s->failed_starts++;
    if (killed && s->failed_starts < 3)
        return;
    service_program(s->gen, s->cf, &path);
    log_warning("%s: bad command startup -- throttling", buf_cstr(&path));
    throttle(s, s->gen->p.service_throttle_time_s * 1000);
    buf_fini(&path);
}

static struct child *take_child(struct service *s, pid_t pid)
{
    for (size_t i = 0; i < s->children.len; i++) {
        struct child *c = s->children.items[i];

        if (c->pid != pid)
            continue;
        vec_remove(&s->children, i);
        return c;
    }
    return NULL;
}

bool service_reap(struct service *s, pid_t pid, int status)
{
    bool failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    struct child *c = take_child(s, pid);

    if (c == NULL)
        return false;
    /* one that told that it was ready, and ended before we read it, did not fail at its start */
    child_read(c);
    if (failed && !(s->m->stopping && s->m->stop_signal != 0))
        report_end(s, c, status);
    if (!s->m->stopping && !s->removed && !s->throttled) {
        if (failed && !c->ready)
            failed_start(s, status);
        else if (has_shape(s, WORKER_LOOP) && !c->leaving &&
                 mono_diff_ms(mono_now(), c->born) < QUICK_DEATH_MS && failed)
            throttle(s, RETRY_MS);
        if (is_resident(s) && !s->throttled && !has_room(s))
            service_wake(s);
    }
    child_free(c);
    service_update(s);
    return true;
}

void service_free(struct service **service)
{
    struct service *s = *service;

    if (s == NULL)
        return;
    for (size_t i = 0; i < s->children.len; i++)
        child_free(s->children.items[i]);
    vec_fini(&s->children);
    service_drop_listeners(s);
    loop_timer_free(&s->retry);
    loop_timer_free(&s->wakeup);
    generation_unref(&s->gen);
    free(s);
    *service = NULL;
}
