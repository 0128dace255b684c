/* SPDX-License-Identifier: Apache-2.0 */
/*
 * master_int.h - what the files of master(8) and postfix(1) share.
 */
#ifndef PR_MASTER_INT_H
#define PR_MASTER_INT_H

#include "base/loop.h"
#include "base/vec.h"
#include "mail/proto.h"
#include "postconf/master_cf.h"

struct master_params {
    int64_t default_process_limit, sessions_per_process, service_throttle_time_s, listen_backlog,
        stop_grace_s;
};
extern const struct param_set master_params;

/* One generation of everything that is read from files. */
struct generation {
    struct config *cfg;
    struct config_common common;
    struct master_params p;
    struct master_cf *cf;
};
NODISCARD int generation_load(const char *dir, struct generation **out, struct err *err);
void generation_free(struct generation **g);

/* What a command is to us. */
enum service_kind { SERVICE_RUN, SERVICE_ABSORBED, SERVICE_MISSING };
enum service_kind service_kind(const struct generation *g, const struct master_service *s);

/* check.c: every finding; returns the number of those that keep the system from starting. */
typedef void (*check_report_fn)(bool is_fatal, const char *text, void *arg);
int check_generation(const struct generation *g, check_report_fn fn, void *arg);

/* listen.c: the listening sockets of a service: inet may have several. */
struct listeners {
    char **keys; /* "inet 127.0.0.1:25", "unix private/smtp" */
    int *fds;
    size_t count;
};
/* Takes sockets with the same key from old (they become -1 there), opens the others. */
NODISCARD int listeners_open(const struct generation *g, const struct master_service *s,
                             struct listeners *old, size_t nold, struct listeners *out,
                             struct err *err);
void listeners_close(struct listeners *l);

/* directories.c: what the queue needs; as root with its owners. */
NODISCARD int make_directories(const struct generation *g, struct err *err);

#endif
