/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_link.h - persistent connections from the queue manager's loop to a service (a delivery agent, bounce): one
 * request at a time each, many one after the other. Never blocks. One thread, that of the loop.
 */
#ifndef PR_QMGR_LINK_H
#define PR_QMGR_LINK_H

#include "base/loop.h"
#include "mail/proto.h"

struct link_pool;
struct link;

struct link_events {
    /* A frame that belongs to the request; its descriptor, if any, is closed by the caller. False: it makes no sense (err): the
     * link is given up, broken() follows. During the call the request may be ended by link_release(). */
    bool (*frame)(void *request, const struct frame *f, struct err *err);
    /* The connection ended, or the deadline passed, before the request was over. The link is gone after the call. fresh: nothing of
     * the request was answered and the link was an idle one: the service merely ended that; try again at once. */
    void (*broken)(void *request, bool fresh, const char *why);
};

NODISCARD struct link_pool *link_pool_new(struct loop *l, const char *path, const char *service,
                                          const struct link_events *events);
/* forget (may be NULL) is called with each request under way. */
void link_pool_free(struct link_pool **p, void (*forget)(void *request));
/* A link for one request, which is the pointer that the events get; NULL: cannot connect now. */
NODISCARD struct link *link_take(struct link_pool *p, void *request, struct err *err);
/* To queue frames on; then link_send(). */
struct chan *link_chan(struct link *l);
/* Writes what can be written, the rest when the socket allows; broken() unless all is answered within timeout_ms. */
void link_send(struct link *l, int64_t timeout_ms);
/* The request is over: the link becomes idle. */
void link_release(struct link **l);
/* The request is over and the connection is not to be used again. */
void link_drop(struct link **l);
bool link_pool_has_idle(const struct link_pool *p);
/* Every second or so: ends requests whose time is over, closes what was idle for longer than idle_ms. */
void link_pool_tick(struct link_pool *p, struct mono_time now, int64_t idle_ms);

#endif
