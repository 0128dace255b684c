/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtpd_notify.c - notify_classes: the transcript of a session with trouble in it, for error_notice_recipient. When the trouble is the server's own
 * (no space, a table or service out of order), many sessions have it, and a mail for each would make it worse: one a minute and process.
 *
 * It has commands and replies, no content of messages. It is kept only where a class is on that wants it, TRANSCRIPT_MAX bytes of it
 * around the first trouble.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mtime.h"
#include "qmgr/notify_classes.h"
#include "smtpd/smtpd_int.h"

#define TRANSCRIPT_MAX  65536
#define TRANSCRIPT_LINE 78 /* longer ones are folded where a word ends */
#define RESULT_WAIT_MS  60000
#define NOTICE_EVERY_MS 60000

/* How much of text comes onto a line of TRANSCRIPT_LINE that has the used bytes already. */
static size_t fold(struct slice text, size_t used)
{
    size_t room = TRANSCRIPT_LINE - used;

    if (text.len <= room)
        return text.len;
    for (size_t i = room; i > 0; i--)
        if (text.ptr[i] == ' ')
            return i;
    return room;
}

static bool has_trouble(const struct session *s)
{
    return (s->troubles & s->g->notify) != 0;
}

static void put_line(struct session *s, const char *label, struct slice text)
{
    struct buf *t = &s->transcript;
    bool is_full = t->len + 2 * text.len + 16 > TRANSCRIPT_MAX;

    if (is_full && !has_trouble(s)) { /* what follows is wanted, if anything is */
        buf_reset(t);
        buf_puts(t, "(What came before this is left out.)\r\n\r\n");
        is_full = false;
    }
    s->transcript_cut |= is_full;
    if (s->transcript_cut)
        return;
    buf_puts(t, label);
    do {
        size_t n = fold(text, 6);

        char *at = buf_reserve(t, n);

        for (size_t i = 0; i < n && at != NULL; i++)
            at[i] = text.ptr[i] >= ' ' && text.ptr[i] <= '~' ? text.ptr[i] : '?';
        if (at != NULL)
            buf_advance(t, n);
        text = slice_sub(text, n, text.len);
        if (text.len > 0 && text.ptr[0] == ' ')
            text = slice_sub(text, 1, text.len);
        buf_puts(t, text.len > 0 ? "\r\n     " : "\r\n");
    } while (text.len > 0);
}

void smtpd_transcript_in(struct session *s, struct slice line)
{
    if (s->g->notify != 0)
        put_line(s, " In:  ", line);
}

void smtpd_transcript_out(struct session *s, size_t from)
{
    struct slice rest = slice_sub(buf_view(&s->out), from, s->out.len);

    while (s->g->notify != 0 && rest.len > 0) {
        ptrdiff_t nl = slice_find(rest, '\n');
        size_t end = nl != -1 ? (size_t) nl : rest.len;

        put_line(s, " Out: ", slice_trim(slice_sub(rest, 0, end), "\r"));
        rest = slice_sub(rest, nl != -1 ? end + 1 : end, rest.len);
    }
}

void smtpd_note_reply(struct session *s, int code, const char *dsn)
{
    bool broken = code == 500 || code == 501 || code == 503 || code == 555;

    if (broken || strcmp(dsn, "5.5.2") == 0)
        s->troubles |= NOTIFY_PROTOCOL;
}

/* Unknown users are a matter of class bounce. x.3.0 is a table that cannot be asked, and x.3.5 if it is said of an address; else a setting is wrong. */
void smtpd_note_verdict(struct session *s, const char *reply)
{
    struct slice rest;
    struct slice dsn = SLICE_EMPTY;

    if (strlen(reply) > 4)
        dsn = dsn_code_split(slice_sub(slice_str(reply), 4, strlen(reply)), &rest);
    if (dsn.len < 5)
        s->troubles |= NOTIFY_POLICY;
    else if (strncmp(dsn.ptr + 1, ".3.0", 4) == 0)
        s->troubles |= NOTIFY_DATA;
    else if (strncmp(dsn.ptr + 1, ".3.5", 4) == 0)
        s->troubles |= slice_starts_with(rest, SLICE_LIT("<")) ? NOTIFY_DATA : NOTIFY_SOFTWARE;
    else if (strncmp(dsn.ptr + 1, ".1.1", 4) != 0 && strncmp(dsn.ptr + 1, ".3.", 3) != 0)
        s->troubles |= NOTIFY_POLICY;
}

