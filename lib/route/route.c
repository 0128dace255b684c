/* SPDX-License-Identifier: Apache-2.0 */
/* route.c - opening, address classes, and whether a recipient exists. See route.h. */
#include "route/route_int.h"

#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "mail/address.h"

static void add_own(struct route *r, const struct network *n)
{
    r->own = xrealloc(r->own, (r->nown + 1) * sizeof(*r->own));
    r->own[r->nown++] = *n;
}

/* Addresses named in inet_interfaces and proxy_interfaces; "all": those of the interfaces. */
static void find_own(struct route *r, const char *value)
{
    struct slice rest = slice_str(value);
    struct slice word;

    while (slice_token(&rest, ", \t\r\n", &word)) {
        struct network n;

        if (slice_caseeq_str(word, "all")) {
            struct ifaddrs *list = NULL;

            if (getifaddrs(&list) == -1)
                continue;
            for (const struct ifaddrs *ifa = list; ifa != NULL; ifa = ifa->ifa_next) {
                if (ifa->ifa_addr == NULL)
                    continue;
                n = (struct network){.family = ifa->ifa_addr->sa_family};
                if (n.family == AF_INET) {
                    n.bits = 32;
                    memcpy(n.addr, &((const struct sockaddr_in *) ifa->ifa_addr)->sin_addr, 4);
                    add_own(r, &n);
                } else if (n.family == AF_INET6) {
                    n.bits = 128;
                    memcpy(n.addr, &((const struct sockaddr_in6 *) ifa->ifa_addr)->sin6_addr, 16);
                    add_own(r, &n);
                }
            }
            freeifaddrs(list);
        } else if (slice_caseeq_str(word, "loopback-only")) {
            if (network_parse(SLICE_LIT("127.0.0.1"), &n, NULL) == 0)
                add_own(r, &n);
            if (network_parse(SLICE_LIT("::1"), &n, NULL) == 0)
                add_own(r, &n);
        } else if (network_parse(word, &n, NULL) == 0) {
            add_own(r, &n);
        }
    }
}

int route_new(struct map_env *env, struct route **out, struct err *err)
{
    const struct config *cfg = map_env_config(env);
    struct route *r = xcalloc(1, sizeof(*r));
    bool relay_parents = parent_matches_subdomains(cfg, "relay_domains");

    if (config_bind(cfg, &route_params, &r->p, err) == -1)
        goto fail;
    r->myorigin = config_get(cfg, "myorigin");
    r->mydomain = config_get(cfg, "mydomain");
    r->myhostname = config_get(cfg, "myhostname");
    r->transport_parents = parent_matches_subdomains(cfg, "transport_maps");
    find_own(r, r->p.inet_interfaces);
    find_own(r, r->p.proxy_interfaces);
    const struct {
        const char *name, *value;
        struct match_list **out;
        bool parents;
    } matches[] = {
        {"mydestination", r->p.mydestination, &r->mydestination, false},
        {"relay_domains", r->p.relay_domains, &r->relay_domains, relay_parents},
        {"virtual_alias_domains", r->p.virtual_alias_domains, &r->virtual_alias_domains, false},
        {"virtual_mailbox_domains", r->p.virtual_mailbox_domains, &r->virtual_mailbox_domains,
         false},
    };
    const struct {
        const char *name, *value;
        struct map_list **out;
        bool for_routing;
        bool names_hop; /* a transport, a next hop */
    } lists[] = {
        {"virtual_alias_maps", r->p.virtual_alias_maps, &r->virtual_alias, false, false},
        {"virtual_mailbox_maps", r->p.virtual_mailbox_maps, &r->virtual_mailbox, false, false},
        {"relay_recipient_maps", r->p.relay_recipient_maps, &r->relay_recipients, false, false},
        {"local_recipient_maps", r->p.local_recipient_maps, &r->local_recipients, false, false},
        {"transport_maps", r->p.transport_maps, &r->transports, true, true},
        {"relocated_maps", r->p.relocated_maps, &r->relocated, true, false},
        {"sender_dependent_relayhost_maps", r->p.sender_dependent_relayhost_maps,
         &r->sender_relayhost, true, true},
        {"sender_dependent_default_transport_maps", r->p.sender_dependent_default_transport_maps,
         &r->sender_transport, true, true},
    };
    r->local_only = true;
    for (size_t i = 0; i < ARRAY_LEN(matches); i++) {
        if (match_list_open(env, MATCH_DOMAIN, matches[i].value, matches[i].parents, matches[i].out,
                            err) == -1) {
            err_prefix(err, "%s: ", matches[i].name);
            goto fail;
        }
        r->local_only &= (match_list_flags(*matches[i].out) & MAP_FLAG_LOCAL) != 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        /* what names a transport or next hop must not come from an address */
        int res = lists[i].names_hop ? map_list_open_plain(env, lists[i].value, lists[i].out, err)
                                     : map_list_open(env, lists[i].value, lists[i].out, err);

        if (res == -1) {
            err_prefix(err, "%s: ", lists[i].name);
            goto fail;
        }
        if (lists[i].for_routing)
            r->local_only &= (map_list_flags(*lists[i].out) & MAP_FLAG_LOCAL) != 0;
    }
    *out = r;
    return 0;
fail:
    route_free(&r);
    return -1;
}

