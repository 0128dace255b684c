/* SPDX-License-Identifier: Apache-2.0 */
/*
 * master_reload.c - from one generation to the next, as a transaction.
 *
 * Step 1 reads and checks, step 2 opens sockets beside those that are open, step 3 puts all in force and cannot fail. A failure
 * in 1 or 2 leaves the running generation as it is, workers' configuration included (see worker_int.h). A socket that both
 * generations want is never closed, so no client is refused.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "master/master_services.h"

/* A generation on its way: what the steps before the last have made. */
struct next {
    struct generation *gen;
    struct listeners *listeners; /* one for each entry of master.cf */
    int log_fd;
};

static void next_free(struct next *n)
{
    for (size_t i = 0; n->listeners != NULL && i < n->gen->cf->services.len; i++)
        listeners_release(&n->listeners[i]);
    free(n->listeners);
    fd_close(&n->log_fd);
    generation_unref(&n->gen);
}

static void collect(bool is_fatal, const char *text, void *arg)
{
    struct buf *why = arg;

    if (!is_fatal) {
        log_warning("%s", text);
        return;
    }
    if (why->len > 0)
        buf_puts(why, "; ");
    buf_puts(why, text);
}

static int prepare(struct master *m, const char *dir, struct next *n, struct buf *why)
{
    struct err err = ERR_INIT;
    size_t count;

    if (generation_load(dir, &n->gen, &err) == -1) {
        buf_puts(why, err.text);
        return -1;
    }
    if (m->gen != NULL &&
        strcmp(m->gen->common.queue_directory, n->gen->common.queue_directory) != 0) {
        buf_puts(why, "queue_directory has changed: that takes postfix stop and start");
        return -1;
    }
    if (check_generation_apart(n->gen, collect, why) > 0)
        return -1;
    count = n->gen->cf->services.len;
    n->listeners = xcalloc(count + 1, sizeof(*n->listeners));
    for (size_t i = 0; i < count; i++) {
        const struct master_service *cf = n->gen->cf->services.items[i];

        if (service_kind(n->gen, cf) == SERVICE_RUN &&
            listeners_open(n->gen, cf, &m->sockets, &n->listeners[i], &err) == -1) {
            buf_puts(why, err.text);
            return -1;
        }
    }
    if (maillog_open(n->gen, &n->log_fd, &err) == -1) {
        buf_puts(why, err.text);
        return -1;
    }
    return 0;
}

static struct service *take(struct vec *services, const struct master_service *cf)
{
    for (size_t i = 0; i < services->len; i++) {
        struct service *s = services->items[i];

        if (s->cf->type == cf->type && strcmp(s->cf->name, cf->name) == 0) {
            vec_remove(services, i);
            return s;
        }
    }
    return NULL;
}

/* Commands' lines: while there is a log file. */
static void on_postlog(void *arg, unsigned events)
{
    struct master *m = arg;

    (void) events;
    postlog_receive(m->postlog_fd, m->log_fd);
}

static void take_log(struct master *m, int log_fd)
{
    struct err err = ERR_INIT;

    fd_close(&m->log_fd);
    m->log_fd = log_fd;
    log_open(&(struct log_target){.syslog_name = m->gen->common.syslog_name,
                                  .program = "master",
                                  .facility = m->gen->common.syslog_facility,
                                  .maillog_fd = log_fd,
                                  .no_syslog = log_fd != -1});
    if (log_fd != -1 && m->postlog_fd == -1) {
        m->postlog_fd = postlog_listen(m->gen, &err);
        if (m->postlog_fd == -1)
            log_warning("%s -- commands log to syslog", err.text);
        else
            m->postlog_io = loop_io_new(m->loop, m->postlog_fd, LOOP_READ, on_postlog, m);
    } else if (log_fd == -1 && m->postlog_fd != -1) {
        loop_io_free(&m->postlog_io);
        fd_close(&m->postlog_fd);
    }
}

static void report_unserved(const struct generation *g, const struct master_service *cf)
{
    if (service_kind(g, cf) == SERVICE_ABSORBED)
        log_debug("service %s (%s) is built in", cf->name, cf->command);
    if (cf->chroot && geteuid() != 0)
        log_debug("service %s: no chroot without root", cf->name);
}

static void adopt(struct master *m, struct next *n)
{
    struct vec old = m->services;
    struct vec services = VEC_INIT;

    generation_unref(&m->gen);
    m->gen = generation_ref(n->gen);
    m->generation_number++;
    daemon_environment_free(&m->environment);
    m->environment = daemon_environment(m->gen);
    take_log(m, n->log_fd);
    n->log_fd = -1;
    /* a socket may go from one service to another, and the loop watches it for one only */
    for (size_t i = 0; i < old.len; i++)
        service_unwatch(old.items[i]);
    for (size_t i = 0; i < m->gen->cf->services.len; i++) {
        const struct master_service *cf = m->gen->cf->services.items[i];
        struct service *s;

        if (service_kind(m->gen, cf) != SERVICE_RUN) {
            report_unserved(m->gen, cf);
            continue;
        }
        s = take(&old, cf);
        if (s == NULL)
            s = service_new(m, m->gen, cf);
        vec_push(&services, s);
    }
    /* what is left is gone from master.cf: its workers finish, then it goes */
    for (size_t i = 0; i < old.len; i++) {
        struct service *s = old.items[i];

        s->removed = true;
        service_drain(s, false);
        service_drop_listeners(s);
        loop_timer_cancel(s->wakeup);
        loop_timer_cancel(s->retry);
        if (s->children.len > 0)
            vec_push(&m->leaving, s);
        else
            service_free(&s);
    }
    vec_fini(&old);
    m->services = services;
    for (size_t i = 0, k = 0; i < m->gen->cf->services.len && k < services.len; i++) {
        const struct master_service *cf = m->gen->cf->services.items[i];

        if (n->listeners[i].count == 0)
            continue;
        service_adopt(services.items[k++], m->gen, cf, &n->listeners[i]);
    }
    for (size_t i = 0; i < services.len; i++) {
        if (m->log_fd != -1)
            service_new_log(services.items[i]);
        service_begin(services.items[i]);
    }
}

int master_load(struct master *m, const char *dir, struct buf *why)
{
    struct next n = {.log_fd = -1};
    int ret = prepare(m, dir, &n, why);

    if (ret == 0) {
        listeners_hand_over(&m->sockets, n.gen->serial);
        adopt(m, &n);
    }
    next_free(&n);
    return ret;
}

int master_reload(struct master *m, struct buf *why)
{
    manager_notify_reloading(m->notify);
    if (m->stopping)
        buf_puts(why, "the mail system is stopping");
    else if (master_load(m, config_dir(m->gen->cfg), why) == 0)
        log_info("reload -- version %s, configuration %s", m->gen->common.mail_version,
                 config_dir(m->gen->cfg));
    manager_notify_ready(m->notify, m->services.len, buf_cstr(why));
    if (why->len == 0)
        return 0;
    log_error("reload refused, the old configuration goes on: %s", buf_cstr(why));
    return -1;
}

int master_reopen_log(struct master *m, struct buf *why)
{
    struct err err = ERR_INIT;
    int fd;

    if (maillog_open(m->gen, &fd, &err) == -1) {
        buf_puts(why, err.text);
        return -1;
    }
    take_log(m, fd);
    for (size_t i = 0; i < m->services.len; i++)
        service_new_log(m->services.items[i]);
    for (size_t i = 0; i < m->leaving.len; i++)
        service_new_log(m->leaving.items[i]);
    return 0;
}
