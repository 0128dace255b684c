/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent.h - a delivery agent on the worker framework: qmgr's persistent connections in, requests out.
 *
 * A daemon fills a struct agent and ends its main with agent_main(). The same struct serves both shapes: threaded
 * (smtp, virtual, error, discard: an idle connection is parked, a request takes a thread) and single (local).
 */
#ifndef PR_AGENT_H
#define PR_AGENT_H

#include "mail/deliver.h"
#include "master/worker.h"

struct agent {
    const char *program;
    enum worker_shape shape; /* WORKER_THREADED or WORKER_SINGLE */
    bool keep_root;
    int (*start)(struct worker *w, struct err *err); /* as worker_service.start; may be NULL */
    int (*ready)(struct worker *w, struct err *err); /* may be NULL */
    /* Answers every recipient with deliver_status(); what it leaves out is deferred and logged as a bug. */
    void (*deliver)(struct worker *w, struct deliver_request *r);
    /* In place of it, threaded only: answers may be given later and by other threads, one at a time. agent_done() when all are. */
    void (*deliver_later)(struct worker *w, struct deliver_request *r);
    /* In place of it, threaded only: gives its thread back whenever it waits for a peer. True: every recipient has been answered. False: it
     * is called again, by any thread, when *wait is over, or sooner. r->delivery is its own. */
    bool (*deliver_in_steps)(struct worker *w, struct deliver_request *r,
                             struct deliver_wait *wait);
    void (*stop)(struct worker *w);  /* may be NULL */
    void (*drain)(struct worker *w); /* may be NULL */
};

/* deliver_later: every recipient has been answered. Any thread; does not block. The request is gone. */
void agent_done(struct deliver_request *r);

NODISCARD int agent_main(int argc, char **argv, const struct agent *agent);

#endif
