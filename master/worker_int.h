/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_int.h - what the files of the worker framework, and master for its end of it, share.
 *
 * A worker inherits descriptors at fixed numbers, and reads nothing of the configuration from the disk: main.cf's text
 * is a descriptor, too. So a worker that starts after a refused reload has what the running system has.
 */
#ifndef PR_WORKER_INT_H
#define PR_WORKER_INT_H

#include <stdatomic.h>

#include "base/lock.h"
#include "mail/proto.h"
#include "master/worker.h"

enum {
    WORKER_FD_STATUS = 3,
    WORKER_FD_METRICS = 4,
    WORKER_FD_LOG =
        5, /* with option -L the log file, else a ring for lines (log_ring.h), or /dev/null */
    WORKER_FD_CONFIG = 6,
    WORKER_FD_LOG_WAKE = 7, /* wakes who takes lines from the ring */
    WORKER_FD_LISTEN = 8,
};
#define WORKER_LISTENERS_MAX 64
#define TEND_MS              500 /* how often map_env_tend() is called */

struct worker_params {
    int64_t max_idle_s, max_use, daemon_timeout_s, threads;
    const char *log_address_format;
};
extern const struct param_set worker_params;

struct worker_session;

struct worker {
    const struct worker_service *service;
    struct config *cfg;
    struct map_env *maps;
    struct map_env *own_maps;    /* worker_set_maps(); NULL: maps are in force */
    struct config_common common; /* of cfg */
    struct worker_params p;
    void *data;
    const char *name; /* service name */
    char **args;
    bool is_inet, is_pass, do_chroot, unprivileged, debug, trial, root, gave_up_root;
    int nlisten;
    const char **overrides;
    size_t noverrides;
    struct loop *loop;
    struct poller *poller;
    struct worker_client
        listen_names[WORKER_LISTENERS_MAX]; /* local addresses; local_len 0: of many */
    atomic_bool has_log;                    /* WORKER_FD_LOG is a log file */
    atomic_bool draining;                   /* no more clients are taken */
    atomic_bool
        serve_pending;    /* clients that wait at the sockets are ours: nobody else takes them */
    atomic_bool stopping; /* and those that are silent are let go */

    struct lock lock;
    struct chan *status GUARDED_BY(lock); /* to master */
    int capacity GUARDED_BY(lock);        /* clients at once */
    int sessions GUARDED_BY(lock);        /* clients now */
    uint64_t served GUARDED_BY(lock);
    bool told_full GUARDED_BY(lock);   /* master thinks so */
    bool drain_begun GUARDED_BY(lock); /* the service was told */
    bool ended GUARDED_BY(lock);       /* the last client has gone: the threads go */
    struct mono_time idle_since GUARDED_BY(lock);
    bool client_waited; /* single: worker_wait_readable() was called for this client */
    struct worker_session *listeners; /* threaded: items */
    struct worker_threads *threads;
};

/* worker.c */
/* The snapshot's text; -1 with err. */
NODISCARD int worker_read_config(int fd, struct buf *out, struct err *err);
void worker_open_log(const struct worker *w);
struct map_env *worker_maps_in_force(const struct worker *w);

/* worker_status.c: the talk with master. */
void worker_tell_locked(struct worker *w) REQUIRES(w->lock);
void worker_tell(struct worker *w);
/* Handles all that master has said. Afterwards draining and stopping may have become true, or capacity greater. */
void worker_hear(struct worker *w);

/* worker_table.c: answers a PROTO_TABLE_ASK. */
void worker_table_ask(struct worker *w, const struct frame *f);

/* 1: got one; 0: none, another worker was faster; -1: trouble, reported. index: of the listener. */
int worker_accept(struct worker *w, int index, struct worker_client *out);

int worker_run_threaded(struct worker *w);
int worker_run_single(struct worker *w);
int worker_run_loop(struct worker *w);
/* threaded: what worker_leave() and a drain have to wake. */
void worker_threads_drain(struct worker *w);

#endif
