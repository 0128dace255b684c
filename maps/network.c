/* SPDX-License-Identifier: Apache-2.0 */
/* network.c - see network.h. */
#include "maps/network.h"

#include <arpa/inet.h>

#include "base/num.h"

int network_parse_address(struct slice s, struct network *out)
{
    char text[INET6_ADDRSTRLEN + 1];

    if (s.len == 0 || s.len >= sizeof(text) || slice_find(s, '\0') != -1)
        return -1;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    *out = (struct network){.family = AF_INET, .bits = 32};
    if (inet_pton(AF_INET, text, out->addr) == 1)
        return 0;
    out->family = AF_INET6;
    out->bits = 128;
    return inet_pton(AF_INET6, text, out->addr) == 1 ? 0 : -1;
}

int network_parse(struct slice s, struct network *out, struct err *err)
{
    ptrdiff_t slash = slice_find(s, '/');
    struct slice host = slash == -1 ? s : slice_sub(s, 0, (size_t) slash);
    int64_t bits;
    int max;

    if (host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
        host = slice_sub(host, 1, host.len - 1);
    if (slice_case_starts_with(host, SLICE_LIT("ipv6:")))
        host = slice_sub(host, 5, host.len);
    if (network_parse_address(host, out) == -1)
        return err_input(err, "bad network \"%.*s\"", SLICE_FMT(s));
    max = out->bits;
    if (slash == -1)
        return 0;
    if (num_parse_i64(slice_sub(s, (size_t) slash + 1, s.len), 0, max, &bits, err) == -1)
        return err_prefix(err, "bad network \"%.*s\": ", SLICE_FMT(s));
    out->bits = (int) bits;
    for (int i = out->bits; i < max; i++)
        if ((out->addr[i / 8] & (0x80 >> (i % 8))) != 0)
            return err_input(err, "non-null host address bits in \"%.*s\"", SLICE_FMT(s));
    return 0;
}

bool network_has(const struct network *n, const struct network *addr)
{
    int whole = n->bits / 8;
    int rest = n->bits % 8;

    if (n->family != addr->family || memcmp(n->addr, addr->addr, (size_t) whole) != 0)
        return false;
    return rest == 0 || ((n->addr[whole] ^ addr->addr[whole]) & (0xff << (8 - rest)) & 0xff) == 0;
}
