/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_defaults.c - defaults that are found out: host and domain name, networks, directories, process facts.
 */
#include "postconf/config_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

/* What gethostname(2) says. No resolver is asked: every program that starts would wait for it. */
static char *own_name(void)
{
    char name[256];

    if (gethostname(name, sizeof(name)) == -1)
        return xstrdup("localhost");
    name[sizeof(name) - 1] = '\0';
    return xstrdup(name);
}

/* myhostname: the host's name, with $mydomain after it if it has no dot. */
static int host_name(const struct config *cfg, const struct config_chain *up, char **out,
                     struct err *err)
{
    struct buf full = BUF_INIT(CONFIG_VALUE_MAX);
    char *name = own_name();
    int ret = 0;

    buf_puts(&full, name);
    if (strchr(name, '.') == NULL) {
        buf_putc(&full, '.');
        if (config_is_set(cfg, "mydomain"))
            ret = config_expand_name(cfg, "mydomain", up, &full, err);
        else
            buf_puts(&full, "localdomain");
    }
    if (ret == 0)
        *out = buf_take(&full);
    free(name);
    buf_fini(&full);
    return ret;
}

/* mydomain: myhostname without its first label. */
static int domain_name(const struct config *cfg, const struct config_chain *up, char **out,
                       struct err *err)
{
    struct buf host = BUF_INIT(CONFIG_VALUE_MAX);
    ptrdiff_t dot;

    if (config_expand_name(cfg, "myhostname", up, &host, err) == -1) {
        buf_fini(&host);
        return -1;
    }
    dot = slice_find(buf_view(&host), '.');
    *out = dot == -1 ? xstrdup("localdomain")
                     : slice_dup(slice_sub(buf_view(&host), (size_t) dot + 1, host.len));
    buf_fini(&host);
    return 0;
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

enum networks_style { STYLE_HOST, STYLE_SUBNET, STYLE_CLASS };

static int mask_length(const struct ifaddrs *ifa, enum networks_style style)
{
    bool v4 = ifa->ifa_addr->sa_family == AF_INET;
    unsigned char first;

    if (style == STYLE_HOST)
        return v4 ? 32 : 128;
    if (style == STYLE_SUBNET || !v4)
        return prefix_length(ifa->ifa_netmask);
    memcpy(&first, &((const struct sockaddr_in *) ifa->ifa_addr)->sin_addr, 1);
    return first < 128 ? 8 : first < 192 ? 16 : 24;
}

/* Appends the interface's network, unless it is there already. */
static void put_network(const struct ifaddrs *ifa, enum networks_style style, struct buf *out)
{
    struct buf network = BUF_INIT(100);
    struct slice rest = buf_view(out);
    struct slice word;
    unsigned char addr[16];
    char text[INET6_ADDRSTRLEN];
    bool v4 = ifa->ifa_addr->sa_family == AF_INET;
    int bits = mask_length(ifa, style);
    size_t n = v4 ? 4 : 16;
    bool known = false;

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
    buf_printf(&network, v4 ? "%s/%d" : "[%s]/%d", text, bits);
    while (!known && slice_token(&rest, " ", &word))
        known = slice_eq(word, buf_view(&network));
    if (!known) {
        if (out->len > 0)
            buf_putc(out, ' ');
        buf_put_slice(out, buf_view(&network));
    }
    buf_fini(&network);
}

static bool same_address(const struct sockaddr *a, const struct sockaddr *b)
{
    if (a->sa_family != b->sa_family)
        return false;
    if (a->sa_family == AF_INET)
        return memcmp(&((const struct sockaddr_in *) a)->sin_addr,
                      &((const struct sockaddr_in *) b)->sin_addr, 4) == 0;
    return memcmp(&((const struct sockaddr_in6 *) a)->sin6_addr,
                  &((const struct sockaddr_in6 *) b)->sin6_addr, 16) == 0;
}

/* True if inet_interfaces names this address, by number or by host name. */
static bool is_listed(const struct ifaddrs *ifa, const char *interfaces)
{
    struct slice rest = slice_str(interfaces);
    struct slice word;
    bool found = false;

    while (!found && slice_token(&rest, ", \t\r\n", &word)) {
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
        struct addrinfo *list = NULL;
        char *host;

        if (slice_caseeq_str(word, "all"))
            return true;
        if (slice_caseeq_str(word, "loopback-only")) {
            found = (ifa->ifa_flags & IFF_LOOPBACK) != 0;
            continue;
        }
        if (word.len >= 2 && word.ptr[0] == '[' && word.ptr[word.len - 1] == ']')
            word = slice_sub(word, 1, word.len - 1);
        host = slice_dup(word);
        if (getaddrinfo(host, NULL, &hints, &list) == 0) {
            for (const struct addrinfo *a = list; a != NULL && !found; a = a->ai_next)
                found = same_address(a->ai_addr, ifa->ifa_addr);
            freeaddrinfo(list);
        }
        free(host);
    }
    return found;
}

static void put_networks(const char *interfaces, const char *protocols, enum networks_style style,
                         struct buf *out)
{
    bool all = strstr(protocols, "all") != NULL;
    struct ifaddrs *list = NULL;

