/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_defaults.c - defaults that are found out: host and domain name, networks, directories, process facts.
 */
#include "postconf/config_int.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

/* The host's name, completed by the resolver's view of it, else by "localdomain". */
static char *host_name(void)
{
    char name[256];
    struct addrinfo hints = {.ai_flags = AI_CANONNAME, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    struct buf full = BUF_INIT(512);

    if (gethostname(name, sizeof(name)) == -1)
        return xstrdup("localhost.localdomain");
    name[sizeof(name) - 1] = '\0';
    if (strchr(name, '.') == NULL && getaddrinfo(name, NULL, &hints, &list) == 0 && list != NULL &&
        list->ai_canonname != NULL && strchr(list->ai_canonname, '.') != NULL)
        buf_puts(&full, list->ai_canonname);
    else
        buf_puts(&full, name);
    if (list != NULL)
        freeaddrinfo(list);
    if (slice_find(buf_view(&full), '.') == -1)
        buf_puts(&full, ".localdomain");
    return buf_take(&full);
}

static char *domain_of_host(const struct config *cfg)
{
    const char *host = config_get(cfg, "myhostname");
    const char *dot = host != NULL ? strchr(host, '.') : NULL;

    return xstrdup(dot != NULL ? dot + 1 : "localdomain");
}

static int prefix_length(const struct sockaddr *mask)
{
    const unsigned char *p;
    size_t n;
    int bits = 0;

    if (mask->sa_family == AF_INET) {
        p = (const unsigned char *) &((const struct sockaddr_in *) mask)->sin_addr;
        n = 4;
    } else {
        p = (const unsigned char *) &((const struct sockaddr_in6 *) mask)->sin6_addr;
        n = 16;
    }
    for (size_t i = 0; i < n; i++)
        bits += __builtin_popcount(p[i]);
    return bits;
}

static void put_network(const struct ifaddrs *ifa, bool host_only, struct buf *out)
{
    unsigned char addr[16];
    char text[INET6_ADDRSTRLEN];
    bool v4 = ifa->ifa_addr->sa_family == AF_INET;
    int bits = host_only ? (v4 ? 32 : 128) : prefix_length(ifa->ifa_netmask);
    size_t n = v4 ? 4 : 16;

    memcpy(addr,
           v4 ? (const void *) &((const struct sockaddr_in *) ifa->ifa_addr)->sin_addr
              : (const void *) &((const struct sockaddr_in6 *) ifa->ifa_addr)->sin6_addr,
           n);
    for (size_t i = 0; i < n; i++) {
        int keep = bits - (int) i * 8;

        if (keep <= 0)
            addr[i] = 0;
        else if (keep < 8)
            addr[i] &= (unsigned char) (0xff << (8 - keep));
    }
    inet_ntop(v4 ? AF_INET : AF_INET6, addr, text, sizeof(text));
    if (out->len > 0)
        buf_putc(out, ' ');
    buf_printf(out, v4 ? "%s/%d" : "[%s]/%d", text, bits);
}

/* mynetworks by mynetworks_style: the host's own addresses, or its networks. */
static char *networks(const struct config *cfg)
{
    const char *style = config_get(cfg, "mynetworks_style");
    const char *protocols = config_get(cfg, "inet_protocols");
    bool host_only = style == NULL || strcmp(style, "subnet") != 0;
    bool v4 =
        protocols == NULL || strstr(protocols, "all") != NULL || strstr(protocols, "ipv4") != NULL;
    bool v6 =
        protocols == NULL || strstr(protocols, "all") != NULL || strstr(protocols, "ipv6") != NULL;
    struct ifaddrs *list = NULL;
    struct buf out = BUF_INIT(65536);

    if (getifaddrs(&list) == 0) {
        for (const struct ifaddrs *ifa = list; ifa != NULL; ifa = ifa->ifa_next) {
            bool loopback = (ifa->ifa_flags & IFF_LOOPBACK) != 0;

            if (ifa->ifa_addr == NULL || ifa->ifa_netmask == NULL || (ifa->ifa_flags & IFF_UP) == 0)
                continue;
            if ((ifa->ifa_addr->sa_family == AF_INET && v4) ||
                (ifa->ifa_addr->sa_family == AF_INET6 && v6))
                put_network(ifa, host_only && !loopback, &out);
        }
        freeifaddrs(list);
    }
    if (out.len == 0)
        buf_puts(&out, "127.0.0.0/8");
    return buf_take(&out);
}

char *config_default_directory(const char *name)
{
    struct buf self = BUF_INIT(4096);
    bool daemons = strcmp(name, "daemon_directory") == 0;
    struct slice dir;
    char *result = NULL;

    if (path_of_self(&self, NULL) == 0) {
        static const struct {
            const char *from, *daemons, *commands;
        } layouts[] = {
            {"/libexec/postrider", "/libexec/postrider", "/sbin"},
            {"/sbin", "/libexec/postrider", "/sbin"},
            {"/bin", "/libexec/postrider", "/sbin"},
        };

        dir = buf_view(&self);
        for (size_t i = 0; i < ARRAY_LEN(layouts) && result == NULL; i++) {
            struct buf path = BUF_INIT(8192);

            if (!slice_ends_with(dir, slice_str(layouts[i].from)))
                continue;
            buf_put_slice(&path, slice_sub(dir, 0, dir.len - strlen(layouts[i].from)));
            buf_puts(&path, daemons ? layouts[i].daemons : layouts[i].commands);
            if (access(buf_cstr(&path), X_OK) == 0)
                result = buf_take(&path);
            buf_fini(&path);
        }
    }
    buf_fini(&self);
    return result != NULL ? result : xstrdup(daemons ? "/usr/lib/postfix/sbin" : "/usr/sbin");
}

static char *directory_of(const char *name, const char *suffix)
{
    struct buf b = BUF_INIT(8192);
    char *dir = config_default_directory(name);

    buf_printf(&b, "%s%s", dir, suffix);
    free(dir);
    return buf_take(&b);
}

char *config_computed_default(const struct config *cfg, const char *name)
{
    if (strcmp(name, "myhostname") == 0)
        return host_name();
    if (strcmp(name, "mydomain") == 0)
        return domain_of_host(cfg);
    if (strcmp(name, "mynetworks") == 0)
        return networks(cfg);
    if (strcmp(name, "daemon_directory") == 0 || strcmp(name, "command_directory") == 0)
        return config_default_directory(name);
    if (strcmp(name, "sendmail_path") == 0)
        return directory_of("command_directory", "/sendmail");
    if (strcmp(name, "process_id") == 0) {
        struct buf b = BUF_INIT(32);

        buf_printf(&b, "%d", (int) getpid());
        return buf_take(&b);
    }
    return NULL;
}
