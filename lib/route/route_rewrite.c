/* SPDX-License-Identifier: Apache-2.0 */
/* route_rewrite.c - completing addresses, as trivial-rewrite(8) describes it. */
#include "mail/address.h"
#include "route/route_int.h"

/* site!user -> user@site; user%domain -> user@domain: only where there is no @. */
static void without_at(const struct route *r, struct slice addr, struct slice origin,
                       struct buf *out)
{
    ptrdiff_t bang = r->p.swap_bangpath ? slice_find(addr, '!') : -1;
    ptrdiff_t percent = r->p.allow_percent_hack ? slice_rfind(addr, '%') : -1;

    if (bang > 0) {
        buf_put_slice(out, slice_sub(addr, (size_t) bang + 1, addr.len));
        buf_putc(out, '@');
        buf_put_slice(out, slice_sub(addr, 0, (size_t) bang));
    } else if (percent > 0) {
        buf_put_slice(out, slice_sub(addr, 0, (size_t) percent));
        buf_putc(out, '@');
        buf_put_slice(out, slice_sub(addr, (size_t) percent + 1, addr.len));
    } else {
        buf_put_slice(out, addr);
        if (r->p.append_at_myorigin && origin.len > 0) {
            buf_putc(out, '@');
            buf_put_slice(out, origin);
        }
    }
}

void route_rewrite(const struct route *r, struct slice addr, struct slice origin, struct buf *out)
{
    size_t start = out->len;
    struct slice domain;

    if (addr.len == 0)
        return;
    if (slice_find(addr, '@') == -1)
        without_at(r, addr, origin, out);
    else
        buf_put_slice(out, addr);
    if (!buf_ok(out))
        return;
    domain = address_domain(slice_sub(buf_view(out), start, out->len));
    if (domain.len == 0 && out->len > start && out->ptr[out->len - 1] == '@') {
        if (r->p.resolve_null_domain)
            buf_puts(out, r->myhostname);
        return;
    }
    /* user@domain. is user@domain */
    if (domain.len > 1 && domain.ptr[domain.len - 1] == '.') {
        buf_truncate(out, out->len - 1);
        domain.len--;
    }
    if (r->p.append_dot_mydomain && domain.len > 0 && domain.ptr[0] != '[' &&
        slice_find(domain, '.') == -1 && !slice_caseeq_str(domain, "localhost")) {
        buf_putc(out, '.');
        buf_puts(out, r->mydomain);
    }
}
