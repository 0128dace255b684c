/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source_session.c - one session of smtp-source: a connection, or one after the other.
 *
 * Each state is a reply that is waited for; what a good one leads to stands in its row of `states`. With
 * pipelining, MAIL to DATA have been sent at once, and the same states take their replies one by one.
 *
 *   CONNECT   the socket, or TLS of a wrapped one, is being set up
 *   BANNER    connected; the greeting comes
 *   HELLO     HELO, EHLO or LHLO was sent
 *   STARTTLS  was sent; after its handshake HELLO again
 *   MAIL RCPT DATA   were sent for the message at hand; RCPT: `rcpts_left` replies are still to come
 *   FINAL     the content was sent; `replies_left` replies (LMTP: one for each recipient taken)
 *   RSET      was sent after a message that was refused, on a connection that is kept
 *   QUIT      was sent
 *   PAUSE     nothing is waited for but the timer, or the session is over
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "source_int.h"

enum { RETRY_MS = 100, BACKLOG_MS = 5 }; /* between attempts to connect */

static void go_after_pause(void *arg);
static void next_message(struct source_session *s);

struct source_session *source_session_new(struct source *src, unsigned number)
{
    struct source_session *s = xcalloc(1, sizeof(*s));

    s->src = src;
    s->number = number;
    s->timer = loop_timer_new(src->loop, go_after_pause, s);
    return s;
}

static void hang_up(struct source_session *s)
{
    if (s->open && s->stream.ssl != NULL && s->src->o->tls_resume) {
        SSL_SESSION_free(s->resume);
        s->resume = SSL_get1_session(s->stream.ssl);
    }
    stream_fini(&s->stream);
    s->open = false;
    s->state = S_PAUSE;
}

void source_session_free(struct source_session **s)
{
    if (*s == NULL)
        return;
    stream_fini(&(*s)->stream);
    SSL_SESSION_free((*s)->resume);
    loop_timer_free(&(*s)->timer);
    free(*s);
    *s = NULL;
}

struct mono_time source_session_heard(const struct source_session *s)
{
    return s->state == S_PAUSE ? MONO_NEVER : s->heard;
}

/* --- messages ------------------------------------------------------------------------------------- */

/* False: all are taken. */
static bool claim(struct source_session *s)
{
    struct source *src = s->src;

    if (src->claimed == src->o->messages)
        return false;
    s->message = ++src->claimed;
    s->has_message = true;
    s->refused = false;
    s->rcpts_sent = s->rcpts_left = s->rcpts_taken = s->replies_left = 0;
    return true;
}

static void message_done(struct source_session *s)
{
    struct source *src = s->src;
    struct source_totals *t = src->totals;

    s->has_message = false;
    s->sent_one = true;
    if (s->refused) {
        t->refused++;
    } else {
        struct mono_time now = mono_now();

        t->accepted++;
        t->recipients += s->rcpts_taken;
        histogram_add(&t->message, mono_diff_us(now, s->began));
        histogram_add(&t->final, mono_diff_us(now, s->stream.sent));
    }
    if (src->o->progress != NULL)
        src->o->progress(src->o->progress_arg);
}

/* --- what follows a good reply ---------------------------------------------------------------------- */

static void after_banner(struct source_session *s)
{
    if (s->src->o->old)
        source_say_message(s);
    else
        source_say_hello(s);
}

static void after_hello(struct source_session *s)
{
    if (s->src->o->tls != SOURCE_STARTTLS || s->secure) {
        source_say_message(s);
    } else if (!s->can_starttls) {
        source_fail(s->src, "the server does not announce STARTTLS");
    } else {
        source_say(s, "STARTTLS");
        s->state = S_STARTTLS;
    }
}

static void after_starttls(struct source_session *s)
{
    if (stream_start_tls(&s->stream, s->src->o->tls_context, false, s->resume) == -1)
        source_fail(s->src, "TLS cannot be set up");
    s->state = S_CONNECT;
}

static void after_mail(struct source_session *s)
{
    s->state = S_RCPT;
    if (!s->sent_ahead)
        source_say_rcpt(s);
}

static void rcpt_answered(struct source_session *s)
{
    s->rcpts_left--;
    if (s->rcpts_left > 0) {
        if (!s->sent_ahead)
            source_say_rcpt(s);
        return;
    }
    if (!s->sent_ahead && s->rcpts_taken == 0) { /* all were refused */
        s->refused = true;
        message_done(s);
        next_message(s);
        return;
    }
    if (!s->sent_ahead)
        source_say(s, "DATA");
    s->state = S_DATA;
}

static void after_rcpt(struct source_session *s)
{
    s->rcpts_taken++;
    rcpt_answered(s);
}

