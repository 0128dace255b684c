/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restrictions.c - the table of restrictions. A new one is a function and a row.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mail/address.h"
#include "mail/dsn.h"
#include "maps/network.h"
#include "smtpd/policy_int.h"

#define FN(name) static enum policy_verdict name(struct evaluation *e, const struct restriction *r)

FN(do_permit)
{
    (void) e;
    (void) r;
    return POLICY_PERMIT;
}

/* What a restriction judges that names nothing itself. */
static struct slice subject(const struct policy_query *q, const char **class_)
{
    if (q->etrn_domain.len > 0) {
        *class_ = "Etrn command";
        return q->etrn_domain;
    }
    *class_ = q->has_recipient ? "Recipient address" : "Client host";
    return q->has_recipient ? q->recipient : q->client_addr;
}

FN(do_reject)
{
    const char *class_;
    struct slice what = subject(e->q, &class_);

    (void) r;
    return policy_reject(e, e->p->p.reject_code, "5.7.1", what, class_, "Access denied");
}

FN(do_defer)
{
    const char *class_;
    struct slice what = subject(e->q, &class_);

    (void) r;
    return policy_reject(e, e->p->p.defer_code, "4.3.2", what, class_, "Try again later");
}

FN(do_defer_if_permit)
{
    (void) r;
    struct policy_result saved = *e->result;

    return policy_defer_if_permit(e, do_defer(e, NULL), &saved);
}

FN(do_defer_if_reject)
{
    (void) r;
    e->state->defer_if_reject = true;
    return POLICY_DUNNO;
}

FN(do_warn_if_reject)
{
    (void) r;
    e->state->warn_if_reject = true;
    return POLICY_DUNNO;
}

FN(do_sleep)
{
    e->result->sleep_s = r->number;
    return POLICY_SLEEP;
}

FN(do_nothing)
{
    (void) e;
    (void) r;
    return POLICY_DUNNO;
}

FN(permit_mynetworks)
{
    struct err err = ERR_INIT;

    (void) r;
    switch (match_list_host(e->p->mynetworks, e->q->name_verified ? e->q->client_name : SLICE_EMPTY,
                            e->q->client_addr, &err)) {
    case MAP_FOUND:
        return POLICY_PERMIT;
    case MAP_NOTFOUND:
        return POLICY_DUNNO;
    case MAP_RETRY:
        break;
    }
    return policy_trouble(e, e->q->client_addr, "mynetworks", &err);
}

FN(permit_inet_interfaces)
{
    struct network n;

    (void) r;
    /* loopback is always an own interface; others are known to routing */
    if (network_parse(e->q->client_addr, &n, NULL) == 0 &&
        ((n.family == AF_INET && n.addr[0] == 127)))
        return POLICY_PERMIT;
    return slice_eq_str(e->q->client_addr, "::1") ? POLICY_PERMIT : POLICY_DUNNO;
}

static enum policy_verdict unauth_destination(struct evaluation *e, bool defer)
{
    struct buf full = BUF_INIT(MAIL_ADDR_MAX);
    struct err err = ERR_INIT;
    enum policy_verdict v = POLICY_DUNNO;

    if (!e->q->has_recipient)
        return POLICY_DUNNO;
    route_rewrite(e->p->route, e->q->recipient,
                  slice_str(config_get(map_env_config(e->p->env), "myorigin")), &full);
    switch (route_is_authorized_destination(e->p->route, buf_view(&full), &err)) {
    case MAP_FOUND:
        break;
    case MAP_NOTFOUND:
        v = defer ? policy_reject(e, 454, "4.7.1", e->q->recipient, NULL, "Relay access denied")
                  : policy_reject(e, e->p->p.relay_code, "5.7.1", e->q->recipient, NULL,
                                  "Relay access denied");
        break;
    case MAP_RETRY:
        v = policy_trouble(e, e->q->recipient, "relay check", &err);
        break;
    }
    buf_fini(&full);
    return v;
}

