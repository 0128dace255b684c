/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route.h - address rewriting and route resolution as a library: which class a domain has, whether a
 * recipient exists, and (transport, next hop, recipient) for a recipient. ADDRESS_CLASS_README,
 * trivial-rewrite(8), transport(5) of the reference describe the same.
 */
#ifndef PR_ROUTE_H
#define PR_ROUTE_H

#include "mail/envelope.h"
#include "maps/policy.h"

enum address_class {
    CLASS_LOCAL,           /* $mydestination, own addresses */
    CLASS_VIRTUAL_ALIAS,   /* virtual_alias_domains */
    CLASS_VIRTUAL_MAILBOX, /* virtual_mailbox_domains */
    CLASS_RELAY,           /* relay_domains */
    CLASS_DEFAULT,         /* everything else */
};

struct route; /* immutable after route_new(): threads share it */

/* Opens every table of rewriting and routing, for one configuration generation. */
NODISCARD int route_new(struct map_env *env, struct route **out, struct err *err);
void route_free(struct route **r);
/* True if no answer can block: a loop may ask itself. */
bool route_is_local_only(const struct route *r);

/* Completes an address: append_at_myorigin, append_dot_mydomain, user%domain, site!user, trailing dots;
 * origin/dot_domain: $myorigin and $mydomain, or remote_header_rewrite_domain. RFC 5321 forms in and out are internal. */
void route_rewrite(const struct route *r, struct slice addr, struct slice origin, struct buf *out);

NODISCARD enum map_result route_class(const struct route *r, struct slice domain,
                                      enum address_class *out, struct err *err);
bool route_domain_is_local(const struct route *r,
                           struct slice domain); /* CLASS_LOCAL without table trouble */

struct route_result {
    struct buf transport; /* master.cf service name */
    struct buf nexthop;
    struct buf recipient;
    enum address_class class;
};
void route_result_init(struct route_result *res);
void route_result_fini(struct route_result *res);
/*
 * sender: for sender_dependent_*; recipient: rewritten. FOUND: res filled. NOTFOUND never. RETRY: defer, err says
 * which table. An error: transport ("error:5.1.1 text") is a result like any other: transport "error", next hop the text.
 */
NODISCARD enum map_result route_resolve(const struct route *r, struct slice sender,
                                        struct slice recipient, struct route_result *res,
                                        struct err *err);

/*
 * Is the recipient known (local_recipient_maps, virtual_alias_maps, virtual_mailbox_maps, relay_recipient_maps ...)?
 * FOUND: yes or cannot be told for its class; NOTFOUND: no, *table gets "local recipient table" and so on
 * (a string of static life); RETRY.
 */
NODISCARD enum map_result route_recipient_exists(const struct route *r, struct slice recipient,
                                                 const char **table, struct err *err);
/* Has the (rewritten) recipient gone (relocated_maps)? FOUND: text gets the status code and where to. */
NODISCARD enum map_result route_relocated(const struct route *r, struct slice recipient,
                                          struct buf *text, struct err *err);
/*
 * It cannot be an address, or must not: what begins with "-" is an accident on some command line (allow_min_user); a domain is a host
 * name or an address in [] (resolve_null_domain, resolve_numeric_domain).
 */
bool route_is_refused_syntax(const struct route *r, struct slice addr);
/* May mail for this recipient be accepted for delivery by anybody's client: our own class, or relay_domains? Not
 * CLASS_DEFAULT, no source routes (allow_untrusted_routing). */
NODISCARD enum map_result route_is_authorized_destination(const struct route *r,
                                                          struct slice recipient, struct err *err);

/* Parsed once, used by cleanup and local as well. */
const char *route_recipient_delimiter(const struct route *r);
bool route_propagates_extension(const struct route *r,
                                const char *feature); /* "virtual", "canonical", "alias" ... */
extern const struct param_set route_params;

#endif
