/* SPDX-License-Identifier: Apache-2.0 */
/*
 * requests.h - a threaded worker whose clients, processes of this system, ask over connections that stay: one request after the other, each
 * answered before the next is read. bounce, proxymap.
 */
#ifndef PR_REQUESTS_H
#define PR_REQUESTS_H

#include "mail/proto.h"
#include "master/worker.h"

struct requests {
    const char *program; /* as it greets */
    const char *client;  /* who asks, for the log */
    int answer_wait_ms;  /* for the client to take its answer */
    bool
        is_left_in_silence; /* a connection that breaks off is no matter for the log: its client may be anybody, and was killed, perhaps */
    int (*start)(struct worker *w, struct err *err);
    void (*stop)(struct worker *w);
    /* Reads what is left of a request, whose first frame is f, and answers with requests_answer(). f->fd is its own. -1: the connection ends. */
    int (*serve)(struct worker *w, struct chan *c, struct frame *f, struct err *err);
    int64_t (*idle_ms)(struct worker *w); /* a connection is closed after so long; NULL: it stays */
};

NODISCARD int requests_main(int argc, char **argv, const struct requests *requests);
/* A message, sent: within answer_wait_ms. -1: the client has not taken it. */
NODISCARD int requests_answer(struct chan *c, const struct msg_def *def, const void *msg,
                              struct err *err);

#endif