    if (getifaddrs(&list) == -1)
        return;
    for (int family = 0; family < 2; family++) {
        int wanted = family == 0 ? AF_INET : AF_INET6;

        if (!all && strstr(protocols, family == 0 ? "ipv4" : "ipv6") == NULL)
            continue;
        for (const struct ifaddrs *ifa = list; ifa != NULL; ifa = ifa->ifa_next)
            if (ifa->ifa_addr != NULL && ifa->ifa_netmask != NULL &&
                (ifa->ifa_flags & IFF_UP) != 0 && ifa->ifa_addr->sa_family == wanted &&
                is_listed(ifa, interfaces))
                put_network(ifa, style, out);
    }
    freeifaddrs(list);
}

/* mynetworks by mynetworks_style: the host's own addresses, or its networks, as far as inet_interfaces goes. */
static int networks(const struct config *cfg, const struct config_chain *up, char **out,
                    struct err *err)
{
    static const char *const styles[] = {"host", "subnet", "class"};
    struct buf style = BUF_INIT(CONFIG_VALUE_MAX);
    struct buf protocols = BUF_INIT(CONFIG_VALUE_MAX);
    struct buf interfaces = BUF_INIT(CONFIG_VALUE_MAX);
    struct buf found = BUF_INIT(CONFIG_VALUE_MAX);
    size_t n = 0;
    int ret = -1;

    if (config_expand_name(cfg, "mynetworks_style", up, &style, err) == -1 ||
        config_expand_name(cfg, "inet_protocols", up, &protocols, err) == -1 ||
        config_expand_name(cfg, "inet_interfaces", up, &interfaces, err) == -1)
        goto done;
    while (n < ARRAY_LEN(styles) &&
           !slice_caseeq_str(slice_trim(buf_view(&style), NULL), styles[n]))
        n++;
    if (n == ARRAY_LEN(styles)) {
        err_input(err, "mynetworks_style is \"%s\", not host, subnet, or class", buf_cstr(&style));
        goto done;
    }
    put_networks(buf_cstr(&interfaces), buf_cstr(&protocols), (enum networks_style) n, &found);
    if (found.len == 0)
        buf_puts(&found, "127.0.0.0/8");
    *out = buf_take(&found);
    ret = 0;
done:
    buf_fini(&style);
    buf_fini(&protocols);
    buf_fini(&interfaces);
    buf_fini(&found);
    return ret;
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

int config_computed_default(const struct config *cfg, const char *name,
                            const struct config_chain *up, char **out, struct err *err)
{
    struct buf b = BUF_INIT(64);

    *out = NULL;
    if (strcmp(name, "myhostname") == 0)
        return host_name(cfg, up, out, err);
    if (strcmp(name, "mydomain") == 0)
        return domain_name(cfg, up, out, err);
    if (strcmp(name, "mynetworks") == 0)
        return networks(cfg, up, out, err);
    if (strcmp(name, "daemon_directory") == 0 || strcmp(name, "command_directory") == 0)
        *out = config_default_directory(name);
    else if (strcmp(name, "sendmail_path") == 0)
        *out = directory_of("command_directory", "/sendmail");
    else if (strcmp(name, "process_name") == 0)
        *out = xstrdup(program_invocation_short_name);
    else if (strcmp(name, "process_id") == 0) {
        buf_printf(&b, "%d", (int) getpid());
        *out = buf_take(&b);
    }
    return 0;
}
