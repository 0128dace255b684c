/* SPDX-License-Identifier: Apache-2.0 */
/* listen.c - the listening sockets of the services. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/file.h"
#include "base/frame.h"
#include "master/master_int.h"

void listeners_close(struct listeners *l)
{
    for (size_t i = 0; i < l->count; i++) {
        fd_close(&l->fds[i]);
        free(l->keys[i]);
    }
    free(l->keys);
    free(l->fds);
    *l = (struct listeners){0};
}

static void push(struct listeners *l, const char *key, int fd)
{
    l->keys = xrealloc(l->keys, (l->count + 1) * sizeof(*l->keys));
    l->fds = xrealloc(l->fds, (l->count + 1) * sizeof(*l->fds));
    l->keys[l->count] = xstrdup(key);
    l->fds[l->count++] = fd;
}

/* A socket that is open already. */
static int take_old(struct listeners *old, size_t nold, const char *key)
{
    for (size_t i = 0; i < nold; i++) {
        for (size_t k = 0; k < old[i].count; k++) {
            if (old[i].fds[k] != -1 && strcmp(old[i].keys[k], key) == 0) {
                int fd = old[i].fds[k];

                old[i].fds[k] = -1;
                return fd;
            }
        }
    }
    return -1;
}

static int open_inet(const struct addrinfo *ai, const char *key, int backlog, struct err *err)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1;

    if (fd == -1)
        return err_sys(err, "socket for %s", key);
    (void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (ai->ai_family == AF_INET6)
        (void) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == -1 || listen(fd, backlog) == -1) {
        err_sys(err, "listen on %s", key);
        fd_close(&fd);
    }
    return fd;
}

/* "port", "host:port", "[v6]:port" */
static void split_name(const char *name, char **host, char **port)
{
    const char *colon = strrchr(name, ':');

    *host = NULL;
    if (colon == NULL) {
        *port = xstrdup(name);
        return;
    }
    *port = xstrdup(colon + 1);
    if (colon == name)
        return;
    if (name[0] == '[' && colon[-1] == ']')
        *host = xstrndup(name + 1, (size_t) (colon - name) - 2);
    else
        *host = xstrndup(name, (size_t) (colon - name));
}

static int add_host(const struct generation *g, const char *host, const char *port,
                    struct listeners *old, size_t nold, struct listeners *out, struct err *err)
{
    const char *protocols = config_get(g->cfg, "inet_protocols");
    bool v4 =
        protocols == NULL || strstr(protocols, "all") != NULL || strstr(protocols, "ipv4") != NULL;
    bool v6 =
        protocols == NULL || strstr(protocols, "all") != NULL || strstr(protocols, "ipv6") != NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE,
                             .ai_family = v4 && v6 ? AF_UNSPEC
                                          : v6     ? AF_INET6
                                                   : AF_INET};
    struct addrinfo *list = NULL;
    int code = getaddrinfo(host, port, &hints, &list);
    int ret = 0;

    if (code != 0)
        return err_input(err, "%s%s%s: %s", host != NULL ? host : "", host != NULL ? ":" : "port ",
                         port, gai_strerror(code));
    for (const struct addrinfo *ai = list; ai != NULL && ret == 0; ai = ai->ai_next) {
        char addr[NI_MAXHOST];
        char number[NI_MAXSERV];
        char key[NI_MAXHOST + NI_MAXSERV + 16];
        int fd;

        if (getnameinfo(ai->ai_addr, ai->ai_addrlen, addr, sizeof(addr), number, sizeof(number),
                        NI_NUMERICHOST | NI_NUMERICSERV) != 0)
            continue;
        (void) snprintf(key, sizeof(key), "inet [%s]:%s", addr, number);
        fd = take_old(old, nold, key);
        if (fd == -1)
            fd = open_inet(ai, key, (int) g->p.listen_backlog, err);
        /* a host without IPv6 has no IPv6 address to listen on */
        if (fd == -1 && host == NULL && ai->ai_family == AF_INET6 && v4 &&
            (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
            continue;
        if (fd == -1)
            ret = -1;
        else
            push(out, key, fd);
    }
    freeaddrinfo(list);
    return ret;
}

static int add_inet(const struct generation *g, const struct master_service *s,
                    struct listeners *old, size_t nold, struct listeners *out, struct err *err)
{
    const char *interfaces = config_get(g->cfg, "inet_interfaces");
    struct slice rest = slice_str(interfaces);
    struct slice word;
    char *host;
    char *port;
    int ret = 0;

    split_name(s->name, &host, &port);
    if (host != NULL) {
        ret = add_host(g, host, port, old, nold, out, err);
    } else if (interfaces == NULL || slice_caseeq_str(slice_trim(rest, NULL), "all")) {
        ret = add_host(g, NULL, port, old, nold, out, err);
    } else {
        while (ret == 0 && slice_token(&rest, ", \t\r\n", &word)) {
            char *one;

            if (slice_caseeq_str(word, "loopback-only"))
                word = SLICE_LIT("localhost");
            if (word.ptr[0] == '[' && word.ptr[word.len - 1] == ']')
                word = slice_sub(word, 1, word.len - 1);
            one = slice_dup(word);
            ret = add_host(g, one, port, old, nold, out, err);
            free(one);
        }
    }
    free(host);
    free(port);
    return ret;
}

int listeners_open(const struct generation *g, const struct master_service *s,
                   struct listeners *old, size_t nold, struct listeners *out, struct err *err)
{
    *out = (struct listeners){0};
    if (s->type == SERVICE_INET) {
        if (add_inet(g, s, old, nold, out, err) == -1) {
            err_prefix(err, "%s, line %d: service %s: ", g->cf->path, s->line, s->name);
            return -1;
        }
        return 0;
    }
    if (s->type == SERVICE_UNIX || s->type == SERVICE_FIFO) {
        struct buf path = BUF_INIT(4096);
        struct buf key = BUF_INIT(4096);
        int fd;

        buf_printf(&path, "%s/%s", s->is_private ? "private" : "public", s->name);
        buf_printf(&key, "unix %s", buf_cstr(&path));
        fd = take_old(old, nold, buf_cstr(&key));
        if (fd == -1)
            fd = unix_listen(buf_cstr(&path), 0666, (int) g->p.listen_backlog, err);
        if (fd != -1)
            push(out, buf_cstr(&key), fd);
        buf_fini(&path);
        buf_fini(&key);
        return fd == -1
                   ? err_prefix(err, "%s, line %d: service %s: ", g->cf->path, s->line, s->name)
                   : 0;
    }
    return err_input(err, "%s, line %d: service %s: type %s is not there yet", g->cf->path, s->line,
                     s->name, service_type_name(s->type));
}
