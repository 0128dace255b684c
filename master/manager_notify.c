/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manager_notify.c - tells a service manager how master is: sd_notify(3)'s protocol, one datagram a message to the socket that
 * NOTIFY_SOCKET names; and WATCHDOG_USEC's sign of life, from the loop, so that a loop that hangs sends none.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mtime.h"
#include "base/num.h"
#include "master/master_int.h"

struct manager_notify {
    int fd; /* -1: nobody wants to know */
    struct loop_timer *watchdog;
    int64_t watchdog_ms;
};

static int connect_to(const char *name)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    size_t len = strlen(name);
    int fd;

    /* '@': an abstract name, which begins with a NUL byte */
    if ((name[0] != '/' && name[0] != '@') || len < 2 || len >= sizeof(sa.sun_path)) {
        log_warning("NOTIFY_SOCKET is \"%s\": an absolute path, or @name, is wanted", name);
        return -1;
    }
    memcpy(sa.sun_path, name, len);
    if (name[0] == '@')
        sa.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd != -1 && connect(fd, (const struct sockaddr *) &sa,
                            (socklen_t) (offsetof(struct sockaddr_un, sun_path) + len)) == 0)
        return fd;
    log_warning("NOTIFY_SOCKET %s: errno %d", name, errno);
    fd_close(&fd);
    return -1;
}

static void on_watchdog(void *arg)
{
    struct manager_notify *n = arg;

    manager_notify_send(n, "WATCHDOG=1");
    loop_timer_set(n->watchdog, n->watchdog_ms);
}

/* Half of the time after which the service manager would think that we hang; 0: it does not watch this process. */
static int64_t watchdog_period_ms(void)
{
    /* NOLINTBEGIN(concurrency-mt-unsafe): no threads */
    const char *period = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    /* NOLINTEND(concurrency-mt-unsafe) */
    struct err err = ERR_INIT;
    int64_t us;
    int64_t whose;

    if (period == NULL)
        return 0;
    if (num_parse_i64(slice_str(period), 1, INT64_MAX, &us, &err) == -1 ||
        (pid != NULL && num_parse_i64(slice_str(pid), 1, INT32_MAX, &whose, &err) == -1)) {
        log_warning("WATCHDOG_USEC, WATCHDOG_PID: %s", err.text);
        return 0;
    }
    if (pid != NULL && whose != getpid())
        return 0;
    return us / 2000 > 0 ? us / 2000 : 1;
}

struct manager_notify *manager_notify_new(struct loop *loop)
{
    struct manager_notify *n = xcalloc(1, sizeof(*n));
    const char *name = getenv("NOTIFY_SOCKET"); /* NOLINT(concurrency-mt-unsafe): no threads */

    n->fd = name != NULL && name[0] != '\0' ? connect_to(name) : -1;
    if (n->fd == -1)
        return n;
    n->watchdog_ms = watchdog_period_ms();
    if (n->watchdog_ms > 0) {
        n->watchdog = loop_timer_new(loop, on_watchdog, n);
        on_watchdog(n);
    }
    return n;
}

void manager_notify_send(const struct manager_notify *n, const char *fmt, ...)
{
    struct buf text = BUF_INIT(8192);
    va_list ap;

    if (n->fd == -1)
        return;
    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    /* a service manager that does not listen is no reason to stop: it will see for itself */
    if (send(n->fd, text.ptr, text.len, MSG_NOSIGNAL | MSG_DONTWAIT) == -1)
        log_debug("service manager: errno %d", errno);
    buf_fini(&text);
}

void manager_notify_reloading(const struct manager_notify *n)
{
    manager_notify_send(n, "RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=Reading the configuration",
                        (long long) mono_now().us);
}

void manager_notify_ready(const struct manager_notify *n, size_t services, const char *trouble)
{
    struct slice first = slice_str(trouble);
    ptrdiff_t nl = slice_find(first, '\n');

    /* a newline would begin another variable */
    first = slice_sub(first, 0, nl == -1 ? first.len : (size_t) nl);
    if (first.len == 0)
        manager_notify_send(n, "READY=1\nSTATUS=%zu services", services);
    else
        manager_notify_send(n, "READY=1\nSTATUS=%zu services; reload refused: %.*s", services,
                            SLICE_FMT(first));
}
