/* SPDX-License-Identifier: Apache-2.0 */
/* sink.c - see sink.h: who is let in, what is counted, when it ends. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "endpoint.h"
#include "sink_int.h"

enum {
    ACCEPTS_A_TURN = 64,
    WATCH_MS = 1000,
    COUNTERS_MS = 10, /* a line of counters for each message would cost more than the message */
    FULL_MS = 100     /* descriptors are out: tries again */
};

static void show_counters(void *arg)
{
    struct sink *sink = arg;

    sink->counters_due = false;
    (void) printf("sess=%lld quit=%lld mesg=%lld rcpt=%lld last=%.6f\r", (long long) sink->sessions,
                  (long long) sink->quits, (long long) sink->messages, (long long) sink->recipients,
                  (double) sink->last.us / 1e6);
    (void) fflush(stdout);
}

void sink_counted(struct sink *sink)
{
    const struct sink_options *o = sink->o;

    if ((o->quit_messages > 0 && sink->messages >= o->quit_messages) ||
        (o->quit_sessions > 0 && sink->sessions >= o->quit_sessions))
        loop_stop(sink->loop);
    if (o->counters && !sink->counters_due) {
        sink->counters_due = true;
        loop_timer_set(sink->counters, COUNTERS_MS);
    }
}

static void listen_again(struct sink *sink)
{
    sink->full = sink->open >= sink->o->max_sessions;
    loop_io_set(sink->listener, sink->full ? 0 : LOOP_READ);
}

void sink_session_closed(struct sink *sink)
{
    sink->open--;
    sink->sessions++;
    if (sink->full)
        listen_again(sink);
    sink_counted(sink);
}

static void on_client(void *arg, unsigned events)
{
    struct sink *sink = arg;

    (void) events;
    for (int n = 0; n < ACCEPTS_A_TURN && sink->open < sink->o->max_sessions; n++) {
        struct sockaddr_storage addr;
        socklen_t len = sizeof(addr);
        char peer[64];
        int fd =
            accept4(sink->listen_fd, (struct sockaddr *) &addr, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd == -1 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
            return;
        if (fd == -1) {
            log_warning("accept: %s", err_errno_text(errno, (char[128]){0}, 128));
            loop_io_set(sink->listener, 0); /* until a session ends or the watchdog looks */
            sink->full = true;
            return;
        }
        endpoint_peer(&addr, peer, sizeof(peer));
        sink->open++;
        sink_session_new(sink, fd, peer);
    }
    listen_again(sink);
}

static void on_signal(void *arg, unsigned events)
{
    struct sink *sink = arg;

    (void) events;
    loop_stop(sink->loop);
}

static void watch(void *arg)
{
    struct sink *sink = arg;
    struct mono_time now = loop_now(sink->loop);
    struct sink_session *next;

    for (struct sink_session *s = sink->first; s != NULL; s = next) {
        next = s->next;
        if (s->wait == SINK_WAIT_NONE && mono_diff_ms(now, s->heard) > sink->o->timeout_s * 1000)
            sink_session_close(s);
    }
    if (sink->full)
        listen_again(sink);
    loop_timer_set(sink->watchdog, WATCH_MS);
}

int sink_run(const struct sink_options *o, int listen_fd, struct err *err)
{
    struct sink sink = {.o = o, .listen_fd = listen_fd};
    sigset_t set;
    int ret = -1;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    if (sigprocmask(SIG_BLOCK, &set, NULL) == -1 ||
        (sink.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) == -1) {
        err_sys(err, "signals");
        goto done;
    }
    sink.loop = loop_new();
    sink.listener = loop_io_new(sink.loop, listen_fd, LOOP_READ, on_client, &sink);
    sink.signals = loop_io_new(sink.loop, sink.signal_fd, LOOP_READ, on_signal, &sink);
    sink.watchdog = loop_timer_new(sink.loop, watch, &sink);
    sink.counters = loop_timer_new(sink.loop, show_counters, &sink);
    loop_timer_set(sink.watchdog, WATCH_MS);
    loop_run(sink.loop);

    while (sink.first != NULL)
        sink_session_close(sink.first);
    sink_sessions_bury(&sink);
    if (o->counters) {
        show_counters(&sink);
        (void) putchar('\n');
    }
    loop_io_free(&sink.listener);
    loop_io_free(&sink.signals);
    loop_timer_free(&sink.watchdog);
    loop_timer_free(&sink.counters);
    loop_free(&sink.loop);
    fd_close(&sink.signal_fd);
    ret = 0;
done:
    fd_close(&listen_fd);
    return ret;
}
