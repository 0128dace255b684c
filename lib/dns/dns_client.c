/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns_client.c - who is it that connects? The name of an address, verified by looking that name up again.
 *
 * An answer is kept for a few seconds: clients that come back at once (most mail comes from few hosts, on many connections) are
 * not asked for again, and a changed name shows before anybody would look. Trouble is not kept.
 */
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "base/blocking.h"
#include "base/htable.h"
#include "dns/dns_int.h"

#define KEPT_MS 5000

static const unsigned char *address_bytes(const struct sockaddr *sa, size_t *len)
{
    *len = sa->sa_family == AF_INET ? 4 : 16;
    return sa->sa_family == AF_INET
               ? (const unsigned char *) &((const struct sockaddr_in *) sa)->sin_addr
               : (const unsigned char *) &((const struct sockaddr_in6 *) sa)->sin6_addr;
}

static bool same_host(const struct sockaddr *a, const struct sockaddr *b)
{
    size_t len;
    const unsigned char *bytes = address_bytes(a, &len);

    return a->sa_family == b->sa_family && memcmp(bytes, address_bytes(b, &len), len) == 0;
}

/* The place of an address, and whether it holds that address. */
static struct dns_client *place_locked(struct dns *d, const struct sockaddr *sa, bool *is_there)
    REQUIRES(d->lock)
{
    size_t len;
    const unsigned char *bytes = address_bytes(sa, &len);
    struct dns_client *c;

    if (d->clients == NULL)
        d->clients = xcalloc(DNS_CLIENTS, sizeof(*d->clients));
    c = &d->clients[hash_bytes(slice_of((const char *) bytes, len)) % DNS_CLIENTS];
    *is_there = c->until.us > mono_now().us && c->family == sa->sa_family &&
                memcmp(c->addr, bytes, len) == 0;
    return c;
}

static bool recall(struct dns *d, const struct sockaddr *sa, struct buf *name, bool *verified,
                   enum dns_result *result)
{
    const struct dns_client *c;
    bool found;

    lock_take(&d->lock);
    c = place_locked(d, sa, &found);
    if (found) {
        *verified = c->verified;
        *result = c->result;
        if (c->name != NULL)
            buf_puts(name, c->name);
    }
    lock_release(&d->lock);
    return found;
}

static void keep(struct dns *d, const struct sockaddr *sa, const char *name, bool verified,
                 enum dns_result result)
{
    struct dns_client *c;
    bool found;
    size_t len;

    lock_take(&d->lock);
    c = place_locked(d, sa, &found);
    free(c->name);
    *c = (struct dns_client){.until = mono_after_ms(mono_now(), KEPT_MS),
                             .family = sa->sa_family,
                             .verified = verified,
                             .result = result,
                             .name = name != NULL ? xstrdup(name) : NULL};
    memcpy(c->addr, address_bytes(sa, &len), sa->sa_family == AF_INET ? 4 : 16);
    lock_release(&d->lock);
}

void dns_forget_clients(struct dns *d)
{
    lock_take(&d->lock);
    for (size_t i = 0; d->clients != NULL && i < DNS_CLIENTS; i++)
        free(d->clients[i].name);
    free(d->clients);
    d->clients = NULL;
    lock_release(&d->lock);
}

enum dns_result dns_client_name(struct dns *d, const struct sockaddr *sa, socklen_t len,
                                struct buf *name, bool *verified, struct err *err)
{
    char host[NI_MAXHOST];
    struct vec addresses = VEC_INIT;
    enum dns_result result;
    int res;

    *verified = false;
    if (recall(d, sa, name, verified, &result))
        return result == DNS_OK ? DNS_OK
                                : (err_set(err, ERR_PERMANENT, "5.7.25", "client name: not found"),
                                   DNS_NOTFOUND);
    blocking_begin();
    res = getnameinfo(sa, len, host, sizeof(host), NULL, 0, NI_NAMEREQD);
    blocking_end();
    if (res == EAI_AGAIN || res == EAI_SYSTEM || res == EAI_MEMORY) {
        err_set(err, ERR_TEMPORARY, "4.7.25", "client name: %s", gai_strerror(res));
        return DNS_RETRY;
    }
    if (res != 0) {
        keep(d, sa, NULL, false, DNS_NOTFOUND);
        err_set(err, ERR_PERMANENT, "5.7.25", "client name: %s", gai_strerror(res));
        return DNS_NOTFOUND;
    }
    buf_puts(name, host);
    result = dns_native_addresses(d, host, &addresses, err) == DNS_RETRY ? DNS_RETRY : DNS_OK;
    for (size_t i = 0; i < addresses.len; i++)
        *verified |= same_host(
            sa, (const struct sockaddr *) &((struct dns_addr *) addresses.items[i])->addr);
    vec_clear(&addresses, free);
    vec_fini(&addresses);
    if (result == DNS_OK)
        keep(d, sa, host, *verified, DNS_OK);
    return result;
}
