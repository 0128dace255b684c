/* SPDX-License-Identifier: Apache-2.0 */
/* policy.c - parsing restriction lists, and running them. See policy.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "smtpd/policy_int.h"

#define CLASS_DEPTH     10
#define PERMIT_TEXT_MAX 4000

#define P struct policy_params
#define S .services = "smtpd"
#define LIST(name, index, default_, text)                                                          \
    PARAM_STRING(name, P, lists[index], .def = default_, S, .doc = text)
#define CODE(name, member, default_, text)                                                         \
    PARAM_INT(name, P, member, .def = default_, .min = 400, .max = 599, S, .doc = text)
static const struct param rows[] = {
    LIST("smtpd_client_restrictions", LIST_CLIENT, "", "Judges the client when it connects."),
    LIST("smtpd_helo_restrictions", LIST_HELO, "", "Judges the name given in HELO."),
    LIST("smtpd_sender_restrictions", LIST_SENDER, "", "Judges the sender address."),
    LIST(
        "smtpd_relay_restrictions", LIST_RELAY,
        "${{$compatibility_level} <level {1} ? {} : {permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination}}",
        "Decides who may send mail to elsewhere; before smtpd_recipient_restrictions."),
    LIST("smtpd_recipient_restrictions", LIST_RECIPIENT, "", "Judges each recipient."),
    LIST("smtpd_data_restrictions", LIST_DATA, "", "Judges at DATA."),
    LIST("smtpd_end_of_data_restrictions", LIST_END_OF_DATA, "",
         "Judges at the end of the message."),
    LIST("smtpd_etrn_restrictions", LIST_ETRN, "", "Judges ETRN."),
    PARAM_STRING("smtpd_restriction_classes", P, classes, .def = "", S,
                 .doc = "Names of lists that restrictions and access tables may name."),
    PARAM_STRING("smtpd_log_access_permit_actions", P, log_permit_actions, .def = "", S,
                 .doc = "Actions and restrictions that are logged when they permit something."),
    PARAM_STRING("smtpd_null_access_lookup_key", P, null_sender_key, .def = "<>", S,
                 .doc = "What access tables are asked for the null sender."),
    PARAM_STRING("reject_tempfail_action", P, tempfail_action, .def = "defer_if_permit", S,
                 .doc = "What a restriction does whose question has no answer now: defer, or "
                        "defer_if_permit, so that later ones may still refuse."),
    PARAM_STRING("unknown_address_tempfail_action", P, address_tempfail_action,
                 .def = "$reject_tempfail_action", S,
                 .doc = "The same for reject_unknown_sender_domain and _recipient_domain."),
    PARAM_STRING("unknown_helo_hostname_tempfail_action", P, helo_tempfail_action,
                 .def = "$reject_tempfail_action", S,
                 .doc = "The same for reject_unknown_helo_hostname."),
    PARAM_BOOL("smtpd_delay_reject", P, delay_reject, .def = "yes", S,
               .doc = "Judge client, HELO and sender only at RCPT, so that the log shows all."),
    PARAM_BOOL("smtpd_reject_unlisted_recipient", P, reject_unlisted_recipient, .def = "yes", S,
               .doc = "Refuse unknown recipients even where no list says so."),
    PARAM_BOOL("smtpd_reject_unlisted_sender", P, reject_unlisted_sender, .def = "no", S,
               .doc = "Refuse unknown senders of our own domains."),
    PARAM_BOOL("show_user_unknown_table_name", P, show_table, .def = "yes", S,
               .doc = "Name the table in \"User unknown in ... table\"."),
    CODE("access_map_defer_code", access_defer_code, "450", "Reply code of the DEFER action."),
    CODE("access_map_reject_code", access_reject_code, "554", "Reply code of the REJECT action."),
    CODE("defer_code", defer_code, "450", "Reply code of the defer restriction."),
    CODE("reject_code", reject_code, "554", "Reply code of the reject restriction."),
    CODE("relay_domains_reject_code", relay_code, "554",
         "Reply code of reject_unauth_destination."),
    CODE("invalid_hostname_reject_code", invalid_hostname_code, "501",
         "Reply code of reject_invalid_helo_hostname."),
    CODE("non_fqdn_reject_code", non_fqdn_code, "504",
         "Reply code of the reject_non_fqdn_ restrictions."),
    CODE("unknown_address_reject_code", unknown_address_code, "450",
         "Reply code of reject_unknown_sender_domain and _recipient_domain."),
    CODE("unknown_client_reject_code", unknown_client_code, "450",
         "Reply code of reject_unknown_client_hostname."),
    CODE("unknown_hostname_reject_code", unknown_hostname_code, "450",
         "Reply code of reject_unknown_helo_hostname."),
    CODE("unknown_local_recipient_reject_code", unknown_local_code, "550",
         "Reply code for unknown local recipients."),
    CODE("unknown_relay_recipient_reject_code", unknown_relay_code, "550",
         "Reply code for unknown relay recipients."),
    CODE("unknown_virtual_alias_reject_code", unknown_alias_code, "550",
         "Reply code for unknown virtual aliases."),
    CODE("unknown_virtual_mailbox_reject_code", unknown_mailbox_code, "550",
         "Reply code for unknown virtual mailboxes."),
    CODE("multi_recipient_bounce_reject_code", multi_recipient_code, "550",
         "Reply code of reject_multi_recipient_bounce."),
};
const struct param_set policy_params = PARAM_SET_CHECKED("policy", P, rows, policy_check);

const char *const policy_list_names[LIST_COUNT] = {
    "smtpd_client_restrictions",      "smtpd_helo_restrictions",      "smtpd_sender_restrictions",
    "smtpd_relay_restrictions",       "smtpd_recipient_restrictions", "smtpd_data_restrictions",
    "smtpd_end_of_data_restrictions", "smtpd_etrn_restrictions"};

/* The list that a class names; parsed when it is first met. */
static struct vec *find_class(struct policy *p, struct slice name, int depth, struct err *err)
{
    struct slice rest = slice_str(p->p.classes);
    struct slice word;
    struct vec *list = htable_get(p->classes, name);

