/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtual_main.c - the virtual(8) agent: mailboxes of virtual_mailbox_maps, with owners from tables.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "local/local_params.h"
#include "local/mailbox.h"
#include "mail/address.h"
#include "maps/policy.h"
#include "master/agent.h"

struct virtual
{
    struct virtual_params p;
    struct mailbox_options mailbox;
    struct map_list *boxes, *uids, *gids;
    const char *delimiter;
};

static int start(struct worker *w, struct err *err)
{
    struct virtual *v = xcalloc(1, sizeof(*v));
    const struct config *cfg = worker_config(w);

    worker_set_data(w, v);
    if (config_bind(cfg, &virtual_params, &v->p, err) == -1 ||
        local_mailbox_options(cfg, "virtual_mailbox_lock", &v->mailbox, err) == -1)
        return -1;
    v->mailbox.size_limit = v->p.mailbox_limit;
    v->delimiter = config_get(cfg, "recipient_delimiter");
    if (map_list_open_plain(worker_maps(w), config_get(cfg, "virtual_mailbox_maps"), &v->boxes,
                            err) == -1 ||
        map_list_open_plain(worker_maps(w), v->p.uid_maps, &v->uids, err) == -1 ||
        map_list_open_plain(worker_maps(w), v->p.gid_maps, &v->gids, err) == -1)
        return -1;
    return 0;
}

/* user+ext@domain, user@domain, @domain. */
static enum map_result lookup(const struct virtual *v, struct map_list *l, struct slice addr,
                              struct buf *value, struct err *err)
{
    return map_address_lookup(l, addr, MAP_KEY_FULL | MAP_KEY_NOEXT | MAP_KEY_AT_DOMAIN,
                              v->delimiter, false, false, value, NULL, err);
}

/* A user or group number for the recipient. -1: err says what to tell. */
static int number(const struct virtual *v, struct map_list *l, const char *table, struct slice addr,
                  int64_t least, int64_t *out, struct err *err)
{
    struct buf value = BUF_INIT(4096);
    struct err why = ERR_INIT;
    int ret = -1;

    switch (lookup(v, l, addr, &value, &why)) {
    case MAP_RETRY:
        err_set(err, ERR_TEMPORARY, "4.3.0", "%s", why.text);
        break;
    case MAP_NOTFOUND:
        err_set(err, ERR_TEMPORARY, "4.3.5", "recipient %.*s: not found in %s", SLICE_FMT(addr),
                table);
        break;
    case MAP_FOUND:
        ret = num_parse_i64(slice_trim(buf_view(&value), NULL), least, INT32_MAX, out, &why);
        if (ret == -1)
            err_set(err, ERR_TEMPORARY, "4.3.5", "recipient %.*s: bad value in %s: %s",
                    SLICE_FMT(addr), table, why.text);
        break;
    }
    buf_fini(&value);
    return ret;
}

/* The path must stay below virtual_mailbox_base. */
static int mailbox_path(const struct virtual *v, struct slice entry, struct buf *path,
                        struct err *err)
{
    struct slice rest = entry;
    struct slice part;

    while (slice_token(&rest, "/", &part))
        if (slice_eq_str(part, ".."))
            return err_set(err, ERR_TEMPORARY, "4.3.5",
                           "mailbox path \"%.*s\" leaves virtual_mailbox_base", SLICE_FMT(entry));
    if (v->p.base[0] == '\0' && (entry.len == 0 || entry.ptr[0] != '/'))
        return err_set(err, ERR_TEMPORARY, "4.3.5",
                       "virtual_mailbox_base is empty, and the mailbox path is not absolute");
    buf_puts(path, v->p.base);
    if (path->len > 0 && path->ptr[path->len - 1] != '/' && (entry.len == 0 || entry.ptr[0] != '/'))
        buf_putc(path, '/');
    buf_put_slice(path, entry);
    return buf_ok(path) ? 0 : err_set(err, ERR_TEMPORARY, "4.3.5", "mailbox path is too long");
}

static void deliver_one(struct virtual *v, struct deliver_request *r, size_t i)
{
    const struct proto_deliver_rcpt *rcpt = &r->rcpts[i].r;
    struct mailbox_headers headers = {
        .return_path = r->msg.sender,
        .original_to = rcpt->orig.len > 0 ? rcpt->orig : rcpt->addr,
        .delivered_to = rcpt->addr,
    };
    struct dsn_status st = {.outcome = OUTCOME_DEFERRED};
    struct buf entry = BUF_INIT(4096);
    struct buf path = BUF_INIT(4096);
    struct mailbox_owner owner;
    struct err err = ERR_INIT;
    int64_t uid;
    int64_t gid;

    switch (lookup(v, v->boxes, rcpt->addr, &entry, &err)) {
    case MAP_NOTFOUND:
        err_set(&err, ERR_PERMANENT, "5.1.1", "unknown user: \"%.*s\"", SLICE_FMT(rcpt->addr));
        goto answer;
    case MAP_RETRY:
        if (err.dsn[0] == '\0')
            memcpy(err.dsn, "4.3.0", 6);
        goto answer;
    case MAP_FOUND:
        break;
    }
    if (number(v, v->uids, "virtual_uid_maps", rcpt->addr, v->p.minimum_uid, &uid, &err) == -1 ||
        number(v, v->gids, "virtual_gid_maps", rcpt->addr, 1, &gid, &err) == -1 ||
        mailbox_path(v, buf_view(&entry), &path, &err) == -1)
        goto answer;
    owner.uid = (uid_t) uid;
    owner.gid = (gid_t) gid;
    if (deliver_is_probe(r)) {
        st.outcome = OUTCOME_SENT;
        st.code = SLICE_LIT("2.0.0");
        st.text = path.ptr[path.len - 1] == '/' ? SLICE_LIT("delivers to maildir")
                                                : SLICE_LIT("delivers to mailbox");
        goto answer;
    }
    if (mailbox_deliver(r, buf_cstr(&path), &owner, &headers, &v->mailbox, NULL, &err) == 0) {
        st.outcome = OUTCOME_SENT;
        st.code = SLICE_LIT("2.0.0");
        st.text = path.ptr[path.len - 1] == '/' ? SLICE_LIT("delivered to maildir")
                                                : SLICE_LIT("delivered to mailbox");
    }
answer:
    if (st.outcome != OUTCOME_SENT) {
        bool permanent = err.kind == ERR_PERMANENT;

        st.outcome = permanent ? OUTCOME_BOUNCED : OUTCOME_DEFERRED;
        st.code = slice_str(err.dsn[0] != '\0' ? err.dsn : permanent ? "5.3.0" : "4.3.0");
        st.text = slice_str(err.text);
    }
    deliver_status(r, i, SLICE_LIT("virtual"), 0, &st, false);
    buf_fini(&entry);
    buf_fini(&path);
}

static void deliver(struct worker *w, struct deliver_request *r)
{
    r->connected = r->agent_start; /* there is nothing to connect to */
    for (size_t i = 0; i < r->nrcpts; i++)
        deliver_one(worker_data(w), r, i);
}

int main(int argc, char **argv)
{
    static const struct agent agent = {
        .program = "virtual",
        .shape = WORKER_SINGLE,
        .keep_root = true,
        .start = start,
        .deliver = deliver,
    };

    return agent_main(argc, argv, &agent);
}
