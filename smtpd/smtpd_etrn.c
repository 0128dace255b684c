/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtpd_etrn.c - ETRN (RFC 1985): a client asks that the mail queued for a domain be tried now. qmgr says whether the domain is one
 * of fast_flush_domains. Replies as the reference gives them: 250, 458, 459, 500, 501, 503, without enhanced codes.
 */
#include "base/log.h"
#include "mail/address.h"
#include "qmgr/queue_client.h"
#include "smtpd/smtpd_int.h"

#define CONNECT_MS 10000

static bool is_domain(struct slice s)
{
    if (s.len > 2 && s.ptr[0] == '[' && s.ptr[s.len - 1] == ']')
        return address_literal_valid(slice_sub(s, 1, s.len - 1));
    return hostname_valid(s);
}

/* -1: it cannot be asked. */
static int ask_qmgr(struct session *s, struct slice domain, bool *is_eligible)
{
    struct proto_queue_op op = {.op = QUEUE_OP_FLUSH_SITE, .arg = domain};
    struct buf path = BUF_INIT(512);
    struct proto_result result;
    struct chan *c;
    struct err err = ERR_INIT;
    int ret = -1;

    worker_service_path(s->worker, "public", "queue_service_name", &path);
    c = proto_connect(buf_cstr(&path), "smtpd", CONNECT_MS, &err);
    if (c != NULL && queue_client_ask(c, PROTO_QUEUE_FLUSH, &op, &result, &err) == 0) {
        *is_eligible = result.status == PROTO_OK;
        if (result.status == PROTO_OK || result.status == PROTO_NOT_FOUND)
            ret = 0;
        else
            err_temporary(&err, "%.*s", SLICE_FMT(result.text));
    }
    if (ret == -1)
        log_warning("ETRN %.*s: %s", SLICE_FMT(domain), err.text);
    chan_free(&c);
    buf_fini(&path);
    return ret;
}

static bool is_permitted(struct session *s, struct slice domain)
{
    static const enum policy_list delayed[] = {LIST_CLIENT, LIST_HELO};
    static const enum policy_list own[] = {LIST_ETRN};
    bool ok;

    s->policy = (struct policy_state){0};
    if (policy_delays_reject(s->g->policy) &&
        !smtpd_judge(s, delayed, ARRAY_LEN(delayed), "ETRN", SLICE_EMPTY, false))
        return false;
    s->etrn_domain = domain;
    ok = smtpd_judge(s, own, ARRAY_LEN(own), "ETRN", SLICE_EMPTY, false);
    s->etrn_domain = SLICE_EMPTY;
    return ok;
}

void smtpd_etrn(struct session *s, struct slice args)
{
    struct slice rest = args;
    struct slice domain = SLICE_EMPTY;
    bool is_eligible;

    if (s->g->p.helo_required && s->helo.len == 0) {
        smtpd_reply(s, 503, "", "Error: send HELO/EHLO first");
        return;
    }
    if (s->t.begun) {
        smtpd_reply(s, 503, "", "Error: MAIL transaction in progress");
        return;
    }
    if (!slice_token(&rest, " \t", &domain) || slice_trim(rest, NULL).len > 0) {
        smtpd_reply(s, 500, "", "Syntax: ETRN domain");
        return;
    }
    if (domain.ptr[0] == '@' || domain.ptr[0] == '#') /* subdomains too, a queue: as the domain */
        domain = slice_sub(domain, 1, domain.len);
    if (!is_domain(domain)) {
        smtpd_reply(s, 501, "", "Error: invalid parameter syntax");
        return;
    }
    if (!is_permitted(s, domain))
        return;
    if (ask_qmgr(s, domain, &is_eligible) == -1) {
        smtpd_reply(s, 458, "", "Unable to queue messages");
    } else if (!is_eligible) {
        log_warning("reject: ETRN %.*s... from %.*s", SLICE_FMT(slice_sub(domain, 0, 100)),
                    SLICE_FMT(s->namaddr));
        smtpd_reply(s, 459, "", "<%.*s>: service unavailable", SLICE_FMT(domain));
    } else {
        smtpd_reply(s, 250, "", "Queuing started");
    }
}
