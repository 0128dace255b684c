/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp_target.c - the hosts and addresses of a next hop, in the order of RFC 5321 5.1.
 */
#include "smtp/smtp_int.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

#define TARGETS_MAX 200 /* addresses of one next hop that are looked at */

void smtp_targets_fini(struct smtp_targets *t)
{
    for (size_t i = 0; i < t->count; i++)
        free(t->list[i].host);
    free(t->list);
    *t = (struct smtp_targets){0};
}

/* A number, or a name of /etc/services. */
static int port_number(const char *text, uint16_t *out, struct err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET};
    struct addrinfo *list = NULL;
    int64_t number;

    if (num_parse_i64(slice_str(text), 1, 65535, &number, NULL) == 0) {
        *out = (uint16_t) number;
        return 0;
    }
    if (strcmp(text, "smtp") == 0) { /* even where /etc/services is missing (chroot) */
        *out = 25;
        return 0;
    }
    if (getaddrinfo(NULL, text, &hints, &list) != 0 || list == NULL)
        return err_set(err, ERR_TEMPORARY, "4.3.5", "unknown service: %s/tcp", text);
    *out = ntohs(((struct sockaddr_in *) list->ai_addr)->sin_port);
    freeaddrinfo(list);
    return 0;
}

/* "[host]:port", "host:port", "[host]", "host", "[v6]:port". Heap copies. */
static void split(struct slice nexthop, const char *default_port, char **host, char **port,
                  bool *no_mx)
{
    struct slice rest = nexthop;

    *no_mx = rest.len > 0 && rest.ptr[0] == '[';
    if (*no_mx) {
        ptrdiff_t end = slice_find(rest, ']');
        size_t stop = end == -1 ? rest.len : (size_t) end;

        *host = slice_dup(slice_sub(rest, 1, stop));
        rest = slice_sub(rest, stop + 1, rest.len);
        rest = rest.len > 0 && rest.ptr[0] == ':' ? slice_sub(rest, 1, rest.len) : SLICE_EMPTY;
    } else {
        ptrdiff_t colon = slice_rfind(rest, ':');

        *host = slice_dup(slice_sub(rest, 0, colon == -1 ? rest.len : (size_t) colon));
        rest = colon == -1 ? SLICE_EMPTY : slice_sub(rest, (size_t) colon + 1, rest.len);
    }
    *port = rest.len > 0 ? slice_dup(rest) : xstrdup(default_port);
}

static void add(struct smtp_targets *t, const char *host, const struct dns_addr *a, uint16_t port)
{
    struct smtp_address *slot;

    if (t->count == t->cap) {
        t->cap = t->cap == 0 ? 4 : t->cap * 2;
        t->list = xrealloc(t->list, t->cap * sizeof(*t->list));
    }
    slot = &t->list[t->count++];
    *slot =
        (struct smtp_address){.host = xstrdup(host), .addr = a->addr, .len = a->len, .port = port};
    if (a->addr.ss_family == AF_INET)
        ((struct sockaddr_in *) &slot->addr)->sin_port = htons(port);
    else
        ((struct sockaddr_in6 *) &slot->addr)->sin6_port = htons(port);
}

static int family(const void *p)
{
    return ((const struct dns_addr *) p)->addr.ss_family;
}

static int ipv4_first(const void *a, const void *b)
{
    return (family(a) != AF_INET) - (family(b) != AF_INET);
}

static int ipv6_first(const void *a, const void *b)
{
    return ipv4_first(b, a);
}

/* smtp_randomize_addresses, then smtp_address_preference: the sort keeps the order of equals. */
static void put_in_order(const struct smtp *s, struct vec *list)
{
    if (s->p.randomize_addresses)
        dns_shuffle(list);
    if (strcmp(s->p.address_preference, "ipv4") == 0)
        vec_sort(list, ipv4_first);
    else if (strcmp(s->p.address_preference, "ipv6") == 0)
        vec_sort(list, ipv6_first);
}

