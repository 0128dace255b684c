/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtpd_data.c - content: DATA up to CRLF.CRLF and nothing else, BDAT chunks (RFC 3030), and what follows.
 *
 * A line ends in CRLF. A line feed alone ends none: it is refused or made right (smtpd_forbid_bare_newline), and a dot
 * after it is text; so no content can end a message here that would not end it elsewhere, or the other way round.
 */
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "mail/content.h"
#include "qmgr/notify_classes.h"
#include "smtpd/smtpd_int.h"

#define LONG_LINE 8192 /* a line's piece is passed on when so much of it has come */

static bool begin_intake(struct session *s)
{
    struct transaction *t = &s->t;
    struct err err = ERR_INIT;
    struct mail_envelope env = {
        .queue_id = slice_str(t->queue_id),
        .sender = t->sender,
        .arrival_us = t->arrival_us,
        .flags =
            t->flags | (s->rewrites_headers ? MAIL_LOCAL_ORIGIN : 0U) | (t->hold ? MAIL_HOLD : 0U),
        .dsn_ret = t->dsn_ret,
        .dsn_envid = t->envid,
        .client_name = s->name,
        .client_addr = s->addr,
        .client_port = s->port,
        .client_reverse_name = slice_sub(s->reverse_name, 0, 500),
        .helo = s->helo,
        .protocol = s->esmtp ? SLICE_LIT("ESMTP") : SLICE_LIT("SMTP"),
        .rewrite_domain = slice_str(s->g->p.remote_header_rewrite_domain),
        .filter = t->filter,
        .redirect = t->redirect,
        .log_tag = slice_str(worker_log_tag(s->worker)),
    };

    receive_options_put(&s->g->receive, &env);
    t->intake = intake_begin(s->g->intake, &env, &err);
    for (size_t i = 0; t->intake != NULL && i < t->rcpts.len; i++)
        if (intake_rcpt(t->intake, t->rcpts.items[i], &err) == -1)
            intake_free(&t->intake);
    for (size_t i = 0; t->intake != NULL && i < t->bccs.len; i++) {
        struct mail_rcpt bcc = {.addr = slice_str(t->bccs.items[i]), .notify = DSN_NOTIFY_NEVER};

        if (intake_rcpt(t->intake, &bcc, &err) == -1)
            intake_free(&t->intake);
    }
    for (size_t i = 0; t->intake != NULL && i < t->prepends.len; i++) {
        struct buf line = BUF_INIT(8192);

        buf_printf(&line, "%s\r\n", (const char *) t->prepends.items[i]);
        if (intake_data(t->intake, buf_view(&line), &err) == -1)
            intake_free(&t->intake);
        buf_fini(&line);
    }
    if (t->intake == NULL) {
        log_warning("%s: cleanup service: %s", t->queue_id, err.text);
        t->failed = true;
    }
    return t->intake != NULL;
}

static void intake_failed(struct transaction *t, const struct err *err)
{
    log_warning("%s: %s", t->queue_id, err->text);
    intake_free(&t->intake);
    t->failed = true;
}

/* So much more has come. True: it is wanted. */
static bool count_content(struct session *s, size_t len)
{
    struct transaction *t = &s->t;

    t->bytes += len;
    if (s->g->p.message_size_limit > 0 && t->bytes > (uint64_t) s->g->p.message_size_limit &&
        !t->too_big) {
        t->too_big = true;
        intake_free(&t->intake);
    }
    return !t->failed && !t->too_big && !t->discard &&
           !(t->bare_lf && s->g->bare_newline == BARE_REJECT);
}

void smtpd_content(struct session *s, struct slice piece)
{
    struct transaction *t = &s->t;
    struct err err = ERR_INIT;

    if (!count_content(s, piece.len) || (t->intake == NULL && !begin_intake(s)))
        return;
    if (intake_data(t->intake, piece, &err) == -1)
        intake_failed(t, &err);
}

/* The message is over in this way, without a word from cleanup. */
static void finish(struct session *s, int code, const char *dsn, const char *text)
{
    smtpd_reply(s, code, dsn, "%s", text);
    if (code >= 400)
        smtpd_log_verdict(s, "reject", "END-OF-MESSAGE", slice_str(text), SLICE_EMPTY);
    smtpd_reset_transaction(s);
    s->state = STATE_COMMAND;
}

