/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp_transaction.c - one mail transaction (RFC 5321 3.3), with command pipelining (RFC 2920) where offered.
 *
 * Recipients keep what happened to them: final (sent, or refused for good), or a reason to be tried elsewhere. After the
 * final dot has been sent and no reply was read, the outcome is *uncertain*: it is told as such, never as a plain failure.
 *
 * No thread waits for a reply: the transaction says until when it waits, and goes on when something was read. Sending may block.
 */
#include "smtp/smtp_int.h"

#include <stdlib.h>

#include "base/poller.h"
#include "mail/address.h"
#include "mail/orcpt.h"

#define PIPELINE_BATCH                                                                             \
    100 /* commands sent before their replies are read: bounded, so that neither side can block */

static void judge_open(struct smtp_job *job, struct smtp_conn *c, const struct smtp_reply *r,
                       const char *command, bool accepted_only)
{
    for (size_t i = 0; i < job->r->nrcpts; i++)
        if (!job->rcpts[i].final && (accepted_only ? job->rcpts[i].accepted : true))
            smtp_judge(job, c, i, r, command);
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

/*
 * Which reply comes next. What was sent before it:
 *
 * NEW      nothing: the transaction has not begun
 * MAIL     MAIL; if pipelined, the first recipients, too, and DATA if these are all
 * RCPT     a recipient, which is the first that has no reply
 * DATA     DATA; every recipient has its reply
 * CONTENT  the message with its final dot
 * EMPTY    a message of nothing, as no recipient was accepted
 * RSET     RSET, with which the transaction ends
 *
 * NEW is left by smtp_transaction_go(), the others by their function in on_reply[].
 */
enum state { ST_NEW, ST_MAIL, ST_RCPT, ST_DATA, ST_CONTENT, ST_EMPTY, ST_RSET };

/* What a reply leads to. */
enum next {
    NEXT_REPLY, /* the reply of the new state, once what is to be sent has gone out */
    NEXT_KEEP,  /* the transaction is over */
    NEXT_BREAK, /* it is, and so is the connection */
};

struct smtp_transaction {
    struct smtp_job *job;
    struct smtp_conn *c;
    struct smtp_reply reply;
    struct err err;
    enum state state;
    bool pipelined;
    bool mail_refused;
    bool data_sent;   /* DATA is on its way */
    bool is_sent;     /* something was, and no reply was looked for since */
    size_t next_rcpt; /* the first one that was not offered yet */
    size_t answered;  /* those before it have their replies */
    size_t accepted;
    uint64_t received; /* by the connection, when the deadline was set */
    struct mono_time deadline;
};

/* I/O trouble: what was being done when the connection broke. */
static enum next broken(struct smtp_transaction *t, enum smtp_io io, const char *doing)
{
    smtp_io_explain(t->c, io, doing, &t->err);
    smtp_job_defer(t->job, &t->err, slice_str(t->c->host), buf_view(&t->c->relay), false);
    return NEXT_BREAK;
}

static enum next rset(struct smtp_transaction *t)
{
    smtp_conn_put(t->c, "RSET\r\n");
    t->state = ST_RSET;
    return NEXT_REPLY;
}

/* The next recipients: all that may be under way at once; and DATA, if these are the last and the server need not be asked first. */
static void put_rcpts(struct smtp_transaction *t)
{
    struct deliver_request *r = t->job->r;
    size_t limit = t->pipelined ? PIPELINE_BATCH : 1;

    for (size_t n = 0; t->next_rcpt < r->nrcpts && n < limit; t->next_rcpt++) {
        struct smtp_rcpt *rcpt = &t->job->rcpts[t->next_rcpt];

        if (rcpt->final)
            continue;
        put_rcpt(t->job, t->c, t->next_rcpt);
        rcpt->offered = true;
        n++;
    }
    if (t->pipelined && t->next_rcpt == r->nrcpts && !deliver_is_probe(r)) {
        smtp_conn_put(t->c, "DATA\r\n");
        t->data_sent = true;
    }
}

/* MAIL, or a recipient, has its reply: what comes now. */
static enum next go_on(struct smtp_transaction *t)
{
    size_t nrcpts = t->job->r->nrcpts;

    for (;;) {
        while (t->answered < t->next_rcpt && !t->job->rcpts[t->answered].offered)
            t->answered++;
        if (t->answered < t->next_rcpt) {
            t->state = ST_RCPT;
            return NEXT_REPLY;
        }
        if (t->data_sent)
            break;
        if (t->mail_refused)
            return rset(t);
        if (t->next_rcpt == nrcpts) {
            if (deliver_is_probe(t->job->r) || t->accepted == 0)
                return rset(t);
            smtp_conn_put(t->c, "DATA\r\n");
            break;
        }
        put_rcpts(t);
    }
    t->state = ST_DATA;
    return NEXT_REPLY;
}

static enum next on_mail(struct smtp_transaction *t, enum smtp_io io)
{
    if (io != SMTP_IO_OK)
        return broken(t, io, "sending MAIL FROM");
    if (t->reply.code / 100 != 2) {
        judge_open(t->job, t->c, &t->reply, "MAIL FROM command", false);
        t->mail_refused = true;
    }
    return go_on(t);
}

static enum next on_rcpt(struct smtp_transaction *t, enum smtp_io io)
{
    size_t i = t->answered;

    if (io != SMTP_IO_OK)
        return t->mail_refused ? NEXT_BREAK : broken(t, io, "sending RCPT TO");
    t->answered++;
    if (t->mail_refused) /* an echo of that */
        return go_on(t);
    if (t->reply.code / 100 == 2) {
        t->job->rcpts[i].accepted = true;
        t->accepted++;
        if (deliver_is_probe(t->job->r)) /* that is all there is to know */
            smtp_judge(t->job, t->c, i, &t->reply, "RCPT TO command");
    } else {
        smtp_judge(t->job, t->c, i, &t->reply, "RCPT TO command");
    }
    return go_on(t);
}

static enum next on_data(struct smtp_transaction *t, enum smtp_io io)
{
    const struct smtp_params *p = &t->job->s->p;
    bool to_7bit;

    if (io != SMTP_IO_OK)
        return broken(t, io, "sending DATA command");
    if (t->accepted == 0) {
        if (t->reply.code / 100 != 3)
            return rset(t);
        /* it wants data although nobody is there to get them: an empty message, which it must refuse */
        smtp_conn_put(t->c, ".\r\n");
        t->state = ST_EMPTY;
        return NEXT_REPLY;
    }
    if (t->reply.code / 100 != 3) {
        judge_open(t->job, t->c, &t->reply, "DATA command", true);
        return t->reply.code == 421 ? NEXT_BREAK : rset(t);
    }
    to_7bit = (t->c->features & SMTP_FEATURE_8BITMIME) == 0 && !p->disable_mime_conversion &&
              (t->job->r->msg.flags & MAIL_FACT_8BIT) != 0;
    io = smtp_conn_send_content(t->c, t->job->r, buf_view(&t->job->header), to_7bit,
                                p->line_length_limit, p->data_xfer_timeout_s);
    if (io != SMTP_IO_OK) /* a server that hangs up in the middle often says why first */
        return broken(t, io, "sending message body");
    t->is_sent = true;
    t->state = ST_CONTENT;
    return NEXT_REPLY;
}

static enum next on_content(struct smtp_transaction *t, enum smtp_io io)
{
    if (io == SMTP_IO_OK) {
        judge_open(t->job, t->c, &t->reply, "end of DATA command", true);
        return t->reply.code == 421 || !smtp_conn_content_taken(t->c) ? NEXT_BREAK : NEXT_KEEP;
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
    return NEXT_BREAK;
}

static enum next on_empty(struct smtp_transaction *t, enum smtp_io io)
{
    (void) t;
    return io == SMTP_IO_OK ? NEXT_KEEP : NEXT_BREAK;
}

static enum next on_rset(struct smtp_transaction *t, enum smtp_io io)
{
    return io == SMTP_IO_OK && t->reply.code == 250 ? NEXT_KEEP : NEXT_BREAK;
}

static enum next (*const on_reply[])(struct smtp_transaction *t, enum smtp_io io) = {
    [ST_MAIL] = on_mail,       [ST_RCPT] = on_rcpt,   [ST_DATA] = on_data,
    [ST_CONTENT] = on_content, [ST_EMPTY] = on_empty, [ST_RSET] = on_rset,
};

/* For the reply that comes next. */
static int64_t timeout_of(const struct smtp_transaction *t)
{
    const struct smtp_params *p = &t->job->s->p;

    switch (t->state) {
    case ST_NEW:
    case ST_MAIL:
        return p->mail_timeout_s;
    case ST_RCPT:
        return p->rcpt_timeout_s;
    case ST_DATA:
        return p->data_init_timeout_s;
    case ST_CONTENT:
    case ST_EMPTY:
        return p->data_done_timeout_s;
    case ST_RSET:
        break;
    }
    return p->rset_timeout_s;
}

/* This host's server cannot take the message: that is told of all recipients, and nothing is said to it. */
static void refuse(struct smtp_transaction *t, struct dsn_status *st)
{
    for (size_t i = 0; i < t->job->r->nrcpts; i++) {
        if (t->job->rcpts[i].final)
            continue;
        deliver_status(t->job->r, i, buf_view(&t->c->relay), t->c->uses, st, false);
        t->job->rcpts[i].final = true;
    }
}

static bool is_too_big(struct smtp_transaction *t)
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

static bool lacks_utf8(struct smtp_transaction *t)
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
static bool is_handed_to_self(const struct smtp_transaction *t)
{
    struct err err = ERR_INIT;

    if (t->job->r->msg.handover == 0 || !t->c->is_self)
        return false;
    err_set(&err, ERR_TEMPORARY, "4.4.6", "host %.*s is this system itself",
            SLICE_FMT(buf_view(&t->c->namaddr)));
    smtp_job_defer(t->job, &err, slice_str(t->c->host), buf_view(&t->c->relay), true);
    return true;
}

struct smtp_transaction *smtp_transaction_new(struct smtp_job *job, struct smtp_conn *c)
{
    struct smtp_transaction *t = xcalloc(1, sizeof(*t));

    t->job = job;
    t->c = c;
    smtp_reply_init(&t->reply);
    c->uses++;
    t->pipelined = (c->features & SMTP_FEATURE_PIPELINING) != 0;
    for (size_t i = 0; i < job->r->nrcpts; i++)
        job->rcpts[i].offered = job->rcpts[i].accepted = false;
    return t;
}

void smtp_transaction_free(struct smtp_transaction **t)
{
    if (*t == NULL)
        return;
    smtp_reply_fini(&(*t)->reply);
    free(*t);
    *t = NULL;
}

static void begin(struct smtp_transaction *t)
{
    put_mail(t->job, t->c);
    if (t->pipelined)
        put_rcpts(t);
    t->state = ST_MAIL;
}

/* Sends what is to be sent, and looks for a reply; only if nothing was sent, as it cannot be there yet. AGAIN: it is to be waited for. */
static enum smtp_io next_reply(struct smtp_transaction *t, unsigned happened)
{
    int64_t timeout_s = timeout_of(t);
    bool has_sent = t->is_sent || t->c->out.len > 0;
    enum smtp_io io = smtp_conn_flush(t->c, timeout_s);

    t->is_sent = false;
    if (io == SMTP_IO_OK)
        io = has_sent ? SMTP_IO_AGAIN : smtp_conn_reply_now(t->c, &t->reply);
    if (io != SMTP_IO_AGAIN)
        return io;
    /* each piece of a reply has all of the time */
    if (has_sent || t->received != t->c->received) {
        t->received = t->c->received;
        t->deadline = mono_after_ms(mono_now(), timeout_s * 1000);
    } else if ((happened & POLLER_TIMEOUT) != 0) {
        return SMTP_IO_TIMEOUT;
    } else if ((happened & POLLER_HANGUP) != 0) {
        return SMTP_IO_LOST; /* that it gave nothing to read says that it cannot be waited for */
    }
    return SMTP_IO_AGAIN;
}

enum smtp_progress smtp_transaction_go(struct smtp_transaction *t, struct deliver_wait *wait)
{
    if (t->state == ST_NEW) {
        if (is_handed_to_self(t) || is_too_big(t) || lacks_utf8(t))
            return SMTP_ENDED;
        begin(t);
    }
    for (;;) {
        enum smtp_io io = next_reply(t, wait->happened);

        if (io == SMTP_IO_AGAIN) {
            wait->fd = t->c->fd;
            wait->deadline = t->deadline;
            return SMTP_WAITS;
        }
        switch (on_reply[t->state](t, io)) {
        case NEXT_REPLY:
            break;
        case NEXT_KEEP:
            return SMTP_ENDED;
        case NEXT_BREAK:
            return SMTP_BROKEN;
        }
        wait->happened = 0;
    }
}
