/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy_check.c - findings about restriction lists: words that are not known, rules that nothing reaches, rules given
 * twice, and whether a stranger may send mail to anywhere.
 *
 * The lists are followed for a client of which nothing is known and a recipient elsewhere. Tables are not asked: what they say of
 * one client says nothing of the next.
 */
#include <stdlib.h>
#include <string.h>

#include "maps/map_check.h"
#include "maps/network.h"
#include "smtpd/policy_int.h"

#define DEPTH_MAX  10 /* of classes in classes */
#define OPEN_RELAY "no restriction keeps strangers from sending mail to anywhere (an open relay)"
/* Networks shorter than these hold strangers, whoever owns them. */
#define TRUSTED_BITS_V4 8
#define TRUSTED_BITS_V6 16

static bool is_named(const struct restriction *r, const char *const *names)
{
    for (; r->def != NULL && *names != NULL; names++)
        if (strcmp(r->def->name, *names) == 0)
            return true;
    return false;
}

/* warn_if_reject makes a refusal of the next restriction a line in the log. */
static bool is_only_warning(const struct vec *list, size_t i)
{
    static const char *const warns[] = {"warn_if_reject", NULL};

    return i > 0 && is_named(list->items[i - 1], warns);
}

/* --- unreachable, twice --------------------------------------------------------------------------- */

/* The restriction that ends the list for everybody, or list->len. */
static size_t final_of(const struct vec *list, int depth)
{
    static const char *const permits[] = {"permit", NULL};
    static const char *const refuses[] = {"reject", "defer", NULL};

    for (size_t i = 0; i < list->len; i++) {
        const struct restriction *r = list->items[i];

        if (r->class_ != NULL && depth < DEPTH_MAX &&
            final_of(r->class_, depth + 1) < r->class_->len)
            return i;
        if (is_named(r, permits) || (is_named(r, refuses) && !is_only_warning(list, i)))
            return i;
    }
    return list->len;
}

static bool is_same(const struct restriction *a, const struct restriction *b)
{
    const char *arg_a = a->arg != NULL ? a->arg : "";
    const char *arg_b = b->arg != NULL ? b->arg : "";

    return strcmp(a->name, b->name) == 0 && strcmp(arg_a, arg_b) == 0;
}

static void check_twice(struct findings *f, const char *parameter, const struct vec *list)
{
    /* these do something each time */
    static const char *const repeatable[] = {"sleep", "warn_if_reject", NULL};

    for (size_t i = 1; i < list->len; i++) {
        const struct restriction *r = list->items[i];

        for (size_t j = 0; j < i && !is_named(r, repeatable); j++) {
            if (!is_same(list->items[j], r) || is_only_warning(list, i) != is_only_warning(list, j))
                continue;
            findings_warn(f, parameter, "%s%s%s stands in it twice: remove one", r->name,
                          r->arg != NULL ? " " : "", r->arg != NULL ? r->arg : "");
            break;
        }
    }
}

static void check_list(struct findings *f, const char *parameter, const struct vec *list)
{
    size_t last = final_of(list, 0);

    check_twice(f, parameter, list);
    if (last + 1 < list->len) {
        const struct restriction *end = list->items[last];
        const struct restriction *r = list->items[last + 1];

        findings_warn(f, parameter,
                      "%s%s%s is never reached, as %s before it ends the list for everybody: move "
                      "it before %s, or remove it",
                      r->name, r->arg != NULL ? " " : "", r->arg != NULL ? r->arg : "", end->name,
                      end->name);
    }
}

/* --- an open relay -------------------------------------------------------------------------------- */

enum flow { FLOW_THROUGH, FLOW_PERMITTED, FLOW_REFUSED };

/* After defer_if_permit nothing is permitted any more. */
static const char *const relay_refusals[] = {
    "reject",          "defer", "reject_unauth_destination", "defer_unauth_destination",
    "defer_if_permit", NULL};

/* Does any restriction of the list refuse mail to elsewhere, be it reached or not? */
static bool has_refusal(const struct vec *list, int depth)
{
    for (size_t i = 0; i < list->len; i++) {
        const struct restriction *r = list->items[i];

        if (is_named(r, relay_refusals) ||
            (r->class_ != NULL && depth < DEPTH_MAX && has_refusal(r->class_, depth + 1)))
            return true;
    }
    return false;
}

