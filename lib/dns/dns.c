/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns.c - what mail asks of the name service. See dns.h.
 */
#include "dns/dns_int.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/blocking.h"
#include "base/num.h"

#define ADDRESSES_MAX 100 /* of one host; a name server that gives more is not believed further */

static const struct param rows[] = {
    PARAM_STRING(
        "dns_servers", struct dns_params, dns_servers, .def = "",
        .doc = "Name servers to ask (address or [address]:port) in place of those of resolv.conf."),
    PARAM_STRING("inet_protocols", struct dns_params, inet_protocols, .def = "all",
                 .doc = "The Internet protocols in use: ipv4, ipv6, all."),
    PARAM_TIME("dns_timeout", struct dns_params, dns_timeout_s, .def = "5s", .min = 1, .max = 60,
               .doc = "Time to wait for one answer of a name server."),
    PARAM_INT("dns_attempts", struct dns_params, dns_attempts, .def = "2", .min = 1, .max = 5,
              .doc = "How often each name server is asked."),
};
const struct param_set dns_params = PARAM_SET("dns", struct dns_params, rows);

int dns_addr_parse(const char *text, uint16_t port, struct sockaddr_storage *out, socklen_t *len)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *) out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) out;
    struct in_addr a4;
    struct in6_addr a6;

    if (inet_pton(AF_INET, text, &a4) == 1) {
        memset(out, 0, sizeof(*out));
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        v4->sin_addr = a4;
        *len = sizeof(*v4);
        return 0;
    }
    if (slice_case_starts_with(slice_str(text), SLICE_LIT("ipv6:")))
        text += 5;
    if (inet_pton(AF_INET6, text, &a6) == 1) {
        memset(out, 0, sizeof(*out));
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        v6->sin6_addr = a6;
        *len = sizeof(*v6);
        return 0;
    }
    return -1;
}

void dns_addr_print(const struct sockaddr *sa, struct buf *out)
{
    char text[INET6_ADDRSTRLEN] = "";

    if (sa->sa_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in *) sa)->sin_addr, text, sizeof(text));
    } else if (sa->sa_family == AF_INET6) {
        const struct in6_addr *a = &((const struct sockaddr_in6 *) sa)->sin6_addr;

        if (IN6_IS_ADDR_V4MAPPED(a))
            inet_ntop(AF_INET, &a->s6_addr[12], text, sizeof(text));
        else
            inet_ntop(AF_INET6, a, text, sizeof(text));
    }
    buf_puts(out, text);
}

/* "1.2.3.4", "1.2.3.4:53", "[::1]:53", "[1.2.3.4]:53" */
static int parse_server(struct slice s, struct sockaddr_storage *out, struct err *err)
{
    struct slice host = s;
    struct slice port = SLICE_EMPTY;
    int64_t number = 53;
    socklen_t len;
    char *text;
    int ret = -1;

    if (s.len > 0 && s.ptr[0] == '[') {
        ptrdiff_t end = slice_find(s, ']');

        if (end != -1) {
            host = slice_sub(s, 1, (size_t) end);
            port = slice_sub(s, (size_t) end + 1, s.len);
            if (port.len > 0 && port.ptr[0] == ':')
                port = slice_sub(port, 1, port.len);
        }
    } else if (slice_find(s, ':') == slice_rfind(s, ':') && slice_find(s, ':') != -1) {
        host = slice_sub(s, 0, (size_t) slice_find(s, ':'));
        port = slice_sub(s, (size_t) slice_find(s, ':') + 1, s.len);
    }
    text = slice_dup(host);
    if (port.len > 0 && num_parse_i64(port, 1, 65535, &number, err) == -1)
        err_prefix(err, "dns_servers: %.*s: ", SLICE_FMT(s));
    else if (dns_addr_parse(text, (uint16_t) number, out, &len) == -1)
        err_input(err, "dns_servers: \"%.*s\" is not an address", SLICE_FMT(s));
    else
        ret = 0;
    free(text);
    return ret;
}

