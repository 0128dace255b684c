/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup_masquerade.c - masquerade_domains: host names below a domain are left out of addresses (a@host.example.com becomes
 * a@example.com). After canonical mapping; the first domain of the list that fits decides.
 */
#include <string.h>

#include "cleanup/cleanup_int.h"
#include "mail/address.h"

/* Is domain below parent (and, with itself, the same)? */
static bool is_below(struct slice domain, struct slice parent, bool itself)
{
    if (itself && slice_caseeq(domain, parent))
        return true;
    return domain.len > parent.len + 1 && domain.ptr[domain.len - parent.len - 1] == '.' &&
           slice_case_ends_with(domain, parent);
}

static bool is_excepted(const struct cleanup *c, struct slice user)
{
    struct slice rest = slice_str(c->p.masquerade_exceptions);
    struct slice word;

    while (slice_token(&rest, ", \t\r\n", &word))
        if (slice_caseeq(word, user))
            return true;
    return false;
}

bool cleanup_masquerade(const struct cleanup *c, struct slice addr, unsigned class_,
                        struct buf *out)
{
    struct slice rest = slice_str(c->p.masquerade_domains);
    struct slice domain = address_domain(addr);
    struct slice word;

    if ((c->masquerade_classes & class_) == 0 || domain.len == 0 ||
        is_excepted(c, address_local(addr)))
        return false;
    while (slice_token(&rest, ", \t\r\n", &word)) {
        bool kept = word.ptr[0] == '!';

        if (kept)
            word = slice_sub(word, 1, word.len);
        if (word.len == 0 || !is_below(domain, word, kept))
            continue;
        if (kept)
            return false;
        buf_put_slice(out, address_local(addr));
        buf_putc(out, '@');
        buf_put_slice(out, word);
        return buf_ok(out);
    }
    return false;
}
