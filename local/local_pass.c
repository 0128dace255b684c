/* SPDX-License-Identifier: Apache-2.0 */
/*
 * local_pass.c - mailbox_transport and fallback_transport: another delivery agent gets the recipient, as if the queue manager had
 * sent it there. It logs the delivery; what it says is passed on.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "local/local_int.h"

#define CONNECT_MS 10000
#define ANSWER_MS  3600000 /* an agent has time limits of its own */

static void copy(struct arena *a, struct slice *s)
{
    *s = s->len > 0 ? arena_slice(a, *s) : SLICE_EMPTY;
}

static int send_request(struct local_job *j, struct chan *c, struct slice nexthop, struct err *err)
{
    struct proto_deliver msg = j->r->msg;

    if (nexthop.len > 0)
        msg.nexthop = nexthop;
    msg.reuse = 0;
    if (proto_put(c, &msg_deliver, &msg, j->r->fd, err) == -1 ||
        proto_put(c, &msg_deliver_rcpt, j->rcpt, -1, err) == -1)
        return -1;
    proto_put_empty(c, PROTO_END);
    return chan_flush_wait(c, CONNECT_MS, err) == CHAN_OK ? 0 : -1;
}

/* The agent's word about the one recipient. */
static int read_status(struct local_job *j, struct chan *c, struct err *err)
{
    struct frame f;
    bool told = false;

    while (proto_get_wait(c, &f, ANSWER_MS, err) == CHAN_OK) {
        if (f.fd != -1)
            fd_close(&f.fd);
        if (f.type == PROTO_DONE)
            return told ? 0 : err_temporary(err, "the agent gave no status");
        if (proto_decode(&f, &msg_status, &j->passed, err) == -1)
            return -1;
        struct slice *strings[] = {&j->passed.code,      &j->passed.text,     &j->passed.diag_type,
                                   &j->passed.diag_text, &j->passed.mta_name, &j->passed.relay};
        for (size_t i = 0; i < ARRAY_LEN(strings); i++)
            copy(j->arena, strings[i]);
        told = true;
    }
    if (err->kind == ERR_NONE)
        err_temporary(err, "the agent went away");
    return -1;
}

void local_pass(struct local_job *j, struct slice transport)
{
    ptrdiff_t colon = slice_find(transport, ':');
    struct slice name = slice_sub(transport, 0, colon == -1 ? transport.len : (size_t) colon);
    struct slice nexthop =
        colon == -1 ? SLICE_EMPTY : slice_sub(transport, (size_t) colon + 1, transport.len);
    struct buf path = BUF_INIT(4096);
    struct chan *c = NULL;
    struct err err = ERR_INIT;
    struct err told = ERR_INIT;

    buf_printf(&path, "private/%.*s", SLICE_FMT(name));
    c = proto_connect(buf_cstr(&path), "local", CONNECT_MS, &err);
    if (c == NULL || send_request(j, c, nexthop, &err) == -1 || read_status(j, c, &err) == -1) {
        err_set(&told, ERR_TEMPORARY, "4.3.0", "mail transport unavailable: %.*s: %s",
                SLICE_FMT(name), err.text);
        local_fail(j, &told);
    } else if (j->passed.outcome == OUTCOME_SENT) {
        j->delivered++;
        j->passes++;
        if (j->how.len == 0)
            buf_printf(&j->how, "delivered by %.*s", SLICE_FMT(name));
    } else {
        j->passes++;
        err_set(&told, j->passed.outcome == OUTCOME_BOUNCED ? ERR_PERMANENT : ERR_TEMPORARY, "",
                "%.*s", SLICE_FMT(j->passed.text));
        (void) snprintf(told.dsn, sizeof(told.dsn), "%.*s", SLICE_FMT(j->passed.code));
        local_fail(j, &told);
    }
    chan_free(&c);
    buf_fini(&path);
}

bool local_transport(struct local_job *j, struct map_list *maps, const char *parameter,
                     const char *otherwise, struct slice user)
{
    struct buf value = BUF_INIT(MAP_VALUE_MAX);
    struct err err = ERR_INIT;
    struct err told = ERR_INIT;
    enum map_result res = map_list_lookup(maps, user, 0, &value, NULL, &err);
    bool taken = true;

    if (res == MAP_RETRY) {
        err_set(&told, ERR_TEMPORARY, "4.3.0", "%s: %s", parameter, err.text);
        local_fail(j, &told);
    } else {
        struct slice transport = res == MAP_FOUND ? buf_view(&value) : slice_str(otherwise);

        transport = slice_trim(transport, NULL);
        taken = transport.len > 0;
        if (taken)
            local_pass(j, transport);
    }
    buf_fini(&value);
    return taken;
}
