/* SPDX-License-Identifier: Apache-2.0 */
/*
 * master_services.h - master's state: services, their workers, the generation in force.
 *
 * Everything runs on master's one loop. A service is named by (type, name); it lives from the generation that brings it
 * to the one that does not, and then until its last worker has left. Master watches a service's sockets only while none of
 * its workers can take a client; workers accept clients themselves.
 */
#ifndef PR_MASTER_SERVICES_H
#define PR_MASTER_SERVICES_H

#include "base/frame.h"
#include "base/mtime.h"
#include "master/log_relay.h"
#include "master/master_int.h"
#include "master/worker_int.h"

struct master {
    struct loop *loop;
    struct generation *gen;
    unsigned generation_number; /* of gen; 1 at the start */
    struct vec sockets;         /* struct listener *: the set of listen.c */
    struct vec services;        /* struct service * */
    struct vec leaving; /* services that are gone from master.cf, while their workers finish */
    int metrics_fd, log_fd, null_fd, pid_fd, data_lock_fd;
    int postlog_fd; /* -1: lines go to syslog */
    struct loop_io *postlog_io;
    struct log_relay *log_relay;
    char **environment; /* of the workers; of gen */
    bool debug;         /* -D */
    bool stopping;
    struct manager_notify *notify;
    struct loop_timer *stop_timer;
    int stop_signal; /* the last that was sent */
    struct vec asks; /* struct table_ask *: under way */
    uint64_t asks_begun;
};

struct child {
    pid_t pid;
    struct service *service;
    struct chan *chan;
    struct loop_io *io;
    int capacity; /* clients that it may have */
    int sessions; /* as it last told; exact when it is full or leaving */
    bool ready, full;
    bool stressed;   /* runs with stress=yes */
    bool leaving;    /* takes no more clients, by order or by itself */
    bool reload_due; /* started before a reload; what it needs is known when it tells its shape */
    struct log_source *log; /* NULL: it sends its lines itself */
    struct mono_time born;
};

struct service {
    struct master *m;
    struct generation *gen;
    const struct master_service *cf; /* of gen */
    struct listeners listeners;
    struct loop_io **ios; /* one for each listener */
    struct vec children;
    struct loop_timer *retry, *wakeup;
    int wakeup_s;      /* what the timer runs for; 0: not */
    int shape;         /* 1 + enum worker_shape, when a worker has told it; 0 before */
    int failed_starts; /* workers in a row that ended before they were ready */
    bool throttled;    /* none is started until the retry timer */
    bool used, removed;
    struct mono_time limit_reached; /* when it was last told; 0: never */
};

/* --- master_services.c --- */
struct service *service_new(struct master *m, struct generation *gen,
                            const struct master_service *cf);
/* The sockets are not watched any more, until service_adopt(). */
void service_unwatch(struct service *s);
/* The sockets are given up; workers give them up when they leave. */
void service_drop_listeners(struct service *s);
/* Another generation's entry is in force, with its sockets. Takes over *listeners. Running workers finish and leave, or, of loop
 * shape with an unchanged entry, read the configuration again. */
void service_adopt(struct service *s, struct generation *gen, const struct master_service *cf,
                   struct listeners *listeners);
void service_begin(struct service *s); /* wake-ups, and with them workers that run from the start */
void service_wake(struct service *s);
/* Its workers finish and leave; silent clients are not waited for when stop. */
void service_drain(struct service *s, bool stop);
void service_new_log(struct service *s);
void service_kill(struct service *s, int sig);
bool service_reap(struct service *s, pid_t pid, int status); /* false: not one of its */
void service_free(struct service **s);
/* What workers have told is counted, sockets are watched where needed. */
void service_update(struct service *s);

/* --- master_child.c --- */
/* Forks a worker; NULL: it cannot be done now. */
struct child *child_start(struct service *s, int capacity, bool stressed);
/* Queues and sends a frame; a worker that has gone is noticed otherwise. */
void child_send(struct child *c, uint16_t type, int fd);
void child_grant(struct child *c, int capacity);
/* Sends what is queued on c->chan. */
void child_flush(struct child *c);
/* Takes in what the worker has told; does not act on it. */
void child_read(struct child *c);
void child_free(struct child *c);

/* --- master_reload.c --- */
/*
 * The transaction: files are read and checked, sockets opened; then all of it is in force, or nothing has changed and why says
 * what is wrong. dir NULL: at the start.
 */
NODISCARD int master_load(struct master *m, const char *dir, struct buf *why);
NODISCARD int master_reload(struct master *m, struct buf *why);
/* The log file is opened anew, and workers get it. */
NODISCARD int master_reopen_log(struct master *m, struct buf *why);

/* --- master_ask.c --- */
/* What a table says in the workers that have it open. said() for each worker, done() once; neither within this call. */
struct table_ask;
typedef void (*table_said_fn)(const struct proto_table_said *said, void *arg);
struct table_ask *table_ask_new(struct master *m, struct slice table, struct slice key,
                                table_said_fn said, void (*done)(void *arg), void *arg);
void table_ask_free(struct table_ask **a); /* from done(), or before: then nothing is called */
/* A worker's answer; a worker has gone. */
void table_ask_said(struct master *m, const struct child *c, const struct frame *f);
void table_ask_gone(struct master *m, const struct child *c);

/* --- master_control.c --- */
/* Serves private/control. */
NODISCARD int control_listen(struct master *m, struct err *err);
void master_stop(struct master *m, bool now);
/* After a worker has gone: the end of a stopping master. */
void master_check_end(struct master *m);

#endif
