/* SPDX-License-Identifier: Apache-2.0 */
/*
 * master_cf.h - master.cf(5): the service table.
 */
#ifndef PR_MASTER_CF_H
#define PR_MASTER_CF_H

#include "base/vec.h"
#include "postconf/config.h"

enum service_type { SERVICE_INET, SERVICE_UNIX, SERVICE_UNIX_DGRAM, SERVICE_FIFO, SERVICE_PASS };

/* The columns before the command. */
enum {
    MASTER_NAME,
    MASTER_TYPE,
    MASTER_PRIVATE,
    MASTER_UNPRIVILEGED,
    MASTER_CHROOT,
    MASTER_WAKEUP,
    MASTER_PROCESS_LIMIT,
    MASTER_COLUMNS
};

struct master_service {
    char *name; /* as written: "smtp", "127.0.0.1:submission", "cleanup" */
    enum service_type type;
    bool is_private; /* private/NAME, else public/NAME */
    bool unprivileged;
    bool chroot;
    int wakeup_s;        /* 0: never */
    bool wakeup_if_used; /* "1000?" */
    int max_processes;   /* clients at once; 0: no limit; -1: $default_process_limit */
    char *command;       /* "smtpd" */
    char **args;         /* words after the command, NULL-terminated: "-o", "name=value", ... */
    char **overrides;    /* "name=value" of each -o, NULL-terminated */
    int line;
    char *columns[MASTER_COLUMNS]; /* as written: "-", "300?" */
};

struct master_cf {
    struct vec services; /* struct master_service *: those that count */
    struct vec all; /* the same, with those that a later one replaces, in the order of the file */
    char *path;
    struct vec warnings; /* char *: "FILE, line N: ..." about what was passed over */
};

/* Reads DIR/master.cf. Errors name file and line. Of several services with one name and type the last counts. */
NODISCARD int master_cf_load(const char *dir, struct master_cf **out, struct err *err);
/* The same with its text given; path is for messages. */
NODISCARD int master_cf_parse(const char *path, struct slice text, struct master_cf **out,
                              struct err *err);
void master_cf_free(struct master_cf **m);
const struct master_service *master_cf_find(const struct master_cf *m, const char *name,
                                            enum service_type type);
const char *service_type_name(enum service_type t);
bool service_type_is_known(struct slice name);

/* One service from its line (master_cf_parse does it for each). err has no place yet. */
NODISCARD int master_service_parse(struct slice line, struct master_service **out, struct err *err);
void master_service_free(struct master_service **s);

#endif