FN(reject_unauth_destination)
{
    (void) r;
    return unauth_destination(e, false);
}

FN(defer_unauth_destination)
{
    (void) r;
    return unauth_destination(e, true);
}

FN(permit_auth_destination)
{
    struct buf full = BUF_INIT(MAIL_ADDR_MAX);
    struct err err = ERR_INIT;
    enum policy_verdict v = POLICY_DUNNO;

    (void) r;
    if (!e->q->has_recipient)
        return POLICY_DUNNO;
    route_rewrite(e->p->route, e->q->recipient,
                  slice_str(config_get(map_env_config(e->p->env), "myorigin")), &full);
    switch (route_is_authorized_destination(e->p->route, buf_view(&full), &err)) {
    case MAP_FOUND:
        v = POLICY_PERMIT;
        break;
    case MAP_NOTFOUND:
        break;
    case MAP_RETRY:
        v = policy_trouble(e, e->q->recipient, "relay check", &err);
        break;
    }
    buf_fini(&full);
    return v;
}

static enum policy_verdict unlisted(struct evaluation *e, struct slice addr, const char *class_,
                                    const char *dsn)
{
    struct buf full = BUF_INIT(MAIL_ADDR_MAX);
    struct err err = ERR_INIT;
    const char *table = "";
    enum policy_verdict v = POLICY_DUNNO;

    if (addr.len == 0)
        return POLICY_DUNNO;
    route_rewrite(e->p->route, addr, slice_str(config_get(map_env_config(e->p->env), "myorigin")),
                  &full);
    switch (route_recipient_exists(e->p->route, buf_view(&full), &table, &err)) {
    case MAP_FOUND:
        break;
    case MAP_NOTFOUND: {
        int64_t code = strstr(table, "local") != NULL   ? e->p->p.unknown_local_code
                       : strstr(table, "relay") != NULL ? e->p->p.unknown_relay_code
                       : strstr(table, "alias") != NULL ? e->p->p.unknown_alias_code
                                                        : e->p->p.unknown_mailbox_code;
        char own[8];

        memcpy(own, dsn, strlen(dsn) + 1);
        own[0] = code < 500 ? '4' : '5';
        v = e->p->p.show_table
                ? policy_reject(e, code, own, addr, class_, "User unknown in %s", table)
                : policy_reject(e, code, own, addr, class_, "User unknown");
        break;
    }
    case MAP_RETRY:
        v = policy_trouble(e, addr, class_, &err);
        break;
    }
    buf_fini(&full);
    return v;
}

/* Whom mail would come back for, as they have gone. */
static enum policy_verdict relocated(struct evaluation *e)
{
    struct buf full = BUF_INIT(MAIL_ADDR_MAX);
    struct buf text = BUF_INIT(2048);
    struct slice why = SLICE_EMPTY;
    struct slice code;
    struct err err = ERR_INIT;
    enum policy_verdict v = POLICY_DUNNO;
    char dsn[DSN_CODE_MAX + 1];

    route_rewrite(e->p->route, e->q->recipient,
                  slice_str(config_get(map_env_config(e->p->env), "myorigin")), &full);
    switch (route_relocated(e->p->route, buf_view(&full), &text, &err)) {
    case MAP_FOUND:
        code = dsn_code_split(buf_view(&text), &why);
        (void) snprintf(
            dsn, sizeof(dsn), "%.*s",
            SLICE_FMT(code.len > 0 ? slice_sub(code, 0, DSN_CODE_MAX) : SLICE_LIT("5.1.6")));
        v = policy_reject(e, 550, dsn, e->q->recipient, "Recipient address", "%.*s",
                          SLICE_FMT(why));
        break;
    case MAP_NOTFOUND:
        break;
    case MAP_RETRY:
        v = policy_trouble(e, e->q->recipient, "Recipient address", &err);
        break;
    }
    buf_fini(&full);
    buf_fini(&text);
    return v;
}

