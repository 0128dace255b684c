/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd_reply.c - answers to the client, and the log lines of refusals. */
#include <stdio.h>

#include "base/log.h"
#include "smtpd/smtpd_int.h"

#define REPLY_MAX 65536

void smtpd_reply_line(struct session *s, const char *text)
{
    size_t from = s->out.len;

    buf_puts(&s->out, text);
    buf_puts(&s->out, "\r\n");
    smtpd_transcript_out(s, from);
}

void smtpd_reply(struct session *s, int code, const char *dsn, const char *fmt, ...)
{
    struct buf line = BUF_INIT(REPLY_MAX);
    va_list ap;

    smtpd_note_reply(s, code, dsn);
    if (s->g->p.soft_bounce && code >= 500) {
        code -= 100;
        buf_printf(&line, "%d ", code);
        if (dsn[0] != '\0')
            buf_printf(&line, "%c%s ", dsn[0] == '5' ? '4' : dsn[0], dsn + 1);
    } else {
        buf_printf(&line, "%d %s%s", code, dsn, dsn[0] != '\0' ? " " : "");
    }
    va_start(ap, fmt);
    buf_vprintf(&line, fmt, ap);
    va_end(ap);
    if (code >= 400) {
        smtpd_put_refusal(s, buf_view(&line));
        s->last_failed = true;
    } else {
        smtpd_reply_line(s, buf_cstr(&line));
    }
    buf_fini(&line);
    if (code == 421)
        s->state = STATE_CLOSING;
}

void smtpd_error(struct session *s)
{
    s->errors++;
}

void smtpd_log_verdict(struct session *s, const char *what, const char *stage, struct slice text,
                       struct slice rcpt)
{
    struct buf line = BUF_INIT(4096);

    buf_printf(&line, "%s: %s: %s from %.*s: %.*s;",
               s->t.queue_id[0] != '\0' ? s->t.queue_id : "NOQUEUE", what, stage,
               SLICE_FMT(s->namaddr), SLICE_FMT(text));
    if (s->t.begun || rcpt.len > 0) {
        buf_puts(&line, " from=");
        log_put_address(&line, s->t.sender);
    }
    if (rcpt.len > 0) {
        buf_puts(&line, " to=");
        log_put_address(&line, rcpt);
    }
    buf_printf(&line, " proto=%s", s->esmtp ? "ESMTP" : "SMTP");
    if (s->helo.len > 0)
        buf_printf(&line, " helo=<%.*s>", SLICE_FMT(s->helo));
    log_event(LOG_LEVEL_INFO, "verdict", SLICE_EMPTY, LF_RAW("text", buf_view(&line)));
    buf_fini(&line);
}

bool smtpd_apply(struct session *s, const struct policy_result *r, const char *stage,
                 struct slice rcpt)
{
    char text[sizeof(r->text)];

    switch (r->verdict) {
    case POLICY_DUNNO:
    case POLICY_PERMIT:
        return true;
    case POLICY_SLEEP:
        s->wake_at = mono_after_ms(mono_now(), r->sleep_s * 1000);
        return true;
    case POLICY_REJECT:
    case POLICY_DISCONNECT:
        break;
    }
    (void) snprintf(text, sizeof(text), "%s", r->text);
    if (s->g->p.soft_bounce && text[0] == '5') { /* "550 5.7.1 ..." */
        text[0] = '4';
        if (strncmp(text + 3, " 5.", 3) == 0)
            text[4] = '4';
    }
    smtpd_log_verdict(s, "reject", stage, slice_str(text), rcpt);
    smtpd_note_verdict(s, text);
    smtpd_put_refusal(s, slice_str(text));
    s->last_failed = true;
    if (r->verdict == POLICY_DISCONNECT || strncmp(text, "421", 3) == 0 ||
        strncmp(text, "521", 3) == 0)
        s->state = STATE_CLOSING;
    return false;
}
