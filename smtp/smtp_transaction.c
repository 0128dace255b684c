/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp_transaction.c - one mail transaction (RFC 5321 3.3), with command pipelining (RFC 2920) where offered.
 *
 * Recipients keep what happened to them: final (sent, or refused for good), or a reason to be tried elsewhere. After the
 * final dot has been sent and no reply was read, the outcome is *uncertain*: it is told as such, never as a plain failure.
 */
#include "smtp/smtp_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mail/address.h"
#include "mail/orcpt.h"

#define PIPELINE_BATCH                                                                             \
    100 /* commands sent before their replies are read: bounded, so that neither side can block */

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

/* A recipient's fate by a reply. 5xx and success are final and told at once. */
static void judge(struct smtp_job *job, struct smtp_conn *c, size_t i, const struct smtp_reply *r,
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

static void judge_open(struct smtp_job *job, struct smtp_conn *c, const struct smtp_reply *r,
                       const char *command, bool accepted_only)
{
    for (size_t i = 0; i < job->r->nrcpts; i++)
        if (!job->rcpts[i].final && (accepted_only ? job->rcpts[i].accepted : true))
            judge(job, c, i, r, command);
}

static void put_mail(const struct smtp_job *job, struct smtp_conn *c)
{
    const struct proto_deliver *m = &job->r->msg;
    struct buf *out = &c->out;

    buf_puts(out, "MAIL FROM:<");
    if (job->s->p.quote_envelope)
        address_quote(job->sender, out);
    else
        buf_put_slice(out, job->sender);
    buf_puts(out, ">");
    if ((c->features & SMTP_FEATURE_SIZE) != 0)
        buf_printf(out, " SIZE=%llu", (unsigned long long) m->content_bytes);
    if ((c->features & SMTP_FEATURE_8BITMIME) != 0 &&
        (m->flags & (MAIL_8BITMIME | MAIL_FACT_8BIT)) != 0)
        buf_puts(out, " BODY=8BITMIME");
    if ((c->features & SMTP_FEATURE_SMTPUTF8) != 0 && (m->flags & MAIL_SMTPUTF8) != 0)
        buf_puts(out, " SMTPUTF8");
    if ((c->features & SMTP_FEATURE_DSN) != 0) {
        if (m->dsn_envid.len > 0) {
            buf_puts(out, " ENVID=");
            xtext_encode(m->dsn_envid, out);
        }
        if (m->dsn_ret != DSN_RET_NONE)
            buf_puts(out, m->dsn_ret == DSN_RET_FULL ? " RET=FULL" : " RET=HDRS");
    }
    buf_puts(out, "\r\n");
}

static void put_rcpt(const struct smtp_job *job, struct smtp_conn *c, size_t index)
{
    const struct proto_deliver_rcpt *r = &job->r->rcpts[index].r;
    struct slice addr = job->rcpts[index].addr;
    struct buf *out = &c->out;

    buf_puts(out, "RCPT TO:<");
    if (job->s->p.quote_envelope)
        address_quote(addr, out);
    else
        buf_put_slice(out, addr);
    buf_puts(out, ">");
    if ((c->features & SMTP_FEATURE_DSN) != 0) {
        if (r->notify != 0) {
            buf_puts(out, " NOTIFY=");
            dsn_notify_print(r->notify, out);
        }
        if (r->orcpt.len > 0) {
            buf_puts(out, " ORCPT=");
            buf_put_slice(out, r->orcpt);
        } else if (job->r->msg.handover == 0) {
            buf_puts(out, " ORCPT=");
            orcpt_print(r->orig.len > 0 ? r->orig : r->addr, out);
        }
    }
    buf_puts(out, "\r\n");
}

/* A transaction under way. */
struct transaction {
    struct smtp_job *job;
    struct smtp_conn *c;
    struct smtp_reply reply;
    struct err err;
    bool pipelined;
    bool data_sent; /* DATA is on its way */
    bool any_reply; /* the server has said something in this transaction */
    size_t accepted;
};

/* I/O trouble: what was being done when the connection broke. */
static int broken(struct transaction *t, enum smtp_io io, const char *doing)
{
    smtp_io_explain(t->c, io, doing, &t->err);
    smtp_job_defer(t->job, &t->err, slice_str(t->c->host), buf_view(&t->c->relay), false);
    return -1;
}

static enum smtp_io get_reply(struct transaction *t, int64_t timeout_s)
{
    enum smtp_io io = smtp_conn_reply(t->c, timeout_s, &t->reply);

    if (io == SMTP_IO_OK)
        t->any_reply = true;
    return io;
}

static int rset(struct transaction *t)
{
    smtp_conn_put(t->c, "RSET\r\n");
    return get_reply(t, t->job->s->p.rset_timeout_s) == SMTP_IO_OK && t->reply.code == 250 ? 0 : -1;
}

static int read_mail_reply(struct transaction *t)
{
    enum smtp_io io = get_reply(t, t->job->s->p.mail_timeout_s);

    if (io != SMTP_IO_OK)
        return broken(t, io, "sending MAIL FROM");
    if (t->reply.code / 100 != 2) {
        judge_open(t->job, t->c, &t->reply, "MAIL FROM command", false);
        return 1;
    }
    return 0;
}

/* RCPT commands in batches, DATA with the last batch when pipelining. 0, 1: MAIL was refused, -1: broken. */
static int envelope(struct transaction *t)
{
    struct deliver_request *r = t->job->r;
    const struct smtp_params *p = &t->job->s->p;
    size_t next = 0;
    int mail = 2; /* reply not read yet */

    put_mail(t->job, t->c);
    if (!t->pipelined) {
        mail = read_mail_reply(t);
        if (mail != 0)
            return mail;
    }
    while (next < r->nrcpts) {
        size_t batch[PIPELINE_BATCH];
        size_t n = 0;
        size_t limit = t->pipelined ? PIPELINE_BATCH : 1;

        for (; next < r->nrcpts && n < limit; next++) {
            if (t->job->rcpts[next].final)
                continue;
            put_rcpt(t->job, t->c, next);
            t->job->rcpts[next].offered = true;
            batch[n++] = next;
        }
        if (t->pipelined && next == r->nrcpts && !deliver_is_probe(r)) {
            smtp_conn_put(t->c, "DATA\r\n");
            t->data_sent = true;
        }
        if (mail == 2) {
            mail = read_mail_reply(t);
            if (mail == -1)
                return -1;
        }
        for (size_t i = 0; i < n; i++) {
            enum smtp_io io = get_reply(t, p->rcpt_timeout_s);

            if (io != SMTP_IO_OK)
                return mail == 0 ? broken(t, io, "sending RCPT TO") : -1;
            if (mail != 0)
                continue; /* MAIL was refused: these are echoes */
            if (t->reply.code / 100 == 2) {
                t->job->rcpts[batch[i]].accepted = true;
                t->accepted++;
                if (deliver_is_probe(r)) /* that is all there is to know */
                    judge(t->job, t->c, batch[i], &t->reply, "RCPT TO command");
            } else {
                judge(t->job, t->c, batch[i], &t->reply, "RCPT TO command");
            }
        }
        if (mail == 1 && !t->data_sent)
            return 1;
    }
    return mail;
}

static int end_of_data(struct transaction *t)
{
    const struct smtp_params *p = &t->job->s->p;
    bool to_7bit = (t->c->features & SMTP_FEATURE_8BITMIME) == 0 && !p->disable_mime_conversion &&
                   (t->job->r->msg.flags & MAIL_FACT_8BIT) != 0;
    enum smtp_io io = smtp_conn_send_content(t->c, t->job->r, buf_view(&t->job->header), to_7bit,
                                             p->line_length_limit, p->data_xfer_timeout_s);

    if (io != SMTP_IO_OK) {
        /* a server that hangs up in the middle often says why first */
        return broken(t, io, "sending message body");
    }
    io = get_reply(t, p->data_done_timeout_s);
    if (io == SMTP_IO_OK) {
        judge_open(t->job, t->c, &t->reply, "end of DATA command", true);
        return t->reply.code == 421 || !smtp_conn_content_taken(t->c) ? -1 : 0;
    }
    smtp_io_explain(t->c, io, "sending end of data -- message may be sent more than once", &t->err);
    for (size_t i = 0; i < t->job->r->nrcpts; i++) {
        struct smtp_rcpt *rcpt = &t->job->rcpts[i];
        struct dsn_status st = {
            .outcome = OUTCOME_UNCERTAIN,
            .code = slice_str(t->err.dsn),
            .text = slice_str(t->err.text),
            .mta_name = slice_str(t->c->host),
        };

        /* told at once: another host must not be given the message in this attempt */
        if (!rcpt->final && rcpt->accepted) {
            deliver_status(t->job->r, i, buf_view(&t->c->relay), t->c->uses, &st, false);
            rcpt->final = true;
        }
    }
    return -1;
}

/* DATA's reply and what follows from it. */
static int data(struct transaction *t)
{
    const struct smtp_params *p = &t->job->s->p;
    enum smtp_io io;

    if (!t->data_sent) {
        if (t->accepted == 0)
            return rset(t);
        smtp_conn_put(t->c, "DATA\r\n");
    }
    io = get_reply(t, p->data_init_timeout_s);
    if (io != SMTP_IO_OK)
        return broken(t, io, "sending DATA command");
    if (t->accepted == 0) {
        if (t->reply.code / 100 != 3)
            return rset(t);
        /* it wants data although nobody is there to get them: an empty message, which it must refuse */
        smtp_conn_put(t->c, ".\r\n");
        io = get_reply(t, p->data_done_timeout_s);
        return io == SMTP_IO_OK ? 0 : -1;
    }
    if (t->reply.code / 100 != 3) {
        judge_open(t->job, t->c, &t->reply, "DATA command", true);
        return t->reply.code == 421 ? -1 : rset(t);
    }
    return end_of_data(t);
}

/* This host's server cannot take the message: that is told of all recipients, and nothing is said to it. */
static void refuse(struct transaction *t, struct dsn_status *st)
{
    for (size_t i = 0; i < t->job->r->nrcpts; i++) {
        if (t->job->rcpts[i].final)
            continue;
        deliver_status(t->job->r, i, buf_view(&t->c->relay), t->c->uses, st, false);
        t->job->rcpts[i].final = true;
    }
}

static bool is_too_big(struct transaction *t)
{
    const struct proto_deliver *m = &t->job->r->msg;
    struct buf text = BUF_INIT(ERR_TEXT_MAX);
    struct dsn_status st = {
        .outcome = OUTCOME_BOUNCED, .code = SLICE_LIT("5.3.4"), .mta_name = slice_str(t->c->host)};

    if ((t->c->features & SMTP_FEATURE_SIZE) == 0 || t->c->size_limit == 0 ||
        m->content_bytes <= t->c->size_limit)
        return false;
    buf_printf(&text, "message size %llu exceeds size limit %llu of server %.*s",
               (unsigned long long) m->content_bytes, (unsigned long long) t->c->size_limit,
               SLICE_FMT(buf_view(&t->c->namaddr)));
    st.text = buf_view(&text);
    refuse(t, &st);
    buf_fini(&text);
    return true;
}

/* Of what has been declared SMTPUTF8, not all is: such mail may go where the extension is not known (RFC 6531, 3.2). */
static bool needs_utf8(const struct smtp_job *job)
{
    const struct proto_deliver *m = &job->r->msg;
    bool needed = job->header.len > 0 ? !slice_is_ascii(buf_view(&job->header))
                                      : (m->flags & MAIL_FACT_8BIT_HEADER) != 0;

    if ((m->flags & MAIL_SMTPUTF8) == 0)
        return false;
    needed |= !slice_is_ascii(job->sender);
    for (size_t i = 0; i < job->r->nrcpts && !needed; i++)
        needed = !job->rcpts[i].final && !slice_is_ascii(job->rcpts[i].addr);
    return needed;
}

static bool lacks_utf8(struct transaction *t)
{
    struct buf text = BUF_INIT(ERR_TEXT_MAX);
    struct dsn_status st = {.outcome = OUTCOME_BOUNCED, .code = SLICE_LIT("5.6.7")};

    if ((t->c->features & SMTP_FEATURE_SMTPUTF8) != 0 || !needs_utf8(t->job))
        return false;
    buf_printf(&text, "SMTPUTF8 is required, but was not offered by host %.*s",
               SLICE_FMT(buf_view(&t->c->namaddr)));
    st.text = buf_view(&text);
    refuse(t, &st);
    buf_fini(&text);
    return true;
}

/* A queue that is handed over must not come in here again. */
static bool is_handed_to_self(const struct transaction *t)
{
    struct err err = ERR_INIT;

    if (t->job->r->msg.handover == 0 || !t->c->is_self)
        return false;
    err_set(&err, ERR_TEMPORARY, "4.4.6", "host %.*s is this system itself",
            SLICE_FMT(buf_view(&t->c->namaddr)));
    smtp_job_defer(t->job, &err, slice_str(t->c->host), buf_view(&t->c->relay), true);
    return true;
}

int smtp_transaction(struct smtp_job *job, struct smtp_conn *c, bool *lost_early)
{
    struct transaction t = {.job = job, .c = c, .err = ERR_INIT};
    int ret;

    *lost_early = false;
    c->uses++;
    t.pipelined = (c->features & SMTP_FEATURE_PIPELINING) != 0;
    for (size_t i = 0; i < job->r->nrcpts; i++)
        job->rcpts[i].offered = job->rcpts[i].accepted = false;
    if (is_handed_to_self(&t) || is_too_big(&t) || lacks_utf8(&t))
        return 0;
    smtp_reply_init(&t.reply);
    ret = envelope(&t);
    if (ret == 0)
        ret = deliver_is_probe(job->r) ? rset(&t) : data(&t);
    else if (ret == 1)
        ret = t.data_sent ? data(&t) : rset(&t);
    *lost_early = ret == -1 && !t.any_reply && c->uses > 1;
    smtp_reply_fini(&t.reply);
    return ret;
}