FN(reject_unlisted_recipient)
{
    enum policy_verdict v;

    (void) r;
    if (!e->q->has_recipient)
        return POLICY_DUNNO;
    v = relocated(e);
    return v != POLICY_DUNNO ? v : unlisted(e, e->q->recipient, "Recipient address", "5.1.1");
}

FN(reject_unlisted_sender)
{
    (void) r;
    return e->q->has_sender ? unlisted(e, e->q->sender, "Sender address", "5.1.0") : POLICY_DUNNO;
}

FN(reject_unauth_pipelining)
{
    (void) r;
    return e->q->pipelined ? policy_reject(e, 503, "5.5.0", SLICE_EMPTY, "Data command",
                                           "Improper use of SMTP command pipelining")
                           : POLICY_DUNNO;
}

FN(reject_invalid_helo)
{
    struct slice h = e->q->helo;

    (void) r;
    if (h.len == 0)
        return POLICY_DUNNO;
    if (h.ptr[0] == '[' && h.ptr[h.len - 1] == ']'
            ? address_literal_valid(slice_sub(h, 1, h.len - 1))
            : hostname_valid(h))
        return POLICY_DUNNO;
    return policy_reject(e, e->p->p.invalid_hostname_code, "5.5.2", h, "Helo command",
                         "Invalid name");
}

static bool is_fqdn(struct slice domain)
{
    if (domain.len > 0 && domain.ptr[0] == '[')
        return true;
    return hostname_valid(domain) && slice_find(domain, '.') > 0;
}

FN(reject_non_fqdn_helo)
{
    (void) r;
    if (e->q->helo.len == 0 || is_fqdn(e->q->helo))
        return POLICY_DUNNO;
    return policy_reject(e, e->p->p.non_fqdn_code, "5.5.2", e->q->helo, "Helo command",
                         "need fully-qualified hostname");
}

FN(reject_non_fqdn_sender)
{
    (void) r;
    if (!e->q->has_sender || e->q->sender.len == 0 || is_fqdn(address_domain(e->q->sender)))
        return POLICY_DUNNO;
    return policy_reject(e, e->p->p.non_fqdn_code, "5.5.2", e->q->sender, "Sender address",
                         "need fully-qualified address");
}

FN(reject_non_fqdn_recipient)
{
    (void) r;
    if (!e->q->has_recipient || slice_caseeq_str(e->q->recipient, "postmaster") ||
        is_fqdn(address_domain(e->q->recipient)))
        return POLICY_DUNNO;
    return policy_reject(e, e->p->p.non_fqdn_code, "5.5.2", e->q->recipient, "Recipient address",
                         "need fully-qualified address");
}

/* No answer now: 450, at once or at the end of the lists. */
static enum policy_verdict tempfail(struct evaluation *e, const char *action, const char *dsn,
                                    struct slice what, const char *class_, const char *text)
{
    struct policy_result saved = *e->result;
    enum policy_verdict v = policy_reject(e, 450, dsn, what, class_, "%s", text);

    return strcmp(action, "defer") == 0 ? v : policy_defer_if_permit(e, v, &saved);
}

/* A domain that mail could not be sent to. */
static enum policy_verdict unknown_domain(struct evaluation *e, struct slice addr,
                                          const char *class_, const char *dsn)
{
    struct slice domain = address_domain(addr);
    struct err err = ERR_INIT;
    enum address_class class;
    char *name;
    enum dns_result res;

    if (domain.len == 0 || domain.ptr[0] == '[')
        return POLICY_DUNNO;
    if (route_class(e->p->route, domain, &class, &err) == MAP_FOUND && class != CLASS_DEFAULT)
        return POLICY_DUNNO;
    name = slice_dup(domain);
    res = dns_mail_domain_exists(e->p->dns, name, &err);
    free(name);
    switch (res) {
    case DNS_OK:
        return POLICY_DUNNO;
    case DNS_RETRY:
        return tempfail(e, e->p->p.address_tempfail_action, dsn[4] == '8' ? "4.1.8" : "4.1.2", addr,
                        class_, "Domain not found");
    case DNS_NOTFOUND:
    case DNS_INVALID:
        break;
    }
    return policy_reject(e, e->p->p.unknown_address_code,
                         e->p->p.unknown_address_code < 500 ? (dsn[4] == '8' ? "4.1.8" : "4.1.2")
                                                            : dsn,
                         addr, class_, "Domain not found");
}