/* What the list says of a stranger's mail to elsewhere; anybody: mynetworks has strangers. */
static enum flow flow_of(const struct vec *list, bool anybody, int depth)
{
    static const char *const permits[] = {"permit", NULL};
    static const char *const trusts[] = {"permit_mynetworks", NULL};

    for (size_t i = 0; i < list->len; i++) {
        const struct restriction *r = list->items[i];
        enum flow flow = FLOW_THROUGH;

        if (r->class_ != NULL && depth < DEPTH_MAX)
            flow = flow_of(r->class_, anybody, depth + 1);
        else if (is_named(r, permits) || (anybody && is_named(r, trusts)))
            flow = FLOW_PERMITTED;
        else if (is_named(r, relay_refusals) && !is_only_warning(list, i))
            flow = FLOW_REFUSED;
        if (flow != FLOW_THROUGH)
            return flow;
    }
    return FLOW_THROUGH;
}

/* The element of mynetworks that takes in strangers; empty: none. */
static struct slice stranger_network(const struct config *cfg)
{
    struct slice rest = slice_str(config_get(cfg, "mynetworks"));
    struct slice word;
    struct network n;

    while (slice_token_braces(&rest, ", \t\r\n", &word))
        if (word.ptr[0] != '!' && network_parse(word, &n, NULL) == 0 &&
            n.bits < (n.family == AF_INET ? TRUSTED_BITS_V4 : TRUSTED_BITS_V6))
            return word;
    return SLICE_EMPTY;
}

/* A service that listens on this host's own address only. */
static bool is_loopback_service(const struct config *cfg)
{
    static const char *const own[] = {"127.", "localhost:", "[127.", "[::1]:", "::1:"};
    const char *service = config_get(cfg, "service_name");
    const char *interfaces = config_get(cfg, "inet_interfaces");

    for (size_t i = 0; service != NULL && i < ARRAY_LEN(own); i++)
        if (slice_starts_with(slice_str(service), slice_str(own[i])))
            return true;
    return interfaces != NULL && strcmp(interfaces, "loopback-only") == 0;
}

static bool lets_pass(const struct policy *p, bool anybody)
{
    /* judged for every recipient; a client need not say HELO */
    static const enum policy_list judged[] = {LIST_CLIENT,    LIST_SENDER, LIST_RELAY,
                                              LIST_RECIPIENT, LIST_DATA,   LIST_END_OF_DATA};

    for (size_t i = 0; i < ARRAY_LEN(judged); i++)
        if (flow_of(&p->lists[judged[i]], anybody, 0) == FLOW_REFUSED)
            return false;
    return true;
}

static void check_relay(struct findings *f, const struct policy *p)
{
    const struct config *cfg = findings_config(f);
    struct slice strangers = stranger_network(cfg);
    const char *parameter =
        policy_list_names[p->lists[LIST_RELAY].len > 0 ? LIST_RELAY : LIST_RECIPIENT];

    if (is_loopback_service(cfg))
        return;
    if (p->lists[LIST_RELAY].len == 0 && p->lists[LIST_RECIPIENT].len == 0) {
        findings_warn(f, policy_list_names[LIST_RELAY],
                      "it is empty, and %s too: \"%s\" is taken, as anybody could send mail to "
                      "anywhere else; write that",
                      policy_list_names[LIST_RECIPIENT], POLICY_RELAY_FALLBACK);
        if (strangers.len == 0)
            return;
    } else if (lets_pass(p, false)) {
        /* Postfix does not serve without one, and does not look further */
        if (has_refusal(&p->lists[LIST_RELAY], 0) || has_refusal(&p->lists[LIST_RECIPIENT], 0))
            findings_warn(f, parameter,
                          OPEN_RELAY ": put reject_unauth_destination before what permits them");
        else
            findings_error(f, parameter, OPEN_RELAY ": add reject_unauth_destination");
        return;
    }
    if (strangers.len > 0 && lets_pass(p, true))
        findings_warn(f, "mynetworks",
                      "%.*s trusts clients all over the Internet, and permit_mynetworks lets them "
                      "send mail to anywhere (an open relay): name your own networks only",
                      SLICE_FMT(strangers));
}

/* --- all ------------------------------------------------------------------------------------------ */

