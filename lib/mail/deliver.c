/* SPDX-License-Identifier: Apache-2.0 */
/* deliver.c - see deliver.h. Everything of a request lies in one arena. */
#include "mail/deliver.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/log.h"

#define REST_TIMEOUT_MS 60000 /* for the frames after the first */
#define FILTERED_MAX    (1U << 20)

/* The request with what its users need not see. */
struct request {
    struct deliver_request r;
    struct arena *arena;
    size_t cap;
};

static void copy(struct arena *a, struct slice *s)
{
    if (s->len > 0)
        *s = arena_slice(a, *s);
}

static int take_head(struct request *q, struct frame *f, struct err *err)
{
    struct proto_deliver *m = &q->r.msg;

    q->r.fd = f->fd;
    f->fd = -1;
    if (proto_decode(f, &msg_deliver, m, err) == -1)
        return -1;
    if (q->r.fd == -1)
        return err_input(err, "delivery request without the content's descriptor");
    struct slice *strings[] = {&m->queue_id,    &m->nexthop,     &m->sender,        &m->dsn_envid,
                               &m->client_name, &m->client_addr, &m->client_port,   &m->helo,
                               &m->protocol,    &m->sasl_method, &m->sasl_username, &m->sasl_sender,
                               &m->message_id};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        copy(q->arena, strings[i]);
    return 0;
}

static int take_rcpt(struct request *q, const struct frame *f, struct err *err)
{
    struct proto_deliver_rcpt *d;

    if (q->r.nrcpts == MAIL_RECIPIENTS_MAX)
        return err_input(err, "delivery request with too many recipients");
    if (q->r.nrcpts == q->cap) {
        q->cap = q->cap == 0 ? 4 : q->cap * 2;
        q->r.rcpts = xrealloc(q->r.rcpts, q->cap * sizeof(*q->r.rcpts));
    }
    q->r.rcpts[q->r.nrcpts] = (struct deliver_rcpt){.done = false};
    d = &q->r.rcpts[q->r.nrcpts].r;
    if (proto_decode(f, &msg_deliver_rcpt, d, err) == -1)
        return -1;
    copy(q->arena, &d->addr);
    copy(q->arena, &d->orig);
    copy(q->arena, &d->orcpt);
    q->r.nrcpts++;
    return 0;
}

enum chan_result deliver_read(struct chan *c, int timeout_ms, struct deliver_request **out,
                              struct err *err)
{
    struct request *q;
    struct frame f;
    enum chan_result res = proto_get_wait(c, &f, timeout_ms, err);

    if (res != CHAN_OK)
        return res;
    q = xcalloc(1, sizeof(*q));
    q->arena = arena_new(2048);
    q->r.chan = c;
    q->r.fd = -1;
    q->r.agent_start = mono_now();
    q->r.delay_resolution = 2;
    if (take_head(q, &f, err) == -1)
        goto bad;
    for (;;) {
        res = proto_get_wait(c, &f, REST_TIMEOUT_MS, err);
        if (res == CHAN_EOF || res == CHAN_AGAIN) {
            err_temporary(err, "delivery request is cut off");
            goto bad;
        }
        if (res != CHAN_OK)
            goto bad;
        if (f.fd != -1)
            fd_close(&f.fd);
        if (f.type == PROTO_END)
            break;
        if (take_rcpt(q, &f, err) == -1)
            goto bad;
    }
    *out = &q->r;
    return CHAN_OK;
bad:
    if (f.fd != -1)
        fd_close(&f.fd);
    *out = &q->r;
    deliver_free(out);
    return CHAN_ERROR;
}

void deliver_free(struct deliver_request **r)
{
    struct request *q = (struct request *) *r; /* the request is its first member */

    if (q == NULL)
        return;
    fd_close(&q->r.fd);
    free(q->r.rcpts);
    arena_free(&q->arena);
    free(q);
    *r = NULL;
}

ssize_t deliver_content(const struct deliver_request *r, uint64_t from, void *data, size_t len,
                        struct err *err)
{
    ssize_t n;

    if (from >= r->msg.content_bytes)
        return 0;
    if (len > r->msg.content_bytes - from)
        len = (size_t) (r->msg.content_bytes - from);
    n = fd_pread_all(r->fd, data, len, (off_t) (r->msg.content_offset + from));
    if (n == -1)
        return err_sys(err, "read the message");
    if ((size_t) n < len)
        return err_temporary(err, "the message is shorter than the queue says");
    return n;
}

void deliver_delay_print(int64_t us, int resolution_limit, struct buf *out)
{
    int64_t scale = 1000000; /* units of 10^-places s are us * 10^places / 1000000 */
    int places = 0;
    int64_t value;

    if (us < 0)
        us = 0;
    /* as many places as give two significant digits, up to the limit */
    while (places < resolution_limit && us < 10 * scale) {
        places++;
        scale /= 10;
    }
    value = (us + scale / 2) / scale;
    for (; places > 0 && value % 10 == 0; places--)
        value /= 10;
    if (places == 0) {
        buf_printf(out, "%lld", (long long) value);
        return;
    }
    int64_t unit = 1;
    for (int i = 0; i < places; i++)
        unit *= 10;
    buf_printf(out, "%lld.%0*lld", (long long) (value / unit), places, (long long) (value % unit));
}

