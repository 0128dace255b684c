/* SPDX-License-Identifier: Apache-2.0 */
/* map_stream.c - see map_stream.h: connect, send, receive, each no later than a deadline. */
#include "maps/map_stream.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/frame.h"

#define READ_BYTES 4096

struct map_stream {
    int fd; /* non-blocking */
    struct buf in;
};

/* 1: ready, 0: the deadline is over, -1: errno. */
static int wait_for(int fd, short events, struct mono_time deadline)
{
    struct pollfd p = {.fd = fd, .events = events};

    for (;;) {
        int n = poll(&p, 1, mono_poll_ms(deadline));

        if (n >= 0)
            return n;
        if (errno != EINTR)
            return -1;
    }
}

static int wait_or_fail(int fd, short events, struct mono_time deadline, const char *what,
                        struct err *err)
{
    int n = wait_for(fd, events, deadline);

    if (n == 1)
        return 0;
    return n == 0 ? err_temporary(err, "%s timed out", what) : err_sys(err, "%s", what);
}

static int connect_to(const struct sockaddr *sa, socklen_t len, struct mono_time deadline, int *out,
                      struct err *err)
{
    int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    int code = 0;
    socklen_t size = sizeof(code);

    if (fd == -1)
        return err_sys(err, "socket");
    if (connect(fd, sa, len) == -1) {
        if (errno != EINPROGRESS && errno != EINTR) {
            (void) err_sys(err, "connect");
            goto fail;
        }
        if (wait_or_fail(fd, POLLOUT, deadline, "connect", err) == -1)
            goto fail;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) == -1 || code != 0) {
            if (code != 0)
                errno = code;
            (void) err_sys(err, "connect");
            goto fail;
        }
    }
    /* one small write, one small read: nothing to gain from waiting */
    (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    *out = fd;
    return 0;
fail:
    fd_close(&fd);
    return -1;
}

/* host and port are heap strings on success. */
static int split_host_port(struct slice name, const char *default_port, char **host, char **port,
                           struct err *err)
{
    struct slice h = name;
    struct slice p = slice_str(default_port);
    ptrdiff_t at;

    if (name.len > 0 && name.ptr[0] == '[') {
        at = slice_find(name, ']');
        if (at == -1)
            return err_input(err, "\"%.*s\": no \"]\"", SLICE_FMT(name));
        h = slice_sub(name, 1, (size_t) at);
        name = slice_sub(name, (size_t) at + 1, name.len);
        if (name.len > 0 && name.ptr[0] != ':')
            return err_input(err, "\"%.*s\" after \"]\"", SLICE_FMT(name));
        if (name.len > 0)
            p = slice_sub(name, 1, name.len);
    } else if ((at = slice_rfind(name, ':')) != -1) {
        h = slice_sub(name, 0, (size_t) at);
        p = slice_sub(name, (size_t) at + 1, name.len);
        if (slice_find(h, ':') != -1)
            return err_input(err, "\"%.*s\": an IPv6 address goes in []", SLICE_FMT(name));
    }
    if (h.len == 0 || p.len == 0)
        return err_input(err, "wants HOST:PORT");
    *host = slice_dup(h);
    *port = slice_dup(p);
    return 0;
}

static int connect_inet(struct slice name, const char *default_port, struct mono_time deadline,
                        int *out, struct err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    struct addrinfo *list = NULL;
    char *host = NULL;
    char *port = NULL;
    int left = 0;
    int code;
    int ret = -1;

    if (split_host_port(name, default_port, &host, &port, err) == -1)
        return -1;
    code = getaddrinfo(host, port, &hints, &list);
    if (code == EAI_NONAME) {
        hints.ai_flags = AI_ADDRCONFIG;
        code = getaddrinfo(host, port, &hints, &list);
    }
    if (code != 0) {
        ret = err_temporary(err, "host %s, port %s: %s", host, port, gai_strerror(code));
        goto done;
    }
    for (const struct addrinfo *a = list; a != NULL; a = a->ai_next)
        left++;
    for (const struct addrinfo *a = list; a != NULL && ret == -1; a = a->ai_next, left--) {
        struct mono_time now = mono_now();
        struct mono_time share = deadline;

        if (left > 1)
            share = mono_after_ms(now, mono_diff_ms(deadline, now) / left);
        ret = connect_to(a->ai_addr, a->ai_addrlen, share, out, err);
    }
    freeaddrinfo(list);
done:
    free(host);
    free(port);
    return ret;
}

/* The path of "unix:path". */
static bool is_unix(struct slice *name)
{
    if (!slice_starts_with(*name, SLICE_LIT("unix:")))
        return false;
    *name = slice_sub(*name, 5, name->len);
    return true;
}

static struct slice without_inet(struct slice name)
{
    return slice_starts_with(name, SLICE_LIT("inet:")) ? slice_sub(name, 5, name.len) : name;
}

int map_stream_check(const char *server, const char *default_port, struct err *err)
{
    struct slice name = slice_str(server);
    char *host = NULL;
    char *port = NULL;

    if (is_unix(&name)) {
        if (name.len == 0 || name.len >= sizeof(((struct sockaddr_un *) NULL)->sun_path))
            return err_input(err, "\"%.*s\" is no path of a socket", SLICE_FMT(name));
        return 0;
    }
    if (split_host_port(without_inet(name), default_port, &host, &port, err) == -1)
        return -1;
    free(host);
    free(port);
    return 0;
}

