/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink_session.c - one connection of smtp-sink: its lines go to the commands or are content; while it waits for
 * a delay, nothing is read and the lines that have come stay where they are.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "sink_int.h"

enum { LINE_MAX_BYTES = 64 * 1024, ARGS_MAX = 16 * 1024 * 1024 };

static bool on_stream(void *arg, enum stream_event event);

void sink_session_new(struct sink *sink, int fd, const char *peer)
{
    struct sink_session *s = xcalloc(1, sizeof(*s));

    s->sink = sink;
    s->open = true;
    s->protocol = sink->o->lmtp ? "LMTP" : "SMTP";
    s->heard = loop_now(sink->loop);
    (void) snprintf(s->peer, sizeof(s->peer), "%s", peer);
    buf_init(&s->held_args, LINE_MAX_BYTES);
    buf_init(&s->helo, LINE_MAX_BYTES);
    buf_init(&s->mail, LINE_MAX_BYTES);
    buf_init(&s->rcpts, ARGS_MAX);
    s->next = sink->first;
    if (s->next != NULL)
        s->next->link = &s->next;
    sink->first = s;
    s->link = &sink->first;
    stream_init(&s->stream, sink->loop, fd, false, on_stream, s);
    if (sink->o->tls_wrapped) {
        if (stream_start_tls(&s->stream, sink->o->tls_context, true, NULL) == -1)
            sink_session_close(s);
        return;
    }
    sink_command_run(s, SINK_CONNECT, SLICE_EMPTY);
    if (s->open)
        stream_flush(&s->stream);
}

void sink_sessions_bury(void *arg)
{
    struct sink *sink = arg;

    while (sink->closed != NULL) {
        struct sink_session *s = sink->closed;

        sink->closed = s->next;
        buf_fini(&s->held_args);
        free(s);
    }
}

void sink_session_close(struct sink_session *s)
{
    struct err err = ERR_INIT;

    if (!s->open)
        return;
    s->open = false;
    if (s->dump != NULL && sink_dump_close(&s->dump, false, &err) == -1)
        log_warning("%s", err.text);
    stream_fini(&s->stream);
    loop_timer_free(&s->timer);
    buf_fini(&s->helo);
    buf_fini(&s->mail);
    buf_fini(&s->rcpts);
    *s->link = s->next;
    if (s->next != NULL)
        s->next->link = s->link;
    if (s->sink->closed == NULL) /* callbacks above us still look at `open` */
        loop_defer(s->sink->loop, sink_sessions_bury, s->sink);
    s->next = s->sink->closed;
    s->sink->closed = s;
    sink_session_closed(s->sink);
}

static void content_ended(struct sink_session *s)
{
    s->in_content = false;
    sink_command_run(s, SINK_DOT, SLICE_EMPTY);
}

/* A dump gets the line without its dot of transparency; parts of a line that is too long come one by one. */
static void content_line(struct sink_session *s, struct slice line, bool whole)
{
    bool first = !s->mid_line;

    s->mid_line = !whole;
    if (whole && first && slice_eq_str(line, ".")) {
        content_ended(s);
        return;
    }
    if (first && line.len > 0 && line.ptr[0] == '.')
        line = slice_sub(line, 1, line.len);
    sink_dump_put(s->dump, line);
    if (whole)
        sink_dump_put(s->dump, SLICE_LIT("\n"));
}

/*
 * Content that nobody wants to see: passed over up to its end or what may become it. True: the end was found. Of dots there are
 * few, and only one that begins a line can be the end.
 */
static bool skip_content(struct sink_session *s)
{
    struct slice have = stream_view(&s->stream);
    size_t at = 0;

    while (at < have.len) {
        struct slice rest = slice_sub(have, at, have.len);
        ptrdiff_t found = slice_find(rest, '.');
        size_t dot = found == -1 ? have.len : at + (size_t) found;
        struct slice after;

        if (dot == have.len)
            break;
        at = dot + 1;
        if (dot > 0 ? have.ptr[dot - 1] != '\n' : s->mid_line)
            continue;
        after = slice_sub(have, at, have.len);
        if (slice_starts_with(after, SLICE_LIT("\n")) ||
            slice_starts_with(after, SLICE_LIT("\r\n"))) {
            stream_consume(&s->stream, at + (after.ptr[0] == '\r' ? 2 : 1));
            s->mid_line = false;
            return true;
        }
        if (after.len == 0 || slice_eq_str(after, "\r")) {
            s->mid_line = false;
            stream_consume(&s->stream, dot);
            return false;
        }
    }
    if (have.len > 0)
        s->mid_line = have.ptr[have.len - 1] != '\n';
    stream_consume(&s->stream, have.len);
    return false;
}

/* Content without a line's end: what there is, but a CR that may belong to the end. */
static void content_rest(struct sink_session *s)
{
    struct slice rest = stream_view(&s->stream);

    if (rest.len < LINE_MAX_BYTES)
        return;
    rest.len--;
    content_line(s, rest, false);
    stream_consume(&s->stream, rest.len);
}

static void take_lines(struct sink_session *s)
{
    struct slice line;

    while (s->open && s->wait == SINK_WAIT_NONE) {
        if (s->in_content && s->dump == NULL) {
            if (!skip_content(s))
                return;
            content_ended(s);
        } else if (!stream_line(&s->stream, &line)) {
            break;
        } else if (s->in_content) {
            content_line(s, line, true);
        } else {
            sink_command_line(s, line);
        }
    }
    if (!s->open || s->wait != SINK_WAIT_NONE)
        return;
    if (s->in_content)
        content_rest(s);
    else if (stream_view(&s->stream).len >= LINE_MAX_BYTES)
        sink_session_close(s); /* no command is that long */
}

static bool on_stream(void *arg, enum stream_event event)
{
    struct sink_session *s = arg;

    s->heard = loop_now(s->sink->loop);
    switch (event) {
    case STREAM_CONNECTED:
        break;
    case STREAM_TLS:
        if (s->sink->o->tls_wrapped)
            sink_command_run(s, SINK_CONNECT, SLICE_EMPTY);
        break;
    case STREAM_INPUT:
        take_lines(s);
        break;
    case STREAM_CLOSED:
        sink_session_close(s);
        break;
    }
    return s->open;
}

static void wait_over(void *arg)
{
    struct sink_session *s = arg;
    enum sink_wait wait = s->wait;

    s->wait = SINK_WAIT_NONE;
    s->heard = loop_now(s->sink->loop);
    stream_pause(&s->stream, false);
    if (wait == SINK_WAIT_COMMAND) {
        sink_command_obey(s, s->held, buf_view(&s->held_args));
    } else if (wait == SINK_WAIT_ABORT) {
        stream_printf(&s->stream, "550 5.3.0 Error: command failed\r\n");
        sink_session_close(s);
    }
    if (s->open)
        take_lines(s);
    if (s->open)
        stream_flush(&s->stream);
}

void sink_session_wait(struct sink_session *s, enum sink_wait wait, int64_t seconds)
{
    if (s->timer == NULL)
        s->timer = loop_timer_new(s->sink->loop, wait_over, s);
    s->wait = wait;
    stream_pause(&s->stream, true);
    loop_timer_set(s->timer, seconds * 1000);
}