static void after_data(struct source_session *s)
{
    source_say_content(s);
    s->replies_left = s->src->o->lmtp && s->rcpts_taken > 0 ? s->rcpts_taken : 1;
    s->state = S_FINAL;
}

static void after_final(struct source_session *s)
{
    if (--s->replies_left > 0)
        return;
    message_done(s);
    next_message(s);
}

static void after_rset(struct source_session *s)
{
    source_say_message(s);
}

static void after_quit(struct source_session *s)
{
    hang_up(s);
    next_message(s);
}

/* clang-format off */
static const struct {
    const char *what;
    char good; /* first digit of the reply that is hoped for */
    void (*go_on)(struct source_session *s);
} states[] = {
    [S_PAUSE] = {"nothing", '2', NULL},
    [S_CONNECT] = {"connecting", '2', NULL},
    [S_BANNER] = {"the greeting", '2', after_banner},
    [S_HELLO] = {"HELO", '2', after_hello},
    [S_STARTTLS] = {"STARTTLS", '2', after_starttls},
    [S_MAIL] = {"MAIL FROM", '2', after_mail},
    [S_RCPT] = {"RCPT TO", '2', after_rcpt},
    [S_DATA] = {"DATA", '3', after_data},
    [S_FINAL] = {"the end of the message", '2', after_final},
    [S_RSET] = {"RSET", '2', after_rset},
    [S_QUIT] = {"QUIT", '2', after_quit},
};
/* clang-format on */

/* --- between messages ---------------------------------------------------------------------------------- */

static bool on_stream(void *arg, enum stream_event event);
static void go(void *arg);

static int64_t pause_ms(const struct source_session *s)
{
    const struct source_options *o = s->src->o;

    if (!s->sent_one)
        return 0;
    if (o->random_wait_s > 0)
        return (int64_t) arc4random_uniform((uint32_t) o->random_wait_s + 1) * 1000;
    return o->wait_s * 1000;
}

/* Another address, the same again, or the end of the run. */
static void connect_failed(struct source_session *s, int error)
{
    struct source *src = s->src;

    if (s->address + 1 < src->o->to.count) {
        s->address++;
        loop_defer(src->loop, go, s);
    } else if (error ==
               EAGAIN) { /* a UNIX-domain socket with a full backlog: as TCP would, waits */
        loop_timer_set(s->timer, BACKLOG_MS);
    } else if (error == ECONNREFUSED && ++s->connect_tries < src->o->connect_tries) {
        s->address = 0;
        loop_timer_set(s->timer, RETRY_MS);
    } else {
        source_fail(src, "connect: %s", err_errno_text(error, (char[128]){0}, 128));
    }
}

static void connect_now(struct source_session *s)
{
    const struct source_options *o = s->src->o;
    int fd = endpoint_connect(&o->to, s->address, o->window);

    if (fd == -1) { /* UNIX-domain sockets tell at once */
        connect_failed(s, errno);
        return;
    }
    s->src->totals->connections++;
    s->open = true;
    s->secure = false;
    s->needs_reset = false;
    s->state = S_CONNECT;
    stream_init(&s->stream, s->src->loop, fd, true, on_stream, s);
}

/* The pause is over, or there was none: the message that was taken on is sent. */
static void go(void *arg)
{
    struct source_session *s = arg;

    s->began = s->heard = mono_now();
    if (!s->open) {
        connect_now(s);
    } else if (s->needs_reset) {
        s->needs_reset = false;
        source_say(s, "RSET");
        s->state = S_RSET;
    } else {
        source_say_message(s);
    }
}

static void go_after_pause(void *arg)
{
    struct source_session *s = arg;

    go(s);
    if (s->open)
        stream_flush(&s->stream);
}

static void next_message(struct source_session *s)
{
    struct source *src = s->src;
    bool refused = s->refused;

    if (s->open && (!src->o->keep_connection || !claim(s))) {
        source_say(s, "QUIT");
        s->state = S_QUIT;
        return;
    }
    if (!s->open && !claim(s)) {
        if (--src->active == 0)
            loop_stop(src->loop);
        return;
    }
    s->needs_reset = s->open && refused;
    s->state = S_PAUSE;
    if (pause_ms(s) > 0)
        loop_timer_set(s->timer, pause_ms(s));
    else if (s->open)
        go(s);
    else
        loop_defer(src->loop, go, s); /* not while the old stream's callback runs */
}

void source_session_start(struct source_session *s)
{
    next_message(s);
}

/* The connection is of no use any more. A message at hand counts as refused. */
static void give_up_connection(struct source_session *s)
{
    hang_up(s);
    if (s->has_message) {
        s->refused = true;
        message_done(s);
    }
    next_message(s);
}

