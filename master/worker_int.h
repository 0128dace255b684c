/* SPDX-License-Identifier: Apache-2.0 */
/* worker_int.h - what the files of the worker framework, and master for its end of it, share. */
#ifndef PR_WORKER_INT_H
#define PR_WORKER_INT_H

#include <stdatomic.h>

#include "base/lock.h"
#include "mail/proto.h"
#include "master/worker.h"

/* Descriptors that a worker inherits. */
enum { WORKER_FD_STATUS = 3, WORKER_FD_METRICS = 4, WORKER_FD_LOG = 5, WORKER_FD_LISTEN = 6 };

struct worker_params {
    int64_t max_idle_s, max_use, daemon_timeout_s, threads;
};
extern const struct param_set worker_params;

struct worker {
    const struct worker_service *service;
    struct config *cfg;
    struct map_env *maps;
    struct config_common common;
    struct worker_params p;
    void *data;
    char *name; /* service name */
    char *program;
    bool is_inet, do_chroot, unprivileged, root;
    int capacity; /* clients at once */
    int nlisten;
    const char **overrides;
    size_t noverrides;
    struct chan *status; /* to master; NULL: none (started by hand) */
    struct loop *loop;
    struct poller *poller;

    struct lock lock;
    atomic_int sessions;
    uint64_t served GUARDED_BY(lock);
    bool full GUARDED_BY(lock); /* told master so */
    atomic_bool draining;
    bool stopping GUARDED_BY(lock); /* the last one out turns off the light */
    struct mono_time idle_since GUARDED_BY(lock);
    int threads_running GUARDED_BY(lock);
    atomic_int threads_idle;
    struct poller_item *status_item;
    struct poller_item **listen_items;
    pthread_cond_t thread_left;
};

/* worker_status.c */
void worker_tell(struct worker *w, uint32_t capacity, bool ready);
/* Handles what master says. False when master has gone. */
bool worker_hear(struct worker *w);
int worker_accept(struct worker *w, int listener,
                  struct worker_client *out); /* 1: got one; 0: none; -1: trouble */

int worker_run_threaded(struct worker *w);
int worker_run_single(struct worker *w);
int worker_run_loop(struct worker *w);

#endif
