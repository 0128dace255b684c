/* SPDX-License-Identifier: Apache-2.0 */
/* network.h - IPv4 and IPv6 networks: 1.2.3.4, 1.2.3.0/24, [::1], [2001:db8::]/32. */
#ifndef PR_MAPS_NETWORK_H
#define PR_MAPS_NETWORK_H

#include "base/err.h"

struct network {
    int family; /* AF_INET or AF_INET6 */
    int bits;
    unsigned char addr[16];
};

/* An address is a network of all its bits. Bits beyond the prefix length must be 0: a typo otherwise. */
NODISCARD int network_parse(struct slice s, struct network *out, struct err *err);
/* An address as inet_pton(3) takes it, without brackets or anything else. */
NODISCARD int network_parse_address(struct slice s, struct network *out);
bool network_has(const struct network *n, const struct network *addr);

#endif