static void print_delays(const struct deliver_request *r, struct buf *delay, struct buf *delays)
{
    int64_t now = wall_now().us;
    struct mono_time mono = mono_now();
    int64_t in_agent = mono_diff_us(mono, r->agent_start);
    int64_t taken = now - in_agent; /* wall clock, when the agent took it */
    int64_t connect = r->connected.us != 0 ? mono_diff_us(r->connected, r->agent_start) : in_agent;
    const int64_t parts[4] = {(int64_t) (r->msg.queued_us - r->msg.arrival_us),
                              taken - (int64_t) r->msg.queued_us, connect, in_agent - connect};

    deliver_delay_print(now - (int64_t) r->msg.arrival_us, r->delay_resolution, delay);
    for (size_t i = 0; i < 4; i++) {
        if (i > 0)
            buf_putc(delays, '/');
        deliver_delay_print(parts[i], r->delay_resolution, delays);
    }
}

bool deliver_is_probe(const struct deliver_request *r)
{
    return (r->msg.flags & MAIL_PROBE) != 0;
}

const char *deliver_status_name(uint32_t flags, enum outcome outcome)
{
    if ((flags & MAIL_PROBE) != 0)
        return outcome == OUTCOME_SENT ? "deliverable" : "undeliverable";
    return outcome_name(outcome);
}

static void answer(struct deliver_request *r, size_t rcpt, struct slice relay, unsigned conn_use,
                   const struct dsn_status *status, bool site_dead)
{
    struct deliver_rcpt *d = &r->rcpts[rcpt];
    bool soft = (r->soft_bounce || r->msg.handover != 0) && status->outcome == OUTCOME_BOUNCED &&
                !deliver_is_probe(r);
    char code[DSN_CODE_MAX + 1];
    int code_len =
        snprintf(code, sizeof(code), "%.*s", SLICE_FMT(slice_sub(status->code, 0, DSN_CODE_MAX)));
    struct proto_status msg = {
        .index = d->r.index,
        .outcome = (uint32_t) (soft ? OUTCOME_DEFERRED : status->outcome),
        .code = slice_of(code, (size_t) code_len),
        .text = slice_sub(status->text, 0, 4096),
        .diag_type = slice_sub(status->diag_type, 0, 64),
        .diag_text = slice_sub(status->diag_text, 0, 4096),
        .mta_name = slice_sub(status->mta_name, 0, 512),
        .site_dead = site_dead,
        .notify_passed = status->notify_passed,
    };
    const char *word = soft ? "SOFTBOUNCE" : deliver_status_name(r->msg.flags, status->outcome);
    struct buf delay = BUF_INIT(64);
    struct buf delays = BUF_INIT(256);
    struct buf uses = BUF_INIT(32);
    struct err err = ERR_INIT;

    d->done = true;
    /* reports of what was done name who did it, those of a failure do not */
    if (status->outcome == OUTCOME_SENT || (r->msg.flags & (MAIL_PROBE | MAIL_TRACE)) != 0)
        msg.relay = slice_sub(relay, 0, 2048);
    if (soft && code[0] == '5')
        code[0] = '4';
    if (conn_use > 1)
        buf_printf(&uses, "%u", conn_use);
    print_delays(r, &delay, &delays);
    log_event(LOG_LEVEL_INFO, "delivery", r->msg.queue_id, LF_ADDR("to", d->r.addr),
              LF_OPT_ADDR("orig_to", slice_eq(d->r.orig, d->r.addr) ? SLICE_EMPTY : d->r.orig),
              LF_TEXT("relay", relay), LF_OPT_TEXT("conn_use", buf_view(&uses)),
              LF_TEXT("delay", buf_view(&delay)), LF_TEXT("delays", buf_view(&delays)),
              LF_TEXT("dsn", msg.code), LF_TEXT("status", slice_str(word)),
              LF_PAREN("text", status->text));
    buf_fini(&delay);
    buf_fini(&delays);
    buf_fini(&uses);
    if (proto_put(r->chan, &msg_status, &msg, -1, &err) == -1)
        log_warning("%.*s: status for the queue manager: %s", SLICE_FMT(r->msg.queue_id), err.text);
}

void deliver_status(struct deliver_request *r, size_t rcpt, struct slice relay, unsigned conn_use,
                    const struct dsn_status *status, bool site_dead)
{
    struct dsn_status filtered = *status;
    struct buf space = BUF_INIT(FILTERED_MAX);

    if (r->rcpts[rcpt].done) {
        log_warning("%.*s: recipient %.*s is answered twice", SLICE_FMT(r->msg.queue_id),
                    SLICE_FMT(r->rcpts[rcpt].r.addr));
        return;
    }
    if (r->filter != NULL)
        r->filter(r->filter_arg, &filtered, &space);
    answer(r, rcpt, relay, conn_use, &filtered, site_dead);
    buf_fini(&space);
}

void deliver_passed(struct deliver_request *r, size_t rcpt, const struct proto_status *status)
{
    struct proto_status msg = *status;
    struct err err = ERR_INIT;

    msg.index = r->rcpts[rcpt].r.index;
    r->rcpts[rcpt].done = true;
    if (proto_put(r->chan, &msg_status, &msg, -1, &err) == -1)
        log_warning("%.*s: status for the queue manager: %s", SLICE_FMT(r->msg.queue_id), err.text);
}

void deliver_status_all(struct deliver_request *r, struct slice relay,
                        const struct dsn_status *status, bool site_dead)
{
    for (size_t i = 0; i < r->nrcpts; i++)
        if (!r->rcpts[i].done)
            deliver_status(r, i, relay, 0, status, site_dead);
}

enum chan_result deliver_done(struct deliver_request *r, struct err *err)
{
    proto_put_empty(r->chan, PROTO_DONE);
    return chan_flush_wait(r->chan, REST_TIMEOUT_MS, err);
}