    if (list != NULL)
        return list;
    while (slice_token(&rest, ", \t\r\n", &word)) {
        char *text;

        if (!slice_eq(word, name))
            continue;
        text = slice_dup(name);
        list = xcalloc(1, sizeof(*list));
        htable_put(p->classes, name, list);
        if (depth >= CLASS_DEPTH) {
            err_input(err, "restriction classes are nested too deep at %s", text);
            list = NULL;
        } else if (config_get(map_env_config(p->env), text) == NULL) {
            err_input(err, "restriction class %s is not defined", text);
            list = NULL;
        } else if (policy_parse(p, config_get(map_env_config(p->env), text), list, depth + 1,
                                err) == -1) {
            err_prefix(err, "%s: ", text);
            list = NULL;
        }
        free(text);
        return list;
    }
    if (restriction_is_missing(name))
        err_input(err, "%.*s is not yet effective: take it out, if mail may pass without it",
                  SLICE_FMT(name));
    else
        err_input(err, "unknown restriction: \"%.*s\"", SLICE_FMT(name));
    return NULL;
}

int policy_parse(struct policy *p, const char *text, struct vec *out, int depth, struct err *err)
{
    struct slice rest = slice_str(text);
    struct slice word;

    while (slice_token_braces(&rest, ", \t\r\n", &word)) {
        const struct restriction_def *def = restriction_find(word);
        struct restriction *r = xcalloc(1, sizeof(*r));
        struct slice arg = SLICE_EMPTY;

        r->name = slice_dup(word);
        r->def = def;
        vec_push(out, r);
        if (def == NULL && slice_find(word, ':') > 0) {
            /* "type:table" alone: check_*_access of the list's own kind; only known in recipient lists of old */
            return err_input(err, "a table without a check_..._access before it: \"%.*s\"",
                             SLICE_FMT(word));
        }
        if (def == NULL) {
            r->class_ = find_class(p, word, depth, err);
            if (r->class_ == NULL)
                return -1;
            continue;
        }
        if (def->arg != ARG_NONE && !slice_token_braces(&rest, ", \t\r\n", &arg))
            return err_input(err, "%s wants an argument", def->name);
        if (arg.len > 0)
            r->arg = slice_dup(arg);
        if (def->arg == ARG_MAPS) {
            char *spec = slice_dup(arg);
            int ret = slice_find(arg, ':') < 1
                          ? err_input(err, "%s wants a table, not \"%s\"", def->name, spec)
                          : map_list_open(p->env, spec, &r->maps, err);

            free(spec);
            if (ret == -1)
                return -1;
        }
        if (def->arg == ARG_NUMBER && num_parse_i64(arg, 0, 300, &r->number, err) == -1)
            return err_prefix(err, "%s: ", def->name);
    }
    return 0;
}

