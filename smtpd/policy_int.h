/* SPDX-License-Identifier: Apache-2.0 */
/* policy_int.h - what the files of the access policy share. */
#ifndef PR_SMTPD_POLICY_INT_H
#define PR_SMTPD_POLICY_INT_H

#include "base/htable.h"
#include "base/vec.h"
#include "postconf/findings.h"
#include "smtpd/policy.h"

struct policy_params {
    const char *lists[LIST_COUNT], *classes;
    int64_t access_defer_code, access_reject_code, defer_code, reject_code, relay_code;
    int64_t invalid_hostname_code, non_fqdn_code, unknown_address_code, unknown_client_code,
        unknown_hostname_code;
    int64_t unknown_local_code, unknown_relay_code, unknown_alias_code, unknown_mailbox_code,
        multi_recipient_code;
    const char *null_sender_key, *tempfail_action, *address_tempfail_action, *helo_tempfail_action,
        *log_permit_actions;
    bool delay_reject, reject_unlisted_recipient, reject_unlisted_sender, show_table;
};

/* One restriction of a list, with what stood beside it. */
struct restriction {
    const struct restriction_def *def;
    struct map_list *maps; /* check_*_access */
    int64_t number;        /* sleep */
    struct vec *class_;    /* a restriction class: struct restriction * */
    char *name;
    char *arg; /* as written; NULL: none */
};

struct evaluation {
    struct policy *p;
    const struct policy_query *q;
    struct policy_state *state;
    struct policy_result *result;
    policy_effect_fn effect;
    void *effect_arg;
    policy_trace_fn trace;
    void *trace_arg;
    int depth;
    /* what is judged, for restrictions that name nothing themselves: the list's, or that of an access table */
    const char *class_;
    struct slice what;
};

enum restriction_arg { ARG_NONE, ARG_MAPS, ARG_NUMBER };
struct restriction_def {
    const char *name;
    enum restriction_arg arg;
    enum policy_verdict (*fn)(struct evaluation *e, const struct restriction *r);
};
/* restrictions.c: sorted by nothing, asked once at start. NULL: no such restriction. */
const struct restriction_def *restriction_find(struct slice name);
/* One of Postfix's restrictions that is not there yet. */
bool restriction_is_missing(struct slice name);

struct policy {
    struct policy_params p;
    struct map_env *env;
    struct route *route;
    struct dns *dns;
    struct match_list *mynetworks, *inet_interfaces, *log_permit;
    struct vec lists[LIST_COUNT];
    struct htable *classes; /* name -> struct vec * of restrictions */
    const char *delimiter;
    bool access_parents;
};

/* What stands in for smtpd_relay_restrictions and smtpd_recipient_restrictions when both are empty. */
#define POLICY_RELAY_FALLBACK "permit_mynetworks, reject_unauth_destination"

/* policy.c */
/* The parameters bound, the lists still empty. */
NODISCARD int policy_begin(struct map_env *env, struct policy **out, struct err *err);
NODISCARD int policy_parse(struct policy *p, const char *text, struct vec *out, int depth,
                           struct err *err);
void policy_list_free(struct vec *list); /* what policy_parse() pushed, and the array */
enum policy_verdict policy_run(struct evaluation *e, const struct vec *list);
/* "CODE DSN <what>: CLASS rejected: REASON", or a warning when warn_if_reject stands before it. */
enum policy_verdict policy_reject(struct evaluation *e, int64_t code, const char *dsn,
                                  struct slice what, const char *class_, const char *fmt, ...)
    PRINTF_LIKE(6, 7);
/* A refusal (v, as policy_reject() gave it) that is for the end, if nothing refuses before. before: the result until then. */
enum policy_verdict policy_defer_if_permit(struct evaluation *e, enum policy_verdict v,
                                           const struct policy_result *before);
/* Trouble in a lookup: 451 4.3.0, and the reason in the log. */
enum policy_verdict policy_trouble(struct evaluation *e, struct slice what, const char *class_,
                                   const struct err *err);
/* smtpd_log_access_permit_actions. table: with the action, or NULL. */
void policy_log_permit(const struct evaluation *e, struct slice action, const char *class_,
                       struct slice what, const char *table);
void policy_trace(const struct evaluation *e, const char *name, struct slice key,
                  const char *result);

extern const char *const policy_list_names[LIST_COUNT]; /* the parameters */

/* policy_check.c: findings about the lists */
void policy_check(struct map_env *env, struct findings *f);

/* access.c: an access table's answer for key. class_: "Client host" ... */
enum policy_verdict access_action(struct evaluation *e, struct slice value, struct slice key,
                                  const char *class_, const char *table);

#endif
