/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns.h - name service for mail: MX, A, AAAA, PTR, TXT with time limits, null MX (RFC 7505), and the AD
 * bit (DNSSEC status). Blocks the calling thread; thread-safe. dns_servers (ours) replaces resolv.conf's.
 */
#ifndef PR_DNS_H
#define PR_DNS_H

#include <sys/socket.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/vec.h"
#include "postconf/config.h"

enum dns_result {
    DNS_OK,
    DNS_NOTFOUND, /* NXDOMAIN, or no record of the type: permanent */
    DNS_RETRY,    /* time-out, SERVFAIL, refused: temporary */
    DNS_INVALID,  /* the name cannot be looked up, or the answer is rubbish: permanent */
};

struct dns_mx {
    uint16_t preference;
    char *host; /* "" is null MX */
    uint32_t ttl_s;
};
struct dns_addr {
    struct sockaddr_storage addr; /* port 0 */
    socklen_t len;
};

struct dns; /* one configuration generation */
NODISCARD int dns_new(const struct config *cfg, struct dns **out, struct err *err);
void dns_free(struct dns **d);
/* Equal mail exchangers stay in the order in which the name server has them. */
void dns_keep_order(struct dns *d);
/* Random order of a list of struct pointers. */
void dns_shuffle(struct vec *list);
/* From here on each name server is asked once, and has this long: for who would rather not know than wait. */
void dns_be_brief(struct dns *d, int64_t timeout_s);

/* Sorted by preference, equal ones in random order. Elements are struct dns_mx *; free with dns_mx_list_free. */
NODISCARD enum dns_result dns_mx(struct dns *d, const char *domain, struct vec *out,
                                 bool *authentic, struct err *err);
void dns_mx_list_free(struct vec *list);
/* Addresses per inet_protocols, hosts file too when native is said (smtp_host_lookup). struct dns_addr *, free with free(). */
NODISCARD enum dns_result dns_addresses(struct dns *d, const char *host, bool dns, bool native,
                                        struct vec *out, struct err *err);
/* PTR name, verified by a forward lookup: *verified false when it does not come back. */
NODISCARD enum dns_result dns_client_name(struct dns *d, const struct sockaddr *sa, socklen_t len,
                                          struct buf *name, bool *verified, struct err *err);
/* Does the name have an MX or an address (reject_unknown_sender_domain)? */
NODISCARD enum dns_result dns_mail_domain_exists(struct dns *d, const char *domain,
                                                 struct err *err);

/* "1.2.3.4" or "2001:db8::1", without brackets. */
void dns_addr_print(const struct sockaddr *sa, struct buf *out);
NODISCARD int dns_addr_parse(const char *text, uint16_t port, struct sockaddr_storage *out,
                             socklen_t *len);
extern const struct param_set dns_params;

#endif
