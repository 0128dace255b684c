/* SPDX-License-Identifier: Apache-2.0 */
/* route_params.c - the parameters of rewriting and routing, and the list of this folder's parameter sets. */
#include "route/route_int.h"

#define R                            struct route_params
#define STRING(name, default_, text) PARAM_STRING(#name, R, name, .def = default_, .doc = text)
#define BOOL(name, default_, text)   PARAM_BOOL(#name, R, name, .def = default_, .doc = text)

static const struct param rows[] = {
    STRING(mydestination, "$myhostname, localhost.$mydomain, localhost",
           "Domains whose mail is delivered on this host."),
    STRING(inet_interfaces, "all",
           "The addresses that mail is received on; mail to them as [address] is local."),
    STRING(proxy_interfaces, "",
           "Addresses of this system outside, behind a proxy or address translator."),
    STRING(relay_domains, "${{$compatibility_level} <level {2} ? {$mydestination} : {}}",
           "Domains that mail is relayed to."),
    STRING(relay_recipient_maps, "",
           "Tables of the recipients in relay_domains; empty: all are accepted."),
    STRING(virtual_alias_domains, "$virtual_alias_maps",
           "Domains whose addresses are all aliases."),
    STRING(virtual_alias_maps, "$virtual_maps", "Tables that make other addresses of an address."),
    STRING(virtual_mailbox_domains, "$virtual_mailbox_maps",
           "Domains whose mail goes to virtual mailboxes."),
    STRING(virtual_mailbox_maps, "", "Tables of the mailboxes in virtual_mailbox_domains."),
    STRING(local_recipient_maps, "proxy:unix:passwd.byname $alias_maps",
           "Tables of the local recipients; empty: all are accepted."),
    STRING(alias_maps, "hash:/etc/aliases", "Alias tables of local delivery."),
    STRING(local_transport, "local:$myhostname", "Transport and next hop of local domains."),
    STRING(virtual_transport, "virtual", "Transport of virtual mailbox domains."),
    STRING(relay_transport, "relay", "Transport of relay domains."),
    STRING(default_transport, "smtp", "Transport of all other domains."),
    STRING(relayhost, "", "The next hop of all mail that is not ours."),
    STRING(transport_maps, "", "Tables that give transport and next hop by recipient."),
    STRING(sender_dependent_relayhost_maps, "",
           "Tables that give, by sender, what stands in for relayhost."),
    STRING(sender_dependent_default_transport_maps, "",
           "Tables that give, by sender, what stands in for default_transport."),
    STRING(
        parent_domain_matches_subdomains,
        "debug_peer_list,fast_flush_domains,mynetworks,permit_mx_backup_networks,qmqpd_authorized_clients,relay_domains,smtpd_access_maps",
        "Features in which the name of a domain also means its subdomains."),
    STRING(recipient_delimiter, "", "Characters that divide a user's name from an extension."),
    STRING(propagate_unmatched_extensions, "canonical, virtual",
           "Tables whose results keep the extension that their key lacked."),
    STRING(relocated_maps, "",
           "Tables of users and domains that have gone, with where they are to be found."),
    BOOL(relocated_prefix_enable, "yes",
         "Put \"5.1.6 User has moved to\" before what relocated_maps gives."),
    BOOL(resolve_null_domain, "no",
         "Take user@ for user@$myhostname; else it is refused, as no address."),
    BOOL(resolve_numeric_domain, "no",
         "Take user@1.2.3.4 for user@[1.2.3.4]; else it is refused, as no address."),
    BOOL(allow_min_user, "no",
         "Accept addresses that begin with \"-\", which programs may take for options."),
    STRING(empty_address_relayhost_maps_lookup_key, "<>",
           "What sender_dependent_relayhost_maps is asked for the null sender."),
    STRING(empty_address_default_transport_maps_lookup_key, "<>",
           "What sender_dependent_default_transport_maps is asked for the null sender."),
    STRING(empty_address_recipient, "MAILER-DAEMON", "Where mail for the null address goes."),
    BOOL(append_at_myorigin, "yes", "Add @$myorigin to addresses without a domain."),
    BOOL(append_dot_mydomain, "${{$compatibility_level} <level {1} ? {yes} : {no}}",
         "Add .$mydomain to domains without a dot."),
    BOOL(swap_bangpath, "yes", "Rewrite site!user to user@site."),
    BOOL(allow_percent_hack, "yes", "Rewrite user%domain to user@domain."),
    BOOL(allow_untrusted_routing, "no",
         "Accept user@domain@here and the like from clients that are not trusted."),
};
const struct param_set route_params = PARAM_SET_CHECKED("route", R, rows, route_check);

extern const struct param_set *const route_param_sets[];

const struct param_set *const route_param_sets[] = {
    &route_params,
    NULL,
};
