/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.h - who may do what: the restriction lists (access(5), SMTPD_ACCESS_README of the reference), as a table of
 * restrictions, a parser for the actions of access tables, and a trace of what was asked and answered.
 */
#ifndef PR_SMTPD_POLICY_H
#define PR_SMTPD_POLICY_H

#include "base/buf.h"
#include "base/err.h"
#include "dns/dns.h"
#include "route/route.h"

enum policy_list {
    LIST_CLIENT,
    LIST_HELO,
    LIST_SENDER,
    LIST_RELAY,
    LIST_RECIPIENT,
    LIST_DATA,
    LIST_END_OF_DATA,
    LIST_ETRN,
    LIST_COUNT
};

enum policy_verdict { POLICY_DUNNO, POLICY_PERMIT, POLICY_REJECT, POLICY_DISCONNECT, POLICY_SLEEP };

/* What the policy knows of the client and the transaction. Slices are the caller's. */
struct policy_query {
    struct slice client_name, client_addr, client_reverse_name, helo, sender, recipient, proto,
        etrn_domain; /* empty but for ETRN's own list */
    bool name_verified, name_tempfail, has_sender, has_recipient, pipelined;
    size_t rcpt_count;
};

/* Carried from list to list within one command. */
struct policy_state {
    bool defer_if_permit, defer_if_reject, warn_if_reject;
    char defer_text[400]; /* reply of defer_if_permit, with code */
};

/* Side effects, in the order in which they came up. */
enum policy_effect {
    EFFECT_HOLD,
    EFFECT_DISCARD,
    EFFECT_FILTER,
    EFFECT_REDIRECT,
    EFFECT_PREPEND,
    EFFECT_BCC,
    EFFECT_WARN,
    EFFECT_INFO,
    EFFECT_REJECT_WARNING,
    EFFECT_PERMIT
};

struct policy_result {
    enum policy_verdict verdict;
    char text[700]; /* "554 5.7.1 <x>: Relay access denied": the reply, for REJECT */
    int64_t sleep_s;
};

typedef void (*policy_effect_fn)(void *arg, enum policy_effect e, const char *text);
/* Each restriction as it is evaluated: its name, the key it asked for (or ""), what came of it. */
typedef void (*policy_trace_fn)(void *arg, const char *restriction, struct slice key,
                                const char *result);

struct policy;
/* Parses all lists and classes; a word that is not known is an error here, so that a reload says so. */
NODISCARD int policy_new(struct map_env *env, struct route *route, struct dns *dns,
                         struct policy **out, struct err *err);
void policy_free(struct policy **p);
/* Recipients that no table knows are refused by the lists alone (no_unknown_recipient_checks). Before it is used by threads. */
void policy_accept_unlisted(struct policy *p);
bool policy_delays_reject(const struct policy *p); /* smtpd_delay_reject */

/* Evaluates one list. effect and trace may be NULL. Blocks in lookups. */
void policy_evaluate(struct policy *p, enum policy_list list, const struct policy_query *q,
                     struct policy_state *state, struct policy_result *result,
                     policy_effect_fn effect, void *effect_arg, policy_trace_fn trace,
                     void *trace_arg);
/* An "access(5)" action by itself: for tests and explanations. */
extern const struct param_set policy_params;

#endif
