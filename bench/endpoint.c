/* SPDX-License-Identifier: Apache-2.0 */
/* endpoint.c - see endpoint.h. */
#include "endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"

static int parse_unix(struct slice path, struct endpoint *out, struct err *err)
{
    struct sockaddr_un *sun = (struct sockaddr_un *) (void *) &out->addr[0];

    if (path.len == 0 || path.len >= sizeof(sun->sun_path))
        return err_input(err, "unix:%.*s: want a path of 1 to %zu bytes", SLICE_FMT(path),
                         sizeof(sun->sun_path) - 1);
    *out = (struct endpoint){.count = 1};
    sun->sun_family = AF_UNIX;
    memcpy(sun->sun_path, path.ptr, path.len);
    out->len[0] = sizeof(*sun);
    return 0;
}

static int resolve(const char *host, const char *port, int family, bool listens,
                   struct endpoint *out, struct err *err)
{
    struct addrinfo hints = {
        .ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = listens ? AI_PASSIVE : 0};
    struct addrinfo *list = NULL;
    int status = getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &list);

    if (status != 0)
        return err_input(err, "%s:%s: %s", host, port, gai_strerror(status));
    *out = (struct endpoint){.count = 0};
    for (const struct addrinfo *a = list; a != NULL && out->count < ENDPOINT_MAX; a = a->ai_next) {
        memcpy(&out->addr[out->count], a->ai_addr, a->ai_addrlen);
        out->len[out->count++] = a->ai_addrlen;
    }
    freeaddrinfo(list);
    return 0;
}

/* host, [host], host:port, [host]:port; a bare IPv6 address has more than one colon. */
static int split(struct slice text, struct slice *host, struct slice *port)
{
    ptrdiff_t colon = slice_rfind(text, ':');

    *host = text;
    *port = SLICE_EMPTY;
    if (text.len > 0 && text.ptr[0] == '[') {
        ptrdiff_t end = slice_find(text, ']');

        if (end == -1)
            return -1;
        *host = slice_sub(text, 1, (size_t) end);
        *port = slice_sub(text, (size_t) end + 1, text.len);
        if (port->len == 0)
            return 0;
        if (port->ptr[0] != ':' || port->len == 1)
            return -1;
        *port = slice_sub(*port, 1, port->len);
    } else if (colon != -1 && slice_find(text, ':') == colon) {
        *host = slice_sub(text, 0, (size_t) colon);
        *port = slice_sub(text, (size_t) colon + 1, text.len);
        if (port->len == 0)
            return -1;
    }
    return 0;
}

int endpoint_parse(const char *text, int family, bool listens, struct endpoint *out,
                   struct err *err)
{
    struct slice s = slice_str(text);
    struct slice host;
    struct slice port;
    char *host_text;
    char *port_text;
    int64_t number;
    int ret;

    if (slice_starts_with(s, SLICE_LIT("unix:")))
        return parse_unix(slice_sub(s, 5, s.len), out, err);
    if (slice_starts_with(s, SLICE_LIT("inet:")))
        s = slice_sub(s, 5, s.len);
    if (split(s, &host, &port) == -1 || (host.len == 0 && !listens) || (port.len == 0 && listens))
        return err_input(err, "%s: want %s", text,
                         listens ? "[inet:][host]:port or unix:pathname"
                                 : "[inet:]host[:port] or unix:pathname");
    if (port.len > 0 && ascii_is_digit(port.ptr[0]) && /* the resolver takes any number */
        num_parse_i64(port, 1, 65535, &number, err) == -1)
        return err_prefix(err, "%s: port ", text);
    host_text = slice_dup(host);
    port_text = port.len > 0 ? slice_dup(port) : xstrdup("25");
    ret = resolve(host_text, port_text, family, listens, out, err);
    free(host_text);
    free(port_text);
    return ret;
}

static int socket_for(const struct endpoint *e, size_t which, int window)
{
    int fd = socket(e->addr[which].ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    /* before connect() and listen(), so that the window's scale is agreed on by it */
    if (fd != -1 && window > 0 &&
        (setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &window, sizeof(window)) == -1 ||
         setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &window, sizeof(window)) == -1)) {
        int saved = errno;

        fd_close(&fd);
        errno = saved;
    }
    return fd;
}

static int bind_one(const struct endpoint *e, size_t which, int backlog, int window)
{
    int fd = socket_for(e, which, window);
    int one = 1;
    struct stat st;
    const struct sockaddr_un *sun = (const struct sockaddr_un *) (const void *) &e->addr[which];

    if (fd == -1)
        return -1;
    if (e->addr[which].ss_family == AF_UNIX && lstat(sun->sun_path, &st) == 0 &&
        S_ISSOCK(st.st_mode))
        (void) unlink(sun->sun_path); /* an earlier run's; if it stays, bind() says so */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == -1 ||
        bind(fd, (const struct sockaddr *) &e->addr[which], e->len[which]) == -1 ||
        listen(fd, backlog) == -1) {
        int saved = errno;

        fd_close(&fd);
        errno = saved;
    }
    return fd;
}

int endpoint_listen(const struct endpoint *e, const char *text, int backlog, int window, int *fd,
                    struct err *err)
{
    for (size_t i = 0; i < e->count; i++) {
        *fd = bind_one(e, i, backlog, window);
        if (*fd != -1)
            return 0;
    }
    return err_sys(err, "%s", text);
}

int endpoint_connect(const struct endpoint *e, size_t which, int window)
{
    int fd = socket_for(e, which, window);
    int one = 1;

    if (fd == -1)
        return -1;
    if (e->addr[which].ss_family != AF_UNIX)
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(fd, (const struct sockaddr *) &e->addr[which], e->len[which]) == -1 &&
        errno != EINPROGRESS) {
        int saved = errno;

        fd_close(&fd);
        errno = saved;
    }
    return fd;
}

void endpoint_peer(const struct sockaddr_storage *addr, char *out, size_t len)
{
    char text[INET6_ADDRSTRLEN];
    const char *prefix = "";
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) (const void *) addr;
    const struct sockaddr_in *in4 = (const struct sockaddr_in *) (const void *) addr;
    const void *bytes =
        addr->ss_family == AF_INET6 ? (const void *) &in6->sin6_addr : &in4->sin_addr;
    int family = addr->ss_family;

    if (family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
        bytes = &in6->sin6_addr.s6_addr[12];
        family = AF_INET;
    } else if (family == AF_INET6) {
        prefix = "ipv6:";
    }
    if (addr->ss_family == AF_UNIX || inet_ntop(family, bytes, text, sizeof(text)) == NULL)
        (void) snprintf(text, sizeof(text), "unix");
    (void) snprintf(out, len, "%s%s", prefix, text);
}
