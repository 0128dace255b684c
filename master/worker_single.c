/* SPDX-License-Identifier: Apache-2.0 */
/* worker_single.c - one client at a time, blocking: for daemons that change their user or fork. */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "master/worker_int.h"

#define FIRST_REQUEST_MS 1000

/* Waits for any of fds, which has room for one more, or for master. 1 + index of a ready one, 0 time-out, -1 drain. */
static int wait_any(struct worker *w, struct pollfd *fds, int n, int timeout_ms)
{
    struct mono_time deadline = timeout_ms < 0 ? MONO_NEVER : mono_after_ms(mono_now(), timeout_ms);

    fds[n] = (struct pollfd){.fd = WORKER_FD_STATUS, .events = POLLIN};
    for (;;) {
        int wait_ms = mono_poll_ms(deadline);
        int r;

        if (map_env_tend(w->maps))
            atomic_store(&w->draining, true);
        if (atomic_load(&w->draining))
            return -1;
        if (map_env_wants_tending(w->maps) && (wait_ms < 0 || wait_ms > TEND_MS))
            wait_ms = TEND_MS;
        r = poll(fds, (nfds_t) n + 1, wait_ms);
        if (r == 0 && mono_poll_ms(deadline) != 0)
            continue;
        if (r == 0)
            return 0;
        if (r == -1) {
            if (errno != EINTR)
                panic("poll: errno %d", errno);
            continue;
        }
        if (fds[n].revents != 0) {
            worker_hear(w);
            continue; /* looks at the clients after what master said is in force */
        }
        for (int i = 0; i < n; i++)
            if (fds[i].revents != 0)
                return i + 1;
    }
}

int worker_wait_readable(struct worker *w, int fd, int timeout_ms)
{
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}};
    int first = !w->client_waited;
    int r;

    w->client_waited = true;
    /* the watchdog is for work, not for a persistent connection on which nothing is asked */
    (void) alarm(0);
    r = wait_any(w, fds, 1, timeout_ms);
    /* a drain ends what is idle; a request that is there, or about to come from a client that was just taken, is served */
    if (r == -1 && !atomic_load(&w->stopping) && poll(fds, 1, first ? FIRST_REQUEST_MS : 0) == 1)
        r = 1;
    (void) alarm((unsigned) w->p.daemon_timeout_s);
    return r > 0 ? 1 : r;
}

static void serve(struct worker *w, struct worker_client *client)
{
    lock_take(&w->lock);
    w->sessions = 1;
    worker_tell_locked(w);
    lock_release(&w->lock);
    /* SIGALRM ends a process that is stuck; master logs the signal */
    (void) alarm((unsigned) w->p.daemon_timeout_s);
    w->client_waited = false;
    w->service->serve(w, client);
    (void) alarm(0);
    fd_close(&client->fd);
    lock_take(&w->lock);
    w->sessions = 0;
    w->served++;
    if (!atomic_load(&w->draining) && w->served < (uint64_t) w->p.max_use)
        worker_tell_locked(w);
    lock_release(&w->lock);
}

int worker_run_single(struct worker *w)
{
    struct pollfd fds[WORKER_LISTENERS_MAX + 1];

    w->capacity = 1;
    worker_tell(w);
    while (!atomic_load(&w->draining) && w->served < (uint64_t) w->p.max_use) {
        struct worker_client client;
        int i;

        for (i = 0; i < w->nlisten; i++)
            fds[i] = (struct pollfd){.fd = WORKER_FD_LISTEN + i, .events = POLLIN};
        i = wait_any(w, fds, w->nlisten, (int) (w->p.max_idle_s * 1000));
        if (i <= 0)
            break;
        i = worker_accept(w, i - 1, &client);
        if (i == 1)
            serve(w, &client);
        else if (i == -1)
            (void) poll(NULL, 0, 50); /* out of descriptors or memory: not in a tight loop */
    }
    atomic_store(&w->draining, true);
    worker_tell(w);
    return 0;
}
