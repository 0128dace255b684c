/* SPDX-License-Identifier: Apache-2.0 */
/* route_int.h - what the files of lib/route share. */
#ifndef PR_ROUTE_INT_H
#define PR_ROUTE_INT_H

#include "maps/network.h"
#include "route/route.h"

struct route_params {
    const char *mydestination, *inet_interfaces, *proxy_interfaces, *relay_domains,
        *relay_recipient_maps;
    const char *virtual_alias_domains, *virtual_alias_maps, *virtual_mailbox_domains,
        *virtual_mailbox_maps;
    const char *local_recipient_maps, *alias_maps;
    const char *local_transport, *virtual_transport, *relay_transport, *default_transport,
        *relayhost, *transport_maps;
    const char *sender_dependent_relayhost_maps, *sender_dependent_default_transport_maps;
    const char *parent_domain_matches_subdomains, *recipient_delimiter,
        *propagate_unmatched_extensions, *empty_address_recipient, *relocated_maps,
        *empty_address_relayhost_maps_lookup_key, *empty_address_default_transport_maps_lookup_key;
    bool append_at_myorigin, append_dot_mydomain, swap_bangpath, allow_percent_hack,
        allow_untrusted_routing, relocated_prefix_enable, allow_min_user, resolve_null_domain,
        resolve_numeric_domain;
};

struct route {
    struct route_params p;
    const char *myorigin, *mydomain, *myhostname;
    struct match_list *mydestination, *relay_domains, *virtual_alias_domains,
        *virtual_mailbox_domains;
    struct map_list *virtual_alias, *virtual_mailbox, *relay_recipients, *local_recipients,
        *transports, *relocated;
    struct map_list *sender_relayhost, *sender_transport;
    struct network *own; /* addresses of this host */
    size_t nown;
    bool transport_parents;
    bool local_only;
};

bool route_is_ipv4(struct slice domain); /* without [] */

struct findings;
void route_check(struct map_env *env, struct findings *f); /* route_check.c */

#endif
