/* SPDX-License-Identifier: Apache-2.0 */
/*
 * master_int.h - what the files of master(8), postfix(1) and postlog(1) share.
 */
#ifndef PR_MASTER_INT_H
#define PR_MASTER_INT_H

#include <sys/types.h>

#include "base/loop.h"
#include "base/vec.h"
#include "mail/proto.h"
#include "postconf/master_cf.h"

struct master_params {
    int64_t default_process_limit, sessions_per_process, service_throttle_time_s, listen_backlog,
        stop_grace_s;
    const char *inet_interfaces, *inet_protocols, *known_tcp_ports, *import_environment,
        *maillog_file_permissions, *maillog_file_prefixes, *postlog_service_name, *service_disable;
};
extern const struct param_set master_params;

/* --- generation.c ----------------------------------------------------------------------------- */

/* One generation of everything that is read from files. Immutable; counted references. */
struct generation {
    unsigned refs;
    uint64_t serial; /* from 1, never used twice in a process (an address may be) */
    struct config *cfg;
    struct config_common common;
    struct master_params p;
    struct master_cf *cf;
    int config_fd; /* main.cf's text as it was read: what workers get */
    char *daemons; /* where the programs are, if daemon_directory is another system's; else NULL */
};
NODISCARD int generation_load(const char *dir, struct generation **out, struct err *err);
/* Without master.cf (cf is NULL): what stop, status and reload need. */
NODISCARD int generation_load_main(const char *dir, struct generation **out, struct err *err);
/* The same from the lines of main.cf that are whole: what runs must be found although somebody has just broken the file. */
NODISCARD int generation_salvage(const char *dir, struct generation **out, struct err *err);
struct generation *generation_ref(struct generation *g);
void generation_unref(struct generation **g);

/* What a command is to us. */
enum service_kind {
    SERVICE_RUN,
    SERVICE_ABSORBED, /* part of other programs: nothing to run */
    SERVICE_MISSING,  /* there is no such program */
    SERVICE_NO_TYPE,  /* a service type that is not served */
};
enum service_kind service_kind(const struct generation *g, const struct master_service *s);
/* DAEMON_DIRECTORY/COMMAND */
void service_program(const struct generation *g, const struct master_service *s, struct buf *out);

/* --- check.c: every finding ------------------------------------------------------------------- */

/* is_fatal: keeps the system from starting, and a reload from being done. */
typedef void (*check_report_fn)(bool is_fatal, const char *text, void *arg);
/* Returns the number of fatal findings. Opens every table that is named. network: names of other hosts are looked up too, which
 * may take some seconds. */
int check_generation(const struct generation *g, bool network, check_report_fn fn, void *arg);
/* check_trial.c: has each daemon try its start (option -T). The number of those that could not. */
int check_trials(const struct generation *g, check_report_fn fn, void *arg);
/*
 * The same (without the network) in a process of its own: whatever a table's library does with a broken file, it does not happen in master. A
 * process that dies, or takes longer than a minute, is a fatal finding.
 */
int check_generation_apart(const struct generation *g, check_report_fn fn, void *arg);

/* --- listen.c: listening sockets -------------------------------------------------------------- */

/* One socket, shared by the generations that want it. Lives in the set until the last reference has gone. */
struct listener {
    struct vec *set;
    char *key;  /* "inet [127.0.0.1]:25", "unix private/smtp" */
    char *path; /* of a UNIX socket; removed at the end. Else NULL */
    int fd;
    unsigned refs;
    uint64_t claimed; /* by a service of the generation with this serial; 0: of none */
};
struct listeners {
    struct listener **items;
    size_t count;
};
/*
 * The sockets of service s: those of the set (struct listener *) with the same key, others are opened and added. -1: nothing
 * has changed. UNIX sockets are relative to the current directory, the queue directory.
 */
NODISCARD int listeners_open(const struct generation *g, const struct master_service *s,
                             struct vec *set, struct listeners *out, struct err *err);
/*
 * Before sockets are given up whose port others of generation `serial` serve from now on (another set of addresses): clients that come
 * now are left to those, and those that are being connected get there. Waits for them, if there are such sockets.
 */
void listeners_hand_over(const struct vec *set, uint64_t serial);
void listeners_release(struct listeners *l);

/* --- directories.c, environment.c, maillog.c -------------------------------------------------- */

/* What the queue needs: one table, for who makes the directories and for who looks at them. As an ordinary user all are his. */
struct directory {
    const char *path;
    mode_t mode;
    uid_t uid;
    gid_t gid;
};
typedef int (*directory_fn)(const struct directory *d, void *arg, struct err *err);
/* Calls fn for each, until it gives -1, which is returned; also -1 with err: mail_owner or setgid_group is none. */
NODISCARD int directories_each(const struct generation *g, directory_fn fn, void *arg,
                               struct err *err);
/* Makes those that are missing, and sets modes; as root owners, too. */
NODISCARD int make_directories(const struct generation *g, struct err *err);

/* manager_notify.c: what a service manager (systemd) is told. Always there; says nothing where nobody listens. */
struct manager_notify;
NODISCARD struct manager_notify *manager_notify_new(struct loop *loop);
void manager_notify_send(const struct manager_notify *n, const char *fmt, ...) PRINTF_LIKE(2, 3);
void manager_notify_reloading(const struct manager_notify *n);
/* trouble: why a reload was refused, or "". */
void manager_notify_ready(const struct manager_notify *n, size_t services, const char *trouble);

/* The environment of every daemon: import_environment, with MAIL_CONFIG. */
NODISCARD char **daemon_environment(const struct generation *g);
/* The same for master itself, with what it needs to talk to a service manager. */
NODISCARD char **master_environment(const struct generation *g);
void daemon_environment_free(char ***environment);

/* Opens maillog_file for appending: 0 with *fd -1 when there is none. /dev/stdout is standard output, /dev/stderr
 * standard error. */
NODISCARD int maillog_open(const struct generation *g, int *fd, struct err *err);
/* The log goes to where master's own output goes: only in the foreground is there such a place. */
bool maillog_is_standard(const struct generation *g);
/* Is there a log of this name, or a compressed one (NAME.gz), which a rotation would replace? */
bool maillog_is_rotated(const char *name);
/* public/postlog, where commands send their lines; -1 with err. */
NODISCARD int postlog_listen(const struct generation *g, struct err *err);
/* Appends what was sent there to log_fd: whole lines, without control bytes. */
void postlog_receive(int fd, int log_fd);
/*
 * Opens the log of a command as maillog_file wants it: master's socket; the file itself if that is not there and the
 * caller may; else syslog. whole_tag: program is all that stands before the process id, without syslog_name.
 */
void command_log_open(const struct generation *g, const char *program, bool whole_tag,
                      bool to_stderr);

#endif