int policy_begin(struct map_env *env, struct policy **out, struct err *err)
{
    struct policy *p = xcalloc(1, sizeof(*p));
    const struct config *cfg = map_env_config(env);

    p->env = env;
    p->classes = htable_new(false);
    p->delimiter = config_get(cfg, "recipient_delimiter");
    p->access_parents = parent_matches_subdomains(cfg, "smtpd_access_maps");
    if (config_bind(cfg, &policy_params, &p->p, err) == -1) {
        policy_free(&p);
        return -1;
    }
    *out = p;
    return 0;
}

int policy_new(struct map_env *env, struct route *route, struct dns *dns, struct policy **out,
               struct err *err)
{
    const struct config *cfg = map_env_config(env);
    struct policy *p;

    if (policy_begin(env, &p, err) == -1)
        return -1;
    p->route = route;
    p->dns = dns;
    if (match_list_open(env, MATCH_HOST, config_get(cfg, "mynetworks"),
                        parent_matches_subdomains(cfg, "mynetworks"), &p->mynetworks, err) == -1) {
        err_prefix(err, "mynetworks: ");
        goto fail;
    }
    if (match_list_open(env, MATCH_STRING, p->p.log_permit_actions, false, &p->log_permit, err) ==
        -1) {
        err_prefix(err, "smtpd_log_access_permit_actions: ");
        goto fail;
    }
    for (int i = 0; i < LIST_COUNT; i++) {
        if (policy_parse(p, p->p.lists[i], &p->lists[i], 0, err) == -1) {
            err_prefix(err, "%s: ", policy_list_names[i]);
            goto fail;
        }
    }
    /* a relay that anybody may use is never what is meant */
    if (p->lists[LIST_RELAY].len == 0 && p->lists[LIST_RECIPIENT].len == 0 &&
        policy_parse(p, POLICY_RELAY_FALLBACK, &p->lists[LIST_RELAY], 0, err) == -1)
        goto fail;
    *out = p;
    return 0;
fail:
    policy_free(&p);
    return -1;
}

void policy_list_free(struct vec *v)
{
    for (size_t i = 0; i < v->len; i++) {
        struct restriction *r = v->items[i];

        map_list_free(&r->maps);
        free(r->name);
        free(r->arg);
        free(r);
    }
    vec_fini(v);
}

static void class_free(void *v)
{
    policy_list_free(v);
    free(v);
}

void policy_free(struct policy **policy)
{
    struct policy *p = *policy;

    if (p == NULL)
        return;
    for (int i = 0; i < LIST_COUNT; i++)
        policy_list_free(&p->lists[i]);
    htable_free(&p->classes, class_free);
    match_list_free(&p->mynetworks);
    match_list_free(&p->log_permit);
    free(p);
    *policy = NULL;
}

void policy_accept_unlisted(struct policy *p)
{
    p->p.reject_unlisted_recipient = false;
}

bool policy_delays_reject(const struct policy *p)
{
    return p->p.delay_reject;
}

