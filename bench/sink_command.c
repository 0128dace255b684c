/* SPDX-License-Identifier: Apache-2.0 */
/* sink_command.c - the commands that smtp-sink understands, and the rules that make some of them fail. */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "sink_int.h"

static void say(struct sink_session *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say(struct sink_session *s, const char *fmt, ...)
{
    size_t at = s->stream.out.len;
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&s->stream.out, fmt, ap);
    va_end(ap);
    if (s->sink->o->verbose)
        (void) fprintf(stderr, "%s: >>> %.*s\n", s->peer, (int) (s->stream.out.len - at),
                       s->stream.out.ptr + at);
    stream_put(&s->stream, SLICE_LIT("\r\n"));
}

static void reset(struct sink_session *s)
{
    s->has_mail = false;
    s->rcpt_count = 0;
    buf_reset(&s->mail);
    buf_reset(&s->rcpts);
}

/* --- handlers ----------------------------------------------------------------------------------------- */

static void do_connect(struct sink_session *s, struct slice args)
{
    const struct sink_options *o = s->sink->o;

    (void) args;
    if (o->pix)
        say(s, "220 ********");
    else
        say(s, "220 %s%s", o->hostname, o->no_esmtp || o->lmtp ? "" : " ESMTP");
}

static void do_helo(struct sink_session *s, struct slice args)
{
    reset(s);
    buf_reset(&s->helo);
    buf_put_slice(&s->helo, args);
    s->protocol = "SMTP";
    say(s, "250 %s", s->sink->o->hostname);
}

static void do_ehlo(struct sink_session *s, struct slice args)
{
    const struct sink_options *o = s->sink->o;
    const struct {
        bool announced;
        const char *text;
    } words[] = {
        {!o->no_pipelining, "PIPELINING"},
        {!o->no_8bitmime, "8BITMIME"},
        {o->tls_context != NULL && s->stream.ssl == NULL, "STARTTLS"},
        {!o->no_auth, "AUTH PLAIN LOGIN"},
        {!o->no_xclient, "XCLIENT NAME HELO"},
        {!o->no_xforward, "XFORWARD NAME ADDR PROTO HELO"},
        {!o->no_enhanced, "ENHANCEDSTATUSCODES"},
        {!o->no_dsn, "DSN"},
    };
    const char *last = o->hostname;

    reset(s);
    buf_reset(&s->helo);
    buf_put_slice(&s->helo, args);
    s->protocol = o->lmtp ? "LMTP" : "ESMTP";
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (words[i].announced) {
            say(s, "250-%s", last);
            last = words[i].text;
        }
    say(s, "250 %s", last);
}

static void do_starttls(struct sink_session *s, struct slice args)
{
    (void) args;
    if (s->sink->o->tls_context == NULL || s->stream.ssl != NULL) {
        say(s, "500 5.5.1 Error: unknown command");
        return;
    }
    say(s, "220 2.0.0 Ready to start TLS");
    reset(s);
    buf_reset(&s->helo);
    if (stream_start_tls(&s->stream, s->sink->o->tls_context, true, NULL) == -1)
        sink_session_close(s);
}

/* AUTH PLAIN [initial], AUTH LOGIN [initial]: everybody may. */
static void do_auth(struct sink_session *s, struct slice args)
{
    struct slice mechanism;

    if (!slice_token(&args, " \t", &mechanism) ||
        (!slice_caseeq_str(mechanism, "PLAIN") && !slice_caseeq_str(mechanism, "LOGIN"))) {
        say(s, "504 5.5.4 Error: mechanism not supported");
        return;
    }
    s->auth_lines = slice_caseeq_str(mechanism, "LOGIN") ? 2 : 1;
    if (slice_trim(args, NULL).len > 0)
        s->auth_lines--;
    if (s->auth_lines > 0)
        say(s, "334 ");
    else
        say(s, "235 2.7.0 Ok");
}

static void auth_line(struct sink_session *s)
{
    if (--s->auth_lines > 0)
        say(s, "334 ");
    else
        say(s, "235 2.7.0 Ok");
}

/* The rest of "FROM:<address> parameters". */
static bool take_path(struct slice args, const char *before, struct slice *path)
{
    struct slice word = slice_str(before);

    if (!slice_case_starts_with(args, word))
        return false;
    *path = slice_trim(slice_sub(args, word.len, args.len), NULL);
    return true;
}

