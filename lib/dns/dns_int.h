/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns_int.h - what the files of lib/dns share.
 */
#ifndef PR_DNS_INT_H
#define PR_DNS_INT_H

#include <arpa/nameser.h>
#include <netinet/in.h>
#include <resolv.h>

#include "dns/dns.h"

#define DNS_SERVERS_MAX MAXNS

struct dns_params {
    const char *dns_servers;
    const char *inet_protocols;
    int64_t dns_timeout_s;
    int64_t dns_attempts;
};

struct dns {
    struct dns_params p;
    bool ipv4, ipv6;
    struct sockaddr_storage servers[DNS_SERVERS_MAX];
    int nservers; /* 0: resolv.conf's */
};

/* Calls fn for each answer record of the type (CNAMEs followed by the name server); fn returns false to stop. */
typedef bool (*dns_record_fn)(ns_msg *msg, ns_rr *rr, void *arg);
enum dns_result dns_query(struct dns *d, const char *name, int type, dns_record_fn fn, void *arg,
                          bool *authentic, struct err *err);

#endif
