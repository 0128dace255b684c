/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd_rcpt.c - MAIL and RCPT: paths, parameters, policy, and the queue id at the first accepted recipient. */
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include "base/log.h"
#include "base/num.h"
#include "mail/address.h"
#include "mail/flow.h"
#include "mail/orcpt.h"
#include "qmgr/notify_classes.h"
#include "smtpd/smtpd_int.h"

#define SPACE_KEPT_MS 1000

static void log_illegal(const struct session *s, const char *verb, struct slice addr)
{
    log_warning("Illegal address syntax from %.*s in %s command: <%.*s>", SLICE_FMT(s->namaddr),
                verb, SLICE_FMT(addr));
}

/* The path after "FROM:" or "TO:"; *rest gets the parameters. -1: answered. */
static int take_path(struct session *s, struct slice args, const char *keyword, struct buf *addr,
                     struct slice *rest)
{
    struct err err = ERR_INIT;
    struct slice key = slice_str(keyword);

    if (!slice_case_starts_with(args, key)) {
        smtpd_reply(s, 501, "5.5.4", "Syntax: %s<address>",
                    keyword[0] == 'F' ? "MAIL FROM:" : "RCPT TO:");
        return -1;
    }
    *rest = slice_sub(args, key.len, args.len);
    if (s->g->p.strict_rfc821 && rest->len > 0 && rest->ptr[0] == ' ') {
        smtpd_reply(s, 501, "5.5.4", "Syntax: no space before the address");
        return -1;
    }
    if (address_parse_path(rest, s->g->p.strict_rfc821, true, addr, &err) == -1) {
        smtpd_reply(s, 501, err.dsn[0] != '\0' ? err.dsn : "5.1.3", "%s",
                    err.text[0] != '\0' ? err.text : "Bad address syntax");
        return -1;
    }
    if (route_is_refused_syntax(s->g->route, buf_view(addr))) {
        log_illegal(s, keyword[0] == 'F' ? "MAIL" : "RCPT", buf_view(addr));
        smtpd_reply(s, 501, keyword[0] == 'F' ? "5.1.7" : "5.1.3", "Bad %s address syntax",
                    keyword[0] == 'F' ? "sender" : "recipient");
        return -1;
    }
    if (rest->len > 0 && !ascii_is_space((unsigned char) rest->ptr[0])) {
        smtpd_reply(s, 501, "5.5.4", "Bad text after the address");
        return -1;
    }
    return 0;
}

int smtpd_check_utf8(struct session *s, struct slice addr, bool requested, const char *verb)
{
    bool is_sender = verb[0] == 'M';

    if (slice_is_ascii(addr) || requested)
        return 0;
    if (!slice_is_ascii(address_domain(addr))) {
        log_illegal(s, verb, addr);
        smtpd_reply(s, 501, is_sender ? "5.1.7" : "5.1.3", "Bad %s address syntax",
                    is_sender ? "sender" : "recipient");
        return -1;
    }
    if (s->g->p.smtputf8_enable && s->g->p.strict_smtputf8) {
        smtpd_reply(s, 553, "5.6.7", "Must declare SMTPUTF8 to send unicode address");
        return -1;
    }
    return 0;
}

/*
 * Asked of the file system once in a while, for all sessions: a disk that fills in between is still noticed when the message is
 * written.
 */
static bool has_space(struct smtpd *g, int64_t size)
{
    int64_t wanted = g->p.queue_minfree > size ? g->p.queue_minfree : size;
    int64_t now_us = mono_now().us;
    struct statvfs st;

    if (now_us - atomic_load(&g->space_asked_us) > SPACE_KEPT_MS * 1000 ||
        atomic_load(&g->space_bytes) < wanted) {
        /* the current directory is the queue's */
        if (statvfs(".", &st) == -1)
            return true;
        atomic_store(&g->space_bytes, (int64_t) (st.f_bavail * st.f_frsize));
        atomic_store(&g->space_asked_us, now_us);
    }
    return atomic_load(&g->space_bytes) >= wanted;
}

static int bad_parameter(struct session *s, struct slice word)
{
    smtpd_reply(s, 555, "5.5.4", "Unsupported option: %.*s", SLICE_FMT(slice_sub(word, 0, 100)));
    return -1;
}