void route_free(struct route **route)
{
    struct route *r = *route;

    if (r == NULL)
        return;
    match_list_free(&r->mydestination);
    match_list_free(&r->relay_domains);
    match_list_free(&r->virtual_alias_domains);
    match_list_free(&r->virtual_mailbox_domains);
    map_list_free(&r->virtual_alias);
    map_list_free(&r->virtual_mailbox);
    map_list_free(&r->relay_recipients);
    map_list_free(&r->local_recipients);
    map_list_free(&r->transports);
    map_list_free(&r->relocated);
    map_list_free(&r->sender_relayhost);
    map_list_free(&r->sender_transport);
    free(r->own);
    free(r);
    *route = NULL;
}

bool route_is_local_only(const struct route *r)
{
    return r->local_only;
}

const char *route_recipient_delimiter(const struct route *r)
{
    return r->p.recipient_delimiter;
}

bool route_propagates_extension(const struct route *r, const char *feature)
{
    struct slice rest = slice_str(r->p.propagate_unmatched_extensions);
    struct slice word;

    while (r->p.recipient_delimiter[0] != '\0' && slice_token(&rest, ", \t\r\n", &word))
        if (slice_caseeq_str(word, feature))
            return true;
    return false;
}

/* [1.2.3.4] that is ours. */
static bool is_own_literal(const struct route *r, struct slice domain)
{
    struct network n;

    if (domain.len < 3 || domain.ptr[0] != '[' || domain.ptr[domain.len - 1] != ']' ||
        network_parse(domain, &n, NULL) == -1)
        return false;
    for (size_t i = 0; i < r->nown; i++)
        if (r->own[i].family == n.family && network_has(&r->own[i], &n))
            return true;
    return false;
}

enum map_result route_class(const struct route *r, struct slice domain, enum address_class *out,
                            struct err *err)
{
    const struct {
        struct match_list *list;
        enum address_class class;
    } classes[] = {
        {r->mydestination, CLASS_LOCAL},
        {r->virtual_alias_domains, CLASS_VIRTUAL_ALIAS},
        {r->virtual_mailbox_domains, CLASS_VIRTUAL_MAILBOX},
        {r->relay_domains, CLASS_RELAY},
    };

    if (domain.len == 0 || is_own_literal(r, domain)) {
        *out = CLASS_LOCAL;
        return MAP_FOUND;
    }
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        enum map_result res = match_list_string(classes[i].list, domain, err);

        if (res == MAP_RETRY)
            return res;
        if (res == MAP_FOUND) {
            *out = classes[i].class;
            return MAP_FOUND;
        }
    }
    *out = CLASS_DEFAULT;
    return MAP_FOUND;
}

bool route_domain_is_local(const struct route *r, struct slice domain)
{
    struct err err = ERR_INIT;

    return is_own_literal(r, domain) ||
           match_list_string(r->mydestination, domain, &err) == MAP_FOUND;
}

/* Does a table of full addresses have it: user+ext@domain, user@domain, @domain; and local parts for local domains. */
static enum map_result is_in(const struct route *r, struct map_list *l, struct slice addr,
                             bool local, struct err *err)
{
    struct buf value = BUF_INIT(MAP_VALUE_MAX);
    unsigned keys = MAP_KEY_FULL | MAP_KEY_NOEXT | MAP_KEY_AT_DOMAIN |
                    (local ? MAP_KEY_LOCAL_FULL | MAP_KEY_LOCAL : 0U);
    enum map_result res = map_address_lookup(l, addr, keys, r->p.recipient_delimiter, local, false,
                                             &value, NULL, err);

    buf_fini(&value);
    return res;
}

