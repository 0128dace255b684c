/* SPDX-License-Identifier: Apache-2.0 */
/* next_hop.c - see next_hop.h. */
#include "qmgr/next_hop.h"

#include <stdlib.h>

#include "base/num.h"
#include "dns/dns.h"
#include "mail/address.h"

static bool is_address(struct slice s)
{
    struct sockaddr_storage addr;
    socklen_t len;
    char *text = slice_dup(s);
    bool ok = slice_find(s, '\0') == -1 && dns_addr_parse(text, 0, &addr, &len) == 0;

    free(text);
    return ok;
}

/* A number, or the name of a service: whether there is such a one is asked where it is used. */
static bool is_port(struct slice s)
{
    bool has_letter = false;
    int64_t number;

    if (num_parse_i64(s, 1, 65535, &number, NULL) == 0)
        return true;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char) s.ptr[i];

        if (!ascii_is_alnum(c) && c != '-')
            return false;
        has_letter |= !ascii_is_digit(c) && c != '-';
    }
    return has_letter;
}

int next_hop_check(struct slice text, struct err *err)
{
    bool is_bracketed = text.len > 0 && text.ptr[0] == '[';
    ptrdiff_t end = is_bracketed ? slice_find(text, ']') : slice_find(text, ':');
    struct slice host = end == -1 ? text : slice_sub(text, is_bracketed ? 1 : 0, (size_t) end);
    struct slice rest = end == -1 ? SLICE_EMPTY : slice_sub(text, (size_t) end, text.len);

    if (is_bracketed && end == -1)
        return err_input(err, "\"%.*s\" has no ]", SLICE_FMT(text));
    if (!is_bracketed && is_address(text))
        return err_input(err, "an address stands in brackets: [%.*s]", SLICE_FMT(text));
    if (is_bracketed)
        rest = slice_sub(rest, 1, rest.len);
    if (!is_bracketed && is_address(host))
        return err_input(err, "an address stands in brackets: [%.*s]%.*s", SLICE_FMT(host),
                         SLICE_FMT(rest));
    if (!hostname_valid(host) && !(is_bracketed && is_address(host)))
        return err_input(err, "\"%.*s\" is not the name of a host", SLICE_FMT(host));
    if (rest.len > 0 && (rest.ptr[0] != ':' || !is_port(slice_sub(rest, 1, rest.len))))
        return err_input(err, "\"%.*s\": behind the host may stand a colon and a port, no more",
                         SLICE_FMT(text));
    return 0;
}