static int mail_parameter(struct session *s, struct slice word)
{
    ptrdiff_t eq = slice_find(word, '=');
    struct slice name = slice_sub(word, 0, eq == -1 ? word.len : (size_t) eq);
    struct slice value = eq == -1 ? SLICE_EMPTY : slice_sub(word, (size_t) eq + 1, word.len);
    struct transaction *t = &s->t;
    int64_t size;

    if (slice_caseeq_str(name, "SIZE")) {
        if (num_parse_i64(value, 0, INT64_MAX, &size, NULL) == -1) {
            smtpd_reply(s, 501, "5.5.4", "Bad message size syntax");
            return -1;
        }
        if (s->g->p.message_size_limit > 0 && size > s->g->p.message_size_limit) {
            smtpd_log_verdict(s, "reject", "MAIL",
                              SLICE_LIT("552 5.3.4 Message size exceeds fixed limit"), SLICE_EMPTY);
            s->troubles |= NOTIFY_POLICY;
            smtpd_reply(s, 552, "5.3.4", "Message size exceeds fixed limit");
            return -1;
        }
        if (!has_space(s->g, size)) {
            s->troubles |= NOTIFY_RESOURCE;
            smtpd_reply(s, 452, "4.3.1", "Insufficient system storage");
            return -1;
        }
    } else if (slice_caseeq_str(name, "BODY")) {
        if (slice_caseeq_str(value, "8BITMIME"))
            t->flags |= MAIL_8BITMIME;
        else if (!slice_caseeq_str(value, "7BIT"))
            return bad_parameter(s, word);
    } else if (slice_caseeq_str(word, "SMTPUTF8") && s->g->p.smtputf8_enable) {
        t->flags |= MAIL_SMTPUTF8;
    } else if (slice_caseeq_str(name, "RET")) {
        /* once at most, as those of RCPT (RFC 3461, 4) */
        if (t->dsn_ret == 0 && slice_caseeq_str(value, "FULL")) {
            t->dsn_ret = DSN_RET_FULL;
        } else if (t->dsn_ret == 0 && slice_caseeq_str(value, "HDRS")) {
            t->dsn_ret = DSN_RET_HDRS;
        } else {
            smtpd_reply(s, 501, "5.5.4", "Bad RET parameter syntax");
            return -1;
        }
    } else if (slice_caseeq_str(name, "ENVID")) {
        struct buf id = BUF_INIT(100);
        int ret = t->envid.len > 0 ? -1 : xtext_decode(value, &id);

        if (ret == 0 && id.len == 0)
            ret = -1;
        if (ret == 0)
            t->envid = arena_slice(t->arena, buf_view(&id));
        buf_fini(&id);
        if (ret == -1) {
            smtpd_reply(s, 501, "5.5.4", "Bad ENVID parameter syntax");
            return -1;
        }
    } else if (
        !slice_caseeq_str(
            name,
            "AUTH")) { /* RFC 4954: a server without AUTH may still be given it by relays; it says nothing here */
        return bad_parameter(s, word);
    }
    return 0;
}

static struct policy_query query(const struct session *s, struct slice rcpt, bool has_rcpt)
{
    return (struct policy_query){
        .client_name = s->name,
        .client_addr = s->addr,
        .client_reverse_name = s->reverse_name,
        .helo = s->helo,
        .sender = s->t.sender,
        .recipient = rcpt,
        .etrn_domain = s->etrn_domain,
        .proto = s->esmtp ? SLICE_LIT("ESMTP") : SLICE_LIT("SMTP"),
        .name_verified = s->name_verified,
        .name_tempfail = s->name_tempfail,
        .has_sender = s->t.begun,
        .has_recipient = has_rcpt,
        .rcpt_count = s->t.rcpts.len,
        .pipelined = s->in_at < s->in.len,
    };
}

struct effects {
    struct session *s;
    const char *stage;
    struct slice rcpt;
};

