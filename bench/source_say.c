/* SPDX-License-Identifier: Apache-2.0 */
/* source_say.c - what a session of smtp-source says: commands, recipients, content. */
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "source_int.h"

void source_say(struct source_session *s, const char *fmt, ...)
{
    size_t at = s->stream.out.len;
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&s->stream.out, fmt, ap);
    va_end(ap);
    if (s->src->o->verbose)
        (void) fprintf(stderr, "%u: %.*s\n", s->number, (int) (s->stream.out.len - at),
                       s->stream.out.ptr + at);
    stream_put(&s->stream, SLICE_LIT("\r\n"));
}

void source_say_rcpt(struct source_session *s)
{
    const struct source_options *o = s->src->o;
    int64_t number = o->number_all       ? ++s->src->recipient
                     : o->recipients > 1 ? s->rcpts_sent + 1
                                         : 0;
    struct slice to = slice_str(o->recipient);
    ptrdiff_t at = o->domains > 0 ? slice_rfind(to, '@') : -1;
    char prefix[24] = "";
    char domain[24] = "";

    if (number > 0)
        (void) snprintf(prefix, sizeof(prefix), "%lld", (long long) number);
    if (o->domains > 0)
        (void) snprintf(domain, sizeof(domain), "d%lld.",
                        (long long) (s->src->o->number_all ? number : s->rcpts_sent) % o->domains);
    s->rcpts_sent++;
    if (at == -1)
        source_say(s, "RCPT TO:<%s%s>", prefix, o->recipient);
    else
        source_say(s, "RCPT TO:<%s%.*s%s%s>", prefix, (int) at + 1, to.ptr, domain,
                   to.ptr + at + 1);
}

void source_say_message(struct source_session *s)
{
    const struct source_options *o = s->src->o;

    source_say(s, "MAIL FROM:<%s>", o->sender);
    s->state = S_MAIL;
    s->rcpts_left = o->recipients;
    s->sent_ahead = o->pipelining && s->can_pipeline;
    if (!s->sent_ahead)
        return;
    for (int64_t i = 0; i < o->recipients; i++)
        source_say_rcpt(s);
    source_say(s, "DATA");
}

void source_say_content(struct source_session *s)
{
    const struct source *src = s->src;
    const struct source_options *o = src->o;

    if (!o->old && !o->body_is_message) {
        stream_printf(&s->stream,
                      "From: <%s>\r\nTo: <%s>\r\nDate: %s\r\nMessage-Id: <%04x.%04x.%04llx@%s>\r\n",
                      o->sender, o->recipient, src->date, (unsigned) getpid(), s->number,
                      (unsigned long long) s->message, o->hostname);
        if (o->subject != NULL)
            stream_printf(&s->stream, "Subject: %s\r\n", o->subject);
        stream_put(&s->stream, SLICE_LIT("\r\n"));
    }
    stream_put_borrowed(&s->stream, buf_view(&src->content), src->content_fd);
    if (o->verbose)
        (void) fprintf(stderr, "%u: .\n", s->number);
}

void source_say_hello(struct source_session *s)
{
    const struct source_options *o = s->src->o;

    s->can_pipeline = s->can_starttls = false;
    s->state = S_HELLO;
    if (o->lmtp)
        source_say(s, "LHLO %s", o->hostname);
    else
        source_say(s, "%s %s", o->ehlo ? "EHLO" : "HELO", o->hostname);
}