static void compose(struct session *s, struct buf *out)
{
    buf_printf(out,
               "From: Mail Delivery System <MAILER-DAEMON>\r\nTo: Postmaster <%s>\r\n"
               "Subject: %s SMTP server: errors from %.*s\r\n"
               "Auto-Submitted: auto-generated\r\n\r\n"
               "Transcript of session follows.\r\n\r\n",
               s->g->p.notice_recipient, s->g->mail_name, SLICE_FMT(s->namaddr));
    buf_put_slice(out, buf_view(&s->transcript));
    if (s->transcript_cut)
        buf_puts(out, "\r\n(What came after this is left out.)\r\n");
    buf_puts(out, "\r\n");
    if (s->aborted != NULL)
        buf_printf(out, "Session aborted, reason: %s\r\n", s->aborted);
    buf_puts(out, "\r\nFor other details, see the local mail logfile\r\n");
}

static int submit(struct session *s, struct err *err)
{
    struct buf sender = BUF_INIT(MAIL_ADDR_MAX);
    struct buf text = BUF_INIT(2 * TRANSCRIPT_MAX);
    char id[QUEUE_ID_MAX + 1];
    struct mail_rcpt rcpt = {.addr = slice_str(s->g->p.notice_recipient),
                             .notify = DSN_NOTIFY_NEVER};
    struct mail_envelope env = {
        .arrival_us = (uint64_t) wall_now().us,
        .flags =
            MAIL_BOUNCE | MAIL_LOCAL_ORIGIN | MAIL_NO_HEADER_CHECKS | MAIL_NO_MILTERS | MAIL_NOTICE,
        .rcpt_count = 1,
    };
    struct proto_result result;
    struct intake *in;
    int ret = -1;

    queue_id_new(s->g->p.long_queue_ids, id);
    env.queue_id = slice_str(id);
    buf_printf(&sender, "%s@%s", s->g->double_bounce_sender, s->g->myorigin);
    env.sender = buf_view(&sender);
    compose(s, &text);
    in = intake_begin(s->g->intake, &env, err);
    if (in == NULL || intake_rcpt(in, &rcpt, err) == -1 ||
        intake_data(in, buf_view(&text), err) == -1 || intake_end(in, err) == -1)
        goto done;
    switch (intake_wait(in, RESULT_WAIT_MS, &result, err)) {
    case CHAN_OK:
        ret = result.status == PROTO_OK ? 0 : err_temporary(err, "%.*s", SLICE_FMT(result.text));
        break;
    case CHAN_AGAIN:
        err_temporary(err, "no answer in time");
        break;
    case CHAN_EOF:
    case CHAN_ERROR:
        break;
    }
done:
    intake_free(&in);
    buf_fini(&sender);
    buf_fini(&text);
    return ret;
}

/* Whether it is this session's turn to tell of what others have as well. */
static bool is_due(struct session *s)
{
    int64_t now_us = mono_now().us;
    int64_t after_us = atomic_load(&s->g->notice_after_us);

    if ((s->troubles & s->g->notify & (NOTIFY_POLICY | NOTIFY_PROTOCOL)) != 0)
        return true; /* its own */
    return now_us >= after_us && atomic_compare_exchange_strong(&s->g->notice_after_us, &after_us,
                                                                now_us + NOTICE_EVERY_MS * 1000LL);
}

void smtpd_notify(struct session *s)
{
    struct err err = ERR_INIT;

    if (has_trouble(s) && is_due(s) && submit(s, &err) == -1)
        log_warning("transcript of the session with %.*s cannot be sent: cleanup service: %s",
                    SLICE_FMT(s->namaddr), err.text);
    s->troubles = 0;
}