int dns_new(const struct config *cfg, struct dns **out, struct err *err)
{
    struct dns *d = xcalloc(1, sizeof(*d));
    struct slice rest;
    struct slice word;

    lock_init(&d->lock, LOCK_DNS);
    if (config_bind(cfg, &dns_params, &d->p, err) == -1)
        goto fail;
    rest = slice_str(d->p.inet_protocols);
    while (slice_token(&rest, ", \t", &word)) {
        if (slice_caseeq_str(word, "all")) {
            d->ipv4 = d->ipv6 = true;
        } else if (slice_caseeq_str(word, "ipv4")) {
            d->ipv4 = true;
        } else if (slice_caseeq_str(word, "ipv6")) {
            d->ipv6 = true;
        } else {
            err_input(err, "inet_protocols: unknown protocol \"%.*s\"", SLICE_FMT(word));
            goto fail;
        }
    }
    rest = slice_str(d->p.dns_servers);
    while (d->nservers < DNS_SERVERS_MAX && slice_token(&rest, ", \t", &word)) {
        if (parse_server(word, &d->servers[d->nservers], err) == -1)
            goto fail;
        d->nservers++;
    }
    *out = d;
    return 0;
fail:
    dns_free(&d);
    return -1;
}

void dns_free(struct dns **d)
{
    if (*d == NULL)
        return;
    dns_forget_clients(*d);
    lock_fini(&(*d)->lock);
    free(*d);
    *d = NULL;
}

void dns_be_brief(struct dns *d, int64_t timeout_s)
{
    d->p.dns_timeout_s = timeout_s;
    d->p.dns_attempts = 1;
}

void dns_keep_order(struct dns *d)
{
    d->keeps_order = true;
}

/* --- MX ------------------------------------------------------------------------------------------ */

static bool take_mx(ns_msg *msg, ns_rr *rr, void *arg)
{
    const unsigned char *data = ns_rr_rdata(*rr);
    char host[NS_MAXDNAME];
    struct dns_mx *mx;
    struct vec *list = arg;

    if (ns_rr_rdlen(*rr) < 3 ||
        ns_name_uncompress(ns_msg_base(*msg), ns_msg_end(*msg), data + 2, host, sizeof(host)) < 0)
        return true;
    mx = xcalloc(1, sizeof(*mx));
    mx->preference = (uint16_t) ns_get16(data);
    mx->host = xstrdup(strcmp(host, ".") == 0 ? "" : host);
    mx->ttl_s = ns_rr_ttl(*rr);
    vec_push(list, mx);
    return list->len < ADDRESSES_MAX;
}

static int by_preference(const void *a, const void *b)
{
    return (int) ((const struct dns_mx *) a)->preference -
           (int) ((const struct dns_mx *) b)->preference;
}

void dns_shuffle(struct vec *v)
{
    for (size_t i = v->len; i > 1; i--) {
        uint32_t random = 0;
        size_t j;
        void *item;

        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
            return;
        j = random % i;
        item = v->items[j];
        v->items[j] = v->items[i - 1];
        v->items[i - 1] = item;
    }
}

enum dns_result dns_mx(struct dns *d, const char *domain, struct vec *out, bool *authentic,
                       struct err *err)
{
    enum dns_result res = dns_query(d, domain, ns_t_mx, take_mx, out, authentic, err);

    if (res != DNS_OK) {
        dns_mx_list_free(out);
        return res;
    }
    if (out->len == 0) {
        err_set(err, ERR_PERMANENT, "5.4.4", "malformed MX record for %s", domain);
        return DNS_INVALID;
    }
    /* the sort is stable over a shuffled list: equal preferences come in random order (RFC 5321 5.1) */
    if (!d->keeps_order)
        dns_shuffle(out);
    vec_sort(out, by_preference);
    return DNS_OK;
}

void dns_mx_list_free(struct vec *list)
{
    for (size_t i = 0; i < list->len; i++) {
        struct dns_mx *mx = list->items[i];

        free(mx->host);
        free(mx);
    }
    vec_fini(list);
    *list = VEC_INIT;
}