FN(reject_unknown_sender_domain)
{
    (void) r;
    return e->q->has_sender ? unknown_domain(e, e->q->sender, "Sender address", "5.1.8")
                            : POLICY_DUNNO;
}

FN(reject_unknown_recipient_domain)
{
    (void) r;
    return e->q->has_recipient ? unknown_domain(e, e->q->recipient, "Recipient address", "5.1.2")
                               : POLICY_DUNNO;
}

FN(reject_unknown_client)
{
    (void) r;
    if (e->q->name_verified)
        return POLICY_DUNNO;
    return policy_reject(e, e->q->name_tempfail ? 450 : e->p->p.unknown_client_code,
                         e->q->name_tempfail || e->p->p.unknown_client_code < 500 ? "4.7.25"
                                                                                  : "5.7.25",
                         e->q->client_addr, "Client host", "cannot find your hostname, [%.*s]",
                         SLICE_FMT(e->q->client_addr));
}

FN(reject_unknown_reverse)
{
    (void) r;
    if (!slice_eq_str(e->q->client_reverse_name, "unknown"))
        return POLICY_DUNNO;
    return policy_reject(e, e->q->name_tempfail ? 450 : e->p->p.unknown_client_code,
                         e->q->name_tempfail || e->p->p.unknown_client_code < 500 ? "4.7.25"
                                                                                  : "5.7.25",
                         e->q->client_addr, "Client host",
                         "cannot find your reverse hostname, [%.*s]", SLICE_FMT(e->q->client_addr));
}

FN(reject_unknown_helo)
{
    struct err err = ERR_INIT;
    char *name;
    enum dns_result res;

    (void) r;
    if (e->q->helo.len == 0 || e->q->helo.ptr[0] == '[')
        return POLICY_DUNNO;
    name = slice_dup(e->q->helo);
    res = dns_mail_domain_exists(e->p->dns, name, &err);
    free(name);
    if (res == DNS_OK)
        return POLICY_DUNNO;
    if (res == DNS_RETRY)
        return tempfail(e, e->p->p.helo_tempfail_action, "4.7.1", e->q->helo, "Helo command",
                        "Host not found");
    return policy_reject(e, e->p->p.unknown_hostname_code,
                         e->p->p.unknown_hostname_code < 500 ? "4.7.1" : "5.7.1", e->q->helo,
                         "Helo command", "Host not found");
}

FN(reject_multi_recipient_bounce)
{
    (void) r;
    if (!e->q->has_sender || e->q->sender.len > 0 ||
        e->q->rcpt_count < (e->q->has_recipient ? 1U : 2U))
        return POLICY_DUNNO;
    return policy_reject(e, e->p->p.multi_recipient_code, "5.5.3", SLICE_LIT("<>"), "Data command",
                         "Multi-recipient bounce");
}

/* --- tables ------------------------------------------------------------------------------------------- */

static enum policy_verdict answered(struct evaluation *e, const struct restriction *r,
                                    enum map_result res, const struct buf *value, struct slice key,
                                    const char *class_, const struct err *err)
{
    switch (res) {
    case MAP_NOTFOUND:
        policy_trace(e, r->name, key, "not found");
        return POLICY_DUNNO;
    case MAP_RETRY:
        policy_trace(e, r->name, key, err->text);
        return policy_trouble(e, key, class_, err);
    case MAP_FOUND:
        break;
    }
    return access_action(e, buf_view(value), key, class_, r->arg);
}