static void do_mail(struct sink_session *s, struct slice args)
{
    struct slice path;

    if (s->has_mail) {
        say(s, "503 5.5.1 Error: nested MAIL command");
    } else if (!take_path(args, "FROM:", &path)) {
        say(s, "501 5.5.4 Error: want MAIL FROM:<address>");
    } else {
        s->has_mail = true;
        buf_put_slice(&s->mail, path);
        say(s, "250 2.1.0 Ok");
    }
}

static void do_rcpt(struct sink_session *s, struct slice args)
{
    struct slice path;

    if (!s->has_mail) {
        say(s, "503 5.5.1 Error: need MAIL command");
    } else if (!take_path(args, "TO:", &path)) {
        say(s, "501 5.5.4 Error: want RCPT TO:<address>");
    } else {
        s->rcpt_count++;
        if (s->sink->o->dump_one != NULL || s->sink->o->dump_all != NULL) {
            buf_put_slice(&s->rcpts, path);
            buf_putc(&s->rcpts, '\n');
        }
        say(s, "250 2.1.5 Ok");
    }
}

static bool begin_dump(struct sink_session *s)
{
    const struct sink_envelope envelope = {.client = s->peer,
                                           .protocol = s->protocol,
                                           .helo = buf_view(&s->helo),
                                           .mail = buf_view(&s->mail),
                                           .rcpts = buf_view(&s->rcpts)};
    struct err err = ERR_INIT;

    if (sink_dump_open(s->sink->o, &envelope, &s->dump, &err) == 0)
        return true;
    log_warning("%s", err.text);
    return false;
}

static void do_data(struct sink_session *s, struct slice args)
{
    const struct sink_options *o = s->sink->o;

    (void) args;
    if (s->rcpt_count == 0) {
        say(s, "503 5.5.1 Error: need RCPT command");
        return;
    }
    if ((o->dump_one != NULL || o->dump_all != NULL) && !begin_dump(s)) {
        say(s, "451 4.3.0 Error: the message cannot be stored");
        return;
    }
    say(s, "354 End data with <CR><LF>.<CR><LF>");
    s->in_content = true;
    s->mid_line = false;
    if (o->abort_after_s >= 0)
        sink_session_wait(s, SINK_WAIT_ABORT, o->abort_after_s);
    else if (o->read_delay_s > 0)
        sink_session_wait(s, SINK_WAIT_READ, o->read_delay_s);
}

/* For LMTP, a reply for each recipient. */
static void end_of_message(struct sink_session *s, const char *reply)
{
    int64_t replies = s->sink->o->lmtp ? s->rcpt_count : 1;

    for (int64_t i = 0; i < replies; i++)
        say(s, "%s", reply);
    reset(s);
}

static void do_dot(struct sink_session *s, struct slice args)
{
    struct err err = ERR_INIT;

    (void) args;
    if (s->dump != NULL && sink_dump_close(&s->dump, true, &err) == -1) {
        log_warning("%s", err.text);
        end_of_message(s, "451 4.3.0 Error: the message cannot be stored");
        return;
    }
    s->sink->messages++;
    s->sink->last = loop_now(s->sink->loop);
    s->sink->recipients += s->rcpt_count;
    end_of_message(s, s->sink->o->lmtp ? "250 2.2.0 Ok" : "250 2.0.0 Ok");
    sink_counted(s->sink);
}

static void do_rset(struct sink_session *s, struct slice args)
{
    (void) args;
    reset(s);
    say(s, "250 2.0.0 Ok");
}

static void do_noop(struct sink_session *s, struct slice args)
{
    (void) args;
    say(s, "250 2.0.0 Ok");
}

static void do_quit(struct sink_session *s, struct slice args)
{
    (void) args;
    say(s, "221 Bye");
    s->sink->quits++;
    sink_session_close(s);
}