/* HOLD, FILTER and the like: noted in the transaction, and in the log. */
static void effect(void *arg, enum policy_effect e, const char *text)
{
    static const char *const names[] = {"hold", "discard", "filter", "redirect",       "prepend",
                                        "bcc",  "warn",    "info",   "reject_warning", "permit"};
    const struct effects *x = arg;
    struct transaction *t = &x->s->t;

    smtpd_log_verdict(x->s, names[e], x->stage, slice_str(text), x->rcpt);
    if (t->arena == NULL)
        return;
    switch (e) {
    case EFFECT_HOLD:
        t->hold = true;
        break;
    case EFFECT_DISCARD:
        t->discard = true;
        break;
    case EFFECT_FILTER:
        t->filter = slice_str(arena_strdup(t->arena, text));
        break;
    case EFFECT_REDIRECT:
        t->redirect = slice_str(arena_strdup(t->arena, text));
        break;
    case EFFECT_PREPEND:
        vec_push(&t->prepends, arena_strdup(t->arena, text));
        break;
    case EFFECT_BCC:
        vec_push(&t->bccs, arena_strdup(t->arena, text));
        break;
    case EFFECT_WARN:
    case EFFECT_INFO:
    case EFFECT_REJECT_WARNING:
    case EFFECT_PERMIT:
        break;
    }
}

bool smtpd_judge(struct session *s, const enum policy_list *lists, size_t n, const char *stage,
                 struct slice rcpt, bool has_rcpt)
{
    struct policy_query q = query(s, rcpt, has_rcpt);
    struct effects x = {s, stage, rcpt};
    struct policy_result r;

    for (size_t i = 0; i < n; i++) {
        policy_evaluate(s->g->policy, lists[i], &q, &s->policy, &r, effect, &x, NULL, NULL);
        if (!smtpd_apply(s, &r, stage, rcpt))
            return false;
    }
    return true;
}

void smtpd_mail(struct session *s, struct slice args)
{
    struct buf addr = BUF_INIT(MAIL_ADDR_MAX);
    struct slice rest;
    struct slice word;
    static const enum policy_list lists[] = {LIST_CLIENT, LIST_HELO, LIST_SENDER};

    if (s->t.begun) {
        smtpd_reply(s, 503, "5.5.1", "Error: nested MAIL command");
        return;
    }
    if (s->g->p.helo_required && s->helo.len == 0) {
        smtpd_reply(s, 503, "5.5.1", "Error: send HELO/EHLO first");
        return;
    }
    if (take_path(s, args, "FROM:", &addr, &rest) == -1)
        goto done;
    smtpd_reset_transaction(s);
    s->t.arena = arena_new(1024);
    s->t.sender = arena_slice(s->t.arena, buf_view(&addr));
    s->t.begun = true;
    while (slice_token(&rest, " \t", &word))
        if (mail_parameter(s, word) == -1)
            goto refused;
    if (smtpd_check_utf8(s, s->t.sender, (s->t.flags & MAIL_SMTPUTF8) != 0, "MAIL") == -1)
        goto refused;
    if (!has_space(s->g, 0)) {
        s->troubles |= NOTIFY_RESOURCE;
        smtpd_reply(s, 452, "4.3.1", "Insufficient system storage");
        goto refused;
    }
    s->policy = (struct policy_state){0};
    if (!policy_delays_reject(s->g->policy) &&
        !smtpd_judge(s, lists + 2, 1, "MAIL", SLICE_EMPTY, false))
        goto refused;
    s->t.arrival_us = (uint64_t) wall_now().us;
    smtpd_reply(s, 250, "2.1.0", "Ok");
    goto done;
refused:
    smtpd_reset_transaction(s);
done:
    buf_fini(&addr);
}

/* Kept in the form that any server takes, whatever the client has written. */
static int take_orcpt(struct session *s, struct slice value, struct mail_rcpt *r)
{
    struct buf plain = BUF_INIT(MAIL_ADDR_MAX);
    struct buf ascii = BUF_INIT(MAIL_ADDR_MAX);
    struct slice type;
    int ret = r->orcpt.len > 0 ? -1 : orcpt_parse(value, &type, &plain);

    if (ret == 0 && !slice_is_ascii(value)) {
        buf_puts(&ascii, "utf-8;");
        orcpt_encode_utf8(buf_view(&plain), &ascii);
        value = buf_view(&ascii);
        ret = buf_ok(&ascii) ? 0 : -1;
    }
    if (ret == 0)
        r->orcpt = arena_slice(s->t.arena, value);
    else
        smtpd_reply(s, 501, "5.5.4", "Error: Bad ORCPT parameter syntax");
    buf_fini(&plain);
    buf_fini(&ascii);
    return ret;
}