/* what: as replies and the log name it; the tables are asked for name, then for addr. */
static enum policy_verdict check_host(struct evaluation *e, const struct restriction *r,
                                      struct slice name, struct slice addr, struct slice what,
                                      const char *class_)
{
    struct buf value = BUF_INIT(MAP_VALUE_MAX);
    struct err err = ERR_INIT;
    enum map_result res = MAP_NOTFOUND;
    enum policy_verdict v;

    if (name.len > 0)
        res = map_domain_lookup(r->maps, name, e->p->access_parents, &value, &err);
    if (res == MAP_NOTFOUND && addr.len > 0)
        res = map_client_lookup(r->maps, addr, &value, &err);
    v = answered(e, r, res, &value, what, class_, &err);
    buf_fini(&value);
    return v;
}

FN(check_client_access)
{
    struct slice name = e->q->name_verified ? e->q->client_name : SLICE_LIT("unknown");
    struct buf what = BUF_INIT(1024);
    enum policy_verdict v;

    buf_printf(&what, "%.*s[%.*s]", SLICE_FMT(name), SLICE_FMT(e->q->client_addr));
    v = check_host(e, r, name, e->q->client_addr, buf_view(&what), "Client host");
    buf_fini(&what);
    return v;
}

FN(check_reverse_client_access)
{
    return check_host(e, r, e->q->client_reverse_name, e->q->client_addr, e->q->client_reverse_name,
                      "Unverified Client host");
}

FN(check_helo_access)
{
    return e->q->helo.len > 0
               ? check_host(e, r, e->q->helo, SLICE_EMPTY, e->q->helo, "Helo command")
               : POLICY_DUNNO;
}

static enum policy_verdict check_address(struct evaluation *e, const struct restriction *r,
                                         struct slice addr, const char *class_)
{
    struct buf value = BUF_INIT(MAP_VALUE_MAX);
    struct err err = ERR_INIT;
    struct slice key = addr.len > 0 ? addr : slice_str(e->p->p.null_sender_key);
    enum map_result res = map_address_lookup(
        r->maps, key,
        MAP_KEY_FULL | MAP_KEY_NOEXT | MAP_KEY_DOMAIN | MAP_KEY_PARENTS | MAP_KEY_USER_AT,
        e->p->delimiter, false, e->p->access_parents, &value, NULL, &err);
    enum policy_verdict v = answered(e, r, res, &value, addr, class_, &err);

    buf_fini(&value);
    return v;
}

FN(check_sender_access)
{
    return e->q->has_sender ? check_address(e, r, e->q->sender, "Sender address") : POLICY_DUNNO;
}

FN(check_recipient_access)
{
    return e->q->has_recipient ? check_address(e, r, e->q->recipient, "Recipient address")
                               : POLICY_DUNNO;
}

FN(check_etrn_access)
{
    return e->q->etrn_domain.len > 0
               ? check_host(e, r, e->q->etrn_domain, SLICE_EMPTY, e->q->etrn_domain, "Etrn command")
               : POLICY_DUNNO;
}

