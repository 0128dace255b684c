/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route_resolve.c - transport, next hop and recipient. Order: the address class gives the default; transport_maps may
 * replace transport, next hop, or both. transport(5).
 */
#include "route/route_int.h"

#include <stdlib.h>

#include "mail/address.h"

void route_result_init(struct route_result *res)
{
    buf_init(&res->transport, 256);
    buf_init(&res->nexthop, 4096);
    buf_init(&res->recipient, MAIL_ADDR_MAX);
    res->class = CLASS_DEFAULT;
}

void route_result_fini(struct route_result *res)
{
    buf_fini(&res->transport);
    buf_fini(&res->nexthop);
    buf_fini(&res->recipient);
}

/* "transport:nexthop"; an empty part leaves what is there. An empty next hop with a new transport is the domain. */
static void apply(struct route_result *res, struct slice value, struct slice domain)
{
    ptrdiff_t colon = slice_find(value, ':');
    struct slice transport =
        slice_trim(colon == -1 ? value : slice_sub(value, 0, (size_t) colon), NULL);
    struct slice nexthop = slice_trim(
        colon == -1 ? SLICE_EMPTY : slice_sub(value, (size_t) colon + 1, value.len), NULL);

    if (transport.len > 0) {
        buf_reset(&res->transport);
        buf_put_slice(&res->transport, transport);
        if (nexthop.len == 0)
            nexthop = domain;
    }
    if (nexthop.len > 0) {
        buf_reset(&res->nexthop);
        buf_put_slice(&res->nexthop, nexthop);
    }
}

/* By sender: full address, without extension, @domain; "DUNNO" is nothing. */
static enum map_result by_sender(const struct route *r, struct map_list *l, struct slice sender,
                                 const char *null_key, struct buf *value, struct err *err)
{
    enum map_result res;

    if (map_list_is_empty(l))
        return MAP_NOTFOUND;
    res = map_address_lookup(l, sender.len > 0 ? sender : slice_str(null_key),
                             MAP_KEY_FULL | MAP_KEY_NOEXT | MAP_KEY_AT_DOMAIN,
                             r->p.recipient_delimiter, false, false, value, NULL, err);
    if (res == MAP_FOUND && slice_caseeq_str(buf_view(value), "DUNNO")) {
        buf_reset(value);
        return MAP_NOTFOUND;
    }
    return res;
}

static enum map_result by_class(const struct route *r, struct slice sender, struct slice domain,
                                struct route_result *res, struct err *err)
{
    struct buf value = BUF_INIT(4096);
    enum map_result found = MAP_FOUND;

    buf_put_slice(&res->nexthop, domain);
    switch (res->class) {
    case CLASS_LOCAL:
        apply(res, slice_str(r->p.local_transport), domain);
        break;
    case CLASS_VIRTUAL_ALIAS:
        buf_puts(&res->transport, "error");
        buf_reset(&res->nexthop);
        buf_puts(&res->nexthop, "5.1.1 User unknown in virtual alias table");
        break;
    case CLASS_VIRTUAL_MAILBOX:
        apply(res, slice_str(r->p.virtual_transport), domain);
        break;
    case CLASS_RELAY:
    case CLASS_DEFAULT:
        if (res->class == CLASS_RELAY) {
            apply(res, slice_str(r->p.relay_transport), domain);
        } else {
            found = by_sender(r, r->sender_transport, sender,
                              r->p.empty_address_default_transport_maps_lookup_key, &value, err);
            if (found == MAP_RETRY)
                break;
            apply(res, found == MAP_FOUND ? buf_view(&value) : slice_str(r->p.default_transport),
                  domain);
        }
        buf_reset(&value);
        found = by_sender(r, r->sender_relayhost, sender,
                          r->p.empty_address_relayhost_maps_lookup_key, &value, err);
        if (found == MAP_RETRY)
            break;
        if (found == MAP_NOTFOUND)
            buf_puts(&value, r->p.relayhost);
        if (value.len > 0 && slice_eq(buf_view(&res->nexthop), domain)) {
            buf_reset(&res->nexthop);
            buf_put_slice(&res->nexthop, buf_view(&value));
        }
        found = MAP_FOUND;
        break;
    }
    buf_fini(&value);
    return found;
}

static void to_error(struct route_result *res, struct slice text)
{
    buf_reset(&res->transport);
    buf_puts(&res->transport, "error");
    buf_reset(&res->nexthop);
    buf_put_slice(&res->nexthop, text);
}

/* Recipients that no transport is for. */
static enum map_result refuse(const struct route *r, struct route_result *res, struct err *err)
{
    struct buf text = BUF_INIT(2048);
    enum map_result found = route_relocated(r, buf_view(&res->recipient), &text, err);

    if (found == MAP_FOUND)
        to_error(res, buf_view(&text));
    else if (route_is_refused_syntax(r, buf_view(&res->recipient)))
        to_error(res, res->recipient.ptr[0] == '-'
                          ? SLICE_LIT("5.1.3 bad address syntax: begins with \"-\"")
                          : SLICE_LIT("5.1.3 bad address syntax"));
    buf_fini(&text);
    return found;
}

/* user@1.2.3.4 is meant as user@[1.2.3.4], where that is allowed. */
static void bracket_numeric(const struct route *r, struct buf *addr)
{
    char *domain;

    if (!r->p.resolve_numeric_domain || !route_is_ipv4(address_domain(buf_view(addr))))
        return;
    domain = slice_dup(address_domain(buf_view(addr)));
    buf_truncate(addr, addr->len - strlen(domain));
    buf_printf(addr, "[%s]", domain);
    free(domain);
}

enum map_result route_resolve(const struct route *r, struct slice sender, struct slice recipient,
                              struct route_result *res, struct err *err)
{
    struct slice addr = recipient.len > 0 ? recipient : slice_str(r->p.empty_address_recipient);
    struct slice domain;
    enum map_result found;

    buf_reset(&res->transport);
    buf_reset(&res->nexthop);
    buf_reset(&res->recipient);
    route_rewrite(r, addr, slice_str(r->myorigin), &res->recipient);
    bracket_numeric(r, &res->recipient);
    domain = address_domain(buf_view(&res->recipient));
    found = route_class(r, domain, &res->class, err);
    if (found == MAP_RETRY)
        return found;
    if (by_class(r, sender, domain, res, err) == MAP_RETRY)
        return MAP_RETRY;
    if (!map_list_is_empty(r->transports)) {
        struct buf value = BUF_INIT(4096);

        found = map_address_lookup(r->transports, buf_view(&res->recipient),
                                   MAP_KEY_FULL | MAP_KEY_NOEXT | MAP_KEY_DOMAIN | MAP_KEY_PARENTS,
                                   r->p.recipient_delimiter, false, r->transport_parents, &value,
                                   NULL, err);
        if (found == MAP_NOTFOUND)
            found =
                map_list_lookup(r->transports, SLICE_LIT("*"), MAP_FLAG_FIXED, &value, NULL, err);
        if (found == MAP_FOUND)
            apply(res, buf_view(&value), domain);
        buf_fini(&value);
        if (found == MAP_RETRY)
            return found;
    }
    if (refuse(r, res, err) == MAP_RETRY)
        return MAP_RETRY;
    if (res->transport.len == 0 || !buf_ok(&res->transport) || !buf_ok(&res->nexthop) ||
        !buf_ok(&res->recipient)) {
        err_set(err, ERR_TEMPORARY, "4.3.5", "no usable transport for %.*s", SLICE_FMT(recipient));
        return MAP_RETRY;
    }
    return MAP_FOUND;
}