void policy_log_permit(const struct evaluation *e, struct slice action, const char *class_,
                       struct slice what, const char *table)
{
    char text[PERMIT_TEXT_MAX];
    struct err err = ERR_INIT;

    if (e->effect == NULL || match_list_is_empty(e->p->log_permit))
        return;
    switch (match_list_string(e->p->log_permit, action, &err)) {
    case MAP_FOUND:
        (void) snprintf(text, sizeof(text), "action=%.*s for %s=%.*s %s%s", SLICE_FMT(action),
                        class_, SLICE_FMT(what), table != NULL ? "from " : "",
                        table != NULL ? table : "");
        e->effect(e->effect_arg, EFFECT_PERMIT, text);
        break;
    case MAP_NOTFOUND:
        break;
    case MAP_RETRY:
        log_warning("smtpd_log_access_permit_actions: %s", err.text);
        break;
    }
}

/* What a restriction by that name permits is the client, whatever the list. */
static bool judges_client(const struct restriction *r)
{
    return strcmp(r->name, "permit_mynetworks") == 0 ||
           strcmp(r->name, "permit_inet_interfaces") == 0;
}

static void log_permit(const struct evaluation *e, const struct restriction *r)
{
    struct buf client = BUF_INIT(1024);

    buf_printf(&client, "%.*s[%.*s]", SLICE_FMT(e->q->client_name), SLICE_FMT(e->q->client_addr));
    if (judges_client(r) || e->class_ == NULL)
        policy_log_permit(e, slice_str(r->name), "Client host", buf_view(&client), NULL);
    else
        policy_log_permit(e, slice_str(r->name), e->class_, e->what, NULL);
    buf_fini(&client);
}

void policy_trace(const struct evaluation *e, const char *name, struct slice key,
                  const char *result)
{
    if (e->trace != NULL)
        e->trace(e->trace_arg, name, key, result);
}

enum policy_verdict policy_reject(struct evaluation *e, int64_t code, const char *dsn,
                                  struct slice what, const char *class_, const char *fmt, ...)
{
    char reason[400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(reason, sizeof(reason), fmt, ap);
    va_end(ap);
    /* a class of NULL: the reason stands alone ("Relay access denied") */
    snprintf(e->result->text, sizeof(e->result->text), "%d %s <%.*s>: %s%s%s", (int) code, dsn,
             (int) (what.len < 200 ? what.len : 200), what.len > 0 ? what.ptr : "",
             class_ != NULL ? class_ : "", class_ != NULL ? " rejected: " : "", reason);
    for (char *c = e->result->text; *c != '\0'; c++)
        if ((unsigned char) *c < ' ' || *c == 127)
            *c = '?';
    if (e->state->warn_if_reject) {
        if (e->effect != NULL)
            e->effect(e->effect_arg, EFFECT_REJECT_WARNING, e->result->text);
        return POLICY_DUNNO;
    }
    return POLICY_REJECT;
}

enum policy_verdict policy_defer_if_permit(struct evaluation *e, enum policy_verdict v,
                                           const struct policy_result *before)
{
    if (v == POLICY_REJECT && !e->state->defer_if_permit) {
        e->state->defer_if_permit = true;
        (void) snprintf(e->state->defer_text, sizeof(e->state->defer_text), "%.399s",
                        e->result->text);
    }
    *e->result = *before;
    return POLICY_DUNNO;
}

enum policy_verdict policy_trouble(struct evaluation *e, struct slice what, const char *class_,
                                   const struct err *err)
{
    log_warning("%s: %.*s: %s", class_ != NULL ? class_ : "policy", SLICE_FMT(what), err->text);
    return policy_reject(e, 451, "4.3.0", what, NULL, "Temporary lookup failure");
}

enum policy_verdict policy_run(struct evaluation *e, const struct vec *list)
{
    for (size_t i = 0; i < list->len; i++) {
        const struct restriction *r = list->items[i];
        enum policy_verdict v;

        if (r->class_ != NULL) {
            if (++e->depth > CLASS_DEPTH)
                return policy_reject(e, 451, "4.3.5", SLICE_EMPTY, NULL,
                                     "Server configuration error");
            v = policy_run(e, r->class_);
            e->depth--;
        } else {
            v = r->def->fn(e, r);
            if (v == POLICY_PERMIT &&
                r->def->arg != ARG_MAPS) /* access.c knows more of a table's */
                log_permit(e, r);
        }
        if (strcmp(r->name, "warn_if_reject") == 0)
            continue;
        e->state->warn_if_reject = false;
        if (v == POLICY_SLEEP)
            continue; /* noted; the list goes on */
        if (v != POLICY_DUNNO)
            return v;
    }
    return POLICY_DUNNO;
}

/* Recipients that no table knows, after a list that refused nothing (smtpd_reject_unlisted_recipient). */
static enum policy_verdict unlisted(struct evaluation *e)
{
    const struct restriction none = {0};