static const struct restriction_def defs[] = {
    {"permit", ARG_NONE, do_permit},
    {"reject", ARG_NONE, do_reject},
    {"defer", ARG_NONE, do_defer},
    {"defer_if_permit", ARG_NONE, do_defer_if_permit},
    {"defer_if_reject", ARG_NONE, do_defer_if_reject},
    {"warn_if_reject", ARG_NONE, do_warn_if_reject},
    {"sleep", ARG_NUMBER, do_sleep},
    {"permit_mynetworks", ARG_NONE, permit_mynetworks},
    {"permit_inet_interfaces", ARG_NONE, permit_inet_interfaces},
    {"permit_auth_destination", ARG_NONE, permit_auth_destination},
    {"permit_sasl_authenticated", ARG_NONE, do_nothing}, /* no client is: AUTH is not offered */
    {"permit_tls_all_clientcerts", ARG_NONE,
     do_nothing}, /* nor has one a certificate: no STARTTLS */
    {"permit_tls_clientcerts", ARG_NONE, do_nothing},
    {"reject_unauth_destination", ARG_NONE, reject_unauth_destination},
    {"defer_unauth_destination", ARG_NONE, defer_unauth_destination},
    {"reject_unlisted_recipient", ARG_NONE, reject_unlisted_recipient},
    {"reject_unlisted_sender", ARG_NONE, reject_unlisted_sender},
    {"reject_unauth_pipelining", ARG_NONE, reject_unauth_pipelining},
    {"reject_invalid_helo_hostname", ARG_NONE, reject_invalid_helo},
    {"reject_invalid_hostname", ARG_NONE, reject_invalid_helo},
    {"reject_non_fqdn_helo_hostname", ARG_NONE, reject_non_fqdn_helo},
    {"reject_non_fqdn_hostname", ARG_NONE, reject_non_fqdn_helo},
    {"reject_non_fqdn_sender", ARG_NONE, reject_non_fqdn_sender},
    {"reject_non_fqdn_recipient", ARG_NONE, reject_non_fqdn_recipient},
    {"reject_unknown_sender_domain", ARG_NONE, reject_unknown_sender_domain},
    {"reject_unknown_recipient_domain", ARG_NONE, reject_unknown_recipient_domain},
    {"reject_unknown_client_hostname", ARG_NONE, reject_unknown_client},
    {"reject_unknown_client", ARG_NONE, reject_unknown_client},
    {"reject_unknown_reverse_client_hostname", ARG_NONE, reject_unknown_reverse},
    {"reject_unknown_helo_hostname", ARG_NONE, reject_unknown_helo},
    {"reject_unknown_hostname", ARG_NONE, reject_unknown_helo},
    {"reject_multi_recipient_bounce", ARG_NONE, reject_multi_recipient_bounce},
    {"check_client_access", ARG_MAPS, check_client_access},
    {"check_reverse_client_hostname_access", ARG_MAPS, check_reverse_client_access},
    {"check_helo_access", ARG_MAPS, check_helo_access},
    {"check_sender_access", ARG_MAPS, check_sender_access},
    {"check_recipient_access", ARG_MAPS, check_recipient_access},
    {"check_etrn_access", ARG_MAPS, check_etrn_access},
};

const struct restriction_def *restriction_find(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(defs); i++)
        if (slice_caseeq_str(name, defs[i].name))
            return &defs[i];
    return NULL;
}

/* What Postfix knows and is not in the table above. */
static const char *const missing[] = {
    "check_ccert_access",
    "check_client_a_access",
    "check_client_mx_access",
    "check_client_ns_access",
    "check_helo_a_access",
    "check_helo_mx_access",
    "check_helo_ns_access",
    "check_policy_service",
    "check_recipient_a_access",
    "check_recipient_mx_access",
    "check_recipient_ns_access",
    "check_relay_domains",
    "check_reverse_client_hostname_a_access",
    "check_reverse_client_hostname_mx_access",
    "check_reverse_client_hostname_ns_access",
    "check_sasl_access",
    "check_sender_a_access",
    "check_sender_mx_access",
    "check_sender_ns_access",
    "permit_dnswl_client",
    "permit_mx_backup",
    "permit_naked_ip_address",
    "permit_rhswl_client",
    "reject_authenticated_sender_login_mismatch",
    "reject_known_sender_login_mismatch",
    "reject_maps_rbl",
    "reject_plaintext_session",
    "reject_rbl_client",
    "reject_rhsbl_client",
    "reject_rhsbl_helo",
    "reject_rhsbl_recipient",
    "reject_rhsbl_reverse_client",
    "reject_rhsbl_sender",
    "reject_sender_login_mismatch",
    "reject_unauthenticated_sender_login_mismatch",
    "reject_unverified_recipient",
    "reject_unverified_sender",
};

bool restriction_is_missing(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(missing); i++)
        if (slice_caseeq_str(name, missing[i]))
            return true;
    return false;
}
