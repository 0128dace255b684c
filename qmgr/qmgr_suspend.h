/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_suspend.h - what an administrator has suspended: which mail that concerns, how it is told, how it is kept as text. No I/O.
 */
#ifndef PR_QMGR_SUSPEND_H
#define PR_QMGR_SUSPEND_H

#include "base/arena.h"
#include "base/vec.h"
#include "mail/proto.h"

#define SUSPENSIONS_MAX      1000
#define SUSPENSION_FILE_MAX  (8U << 20)
#define SUSPENSION_UNTIL_MAX INT64_C(253402300799000000) /* the end of year 9999 */

enum suspension_kind { SUSPEND_DESTINATION, SUSPEND_SENDER, SUSPEND_TRANSPORT };

struct suspension {
    enum suspension_kind kind;
    char *name;   /* domain, ".domain", next hop; address, "@domain", "<>"; transport */
    char *by;     /* who has done it */
    char *reason; /* one line */
    int64_t since_us, until_us; /* wall clock */
};

/* What is known of a recipient; empty: not known. */
struct suspension_mail {
    struct slice transport, nexthop, addr;
    struct slice sender; /* empty: the null sender, if has_sender */
    bool has_sender;
};

const char *suspension_kind_name(enum suspension_kind kind);
/* "2026-11-28T09:00:00Z" */
void suspension_time(int64_t us, struct buf *out);
/* A copy; NULL when it makes no sense (err). */
NODISCARD struct suspension *suspension_new(const struct proto_suspension *s, struct err *err);
void suspension_free(struct suspension **s);
/* list: struct suspension *. Takes s; what has its kind and name is replaced. -1: there are too many; s stays the caller's. */
NODISCARD int suspension_add(struct vec *list, struct suspension *s, struct err *err);
/* Its place in the list, or -1. */
ptrdiff_t suspension_at(const struct vec *list, struct slice kind, struct slice name);
bool suspension_concerns(const struct suspension *s, const struct suspension_mail *m);
/* The one that concerns the recipient and lasts longest; NULL: none. */
const struct suspension *suspension_find(const struct vec *list, const struct suspension_mail *m);

/* The reason of a deferral: "suspended KIND NAME until TIME by WHO: REASON"; and the same without the time, for lists. */
char *suspension_text(const struct suspension *s, struct arena *a);
char *suspension_wait_text(const struct suspension *s, struct arena *a);
/* Is this the reason of a deferral because of s (whatever it said of time and reason then)? */
bool suspension_is_reason(const struct suspension *s, struct slice reason);
const struct suspension *suspension_of_reason(const struct vec *list, struct slice reason);

/* The list as text; read again, one line at a time. */
void suspension_write(const struct vec *list, struct buf *out);
/* Adds what the text has; damaged() is told of each line that cannot be used. */
void suspension_read(struct vec *list, struct slice text,
                     void (*damaged)(void *arg, unsigned line, const char *why), void *arg);

#endif