int map_stream_connect(const char *server, const char *default_port, struct mono_time deadline,
                       struct map_stream **out, struct err *err)
{
    struct slice name = slice_str(server);
    struct map_stream *s;
    char *path;
    int fd = -1;

    if (is_unix(&name)) {
        path = slice_dup(name);
        fd = unix_connect(path, mono_poll_ms(deadline), err);
        free(path);
        if (fd == -1)
            return -1;
    } else if (connect_inet(without_inet(name), default_port, deadline, &fd, err) == -1) {
        return -1;
    }
    s = xcalloc(1, sizeof(*s));
    s->fd = fd;
    buf_init(&s->in, SIZE_MAX);
    *out = s;
    return 0;
}

void map_stream_close(struct map_stream *s)
{
    fd_close(&s->fd);
    buf_fini(&s->in);
    free(s);
}

static int send_all(const struct map_stream *s, struct slice data, struct mono_time deadline,
                    struct err *err)
{
    while (data.len > 0) {
        ssize_t n = send(s->fd, data.ptr, data.len, MSG_NOSIGNAL);

        if (n >= 0) {
            data = slice_sub(data, (size_t) n, data.len);
        } else if (errno == EAGAIN) {
            if (wait_or_fail(s->fd, POLLOUT, deadline, "sending", err) == -1)
                return -1;
        } else if (errno != EINTR) {
            return err_sys(err, "send");
        }
    }
    return 0;
}

/* More input, up to reply_max bytes in all. */
static int receive(struct map_stream *s, size_t reply_max, struct mono_time deadline,
                   struct err *err)
{
    size_t room = reply_max - s->in.len;

    if (room == 0)
        return err_input(err, "reply is longer than %zu bytes", reply_max);
    if (room > READ_BYTES)
        room = s->in.len > READ_BYTES && s->in.len < room ? s->in.len : READ_BYTES;
    for (;;) {
        char *into = buf_reserve(&s->in, room);
        ssize_t n = recv(s->fd, into, room, 0);

        if (n > 0) {
            buf_advance(&s->in, (size_t) n);
            return 0;
        }
        if (n == 0)
            return err_temporary(err, "server closed the connection%s",
                                 s->in.len > 0 ? " in the middle of a reply" : "");
        if (errno == EAGAIN) {
            if (wait_or_fail(s->fd, POLLIN, deadline, "waiting for the reply", err) == -1)
                return -1;
        } else if (errno != EINTR) {
            return err_sys(err, "receive");
        }
    }
}

/* Bytes that nobody asked for would be taken for the answer. */
static int check_quiet(const struct map_stream *s, struct err *err)
{
    char c;
    ssize_t n = recv(s->fd, &c, 1, MSG_PEEK);

    if (n == 0)
        return err_temporary(err, "server closed the connection");
    if (n > 0)
        return err_temporary(err, "server sent something unasked");
    return errno == EAGAIN || errno == EINTR ? 0 : err_sys(err, "receive");
}

int map_stream_exchange(struct map_stream *s, struct slice request, size_t reply_max,
                        map_reply_fn reply, void *arg, struct mono_time deadline, struct err *err)
{
    if (check_quiet(s, err) == -1 || send_all(s, request, deadline, err) == -1)
        return -1;
    for (;;) {
        ssize_t n;

        if (receive(s, reply_max, deadline, err) == -1)
            return -1;
        n = reply(buf_view(&s->in), arg, err);
        if (n == -1)
            return -1;
        if (n == 0)
            continue;
        if ((size_t) n < s->in.len)
            return err_input(err, "server sent more than one reply");
        buf_reset(&s->in);
        if (s->in.cap > (size_t) READ_BYTES * 4)
            buf_fini(&s->in);
        return 0;
    }
}

/* --- behind map_servers.h -------------------------------------------------------------------------- */

static int ops_connect(const char *server, struct mono_time deadline, void *arg, void **conn,
                       struct err *err)
{
    struct map_stream *s;

    if (map_stream_connect(server, arg, deadline, &s, err) == -1)
        return -1;
    *conn = s;
    return 0;
}

static void ops_close(void *conn)
{
    map_stream_close(conn);
}

const struct map_servers_ops map_stream_ops = {ops_connect, ops_close};

enum map_servers_answer map_stream_answer(struct map_stream *s, struct slice request,
                                          size_t reply_max, map_reply_fn reply, void *arg,
                                          struct mono_time deadline, struct err *err)
{
    struct err why = ERR_INIT;

    if (map_stream_exchange(s, request, reply_max, reply, arg, deadline, &why) == 0)
        return MAP_SERVERS_DONE;
    *err = why;
    return why.kind == ERR_BAD_INPUT ? MAP_SERVERS_WRONG : MAP_SERVERS_BROKEN;
}

struct question {
    struct slice request;
    size_t reply_max;
    map_reply_fn reply;
    void *arg;
};

static enum map_servers_answer ask(void *conn, struct mono_time deadline, void *arg,
                                   struct err *err)
{
    const struct question *q = arg;

    return map_stream_answer(conn, q->request, q->reply_max, q->reply, q->arg, deadline, err);
}

int map_stream_ask(struct map_servers *servers, struct slice request, size_t reply_max,
                   map_reply_fn reply, void *arg, struct err *err)
{
    struct question q = {request, reply_max, reply, arg};

    return map_servers_ask(servers, ask, &q, err);
}
