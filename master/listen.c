/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen.c - the listening sockets of the services.
 *
 * A socket is known by its key, which names its address. A new generation takes those that are open already and opens the
 * others; what neither generation wants any more is closed when its last reference goes.
 */
#include <errno.h>
#include <linux/filter.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/num.h"
#include "master/master_int.h"
#include "master/worker_int.h"

#define HANDSHAKE_MS 200  /* that a connection may take to be made */
#define SOCKET_MODE  0666 /* who may connect is decided by the directory, as with Postfix */

static void release(struct listener *l)
{
    if (--l->refs > 0)
        return;
    for (size_t i = 0; i < l->set->len; i++) {
        if (l->set->items[i] == l) {
            vec_remove(l->set, i);
            break;
        }
    }
    fd_close(&l->fd);
    if (l->path != NULL)
        (void) unlink(l->path);
    free(l->key);
    free(l->path);
    free(l);
}

void listeners_release(struct listeners *l)
{
    for (size_t i = 0; i < l->count; i++)
        release(l->items[i]);
    free(l->items);
    *l = (struct listeners){0};
}

/* What is being opened for one service. */
struct opening {
    const struct generation *g;
    const struct master_service *s;
    struct vec *set;
    struct listeners *out;
};

static struct listener *find(const struct vec *set, const char *key)
{
    for (size_t i = 0; i < set->len; i++)
        if (strcmp(((const struct listener *) set->items[i])->key, key) == 0)
            return set->items[i];
    return NULL;
}

/* The service has this one, too. */
static int claim(struct opening *o, struct listener *l, struct err *err)
{
    if (l->claimed == o->g->serial)
        return err_input(err, "%s is another service's already", l->key);
    if (o->out->count == WORKER_LISTENERS_MAX)
        return err_input(err, "more than %d addresses", WORKER_LISTENERS_MAX);
    l->claimed = o->g->serial;
    l->refs++;
    o->out->items = xrealloc(o->out->items, (o->out->count + 1) * sizeof(struct listener *));
    o->out->items[o->out->count++] = l;
    return 0;
}

static int add(struct opening *o, const char *key, const char *path, int fd, struct err *err)
{
    struct listener *l = xcalloc(1, sizeof(*l));
    int ret;

    l->set = o->set;
    l->key = xstrdup(key);
    l->path = path != NULL ? xstrdup(path) : NULL;
    l->fd = fd;
    l->refs = 1;
    vec_push(o->set, l);
    ret = claim(o, l, err);
    release(l);
    return ret;
}

static bool set_option(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof(value)) == 0;
}

/* reuse_port: sockets that are open may have the port, of another address of which this is a part, or the other way round. */
static int open_inet(const struct addrinfo *ai, int64_t backlog, bool reuse_port)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int saved;

    if (fd == -1)
        return -1;
    /* clients' sockets inherit TCP_NODELAY: a system call less for each */
    if (set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) &&
        set_option(fd, SOL_SOCKET, SO_REUSEPORT, reuse_port) &&
        set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) &&
        (ai->ai_family != AF_INET6 || set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)) &&
        bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, (int) backlog) == 0 &&
        set_option(fd, SOL_SOCKET, SO_REUSEPORT, 0))
        return fd;
    saved = errno;
    fd_close(&fd);
    errno = saved;
    return -1;
}

/* Lets other sockets of this process have the ports of those that are open, or not any more. */
static void share_ports(const struct vec *set, bool share)
{
    for (size_t i = 0; i < set->len; i++) {
        const struct listener *l = set->items[i];

        if (l->path == NULL && !set_option(l->fd, SOL_SOCKET, SO_REUSEPORT, share))
            log_warning("socket option of %s: errno %d", l->key, errno);
    }
}

/*
 * A change of inet_interfaces from all to some addresses, or back, wants a socket whose address is a part of one that still serves: the
 * kernel allows that only between sockets that agree. They agree for the moment that it takes; that another process
 * has the port is noticed as before.
 */