/* --- addresses ----------------------------------------------------------------------------------- */

static bool take_address(ns_msg *msg, ns_rr *rr, void *arg)
{
    struct vec *list = arg;
    struct dns_addr *a;

    (void) msg;
    if (ns_rr_rdlen(*rr) != (ns_rr_type(*rr) == ns_t_a ? 4 : 16))
        return true;
    a = xcalloc(1, sizeof(*a));
    if (ns_rr_type(*rr) == ns_t_a) {
        struct sockaddr_in *v4 = (struct sockaddr_in *) &a->addr;

        v4->sin_family = AF_INET;
        memcpy(&v4->sin_addr, ns_rr_rdata(*rr), 4);
        a->len = sizeof(*v4);
    } else {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) &a->addr;

        v6->sin6_family = AF_INET6;
        memcpy(&v6->sin6_addr, ns_rr_rdata(*rr), 16);
        a->len = sizeof(*v6);
    }
    vec_push(list, a);
    return list->len < ADDRESSES_MAX;
}

enum dns_result dns_native_addresses(struct dns *d, const char *host, struct vec *out,
                                     struct err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int res;

    hints.ai_family = d->ipv4 && d->ipv6 ? AF_UNSPEC : d->ipv6 ? AF_INET6 : AF_INET;
    blocking_begin();
    res = getaddrinfo(host, NULL, &hints, &list);
    blocking_end();
    if (res != 0) {
        bool later = res == EAI_AGAIN || res == EAI_MEMORY || res == EAI_SYSTEM || res == EAI_FAIL;

        err_set(err, later ? ERR_TEMPORARY : ERR_PERMANENT, later ? "4.4.3" : "5.4.4",
                "unable to look up host %s: %s", host, gai_strerror(res));
        return later ? DNS_RETRY : DNS_NOTFOUND;
    }
    for (const struct addrinfo *ai = list; ai != NULL && out->len < ADDRESSES_MAX;
         ai = ai->ai_next) {
        struct dns_addr *a = xcalloc(1, sizeof(*a));

        memcpy(&a->addr, ai->ai_addr, ai->ai_addrlen);
        a->len = ai->ai_addrlen;
        vec_push(out, a);
    }
    freeaddrinfo(list);
    return DNS_OK;
}

enum dns_result dns_addresses(struct dns *d, const char *host, bool dns, bool native,
                              struct vec *out, struct err *err)
{
    struct sockaddr_storage literal;
    socklen_t len;
    enum dns_result worst = DNS_NOTFOUND;
    bool trouble = false;

    if (dns_addr_parse(host, 0, &literal, &len) == 0) {
        struct dns_addr *a = xcalloc(1, sizeof(*a));

        a->addr = literal;
        a->len = len;
        vec_push(out, a);
        return DNS_OK;
    }
    if (dns) {
        const int types[] = {ns_t_a, ns_t_aaaa};

        for (size_t i = 0; i < ARRAY_LEN(types); i++) {
            enum dns_result res;

            if (types[i] == ns_t_a ? !d->ipv4 : !d->ipv6)
                continue;
            /* an answer for one family outranks trouble with the other */
            res = dns_query(d, host, types[i], take_address, out, NULL, trouble ? NULL : err);
            if (res == DNS_RETRY)
                trouble = true;
            else if (res == DNS_INVALID)
                worst = DNS_INVALID;
        }
        if (out->len > 0)
            return DNS_OK;
        if (trouble)
            return DNS_RETRY;
    }
    if (native)
        return dns_native_addresses(d, host, out, err);
    return worst;
}

enum dns_result dns_mail_domain_exists(struct dns *d, const char *domain, struct err *err)
{
    struct vec list = VEC_INIT;
    enum dns_result res = dns_mx(d, domain, &list, NULL, err);

    dns_mx_list_free(&list);
    if (res == DNS_NOTFOUND) {
        res = dns_addresses(d, domain, true, false, &list, err);
        vec_clear(&list, free);
        vec_fini(&list);
    }
    return res;
}
