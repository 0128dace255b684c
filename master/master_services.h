/* SPDX-License-Identifier: Apache-2.0 */
/* master_services.h - a service that runs, and its worker processes. */
#ifndef PR_MASTER_SERVICES_H
#define PR_MASTER_SERVICES_H

#include <sys/types.h>

#include "base/frame.h"
#include "base/mtime.h"
#include "master/master_int.h"

struct master {
    struct loop *loop;
    struct generation *gen;
    struct vec services; /* struct service * */
    struct vec leaving;  /* services that are gone from master.cf, while their workers finish */
    int metrics_fd, log_fd, null_fd, lock_fd;
    bool stopping;
};

struct child {
    pid_t pid;
    struct service *service;
    struct chan *chan;
    struct loop_io *io;
    int capacity; /* clients that it may have */
    bool ready, full, draining;
    struct mono_time born;
};

struct service {
    struct master *m;
    const struct master_service *cf; /* of m->gen */
    struct listeners listeners;
    struct loop_io **ios;
    struct vec children;
    struct loop_timer *retry, *wakeup;
    bool throttled, used, removed;
    struct mono_time limit_warned;
};

/* Takes over *listeners. */
struct service *service_new(struct master *m, const struct master_service *cf,
                            struct listeners *listeners);
void service_take_listeners(struct service *s, struct listeners *listeners);
void service_begin(struct service *s); /* wake-ups, and workers that run from the start */
void service_wake(struct service *s);
/* Tells the workers to finish and leave; at a reload those of loop shape read their configuration again. */
void service_drain(struct service *s, bool reload);
void service_kill(struct service *s, int sig);
bool service_reap(struct service *s, pid_t pid, int status); /* false: not one of its */
void service_free(struct service **s);

#endif