static int open_beside(const struct vec *set, const struct addrinfo *ai, int64_t backlog)
{
    int fd = open_inet(ai, backlog, false);
    int saved;

    if (fd != -1 || errno != EADDRINUSE || set->len == 0)
        return fd;
    share_ports(set, true);
    fd = open_inet(ai, backlog, true);
    saved = errno;
    share_ports(set, false);
    errno = saved;
    return fd;
}

/* No connection begins at the socket any more; those that are being made come about. Its clients' sockets are not touched. */
static bool refuse_new(int fd)
{
    /* from the TCP header on (RFC 9293 3.1): a segment with SYN and without ACK is as if lost, and the client sends it again */
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, TH_SYN | TH_ACK),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TH_SYN, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog program = {.len = ARRAY_LEN(code), .filter = code};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0;
}

static bool is_same_port(const struct listener *a, const struct listener *b)
{
    return a->path == NULL && b->path == NULL &&
           strcmp(strrchr(a->key, ':'), strrchr(b->key, ':')) == 0;
}

void listeners_hand_over(const struct vec *set, uint64_t serial)
{
    bool wait = false;

    for (size_t i = 0; i < set->len; i++) {
        const struct listener *old = set->items[i];
        bool is_replaced = false;

        for (size_t k = 0; k < set->len && old->claimed != serial; k++) {
            const struct listener *new = set->items[k];

            is_replaced |= new->claimed == serial &&is_same_port(old, new);
        }
        wait |= is_replaced && refuse_new(old->fd);
    }
    if (wait)
        (void) poll(NULL, 0, HANDSHAKE_MS);
}

/* "port", "host:port", "[v6]:port" */
static void split_name(const char *name, char **host, char **port)
{
    const char *colon = strrchr(name, ':');

    *host = NULL;
    *port = xstrdup(colon == NULL ? name : colon + 1);
    if (colon == NULL || colon == name)
        return;
    if (name[0] == '[' && colon[-1] == ']')
        *host = xstrndup(name + 1, (size_t) (colon - name) - 2);
    else
        *host = xstrndup(name, (size_t) (colon - name));
}

/* The number of a port that known_tcp_ports names ("lmtp=24, smtps=submissions=465"): no look-up in /etc/services. */
static struct slice known_port(const struct generation *g, struct slice name)
{
    struct slice rest = slice_str(g->p.known_tcp_ports);
    struct slice group;

    while (slice_token(&rest, ", \t\r\n", &group)) {
        ptrdiff_t last = slice_rfind(group, '=');
        struct slice names = slice_sub(group, 0, last < 0 ? 0 : (size_t) last);
        struct slice one;

        while (slice_token(&names, "=", &one))
            if (slice_eq(one, name))
                return slice_sub(group, (size_t) last + 1, group.len);
    }
    return name;
}

static bool has_protocol(const struct generation *g, const char *name)
{
    struct slice rest = slice_str(g->p.inet_protocols);
    struct slice word;

    while (slice_token(&rest, ", \t\r\n", &word))
        if (slice_caseeq_str(word, name) || slice_caseeq_str(word, "all"))
            return true;
    return false;
}

static int add_address(struct opening *o, const struct addrinfo *ai, bool *no_family,
                       struct err *err)
{
    char addr[NI_MAXHOST];
    char number[NI_MAXSERV];
    char key[NI_MAXHOST + NI_MAXSERV + 16];
    struct listener *known;
    int fd;