/* clang-format off */
static const struct {
    const char *name;
    void (*run)(struct sink_session *s, struct slice args);
    enum { ALWAYS, SMTP_ONLY, ESMTP_ONLY, LMTP_ONLY, NEVER } when; /* NEVER: no command that a client gives */
} verbs[SINK_VERBS] = {
    [SINK_CONNECT] = {"CONNECT", do_connect, NEVER},
    [SINK_HELO] = {"HELO", do_helo, SMTP_ONLY},
    [SINK_EHLO] = {"EHLO", do_ehlo, ESMTP_ONLY},
    [SINK_LHLO] = {"LHLO", do_ehlo, LMTP_ONLY},
    [SINK_STARTTLS] = {"STARTTLS", do_starttls, ALWAYS},
    [SINK_XCLIENT] = {"XCLIENT", do_noop, ALWAYS},
    [SINK_XFORWARD] = {"XFORWARD", do_noop, ALWAYS},
    [SINK_AUTH] = {"AUTH", do_auth, ALWAYS},
    [SINK_MAIL] = {"MAIL", do_mail, ALWAYS},
    [SINK_RCPT] = {"RCPT", do_rcpt, ALWAYS},
    [SINK_VRFY] = {"VRFY", do_noop, ALWAYS},
    [SINK_DATA] = {"DATA", do_data, ALWAYS},
    [SINK_DOT] = {".", do_dot, NEVER},
    [SINK_RSET] = {"RSET", do_rset, ALWAYS},
    [SINK_NOOP] = {"NOOP", do_noop, ALWAYS},
    [SINK_QUIT] = {"QUIT", do_quit, ALWAYS},
};
/* clang-format on */

int sink_verb_parse(struct slice name)
{
    for (int v = 0; v < SINK_VERBS; v++)
        if (slice_caseeq_str(name, verbs[v].name))
            return v;
    return -1;
}

/* --- rules -------------------------------------------------------------------------------------------------- */

static bool is_known(const struct sink_options *o, int verb)
{
    if (verb == -1 || verbs[verb].when == NEVER)
        return false;
    if ((verb == SINK_AUTH && o->no_auth) || (verb == SINK_XCLIENT && o->no_xclient) ||
        (verb == SINK_XFORWARD && o->no_xforward))
        return false;
    switch (verbs[verb].when) {
    case SMTP_ONLY:
        return !o->lmtp;
    case ESMTP_ONLY:
        return !o->lmtp && !o->no_esmtp;
    case LMTP_ONLY:
        return o->lmtp;
    default:
        return true;
    }
}

static int64_t delay_of(const struct sink_rule *rule)
{
    int64_t times = 1;

    while (rule->odds > 0 && arc4random_uniform(100) < (uint32_t) rule->odds)
        times++;
    return rule->delay_s * times;
}

static void reject(struct sink_session *s, enum sink_verb verb, const char *reply)
{
    struct err err = ERR_INIT;

    if (verb != SINK_DOT) {
        say(s, "%s", reply);
        return;
    }
    if (s->dump != NULL && sink_dump_close(&s->dump, true, &err) == -1)
        log_warning("%s", err.text);
    end_of_message(s, reply);
}

void sink_command_obey(struct sink_session *s, enum sink_verb verb, struct slice args)
{
    const struct sink_options *o = s->sink->o;

    if (o->rules[verb].log)
        log_info("%s: %s%s%.*s", s->peer, verbs[verb].name, args.len > 0 ? " " : "",
                 SLICE_FMT(args));
    switch (o->rules[verb].fate) {
    case SINK_OBEY:
        verbs[verb].run(s, args);
        return;
    case SINK_SOFT:
        reject(s, verb, o->soft_reply);
        return;
    case SINK_HARD:
        reject(s, verb, o->hard_reply);
        return;
    case SINK_421:
        say(s, "421 4.0.0 Server closing connection");
        sink_session_close(s);
        return;
    case SINK_DROP:
        sink_session_close(s);
        return;
    }
}

void sink_command_run(struct sink_session *s, enum sink_verb verb, struct slice args)
{
    int64_t delay_s = delay_of(&s->sink->o->rules[verb]);

    if (delay_s == 0) {
        sink_command_obey(s, verb, args);
        return;
    }
    s->held = verb;
    buf_reset(&s->held_args);
    buf_put_slice(&s->held_args, args);
    sink_session_wait(s, SINK_WAIT_COMMAND, delay_s);
}

void sink_command_line(struct sink_session *s, struct slice line)
{
    struct slice args = line;
    struct slice word = SLICE_EMPTY;
    int verb;

    if (s->sink->o->verbose)
        (void) fprintf(stderr, "%s: %.*s\n", s->peer, SLICE_FMT(line));
    if (s->auth_lines > 0) {
        auth_line(s);
        return;
    }
    (void) slice_token(&args, " \t", &word);
    verb = sink_verb_parse(word);
    if (is_known(s->sink->o, verb))
        sink_command_run(s, (enum sink_verb) verb, slice_trim(args, NULL));
    else if (word.len == 0)
        say(s, "500 5.5.2 Error: unknown command");
    else
        say(s, "500 5.5.1 Error: unknown command");
}
