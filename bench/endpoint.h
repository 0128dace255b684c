/* SPDX-License-Identifier: Apache-2.0 */
/*
 * endpoint.h - where a load tool connects or listens: [inet:]host[:port], [inet:][host]:port, unix:path.
 */
#ifndef PR_BENCH_ENDPOINT_H
#define PR_BENCH_ENDPOINT_H

#include <sys/socket.h>

#include "base/err.h"

enum { ENDPOINT_MAX = 16 }; /* addresses of one host that are looked at */

struct endpoint {
    struct sockaddr_storage addr[ENDPOINT_MAX];
    socklen_t len[ENDPOINT_MAX];
    size_t count;
};

/*
 * family       AF_UNSPEC, AF_INET or AF_INET6
 * listens      a host that is left out means every interface, and a port is wanted; otherwise the
 *              port that is left out is 25
 *
 * Asks the resolver, so it blocks. -1: what is wrong with text, or the host is not known.
 */
NODISCARD int endpoint_parse(const char *text, int family, bool listens, struct endpoint *out,
                             struct err *err);
/* The first address that can be bound (all of them are one host's; text is for the error); a listening, non-blocking socket.
 * window: bytes of the receive buffer, 0 for the system's own. */
NODISCARD int endpoint_listen(const struct endpoint *e, const char *text, int backlog, int window,
                              int *fd, struct err *err);
/* Begins to connect to address `which` without waiting; -1 with errno. */
NODISCARD int endpoint_connect(const struct endpoint *e, size_t which, int window);
/* "127.0.0.1", "ipv6:::1"; "unix" for a UNIX-domain socket. */
void endpoint_peer(const struct sockaddr_storage *addr, char *out, size_t len);

#endif