enum map_result route_recipient_exists(const struct route *r, struct slice recipient,
                                       const char **table, struct err *err)
{
    struct slice domain = address_domain(recipient);
    enum address_class class;
    enum map_result res = route_class(r, domain, &class, err);
    bool local;

    if (res == MAP_RETRY)
        return res;
    local = class == CLASS_LOCAL;
    /* a virtual alias makes a recipient of any class exist */
    if (!map_list_is_empty(r->virtual_alias)) {
        res = is_in(r, r->virtual_alias, recipient, local || slice_caseeq_str(domain, r->myorigin),
                    err);
        if (res != MAP_NOTFOUND)
            return res;
    }
    switch (class) {
    case CLASS_LOCAL:
        *table = "local recipient table";
        if (map_list_is_empty(r->local_recipients) ||
            slice_caseeq_str(address_local(recipient), "postmaster") ||
            slice_caseeq_str(address_local(recipient), "mailer-daemon") ||
            slice_caseeq_str(address_local(recipient), "double-bounce"))
            return MAP_FOUND;
        return is_in(r, r->local_recipients, recipient, true, err);
    case CLASS_VIRTUAL_ALIAS:
        *table = "virtual alias table";
        return MAP_NOTFOUND;
    case CLASS_VIRTUAL_MAILBOX:
        *table = "virtual mailbox table";
        return map_list_is_empty(r->virtual_mailbox)
                   ? MAP_FOUND
                   : is_in(r, r->virtual_mailbox, recipient, false, err);
    case CLASS_RELAY:
        *table = "relay recipient table";
        return map_list_is_empty(r->relay_recipients)
                   ? MAP_FOUND
                   : is_in(r, r->relay_recipients, recipient, false, err);
    case CLASS_DEFAULT:
        break;
    }
    return MAP_FOUND;
}

enum map_result route_relocated(const struct route *r, struct slice recipient, struct buf *text,
                                struct err *err)
{
    struct buf value = BUF_INIT(MAP_VALUE_MAX);
    struct slice domain = address_domain(recipient);
    enum map_result res;
    bool local;

    if (map_list_is_empty(r->relocated))
        return MAP_NOTFOUND;
    local = slice_caseeq_str(domain, r->myorigin) || route_domain_is_local(r, domain);
    res = map_address_lookup(r->relocated, recipient,
                             MAP_KEY_FULL | MAP_KEY_NOEXT | MAP_KEY_AT_DOMAIN |
                                 (local ? MAP_KEY_LOCAL_FULL | MAP_KEY_LOCAL : 0U),
                             r->p.recipient_delimiter, local, false, &value, NULL, err);
    if (res == MAP_FOUND) {
        if (r->p.relocated_prefix_enable)
            buf_puts(text, "5.1.6 User has moved to ");
        buf_put_slice(text, slice_sub(buf_view(&value), 0, 1000));
    }
    buf_fini(&value);
    return res;
}

bool route_is_ipv4(struct slice domain)
{
    return domain.len > 0 && ascii_is_digit((unsigned char) domain.ptr[0]) &&
           address_literal_valid(domain);
}

static bool has_bad_domain(const struct route *r, struct slice addr)
{
    struct slice domain = address_domain(addr);

    if (slice_find(addr, '@') == -1)
        return false;
    if (domain.len == 0)
        return !r->p.resolve_null_domain;
    if (domain.len > 1 && domain.ptr[domain.len - 1] == '.')
        domain.len--;
    if (domain.ptr[0] == '[')
        return domain.ptr[domain.len - 1] != ']' ||
               !address_literal_valid(slice_sub(domain, 1, domain.len - 1));
    return !hostname_valid(domain) && !(r->p.resolve_numeric_domain && route_is_ipv4(domain));
}

bool route_is_refused_syntax(const struct route *r, struct slice addr)
{
    return (!r->p.allow_min_user && addr.len > 0 && addr.ptr[0] == '-') || has_bad_domain(r, addr);
}

enum map_result route_is_authorized_destination(const struct route *r, struct slice recipient,
                                                struct err *err)
{
    struct slice local = address_local(recipient);
    enum address_class class;
    enum map_result res;

    res = route_class(r, address_domain(recipient), &class, err);
    if (res == MAP_RETRY)
        return res;
    if (class == CLASS_DEFAULT)
        return MAP_NOTFOUND;
    /* user@elsewhere@here, elsewhere!user@here: routed on, so not for strangers (except to local aliases, whose names may hold these) */
    if (!r->p.allow_untrusted_routing && class != CLASS_LOCAL &&
        (slice_find(local, '@') != -1 || slice_find(local, '!') != -1 ||
         slice_find(local, '%') != -1))
        return MAP_NOTFOUND;
    return MAP_FOUND;
}
