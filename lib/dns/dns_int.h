/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns_int.h - what the files of lib/dns share.
 */
#ifndef PR_DNS_INT_H
#define PR_DNS_INT_H

#include <arpa/nameser.h>
#include <netinet/in.h>
#include <resolv.h>

#include "base/lock.h"
#include "base/mtime.h"
#include "dns/dns.h"

#define DNS_SERVERS_MAX MAXNS

struct dns_params {
    const char *dns_servers;
    const char *inet_protocols;
    int64_t dns_timeout_s;
    int64_t dns_attempts;
};

#define DNS_CLIENTS 512

/* What was found out about a client's name, for a moment. */
struct dns_client {
    unsigned char addr[16];
    struct mono_time until; /* 0: nothing */
    int family;
    bool verified;
    enum dns_result result; /* OK or NOTFOUND */
    char *name;             /* of OK */
};

struct dns {
    struct dns_params p;
    bool ipv4, ipv6, keeps_order;
    struct sockaddr_storage servers[DNS_SERVERS_MAX];
    int nservers; /* 0: resolv.conf's */
    struct lock lock;
    struct dns_client *clients
        GUARDED_BY(lock); /* DNS_CLIENTS of them, each at the place of its hash; made when needed */
};
void dns_forget_clients(struct dns *d);
/* Addresses as the system finds them (hosts file too): struct dns_addr *. */
enum dns_result dns_native_addresses(struct dns *d, const char *host, struct vec *out,
                                     struct err *err);

/* Calls fn for each answer record of the type (CNAMEs followed by the name server); fn returns false to stop. */
typedef bool (*dns_record_fn)(ns_msg *msg, ns_rr *rr, void *arg);
enum dns_result dns_query(struct dns *d, const char *name, int type, dns_record_fn fn, void *arg,
                          bool *authentic, struct err *err);

#endif