/* --- what follows a bad reply --------------------------------------------------------------------------- */

static void note_refusal(struct source_session *s, struct slice reply)
{
    struct source_totals *t = s->src->totals;

    if (t->first_refusal[0] == '\0')
        (void) snprintf(t->first_refusal, sizeof(t->first_refusal), "%.*s", SLICE_FMT(reply));
}

static void refused(struct source_session *s, struct slice reply)
{
    if (!s->src->o->carry_on) {
        source_fail(s->src, "reply to %s: %.*s", states[s->state].what, SLICE_FMT(reply));
        return;
    }
    note_refusal(s, reply);
    switch (s->state) {
    case S_PAUSE:
    case S_CONNECT:
    case S_BANNER:
    case S_HELLO:
    case S_STARTTLS:
    case S_RSET:
        give_up_connection(s);
        return;
    case S_MAIL:
        s->refused = true;
        if (s->sent_ahead) {
            after_mail(s);
            return;
        }
        break;
    case S_RCPT:
        s->src->totals->refused_recipients++;
        rcpt_answered(s);
        return;
    case S_DATA:
        s->refused = true;
        break;
    case S_FINAL:
        s->rcpts_taken--;
        s->refused = !s->src->o->lmtp || s->rcpts_taken == 0;
        after_final(s);
        return;
    case S_QUIT:
        after_quit(s);
        return;
    }
    message_done(s);
    next_message(s);
}

/* --- what happens on the connection ------------------------------------------------------------------------ */

static void note_announced(struct source_session *s, struct slice word)
{
    if (slice_caseeq_str(word, "PIPELINING"))
        s->can_pipeline = true;
    else if (slice_caseeq_str(word, "STARTTLS"))
        s->can_starttls = true;
}

static void on_line(struct source_session *s, struct slice line)
{
    if (s->src->o->verbose)
        (void) fprintf(stderr, "%u: <<< %.*s\n", s->number, SLICE_FMT(line));
    if (line.len < 3 || !ascii_is_digit(line.ptr[0]) || s->state == S_PAUSE ||
        s->state == S_CONNECT || (s->state == S_FINAL && stream_unsent(&s->stream))) {
        /* not SMTP, unasked for, or the message's fate before its end was sent */
        if (s->src->o->carry_on) {
            note_refusal(s, line);
            give_up_connection(s);
        } else {
            source_fail(s->src, "unexpected from the server: %.*s", SLICE_FMT(line));
        }
        return;
    }
    if (s->state == S_HELLO && line.len > 4)
        note_announced(s, slice_sub(line, 4, line.len));
    if (line.len > 3 && line.ptr[3] == '-')
        return;
    if (line.ptr[0] == states[s->state].good)
        states[s->state].go_on(s);
    else
        refused(s, line);
}

static void on_closed(struct source_session *s)
{
    struct source *src = s->src;
    char why[256];
    int error = s->stream.error;

    if (s->state == S_QUIT) {
        after_quit(s);
        return;
    }
    if (s->state == S_PAUSE) { /* closed on us while we paused: connects again when that is over */
        hang_up(s);
        return;
    }
    if (s->state == S_CONNECT && s->stream.ssl == NULL) {
        hang_up(s);
        connect_failed(s, error);
    } else if (!src->o->carry_on) {
        source_fail(src, "connection lost while waiting for %s: %s",
                    s->state == S_CONNECT ? "TLS" : states[s->state].what,
                    stream_error(&s->stream, why, sizeof(why)));
    } else {
        note_refusal(s, SLICE_LIT("connection lost"));
        give_up_connection(s);
    }
}

static void on_tls(struct source_session *s)
{
    s->secure = true;
    if (SSL_session_reused(s->stream.ssl) == 1)
        s->src->totals->resumed++;
    if (s->src->o->tls == SOURCE_WRAPPED)
        s->state = S_BANNER;
    else
        source_say_hello(s);
}

static bool on_stream(void *arg, enum stream_event event)
{
    struct source_session *s = arg;
    struct slice line;

    s->heard = loop_now(s->src->loop);
    switch (event) {
    case STREAM_CONNECTED:
        s->connect_tries = 0;
        if (s->src->o->tls == SOURCE_WRAPPED)
            after_starttls(s);
        else
            s->state = S_BANNER;
        break;
    case STREAM_TLS:
        on_tls(s);
        break;
    case STREAM_INPUT:
        while (s->open && !s->src->failed && stream_line(&s->stream, &line))
            on_line(s, line);
        break;
    case STREAM_CLOSED:
        on_closed(s);
        return false;
    }
    if (s->src->failed) /* the run is over: nothing is sent any more */
        hang_up(s);
    return s->open;
}
