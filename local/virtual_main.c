/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtual_main.c - the virtual(8) agent: mailboxes of virtual_mailbox_maps, with owners from tables.
 *
 * Threads, each with the rights of the owner for whom it works (mailbox_become): nothing of a user's is run here, and what he
 * can do is to make a file operation fail, or last. A request's messages for Maildirs are written one after the other and then
 * finished together with those of other requests (maildir_group.h); whoever finishes the last one ends the request.
 */
#include <stdlib.h>
#include <string.h>

#include "base/lock.h"
#include "base/num.h"
#include "local/local_params.h"
#include "local/maildir_group.h"
#include "mail/address.h"
#include "maps/policy.h"
#include "master/agent.h"

struct virtual
{
    struct virtual_params p;
    struct mailbox_options mailbox;
    struct map_list *boxes, *uids, *gids;
    const char *delimiter;
    struct maildir_group *group;
};

/* A request that is being delivered. */
struct delivery {
    struct deliver_request *r;
    struct lock lock;
    size_t open; /* items without status: the lock's from maildir_group_finish() on */
    struct item *items;
};

/* A recipient's message in a Maildir. */
struct item {
    struct maildir_item m; /* first */
    struct delivery *d;
    size_t rcpt;
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
    v->group = maildir_group_new(v->p.maildir_group_sync, v->p.maildir_sync_timeout_s * 1000);
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

/* Whose mailbox, and where. */
static int find_mailbox(const struct virtual *v, struct slice addr, struct mailbox_owner *owner,
                        struct buf *path, struct err *err)
{
    struct buf entry = BUF_INIT(4096);
    int64_t uid;
    int64_t gid;
    int ret = -1;

    switch (lookup(v, v->boxes, addr, &entry, err)) {
    case MAP_NOTFOUND:
        err_set(err, ERR_PERMANENT, "5.1.1", "unknown user: \"%.*s\"", SLICE_FMT(addr));
        break;
    case MAP_RETRY:
        if (err->dsn[0] == '\0')
            memcpy(err->dsn, "4.3.0", 6);
        break;
    case MAP_FOUND:
        if (number(v, v->uids, "virtual_uid_maps", addr, v->p.minimum_uid, &uid, err) == -1 ||
            number(v, v->gids, "virtual_gid_maps", addr, 1, &gid, err) == -1)
            break;
        *owner = (struct mailbox_owner){(uid_t) uid, (gid_t) gid};
        ret = mailbox_path(v, buf_view(&entry), path, err);
        break;
    }
    buf_fini(&entry);
    return ret;
}

static void answer(struct deliver_request *r, size_t i, const char *how, const struct err *err)
{
    struct dsn_status st = {
        .outcome = OUTCOME_SENT, .code = SLICE_LIT("2.0.0"), .text = slice_str(how)};

    if (err != NULL) {
        bool permanent = err->kind == ERR_PERMANENT;

        st.outcome = permanent ? OUTCOME_BOUNCED : OUTCOME_DEFERRED;
        st.code = slice_str(err->dsn[0] != '\0' ? err->dsn : permanent ? "5.3.0" : "4.3.0");
        st.text = slice_str(err->text);
    }
    deliver_status(r, i, SLICE_LIT("virtual"), 0, &st, false);
}

static void delivery_end(struct delivery *d)
{
    agent_done(d->r);
    lock_fini(&d->lock);
    free(d->items);
    free(d);
}

static void finished(struct maildir_item *m, int result, const struct err *err)
{
    struct item *item = (struct item *) m; /* its first member */
    struct delivery *d = item->d;
    bool last;

    /* other mailboxes of the request may be on other file systems, with other threads */
    lock_take(&d->lock);
    answer(d->r, item->rcpt, "delivered to maildir", result == 0 ? NULL : err);
    last = --d->open == 0;
    lock_release(&d->lock);
    if (last)
        delivery_end(d);
}

static int write_maildir(struct virtual *v, struct deliver_request *r, const char *dir,
                         const struct mailbox_headers *headers, struct item *item, struct err *err)
{
    int ret;

    if (mailbox_become(&item->m.owner, err) == -1)
        return -1;
    ret = maildir_write(r, dir, headers, &v->mailbox, &item->m.file, err);
    if (ret == -1)
        maildir_close(&item->m.file);
    mailbox_become_root();
    return ret;
}

/* True: the message is written for the item, and to be finished. False: the recipient has been answered. */
static bool deliver_one(struct virtual *v, struct deliver_request *r, size_t i, struct item *item)
{
    const struct proto_deliver_rcpt *rcpt = &r->rcpts[i].r;
    struct mailbox_headers headers = {
        .return_path = r->msg.sender,
        .original_to = rcpt->orig.len > 0 ? rcpt->orig : rcpt->addr,
        .delivered_to = rcpt->addr,
    };
    struct buf path = BUF_INIT(4096);
    struct err err = ERR_INIT;
    bool is_maildir;
    bool is_written = false;
    int ret = find_mailbox(v, rcpt->addr, &item->m.owner, &path, &err);

    if (ret == 0 && maildir_group_refuses(v->group, buf_cstr(&path), &err))
        ret = -1;
    is_maildir = path.len > 0 && path.ptr[path.len - 1] == '/';
    if (ret == 0 && deliver_is_probe(r)) {
        answer(r, i, is_maildir ? "delivers to maildir" : "delivers to mailbox", NULL);
    } else if (ret == 0 && is_maildir) {
        ret = write_maildir(v, r, buf_cstr(&path), &headers, item, &err);
        is_written = ret == 0;
    } else if (ret == 0) {
        ret =
            mailbox_deliver(r, buf_cstr(&path), &item->m.owner, &headers, &v->mailbox, NULL, &err);
        if (ret == 0)
            answer(r, i, "delivered to mailbox", NULL);
    }
    if (ret == -1)
        answer(r, i, NULL, &err);
    buf_fini(&path);
    return is_written;
}

static void deliver(struct worker *w, struct deliver_request *r)
{
    struct virtual *v = worker_data(w);
    struct delivery *d = xcalloc(1, sizeof(*d));
    struct maildir_items written = STAILQ_HEAD_INITIALIZER(written);

    r->connected = r->agent_start; /* there is nothing to connect to */
    d->r = r;
    lock_init(&d->lock, LOCK_DELIVERY);
    d->items = xcalloc(r->nrcpts, sizeof(*d->items));
    for (size_t i = 0; i < r->nrcpts; i++) {
        struct item *item = &d->items[i];

        item->d = d;
        item->rcpt = i;
        item->m.bytes = r->msg.content_bytes;
        item->m.done = finished;
        if (!deliver_one(v, r, i, item))
            continue;
        STAILQ_INSERT_TAIL(&written, &item->m, list);
        d->open++;
    }
    if (d->open == 0)
        delivery_end(d);
    else /* from here on other threads may answer, and end it */
        maildir_group_finish(v->group, &written, worker_goes_on);
}

static void stop(struct worker *w)
{
    struct virtual *v = worker_data(w);

    maildir_group_free(&v->group);
}

int main(int argc, char **argv)
{
    static const struct agent agent = {
        .program = "virtual",
        .shape = WORKER_THREADED,
        .keep_root = true,
        .start = start,
        .deliver_later = deliver,
        .stop = stop,
    };

    return agent_main(argc, argv, &agent);
}