static int rcpt_parameter(struct session *s, struct slice word, struct mail_rcpt *r)
{
    ptrdiff_t eq = slice_find(word, '=');
    struct slice name = slice_sub(word, 0, eq == -1 ? word.len : (size_t) eq);
    struct slice value = eq == -1 ? SLICE_EMPTY : slice_sub(word, (size_t) eq + 1, word.len);
    struct err err = ERR_INIT;

    if (slice_caseeq_str(name, "NOTIFY")) {
        if (r->notify != 0 || dsn_notify_parse(value, &r->notify, &err) == -1) {
            smtpd_reply(s, 501, "5.5.4", "Error: Bad NOTIFY parameter syntax");
            return -1;
        }
    } else if (slice_caseeq_str(name, "ORCPT")) {
        return take_orcpt(s, value, r);
    } else {
        return bad_parameter(s, word);
    }
    return 0;
}

static void accept_rcpt(struct session *s, const struct mail_rcpt *r)
{
    struct transaction *t = &s->t;
    struct mail_rcpt *own = arena_alloc(t->arena, sizeof(*own));

    *own = *r;
    own->addr = arena_slice(t->arena, r->addr);
    vec_push(&t->rcpts, own);
    if (t->queue_id[0] != '\0')
        return;
    queue_id_new(s->g->p.long_queue_ids, t->queue_id);
    log_event(LOG_LEVEL_INFO, "client", slice_str(t->queue_id), LF_TEXT("client", s->namaddr));
}

void smtpd_rcpt(struct session *s, struct slice args)
{
    const bool relay_first = s->g->p.relay_first;
    const enum policy_list all[] = {LIST_CLIENT, LIST_HELO, LIST_SENDER,
                                    relay_first ? LIST_RELAY : LIST_RECIPIENT,
                                    relay_first ? LIST_RECIPIENT : LIST_RELAY};
    struct buf addr = BUF_INIT(MAIL_ADDR_MAX);
    struct mail_rcpt r = {0};
    struct slice rest;
    struct slice word;

    if (!s->t.begun) {
        smtpd_reply(s, 503, "5.5.1", "Error: need MAIL command");
        return;
    }
    if (s->t.bytes > 0 || s->t.intake != NULL) {
        smtpd_reply(s, 503, "5.5.1", "Error: RCPT after BDAT");
        return;
    }
    if (take_path(s, args, "TO:", &addr, &rest) == -1 ||
        smtpd_check_utf8(s, buf_view(&addr), (s->t.flags & MAIL_SMTPUTF8) != 0, "RCPT") == -1)
        goto done;
    if (addr.len == 0) {
        smtpd_reply(s, 501, "5.1.3", "Bad recipient address syntax");
        goto done;
    }
    r.addr = buf_view(&addr);
    while (slice_token(&rest, " \t", &word))
        if (rcpt_parameter(s, word, &r) == -1)
            goto done;
    if ((int64_t) s->t.rcpts.len >= s->g->p.recipient_limit) {
        smtpd_reply(s, 452, "4.5.3", "Error: too many recipients");
        if (++s->t.overshoot < s->g->p.recipient_overshoot_limit)
            s->last_failed = false; /* a client that sends all in one go is not at fault */
        goto done;
    }
    s->policy = (struct policy_state){0};
    if (policy_delays_reject(s->g->policy)) {
        if (!smtpd_judge(s, all, ARRAY_LEN(all), "RCPT", r.addr, true))
            goto done;
    } else if (!smtpd_judge(s, all + 3, 2, "RCPT", r.addr, true)) {
        goto done;
    }
    accept_rcpt(s, &r);
    smtpd_reply(s, 250, "2.1.5", "Ok");
    if (s->t.rcpts.len == 1 && s->g->p.in_flow_delay_s > 0 && flow_must_pause())
        s->wake_at = mono_after_ms(mono_now(), s->g->p.in_flow_delay_s * 1000);
    if (s->wake_at.us != 0 && mono_diff_us(s->wake_at, mono_now()) > 0)
        s->state = STATE_SLEEP; /* that, or a "sleep" restriction */
done:
    buf_fini(&addr);
}
