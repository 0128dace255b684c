/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.h - how tables are asked, written once: addresses with their partial keys, domains with their
 * parents, lists of names, hosts and networks.
 */
#ifndef PR_MAPS_POLICY_H
#define PR_MAPS_POLICY_H

#include "maps/map.h"

/*
 * The order of keys for an address user+ext@domain. Pattern tables are asked once with the whole address.
 * canonical(5), virtual(5), transport(5), access(5).
 */
enum map_address_keys {
    MAP_KEY_FULL = 1,  /* user+ext@domain */
    MAP_KEY_NOEXT = 2, /* user@domain */
    MAP_KEY_LOCAL_FULL =
        4, /* user+ext, only where domain is local ($myorigin, $mydestination, own addresses) */
    MAP_KEY_LOCAL = 8,      /* user, same */
    MAP_KEY_AT_DOMAIN = 16, /* @domain */
    MAP_KEY_DOMAIN = 32,    /* domain (transport, access) */
    MAP_KEY_PARENTS = 64,   /* .parent (and parent, if parent_domain_matches_subdomains says so) */
    MAP_KEY_USER_AT = 128,  /* user@ (access(5)) */
};
/*
 * domain_is_local: for the LOCAL keys. ext (may be NULL): gets the extension that the matching key lacked ("" if none),
 * for propagate_unmatched_extensions. delimiters: recipient_delimiter, may be "".
 */
NODISCARD enum map_result map_address_lookup(struct map_list *l, struct slice addr, unsigned keys,
                                             const char *delimiters, bool domain_is_local,
                                             bool parents_plain, struct buf *value, struct buf *ext,
                                             struct err *err);
/* domain, then its parents as ".parent" (and plain "parent" when parents_plain). */
NODISCARD enum map_result map_domain_lookup(struct map_list *l, struct slice domain,
                                            bool parents_plain, struct buf *value, struct err *err);
/* An IPv4/IPv6 address, then its networks a.b.c, a.b, a (access(5)); pattern tables once. */
NODISCARD enum map_result map_client_lookup(struct map_list *l, struct slice addr,
                                            struct buf *value, struct err *err);

/*
 * A match list: names, .names, !negation, /file/names, type:table; first match wins (mydestination, relay_domains,
 * mynetworks, debug_peer_list ...). FOUND: matches; NOTFOUND; RETRY: a table could not say.
 */
enum match_kind {
    MATCH_STRING, /* whole string, case-insensitive; tables are asked for it */
    MATCH_DOMAIN, /* also parents of a domain: ".dom" or "dom" per parents_plain */
    MATCH_HOST, /* client: name (as MATCH_DOMAIN) or address: 1.2.3.4, 1.2.3.0/24, [::1]/64, cidr: tables */
};
struct match_list;
NODISCARD int match_list_open(struct map_env *env, enum match_kind kind, const char *value,
                              bool parents_plain, struct match_list **out, struct err *err);
void match_list_free(struct match_list **l);
bool match_list_is_empty(const struct match_list *l);
unsigned match_list_flags(const struct match_list *l); /* MAP_FLAG_LOCAL */
NODISCARD enum map_result match_list_string(struct match_list *l, struct slice s, struct err *err);
/* name may be empty (unknown). */
NODISCARD enum map_result match_list_host(struct match_list *l, struct slice name,
                                          struct slice addr, struct err *err);
/* Does parent_domain_matches_subdomains name this feature ("mynetworks", "relay_domains" ...)? */
bool parent_matches_subdomains(const struct config *cfg, const char *feature);

#endif
