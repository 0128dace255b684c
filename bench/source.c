/* SPDX-License-Identifier: Apache-2.0 */
/* source.c - see source.h: the run as a whole. What one session says is in source_session.c. */
#include "source.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/file.h"
#include "source_int.h"

enum {
    REPLY_TIMEOUT_MS = 300 * 1000,
    WATCH_MS = 1000,
    FILE_BYTES = 64 * 1024, /* of content, from which on sendfile(2) is cheaper than a copy */
    SESSIONS_A_TURN = 50    /* begun before the loop looks at those that are there */
};

struct run {
    struct source src;
    struct source_session **sessions;
    int64_t begun;
    struct loop_timer *watchdog;
};

void source_fail(struct source *src, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;

    if (src->failed)
        return; /* the first cause counts */
    va_start(ap, fmt);
    (void) vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    err_temporary(src->err, "%s", text);
    src->failed = true;
    loop_stop(src->loop);
}

static void begin_sessions(void *arg)
{
    struct run *r = arg;

    for (int n = 0; n < SESSIONS_A_TURN && r->begun < r->src.o->sessions; n++)
        source_session_start(r->sessions[r->begun++]);
    if (r->begun < r->src.o->sessions)
        loop_defer(r->src.loop, begin_sessions, r);
}

/* One look a second at all sessions is cheaper than a timer that each event moves. */
static void watch(void *arg)
{
    struct run *r = arg;
    struct mono_time now = loop_now(r->src.loop);

    for (int64_t i = 0; i < r->src.o->sessions; i++)
        if (mono_diff_ms(now, source_session_heard(r->sessions[i])) > REPLY_TIMEOUT_MS)
            source_fail(&r->src, "no reply for %d seconds", REPLY_TIMEOUT_MS / 1000);
    loop_timer_set(r->watchdog, WATCH_MS);
}

/* Long content as a file in memory; without one it is sent from the buffer. */
static int content_file(struct slice content)
{
    int fd = content.len < FILE_BYTES ? -1 : memfd_create("smtp-source", MFD_CLOEXEC);

    if (fd != -1 && fd_write_all(fd, content.ptr, content.len) == -1)
        fd_close(&fd);
    return fd;
}

int source_run(const struct source_options *o, struct source_totals *totals, struct err *err)
{
    struct run r = {.src = {.o = o, .totals = totals, .err = err}};
    struct buf date = BUF_INIT(sizeof(r.src.date) - 1);

    wall_rfc5322(wall_now(), &date);
    (void) snprintf(r.src.date, sizeof(r.src.date), "%s", buf_cstr(&date));
    buf_fini(&date);
    buf_init(&r.src.content, SIZE_MAX);
    buf_put_slice(&r.src.content, o->body);
    buf_puts(&r.src.content, ".\r\n");
    r.src.content_fd = content_file(buf_view(&r.src.content));
    r.src.loop = loop_new();
    r.src.active = o->sessions;
    r.sessions = xcalloc((size_t) o->sessions, sizeof(struct source_session *));
    for (int64_t i = 0; i < o->sessions; i++)
        r.sessions[i] = source_session_new(&r.src, (unsigned) i);
    r.watchdog = loop_timer_new(r.src.loop, watch, &r);
    loop_timer_set(r.watchdog, WATCH_MS);
    loop_defer(r.src.loop, begin_sessions, &r);
    loop_run(r.src.loop);

    for (int64_t i = 0; i < o->sessions; i++)
        source_session_free(&r.sessions[i]);
    free(r.sessions);
    loop_timer_free(&r.watchdog);
    loop_free(&r.src.loop);
    buf_fini(&r.src.content);
    fd_close(&r.src.content_fd);
    return r.src.failed ? -1 : 0;
}