static enum dns_result add_host(struct smtp *s, const char *host, uint16_t port,
                                struct smtp_targets *out, struct err *err)
{
    struct vec list = VEC_INIT;
    bool native = strstr(s->p.host_lookup, "native") != NULL || s->p.disable_dns_lookups ||
                  strcmp(s->p.dns_support_level, "disabled") == 0;
    bool dns = strstr(s->p.host_lookup, "dns") != NULL &&
               !(s->p.disable_dns_lookups || strcmp(s->p.dns_support_level, "disabled") == 0);
    enum dns_result res = dns_addresses(s->dns, host, dns, native, &list, err);

    put_in_order(s, &list);
    for (size_t i = 0; i < list.len && out->count < TARGETS_MAX; i++)
        add(out, host, list.items[i], port);
    vec_clear(&list, free);
    vec_fini(&list);
    return res;
}

/* Mail exchangers; the domain itself where there are none (RFC 5321 5.1). */
static enum dns_result add_domain(struct smtp *s, const char *domain, uint16_t port,
                                  struct smtp_targets *out, struct err *err)
{
    struct vec mx = VEC_INIT;
    enum dns_result worst = DNS_NOTFOUND;
    enum dns_result res = dns_mx(s->dns, domain, &mx, NULL, err);

    if (res == DNS_NOTFOUND || (res == DNS_RETRY && s->p.ignore_mx_lookup_error))
        return add_host(s, domain, port, out, err);
    if (res != DNS_OK)
        return res;
    if (mx.len == 1 && ((struct dns_mx *) mx.items[0])->host[0] == '\0') {
        err_set(err, ERR_PERMANENT, "5.1.10", "Domain %s does not accept mail (nullMX)", domain);
        dns_mx_list_free(&mx);
        return DNS_INVALID;
    }
    for (size_t i = 0; i < mx.len; i++) {
        const struct dns_mx *m = mx.items[i];

        if (m->host[0] != '\0' && add_host(s, m->host, port, out, err) == DNS_RETRY)
            worst = DNS_RETRY;
    }
    dns_mx_list_free(&mx);
    if (out->count > 0)
        return DNS_OK;
    return s->p.defer_if_no_mx_address_found ? DNS_RETRY : worst;
}

/* smtp_balance_inet_protocols: the last address within the limit gives way to the first of the other kind, if none is there. */
static void balance(const struct smtp *s, struct smtp_targets *t)
{
    size_t limit = (size_t) s->p.mx_address_limit;
    size_t other = 1;
    struct smtp_address moved;

    if (!s->p.balance_inet_protocols || limit < 2 || t->count <= limit)
        return;
    while (other < t->count && t->list[other].addr.ss_family == t->list[0].addr.ss_family)
        other++;
    if (other < limit || other == t->count)
        return;
    moved = t->list[other];
    memmove(&t->list[limit], &t->list[limit - 1], (other - limit + 1) * sizeof(moved));
    t->list[limit - 1] = moved;
}

int smtp_targets_find(struct smtp *s, struct slice nexthop, struct smtp_targets *out,
                      struct err *err)
{
    char *host = NULL;
    char *port = NULL;
    bool no_mx;
    bool no_dns = s->p.disable_dns_lookups || strcmp(s->p.dns_support_level, "disabled") == 0;
    uint16_t number = 0;
    enum dns_result res;
    int ret = -1;

    split(nexthop, s->p.tcp_port, &host, &port, &no_mx);
    if (host[0] == '\0') {
        err_set(err, ERR_TEMPORARY, "4.3.5", "bad next hop \"%.*s\"", SLICE_FMT(nexthop));
        goto done;
    }
    if (port_number(port, &number, err) == -1)
        goto done;
    if (no_mx || no_dns)
        res = add_host(s, host, number, out, err);
    else
        res = add_domain(s, host, number, out, err);
    balance(s, out);
    if (out->count > 0)
        ret = 0;
    else if (res == DNS_RETRY && err->kind != ERR_TEMPORARY)
        err_set(err, ERR_TEMPORARY, "4.4.3", "unable to look up host %s", host);
done:
    free(host);
    free(port);
    return ret;
}
