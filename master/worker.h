/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h - the framework of every daemon: start-up, configuration, listening sockets from master,
 * privileges, chroot, limits, drain, watchdog, and one of three shapes.
 *
 * A daemon's main is one line: return worker_main(argc, argv, &service).
 *
 * threaded: a client that waits is parked without thread or buffer; one that has input is worked on by a
 *           thread of the pool in straight-line code that may block. Parameter sessions_per_process (ours).
 * single:   one client at a time, blocking.
 * loop:     everything on one event loop; never blocks.
 */
#ifndef PR_WORKER_H
#define PR_WORKER_H

#include <sys/socket.h>
#include <sys/types.h>

#include "base/frame.h"
#include "base/loop.h"
#include "base/poller.h"
#include "maps/map.h"
#include "postconf/config.h"

enum worker_shape { WORKER_THREADED, WORKER_SINGLE, WORKER_LOOP };

struct worker;
struct worker_session;

/* What a threaded session's handler wants next. */
enum worker_verdict {
    WORKER_WAIT,  /* park: as set by worker_wait_for() during this call */
    WORKER_AGAIN, /* call me again soon, after others had their turn */
    WORKER_CLOSE, /* the session is over: close() is called, then the client's descriptor is closed */
};

struct worker_client {
    int fd;
    struct sockaddr_storage peer; /* ss_family AF_UNIX for local sockets */
    socklen_t peer_len;
    struct sockaddr_storage local;
    socklen_t local_len;
};

struct worker_service {
    const char *program; /* "smtpd" */
    enum worker_shape shape;
    /* Privileges kept after start-up: local, virtual run as root and switch for each delivery. */
    bool keep_root;
    /* Also a member of setgid_group: pickup reads what postdrop wrote for other users. */
    bool reads_maildrop;
    bool fork_per_delivery; /* single: no pool threads may exist */

    /* After the configuration is loaded, before privileges are dropped and chroot: open what needs them.
     * -1 with err: the process ends (fatal). worker_set_data() keeps the daemon's state. It is also how a new configuration is
     * tried before it is put in force (check_trial.c), while the old workers run: it takes no locks and changes nothing. */
    int (*start)(struct worker *w, struct err *err);
    /* After privileges are dropped. May be NULL. */
    int (*ready)(struct worker *w, struct err *err);

    /* threaded: */
    void *(*session_open)(struct worker *w, struct worker_session *s,
                          const struct worker_client *c); /* NULL: hang up */
    enum worker_verdict (*session_work)(void *session,
                                        unsigned events); /* POLLER_ bits; 0 at first */
    void (*session_close)(void *session);

    /* single: serves one client to its end; the descriptor is closed afterwards. */
    void (*serve)(struct worker *w, const struct worker_client *c);

    /* loop: a connection was accepted; the descriptor is the callee's. */
    void (*accepted)(struct worker *w, struct loop *l, const struct worker_client *c);
    /* loop: a new configuration generation: cfg. It is worker_config() after the call; what was kept of the old one is to be
     * bound anew during the call. False: it is refused (err), the old stays. */
    bool (*reload)(struct worker *w, const struct config *cfg, struct err *err);

    /* All shapes; may be NULL. */
    void (*wakeup)(
        struct worker *
            w); /* periodic or by trigger, and at the start of the system; threaded: on a pool thread */
    void (*drain)(struct worker *w); /* loop: asked to leave; call worker_leave() when done */
    void (*stop)(struct worker *w);  /* just before the process ends */
};

NODISCARD int worker_main(int argc, char **argv, const struct worker_service *service);

/* For the daemon. */
void worker_set_data(struct worker *w, void *data);
void *worker_data(const struct worker *w);
const struct config *worker_config(const struct worker *w);
struct map_env *worker_maps(
    struct worker *w); /* of the current generation; loop workers make their own at reload */
/* For loop workers that make their own: these are the tables in force. The caller's, who says so again at a reload. */
void worker_set_maps(struct worker *w, struct map_env *maps);
const char *worker_service_name(const struct worker *w); /* master.cf name: "smtp", "relay" */
const char *worker_log_tag(const struct worker *w);      /* syslog_name */
/* Words of master.cf after the options ("flags=R", "argv=...": pipe, spawn); NULL-terminated. */
char *const *worker_args(const struct worker *w);
/* PREFIX private/NAME or public/NAME below queue_directory as this process sees it (chroot, current directory is queue_directory). */
void worker_socket_path(const struct worker *w, const char *class_, const char *name,
                        struct buf *out);
/* The same of the service that a parameter names ("cleanup_service_name"). */
void worker_service_path(const struct worker *w, const char *class_, const char *parameter,
                         struct buf *out);
struct loop *worker_loop(struct worker *w); /* loop shape */
/* For ready() of the loop shape, while it waits for something: up to `ms`. True: master wants the process to end. wakeup() and reload() may be called. */
bool worker_wait(struct worker *w, int ms);
void worker_leave(struct worker *w); /* stop taking clients, end when the last one has gone */
bool worker_is_draining(const struct worker *w);
/* The system stops, or master has gone (worker_is_draining() is true, too). The framework ends the input of clients that are
 * waited for: their sessions see the end of the connection. */
bool worker_is_stopping(const struct worker *w);
bool worker_runs_as_root(const struct worker *w); /* effective uid 0 after start-up */

/* Whom the queue belongs to: mail_owner when started as root, else ourselves. Before threads exist. */
void worker_owner(const struct worker *w, uid_t *uid, gid_t *gid);

/* For single workers: waits until fd is readable. 1: it is; 0: timeout_ms (-1: none) is over; -1: asked to drain, or master
 * has gone: leave serve(). */
int worker_wait_readable(struct worker *w, int fd, int timeout_ms);

/* For threaded sessions, during session_work: what to wait for when WORKER_WAIT is returned. */
void worker_wait_for(struct worker_session *s, int fd, unsigned events, struct mono_time deadline);
/* For threaded workers, by a thread that works for many sessions in turn: it goes on to the next, and is not stuck. */
void worker_goes_on(void);
/* Any thread: makes session_work(POLLER_WOKEN) run for a parked session. */
void worker_wake(struct worker_session *s);

#endif