/* Each restriction in the text that is not there yet: parsing would end at the first. */
static bool report_missing(struct findings *f, const char *parameter, const char *text)
{
    struct slice rest = slice_str(text);
    struct slice word;
    bool any = false;

    while (slice_token_braces(&rest, ", \t\r\n", &word)) {
        if (!restriction_is_missing(word))
            continue;
        findings_error(f, parameter,
                       "%.*s is not yet effective: take it out, if mail may pass without it",
                       SLICE_FMT(word));
        any = true;
    }
    return any;
}

static void check_classes(struct map_env *env, struct findings *f, struct policy *p)
{
    struct slice rest = slice_str(p->p.classes);
    struct slice word;

    while (slice_token(&rest, ", \t\r\n", &word)) {
        char *name = slice_dup(word);
        struct vec list = VEC_INIT;
        struct err err = ERR_INIT;

        if (config_is_stand_in(findings_config(f), name)) {
            /* reported as a value that cannot be read */
        } else if (config_get(findings_config(f), name) == NULL) {
            findings_error(f, "smtpd_restriction_classes",
                           "class %s is not defined: add \"%s = ...\"", name, name);
        } else {
            if (!findings_knows(f, name))
                map_check_value(env, f, name, config_get(findings_config(f), name));
            /* as a list of its own: it may stand in no other, but be the action of an access table */
            if (!report_missing(f, name, config_get(findings_config(f), name))) {
                if (policy_parse(p, name, &list, 0, &err) == -1)
                    findings_error(f, name, "%s", err.text);
                else
                    check_list(f, name, htable_get(p->classes, word));
            }
            policy_list_free(&list);
        }
        free(name);
    }
}

static void check_actions(struct findings *f, const struct policy *p)
{
    const struct {
        const char *parameter, *value;
    } actions[] = {
        {"reject_tempfail_action", p->p.tempfail_action},
        {"unknown_address_tempfail_action", p->p.address_tempfail_action},
        {"unknown_helo_hostname_tempfail_action", p->p.helo_tempfail_action},
    };

    for (size_t i = 0; i < ARRAY_LEN(actions); i++)
        if (strcmp(actions[i].value, "defer") != 0 &&
            strcmp(actions[i].value, "defer_if_permit") != 0)
            findings_error(f, actions[i].parameter, "\"%s\" is neither defer nor defer_if_permit",
                           actions[i].value);
}

/* Is each value what was meant, by which mail is let pass? */
static bool is_whole(const struct config *cfg)
{
    struct slice rest = slice_str(config_get(cfg, "smtpd_restriction_classes"));
    struct slice word;
    bool whole = !config_is_stand_in(cfg, "smtpd_restriction_classes") &&
                 !config_is_stand_in(cfg, "mynetworks");

    for (int i = 0; i < LIST_COUNT; i++)
        whole = whole && !config_is_stand_in(cfg, policy_list_names[i]);
    while (whole && slice_token(&rest, ", \t\r\n", &word)) {
        char *name = slice_dup(word);

        whole = !config_is_stand_in(cfg, name);
        free(name);
    }
    return whole;
}

void policy_check(struct map_env *env, struct findings *f)
{
    const struct config *cfg = map_env_config(env);
    struct match_list *mynetworks = NULL;
    struct policy *p = NULL;
    struct err err = ERR_INIT;
    bool whole = is_whole(cfg);

    if (policy_begin(env, &p, &err) == -1) {
        findings_error(f, "smtpd_restriction_classes", "%s", err.text);
        return;
    }
    check_actions(f, p);
    if (match_list_open(env, MATCH_HOST, config_get(cfg, "mynetworks"), false, &mynetworks, &err) ==
        -1) {
        findings_error(f, "mynetworks", "%s", err.text);
        whole = false;
    }
    match_list_free(&mynetworks);
    for (int i = 0; i < LIST_COUNT; i++) {
        err = ERR_INIT;
        if (report_missing(f, policy_list_names[i], p->p.lists[i])) {
            whole = false;
        } else if (policy_parse(p, p->p.lists[i], &p->lists[i], 0, &err) == -1) {
            findings_error(f, policy_list_names[i], "%s", err.text);
            whole = false;
        } else {
            check_list(f, policy_list_names[i], &p->lists[i]);
        }
    }
    check_classes(env, f, p);
    if (whole)
        check_relay(f, p);
    policy_free(&p);
}
