/* SPDX-License-Identifier: Apache-2.0 */
/* worker_single.c - one client at a time, blocking: for daemons that change their user or fork. */
#include "master/worker_int.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

/* Waits for any of fds, or for master; 1 + index of the ready one, 0 time-out, -1 drain. */
static int wait_any(struct worker *w, struct pollfd *fds, int n, int timeout_ms)
{
    struct mono_time deadline = timeout_ms < 0 ? MONO_NEVER : mono_after_ms(mono_now(), timeout_ms);

    fds[n] = (struct pollfd){.fd = chan_fd(w->status), .events = POLLIN};
    for (;;) {
        int r;

        if (atomic_load(&w->draining))
            return -1;
        r = poll(fds, (nfds_t) n + 1, mono_poll_ms(deadline));
        if (r == 0)
            return 0;
        if (r == -1 && errno != EINTR)
            panic("poll: errno %d", errno);
        if (r == -1)
            continue;
        if (fds[n].revents != 0 && (!worker_hear(w) || atomic_load(&w->draining)))
            return -1;
        for (int i = 0; i < n; i++)
            if (fds[i].revents != 0)
                return i + 1;
    }
}

int worker_wait_readable(struct worker *w, int fd, int timeout_ms)
{
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}};
    int r = wait_any(w, fds, 1, timeout_ms);

    return r > 0 ? 1 : r;
}

int worker_run_single(struct worker *w)
{
    struct pollfd *fds = xcalloc((size_t) w->nlisten + 1, sizeof(*fds));
    uint64_t served = 0;

    worker_tell(w, 1, true);
    while (served < (uint64_t) w->p.max_use) {
        struct worker_client client;
        int i;

        for (i = 0; i < w->nlisten; i++)
            fds[i] = (struct pollfd){.fd = WORKER_FD_LISTEN + i, .events = POLLIN};
        i = wait_any(w, fds, w->nlisten, (int) (w->p.max_idle_s * 1000));
        if (i <= 0)
            break;
        if (worker_accept(w, WORKER_FD_LISTEN + i - 1, &client) != 1)
            continue;
        atomic_store(&w->sessions, 1);
        worker_tell(w, 0, true);
        alarm((unsigned) w->p.daemon_timeout_s); /* SIGALRM ends a process that is stuck */
        w->service->serve(w, &client);
        alarm(0);
        fd_close(&client.fd);
        atomic_store(&w->sessions, 0);
        served++;
        if (atomic_load(&w->draining))
            break;
        worker_tell(w, 1, true);
    }
    worker_tell(w, 0, true);
    free(fds);
    return 0;
}