void smtpd_content_end(struct session *s)
{
    static const enum policy_list lists[] = {LIST_END_OF_DATA};
    struct transaction *t = &s->t;
    struct err err = ERR_INIT;

    if (t->too_big) {
        finish(s, 552, "5.3.4", "Message size exceeds fixed limit");
        return;
    }
    if (t->bare_lf && s->g->bare_newline == BARE_REJECT) {
        intake_free(&t->intake);
        finish(s, (int) s->g->p.bare_newline_code, "5.5.2", "Error: bare <LF> received");
        return;
    }
    if (t->discard) {
        struct buf text = BUF_INIT(128);

        buf_printf(&text, "Ok: queued as %s", t->queue_id);
        finish(s, 250, "2.0.0", buf_cstr(&text));
        buf_fini(&text);
        return;
    }
    s->policy = (struct policy_state){0};
    if (!t->failed && !smtpd_judge(s, lists, 1, "END-OF-MESSAGE", SLICE_EMPTY, false)) {
        smtpd_reset_transaction(s); /* what cleanup has of it is forgotten */
        if (s->state != STATE_CLOSING)
            s->state = STATE_COMMAND;
        return;
    }
    if (!t->failed && t->intake == NULL)
        (void) begin_intake(s); /* a message without content */
    if (!t->failed && intake_end(t->intake, &err) == -1) {
        log_warning("%s: %s", t->queue_id, err.text);
        t->failed = true;
    }
    if (t->failed) {
        s->troubles |= NOTIFY_SOFTWARE; /* cleanup cannot be reached, or broke off */
        finish(s, 451, "4.3.0", "Error: queue file write error");
        return;
    }
    s->state = STATE_RESULT;
    if (intake_has_result(t->intake))
        smtpd_result(s);
}

/* 4.3.x: it could not write. What else it puts off is not its trouble but its rules' (4.7.1). */
static unsigned cleanup_trouble(struct slice dsn)
{
    return slice_starts_with(dsn, SLICE_LIT("4.3.")) ? NOTIFY_RESOURCE : 0;
}

void smtpd_result(struct session *s)
{
    struct proto_result r;
    struct err err = ERR_INIT;
    struct buf text = BUF_INIT(8192);

    switch (intake_poll(s->t.intake, &r, &err)) {
    case CHAN_AGAIN:
        return;
    case CHAN_EOF:
    case CHAN_ERROR:
        log_warning("%s: %s", s->t.queue_id, err.text);
        s->troubles |= NOTIFY_SOFTWARE;
        finish(s, 451, "4.3.0", "Error: queue file write error");
        return;
    case CHAN_OK:
        break;
    }
    if (r.status == PROTO_OK) {
        smtpd_reply(s, 250, "2.0.0", "Ok: queued as %s", s->t.queue_id);
    } else {
        int code = r.smtp_code >= 400 && r.smtp_code <= 599 ? (int) r.smtp_code : 451;

        buf_printf(&text, "%.*s", SLICE_FMT(r.code.len > 0 ? r.code : SLICE_LIT("4.3.0")));
        if (code >= 500 && code != 552) /* its contents, not its size */
            s->troubles |= NOTIFY_POLICY;
        if (code < 500)
            s->troubles |= cleanup_trouble(buf_view(&text));
        smtpd_reply(s, code, buf_cstr(&text), "%.*s", SLICE_FMT(r.text));
        s->good[CMD_DATA]--;
        smtpd_error(s);
    }
    buf_fini(&text);
    smtpd_reset_transaction(s);
    s->state = STATE_COMMAND;
}

/* --- DATA --------------------------------------------------------------------------------------------- */

void smtpd_data_begin(struct session *s)
{
    static const enum policy_list lists[] = {LIST_DATA};

    s->policy = (struct policy_state){0};
    if (!smtpd_judge(s, lists, 1, "DATA", SLICE_EMPTY, false))
        return;
    smtpd_reply_line(s, "354 End data with <CR><LF>.<CR><LF>");
    s->state = STATE_DATA;
    s->line_start = true;
    s->mid_line = false;
}

/* A whole line, or a piece of a long one, with its line end if it has one. True: the end of the message. */
static bool data_line(struct session *s, struct slice line, bool whole)
{
    bool crlf = whole && line.len >= 2 && line.ptr[line.len - 2] == '\r';

    if (s->line_start && crlf && line.len == 3 && line.ptr[0] == '.')
        return true;
    if (s->line_start && line.ptr[0] == '.')
        line = slice_sub(line, 1, line.len);
    if (whole && !crlf) {
        if (!s->bare_excluded && !s->t.bare_lf) {
            s->t.bare_lf = true;
            log_info("warning: bare <LF> received after DATA from %.*s", SLICE_FMT(s->namaddr));
        }
        smtpd_content(s, slice_sub(line, 0, line.len - 1));
        smtpd_content(s, SLICE_LIT("\r\n"));
    } else {
        smtpd_content(s, line);
    }
    s->line_start = crlf;
    return false;
}

