/* SPDX-License-Identifier: Apache-2.0 */
/* queue_list.c - see queue_list.h. */
#include "qmgr/queue_list.h"

#include <sysexits.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "qmgr/queue_maildrop.h"
#include "qmgr/queue_select.h"

#define LIST_MS 3600000

/* --- from qmgr --------------------------------------------------------------------------------- */

static int from_qmgr(struct chan *c, const struct proto_queue_select *select,
                     const struct queue_listener *l, struct err *err)
{
    struct proto_queue_item item;
    struct proto_queue_rcpt rcpt;
    struct frame f;

    if (proto_put(c, &msg_queue_select, select, -1, err) == -1 ||
        chan_flush_wait(c, LIST_MS, err) != CHAN_OK)
        return -1;
    for (;;) {
        switch (proto_get_wait(c, &f, LIST_MS, err)) {
        case CHAN_OK:
            break;
        case CHAN_AGAIN:
        case CHAN_EOF:
            return err_temporary(err, "the list of the queue ends before its end");
        case CHAN_ERROR:
            return -1;
        }
        if (f.type == PROTO_END)
            return 0;
        if (f.type == PROTO_QUEUE_ITEM) {
            if (proto_decode(&f, &msg_queue_item, &item, err) == -1)
                return -1;
            l->item(l->arg, &item);
        } else {
            if (proto_decode(&f, &msg_queue_rcpt, &rcpt, err) == -1)
                return -1;
            l->rcpt(l->arg, &rcpt);
        }
    }
}

/* --- from the store ------------------------------------------------------------------------------ */

struct direct {
    struct store *store;
    const struct proto_queue_select *select;
    const struct queue_listener *listener;
    struct arena *arena;
};

static void tell(const struct direct *d, struct proto_queue_item *item,
                 const struct store_rcpt *rcpts, size_t n)
{
    if (!queue_select_message(d->select, item->sender, item->arrival_us, rcpts, n))
        return;
    if (item->waits_for.len == 0) {
        item->waits_for = SLICE_LIT("start");
        item->waits_text = SLICE_LIT("the mail system is stopped");
    }
    d->listener->item(d->listener->arg, item);
    for (size_t i = 0; i < n; i++) {
        struct proto_queue_rcpt r = {.addr = rcpts[i].r.addr, .reason = rcpts[i].reason};

        if (!rcpts[i].done)
            d->listener->rcpt(d->listener->arg, &r);
    }
}

/* Or will be by the next who takes the queue: its agent was killed with qmgr. */
static bool is_held(const struct store_msg *m)
{
    return store_msg_queue(m) == STORE_HOLD || store_msg_state(m)->hold;
}

static const char *queue_of(const struct store_msg *m)
{
    if (store_msg_state(m)->requeue)
        return "maildrop"; /* where Postfix has such mail */
    if (is_held(m))
        return "hold";
    return store_msg_state(m)->attempts == 0 ? "incoming" : "deferred";
}

static bool direct_one(struct store_msg *m, void *arg)
{
    struct direct *d = arg;
    const struct store_state *s = store_msg_state(m);
    const char *queue = queue_of(m);
    struct mail_envelope env;
    struct store_rcpt *rcpts;
    size_t n;
    struct err err = ERR_INIT;

    if (s->remove) /* by the next who takes the queue */
        return true;
    if (!queue_select_name(d->select, queue, store_msg_id(m)))
        return true;
    arena_reset(d->arena);
    if (store_msg_read(d->store, m, d->arena, &env, &rcpts, &n, &err) == -1) {
        log_warning("%.*s: cannot be read: %s", SLICE_FMT(store_msg_id(m)), err.text);
        return true;
    }
    struct proto_queue_item item = {
        .queue = slice_str(queue),
        .queue_id = store_msg_id(m),
        .sender = env.sender,
        .arrival_us = env.arrival_us,
        .size = store_msg_bytes(m),
        .forced_expire = s->forced_expire ? 1 : 0,
    };
    if (s->requeue) {
        item.waits_for = SLICE_LIT("requeue");
        item.waits_text = SLICE_LIT("to be queued anew when the mail system starts");
    } else if (is_held(m)) {
        item.waits_for = SLICE_LIT("hold");
        item.waits_text = queue_hold_text(&env);
    }
    tell(d, &item, rcpts, n);
    return true;
}

static void list_maildrop(struct direct *d, const char *queue_directory)
{
    struct queue_maildrop *w = queue_maildrop_open(queue_directory);
    struct proto_queue_item item;
    struct store_rcpt *rcpts;
    size_t n;
    int got = w == NULL ? 0 : 1;

    while (got != 0) {
        struct err err = ERR_INIT;

        arena_reset(d->arena);
        got = queue_maildrop_next(w, d->arena, &item, &rcpts, &n, &err);
        if (got == -1)
            log_warning("%s", err.text);
        else if (got == 1 && queue_select_name(d->select, "maildrop", item.queue_id))
            tell(d, &item, rcpts, n);
    }
    queue_maildrop_close(&w);
}

static void damaged(void *arg, const char *text)
{
    (void) arg;
    log_warning("%s", text);
}

/* Looks only. */
static int from_store(const struct queue_client *q, const struct proto_queue_select *select,
                      const struct queue_listener *l, struct err *err)
{
    static const struct store_events events = {NULL, damaged};
    struct direct d = {.select = select, .listener = l, .arena = arena_new(0)};
    struct store_options opt;
    int ret = -1;

    queue_client_store_options(q, &opt);
    if (store_open_readonly(&opt, &events, &d, &d.store, err) == -1 ||
        store_recover(d.store, err) == -1)
        goto done;
    list_maildrop(&d, q->common.queue_directory);
    store_each(d.store, direct_one, &d);
    ret = 0;
done:
    if (d.store != NULL)
        store_close(&d.store);
    arena_free(&d.arena);
    return ret;
}

/* By the real uid: the group that opens the way to qmgr does not open the journal. */
static bool may_read_queue(const struct queue_client *q)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    bool ok;

    path_join(&path, q->common.queue_directory, "journal");
    ok = access(buf_cstr(&path), R_OK | X_OK) == 0;
    buf_fini(&path);
    return ok;
}

void queue_list(const struct queue_client *q, const struct proto_queue_select *select,
                const struct queue_listener *l)
{
    struct err err = ERR_INIT;
    struct chan *c = queue_client_connect(q, &err);
    int ret;

    if (c != NULL) {
        ret = from_qmgr(c, select, l, &err);
        chan_free(&c);
    } else if (may_read_queue(q)) {
        log_warning("Mail system is down -- accessing queue directly (%s)", err.text);
        ret = from_store(q, select, l, &err);
    } else {
        log_fatal_status(EX_UNAVAILABLE);
        fatal("Queue report unavailable - mail system is down (%s)", err.text);
    }
    if (ret == -1) {
        log_fatal_status(EX_SOFTWARE);
        fatal("%s", err.text);
    }
}
