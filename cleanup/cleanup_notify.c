/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup_notify.c - the connection to qmgr over which cleanup says how far its journal is durable.
 *
 * Called by the store's committing thread alone. When qmgr is away nothing is lost: it reads the journal when it
 * starts, and the next call that reaches it tells the position up to which it may read.
 */
#include <stdlib.h>

#include "base/log.h"
#include "cleanup/cleanup_int.h"

#define RETRY_MS 100 /* between attempts to connect, so that commits are not slowed down */

struct notify {
    char *path;
    struct chan *chan;
    struct mono_time next_attempt;
    bool complained;
};

struct notify *notify_new(const char *socket_path)
{
    struct notify *n = xcalloc(1, sizeof(*n));

    n->path = xstrdup(socket_path);
    return n;
}

void notify_free(struct notify **n)
{
    if (*n == NULL)
        return;
    chan_free(&(*n)->chan);
    free((*n)->path);
    free(*n);
    *n = NULL;
}

static bool is_connected(struct notify *n)
{
    struct err err = ERR_INIT;
    struct mono_time now;

    if (n->chan != NULL) {
        struct frame f;

        /* qmgr says hello and nothing else: what comes here is its end */
        for (;;) {
            enum chan_result res = chan_get(n->chan, &f, &err);

            if (res == CHAN_AGAIN)
                return true;
            if (res == CHAN_OK && f.type == PROTO_HELLO && proto_check_hello(&f, &err) == 0)
                continue;
            chan_free(&n->chan);
            break;
        }
    }
    now = mono_now();
    if (mono_diff_us(now, n->next_attempt) < 0)
        return false;
    n->chan = proto_connect(n->path, "cleanup", 1000, &err);
    if (n->chan == NULL) {
        if (!n->complained)
            log_warning("cannot reach the queue manager, mail is kept for it: %s", err.text);
        n->complained = true;
        n->next_attempt = mono_after_ms(now, RETRY_MS);
        return false;
    }
    n->complained = false;
    return true;
}

void notify_committed(void *notify, uint64_t source, uint64_t end)
{
    struct notify *n = notify;
    struct proto_committed msg = {.source = source, .end = end};
    struct err err = ERR_INIT;

    /* twice: a connection that was fine a moment ago may have lost its other end */
    for (int i = 0; i < 2 && is_connected(n); i++) {
        if (proto_put(n->chan, &msg_committed, &msg, -1, &err) == 0 &&
            chan_flush_wait(n->chan, 1000, &err) == CHAN_OK)
            return;
        chan_free(&n->chan);
    }
}