    if (e->q->has_recipient && e->p->p.reject_unlisted_recipient)
        return restriction_find(SLICE_LIT("reject_unlisted_recipient"))->fn(e, &none);
    return POLICY_DUNNO;
}

static void name_subject(struct evaluation *e, enum policy_list list)
{
    switch (list) {
    case LIST_HELO:
        e->class_ = "Helo command";
        e->what = e->q->helo;
        break;
    case LIST_SENDER:
        e->class_ = "Sender address";
        e->what = e->q->sender;
        break;
    case LIST_RECIPIENT:
    case LIST_RELAY:
        e->class_ = "Recipient address";
        e->what = e->q->recipient;
        break;
    case LIST_DATA:
        e->class_ = "Data command";
        e->what = SLICE_LIT("DATA");
        break;
    case LIST_END_OF_DATA:
        e->class_ = "End-of-data";
        e->what = SLICE_LIT("END-OF-MESSAGE");
        break;
    case LIST_ETRN:
        e->class_ = "Etrn command";
        e->what = e->q->etrn_domain;
        break;
    case LIST_CLIENT:
    case LIST_COUNT:
        break; /* NULL: the client */
    }
}

void policy_evaluate(struct policy *p, enum policy_list list, const struct policy_query *q,
                     struct policy_state *state, struct policy_result *result,
                     policy_effect_fn effect, void *effect_arg, policy_trace_fn trace,
                     void *trace_arg)
{
    struct evaluation e = {.p = p,
                           .q = q,
                           .state = state,
                           .result = result,
                           .effect = effect,
                           .effect_arg = effect_arg,
                           .trace = trace,
                           .trace_arg = trace_arg};
    const struct restriction none = {0};

    name_subject(&e, list);
    *result = (struct policy_result){.verdict = POLICY_DUNNO};
    state->warn_if_reject = false;
    result->verdict = policy_run(&e, &p->lists[list]);
    if (result->verdict <= POLICY_PERMIT && list == LIST_SENDER && q->has_sender &&
        p->p.reject_unlisted_sender) {
        enum policy_verdict v =
            restriction_find(SLICE_LIT("reject_unlisted_sender"))->fn(&e, &none);

        if (v == POLICY_REJECT)
            result->verdict = v;
    }
    if (result->verdict <= POLICY_PERMIT && list == LIST_RECIPIENT) {
        enum policy_verdict v = unlisted(&e);

        if (v == POLICY_REJECT)
            result->verdict = v;
    }
    if (result->verdict <= POLICY_PERMIT && state->defer_if_permit &&
        (list == LIST_RECIPIENT || list == LIST_DATA)) {
        snprintf(result->text, sizeof(result->text), "%s", state->defer_text);
        result->verdict = POLICY_REJECT;
    } else if (result->verdict == POLICY_REJECT && state->defer_if_reject &&
               result->text[0] == '5') {
        result->text[0] = '4';
        if (strlen(result->text) > 4 && result->text[4] == '5')
            result->text[4] = '4';
    }
}
