/* SPDX-License-Identifier: Apache-2.0 */
/* local_forward.c - sending a message on: a new one in the queue, with Delivered-To: in front, so that loops are seen. */
#include <stdlib.h>

#include "base/log.h"
#include "local/local_int.h"
#include "mail/queue_id.h"

#define RESULT_TIMEOUT_MS 600000

static int forward(struct local_job *j, struct err *err)
{
    const struct proto_deliver *m = &j->r->msg;
    char id[QUEUE_ID_MAX + 1];
    struct mail_envelope env = {.sender = j->sender,
                                .arrival_us = m->arrival_us,
                                .dsn_ret = m->dsn_ret,
                                .dsn_envid = m->dsn_envid,
                                .flags = (m->flags & (MAIL_8BITMIME | MAIL_SMTPUTF8)) |
                                         MAIL_RECEIVED_DONE | MAIL_FORWARDED | MAIL_LOCAL_ORIGIN,
                                .client_name = m->client_name,
                                .client_addr = m->client_addr,
                                .helo = m->helo,
                                .protocol = m->protocol};
    struct proto_result result;
    struct intake *in;
    struct buf line = BUF_INIT(4096);
    char *piece = xmalloc(65536);
    uint64_t at = 0;
    int ret = -1;

    queue_id_new(j->l->long_ids, id);
    env.queue_id = slice_str(id);
    in = intake_begin(j->l->intake, &env, err);
    if (in == NULL)
        goto done;
    for (size_t i = 0; i < j->forward.len; i++) {
        struct mail_rcpt r = {.addr = slice_str(j->forward.items[i]),
                              .orig = j->rcpt->orig.len > 0 ? j->rcpt->orig : j->rcpt->addr,
                              .orcpt = j->rcpt->orcpt,
                              .notify = j->rcpt->notify & ~(uint32_t) DSN_NOTIFY_SUCCESS};

        if (intake_rcpt(in, &r, err) == -1)
            goto done;
    }
    buf_printf(&line, "Received: by %s (%s)\r\n\tid %s; ", j->l->myhostname, j->l->mail_name, id);
    wall_rfc5322(wall_now(), &line);
    buf_puts(&line, "\r\n");
    if (local_has_word(j->l->p.prepend_delivered_header, "forward"))
        buf_printf(&line, "Delivered-To: %.*s\r\n", SLICE_FMT(j->delivered_to));
    if (intake_data(in, buf_view(&line), err) == -1)
        goto done;
    while (at < m->content_bytes) {
        ssize_t n = deliver_content(j->r, at, piece, 65536, err);

        if (n <= 0 || intake_data(in, slice_of(piece, (size_t) n), err) == -1)
            goto done;
        at += (uint64_t) n;
    }
    if (intake_end(in, err) == -1 || intake_wait(in, RESULT_TIMEOUT_MS, &result, err) != CHAN_OK)
        goto done;
    if (result.status != PROTO_OK) {
        err_set(err, result.status == PROTO_PERMANENT ? ERR_PERMANENT : ERR_TEMPORARY,
                result.status == PROTO_PERMANENT ? "5.3.0" : "4.3.0", "forwarding: %.*s",
                SLICE_FMT(result.text));
        goto done;
    }
    j->delivered++;
    buf_reset(&j->how);
    buf_printf(&j->how, "forwarded as %s", id);
    ret = 0;
done:
    intake_free(&in);
    buf_fini(&line);
    free(piece);
    return ret;
}

/* Where it would be sent on to. */
static int would_forward(struct local_job *j)
{
    if (j->how.len == 0) {
        buf_puts(&j->how, "forwards to ");
        for (size_t i = 0; i < j->forward.len; i++)
            buf_printf(&j->how, "%s%s", i > 0 ? ", " : "", (const char *) j->forward.items[i]);
    }
    j->delivered++;
    return 0;
}

int local_forward(struct local_job *j, struct err *err)
{
    return deliver_is_probe(j->r) ? would_forward(j) : forward(j, err);
}
