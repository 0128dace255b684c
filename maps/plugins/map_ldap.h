/* SPDX-License-Identifier: Apache-2.0 */
/* map_ldap.h - what the files of the LDAP table share. */
#ifndef PR_MAP_LDAP_H
#define PR_MAP_LDAP_H

#include <ldap.h>

#include "base/vec.h"
#include "maps/map_query.h"
#include "maps/map_served.h"

struct ldap_options { /* ldap_table(5) */
    const char *server_host, *search_base, *query_filter, *result_format, *result_filter, *domain;
    const char *result_attribute, *special_attribute, *leaf_attribute, *terminal_attribute;
    const char *scope, *bind, *bind_dn, *bind_pw, *chase_referrals;
    const char *sasl_mechs, *sasl_realm, *sasl_authz_id;
    const char *cache, *cache_expiry, *cache_size; /* obsolete */
    const char *tls_ca_cert_dir, *tls_ca_cert_file, *tls_cert, *tls_key, *tls_random_file,
        *tls_cipher_suite;
    int64_t server_port, version, timeout; /* seconds */
    int64_t sasl_minssf, recursion_limit, expansion_limit, size_limit, dereference, debuglevel;
    bool start_tls, tls_require_cert;
};

enum ldap_role { LDAP_ROLE_RESULT, LDAP_ROLE_SPECIAL, LDAP_ROLE_LEAF, LDAP_ROLE_TERMINAL };

struct ldap_table {
    struct map_served served;
    struct ldap_options o;
    struct map_query *base, *filter, *result;
    struct map_domains *domains;
    enum { LDAP_BIND_NONE, LDAP_BIND_SIMPLE, LDAP_BIND_SASL } bind;
    int scope;
    bool chase_referrals;
    struct vec attributes; /* names, ends with NULL: what a search asks for */
    struct vec roles;      /* enum ldap_role of each attribute, as pointers */
};

struct ldap_lookup {
    struct ldap_table *table;
    const char *base, *filter;
    struct map_results results;
    enum map_result result;
    struct err *err;
};

/* ldap_connection.c: for map_servers_ops; conn is an LDAP *, arg the struct ldap_table *. */
int ldap_connection_open(const char *url, struct mono_time deadline, void *arg, void **conn,
                         struct err *err);
void ldap_connection_close(void *conn);
/* timeout of one call of the library: at least a millisecond. */
struct timeval ldap_connection_time_left(struct mono_time deadline);

/* ldap_entries.c: the attributes that the options name. */
void ldap_attributes_init(struct ldap_table *t);
void ldap_attributes_fini(struct ldap_table *t);
/* One lookup; arg: struct ldap_lookup *. */
enum map_servers_answer ldap_entries_ask(void *conn, struct mono_time deadline, void *arg,
                                         struct err *err);

#endif
