/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp_rcpt.c - what becomes of recipients: answered at once when that is final, else remembered until no host is left.
 */
#include "smtp/smtp_int.h"

#include <stdio.h>
#include <stdlib.h>

/* The strings behind a remembered status are copies in the recipient. */
static void keep(struct smtp_rcpt *rcpt, int slot, struct slice *s)
{
    free(rcpt->strings[slot]);
    rcpt->strings[slot] = slice_dup(*s);
    *s = slice_of(rcpt->strings[slot], s->len);
}

void smtp_rcpt_note(struct smtp_rcpt *rcpt, const struct dsn_status *st, struct slice relay,
                    bool site_dead)
{
    rcpt->last = *st;
    keep(rcpt, 0, &rcpt->last.code);
    keep(rcpt, 1, &rcpt->last.text);
    keep(rcpt, 2, &rcpt->last.diag_type);
    keep(rcpt, 3, &rcpt->last.diag_text);
    keep(rcpt, 4, &rcpt->last.mta_name);
    rcpt->relay = relay;
    keep(rcpt, 5, &rcpt->relay);
    rcpt->has_last = true;
    rcpt->site_dead = site_dead;
}

size_t smtp_job_open(const struct smtp_job *job)
{
    size_t n = 0;

    for (size_t i = 0; i < job->r->nrcpts; i++)
        n += !job->rcpts[i].final;
    return n;
}

void smtp_job_defer(struct smtp_job *job, const struct err *err, struct slice mta,
                    struct slice relay, bool site_dead)
{
    struct dsn_status st = {
        .outcome = OUTCOME_DEFERRED,
        .code = slice_str(err->dsn[0] != '\0' ? err->dsn : "4.4.1"),
        .text = slice_str(err->text),
        .mta_name = mta,
    };

    for (size_t i = 0; i < job->r->nrcpts; i++)
        if (!job->rcpts[i].final)
            smtp_rcpt_note(&job->rcpts[i], &st, relay, site_dead);
}

void smtp_judge(struct smtp_job *job, struct smtp_conn *c, size_t i, const struct smtp_reply *r,
                const char *command)
{
    struct smtp_rcpt *rcpt = &job->rcpts[i];
    struct buf text = BUF_INIT(ERR_TEXT_MAX * 20);
    char code[DSN_CODE_MAX + 1];
    struct dsn_status st = {
        .diag_type = SLICE_LIT("smtp"),
        .diag_text = buf_view(&r->text),
        .mta_name = slice_str(c->host),
    };

    if (r->dsn.len > 0 && r->dsn.len <= DSN_CODE_MAX)
        (void) snprintf(code, sizeof(code), "%.*s", SLICE_FMT(r->dsn));
    else
        (void) snprintf(code, sizeof(code), "%c.0.0", (char) ('0' + r->code / 100 % 10));
    st.code = slice_str(code);
    if (r->code / 100 == 2) {
        st.outcome = OUTCOME_SENT;
        st.notify_passed = (c->features & SMTP_FEATURE_DSN) != 0;
        st.text = buf_view(&r->text);
    } else {
        st.outcome = r->code / 100 == 5 ? OUTCOME_BOUNCED : OUTCOME_DEFERRED;
        if (r->code / 100 == 3) /* a 354 where none is due */
            code[0] = '4';
        buf_printf(&text, "host %.*s said: %.*s (in reply to %s)", SLICE_FMT(buf_view(&c->namaddr)),
                   SLICE_FMT(buf_view(&r->text)), command);
        st.text = buf_view(&text);
    }
    if (st.outcome == OUTCOME_DEFERRED) {
        smtp_rcpt_note(rcpt, &st, buf_view(&c->relay), false);
    } else {
        deliver_status(job->r, i, buf_view(&c->relay), c->uses, &st, false);
        rcpt->final = true;
    }
    buf_fini(&text);
}