bool smtpd_data_feed(struct session *s)
{
    struct slice have = slice_sub(buf_view(&s->in), s->in_at, s->in.len);
    size_t plain = s->line_start ? content_plain_lines(have) : 0;
    ptrdiff_t nl;

    if (have.len == 0)
        return false;
    if (plain > 0) { /* passed on in one piece */
        smtpd_content(s, slice_sub(have, 0, plain));
        s->in_at += plain;
        return true;
    }
    nl = slice_find(have, '\n');
    if (nl == -1) {
        /* the last byte stays: it may be the CR of a line end; a dot in front waits for what follows it */
        if (have.len < LONG_LINE)
            return false;
        if (data_line(s, slice_sub(have, 0, have.len - 1), false))
            return true;
        s->line_start = false;
        s->in_at += have.len - 1;
        return true;
    }
    s->in_at += (size_t) nl + 1;
    if (data_line(s, slice_sub(have, 0, (size_t) nl + 1), true))
        smtpd_content_end(s);
    return true;
}

char *smtpd_data_room(struct session *s)
{
    struct transaction *t = &s->t;
    struct err err = ERR_INIT;
    char *room;

    if (s->state != STATE_DATA || !s->line_start || t->intake == NULL || t->failed || t->bare_lf)
        return NULL;
    room = intake_room(t->intake, &err);
    if (room == NULL && err.kind != ERR_NONE)
        intake_failed(t, &err);
    return room;
}

void smtpd_data_room_filled(struct session *s, size_t len)
{
    struct err err = ERR_INIT;

    if (count_content(s, len) && intake_room_filled(s->t.intake, len, &err) == -1)
        intake_failed(&s->t, &err);
}

/* --- BDAT ----------------------------------------------------------------------------------------------- */

void smtpd_bdat_begin(struct session *s, struct slice args)
{
    struct slice size;
    struct slice last;
    struct slice rest = args;
    uint64_t n;

    if (!slice_token(&rest, " \t", &size) ||
        num_parse_u64_base(size, 10, INT64_MAX, &n, NULL) == -1) {
        smtpd_reply(s, 501, "5.5.4", "Syntax: BDAT count [LAST]");
        s->state = STATE_CLOSING; /* what follows cannot be told from commands */
        return;
    }
    s->chunk_last = slice_token(&rest, " \t", &last) && slice_caseeq_str(last, "LAST");
    s->chunk_left = n;
    s->state = STATE_BDAT;
    if (s->t.rcpts.len == 0)
        s->t.failed = true; /* the chunk is read all the same (RFC 3030 2) */
}

bool smtpd_bdat_feed(struct session *s)
{
    struct slice have = slice_sub(buf_view(&s->in), s->in_at, s->in.len);
    struct slice piece =
        slice_sub(have, 0, s->chunk_left < have.len ? (size_t) s->chunk_left : have.len);

    if (piece.len == 0 && s->chunk_left > 0)
        return false;
    if (piece.len > 0 && !s->t.failed) {
        struct buf wire = BUF_INIT(SIZE_MAX);

        content_to_wire(piece, &s->chunk_cr, &wire);
        smtpd_content(s, buf_view(&wire));
        buf_fini(&wire);
    }
    s->in_at += piece.len;
    s->chunk_left -= piece.len;
    if (s->chunk_left > 0)
        return true;
    s->state = STATE_COMMAND;
    if (s->t.rcpts.len == 0) {
        smtpd_reply(s, s->t.begun ? 554 : 503, "5.5.1",
                    s->t.begun ? "Error: no valid recipients" : "Error: need RCPT command");
        s->t.failed = s->t.begun;
        if (!s->t.begun)
            s->t.failed = false;
        smtpd_error(s);
    } else if (s->chunk_last) {
        s->chunk_cr = false;
        smtpd_content_end(s);
    } else {
        smtpd_reply(s, 250, "2.0.0", "Ok: %llu bytes", (unsigned long long) s->t.bytes);
    }
    return true;
}