    if (getnameinfo(ai->ai_addr, ai->ai_addrlen, addr, sizeof(addr), number, sizeof(number),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return err_permanent(err, "an address that cannot be printed");
    (void) snprintf(key, sizeof(key), "inet [%s]:%s", addr, number);
    known = find(o->set, key);
    if (known != NULL) {
        /* "localhost" may be there twice in /etc/hosts */
        for (size_t i = 0; i < o->out->count; i++)
            if (o->out->items[i] == known)
                return 0;
        return claim(o, known, err);
    }
    fd = open_beside(o->set, ai, o->g->p.listen_backlog);
    if (fd == -1) {
        *no_family = errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL;
        return err_sys(err, "listen on [%s]:%s", addr, number);
    }
    return add(o, key, NULL, fd, err);
}

/* host NULL: every address. */
static int add_host(struct opening *o, const char *host, const char *port, struct err *err)
{
    bool v4 = has_protocol(o->g, "ipv4");
    bool v6 = has_protocol(o->g, "ipv6");
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    size_t before = o->out->count;
    int code;
    int ret = 0;

    hints.ai_family = v4 && v6 ? AF_UNSPEC : v6 ? AF_INET6 : AF_INET;
    code = getaddrinfo(host, port, &hints, &list);
    if (code != 0)
        return err_input(err, "%s%s%s: %s", host != NULL ? host : "", host != NULL ? ":" : "port ",
                         port, gai_strerror(code));
    for (const struct addrinfo *ai = list; ai != NULL && ret == 0; ai = ai->ai_next) {
        bool no_family = false;

        ret = add_address(o, ai, &no_family, err);
        /* a name, or "all", has IPv6 addresses where the kernel has none: one that can be served is enough */
        if (ret == -1 && no_family && (ai->ai_next != NULL || o->out->count > before))
            ret = 0;
    }
    freeaddrinfo(list);
    return ret;
}

static int add_inet(struct opening *o, struct err *err)
{
    struct slice rest = slice_str(o->g->p.inet_interfaces);
    struct slice number;
    struct slice word;
    char *host;
    char *name;
    int64_t checked;
    char *port;
    int ret = 0;

    split_name(o->s->name, &host, &name);
    number = known_port(o->g, slice_str(name));
    port = slice_dup(number);
    /* getaddrinfo() takes any number, modulo 65536 */
    if (number.len > 0 && ascii_is_digit(number.ptr[0]) &&
        num_parse_i64(number, 1, 65535, &checked, err) == -1)
        ret = err_prefix(err, "port ");
    if (ret == 0 && host != NULL)
        ret = add_host(o, host, port, err);
    while (host == NULL && ret == 0 && slice_token(&rest, ", \t\r\n", &word)) {
        char *one;

        if (slice_caseeq_str(word, "loopback-only"))
            word = SLICE_LIT("localhost");
        else if (word.ptr[0] == '[' && word.ptr[word.len - 1] == ']')
            word = slice_sub(word, 1, word.len - 1);
        one = slice_dup(word);
        ret = add_host(o, slice_caseeq_str(word, "all") ? NULL : one, port, err);
        free(one);
    }
    if (ret == 0 && o->out->count == 0)
        ret = err_input(err, "inet_interfaces is empty");
    free(host);
    free(name);
    free(port);
    return ret;
}

static int add_unix(struct opening *o, struct err *err)
{
    struct buf path = BUF_INIT(4096);
    struct buf key = BUF_INIT(4096);
    struct listener *known;
    int ret = -1;
    int fd;

    buf_printf(&path, "%s/%s", o->s->is_private ? "private" : "public", o->s->name);
    buf_printf(&key, "unix %s", buf_cstr(&path));
    known = find(o->set, buf_cstr(&key));
    if (known != NULL) {
        ret = claim(o, known, err);
    } else {
        fd = unix_listen(buf_cstr(&path), SOCKET_MODE, (int) o->g->p.listen_backlog, err);
        if (fd != -1)
            ret = add(o, buf_cstr(&key), buf_cstr(&path), fd, err);
    }
    buf_fini(&path);
    buf_fini(&key);
    return ret;
}

int listeners_open(const struct generation *g, const struct master_service *s, struct vec *set,
                   struct listeners *out, struct err *err)
{
    struct opening o = {.g = g, .s = s, .set = set, .out = out};
    int ret;

    *out = (struct listeners){0};
    ret = s->type == SERVICE_INET ? add_inet(&o, err) : add_unix(&o, err);
    if (ret == -1) {
        listeners_release(out);
        err_prefix(err, "%s, line %d: service %s: ", g->cf->path, s->line, s->name);
    }
    return ret;
}
