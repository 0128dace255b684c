/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue_list.h - the queue, message by message, for the commands: from qmgr while the system runs, else from the store. A stream: nothing
 * is gathered on either side.
 */
#ifndef PR_QMGR_QUEUE_LIST_H
#define PR_QMGR_QUEUE_LIST_H

#include "qmgr/queue_client.h"

/* What is told: each message, then those of its recipients that wait. What it points to lives for the call. */
struct queue_listener {
    void (*item)(void *arg, const struct proto_queue_item *item);
    void (*rcpt)(void *arg, const struct proto_queue_rcpt *rcpt);
    void *arg;
};

/*
 * Lists what is meant. While the system is stopped this looks at the store directly, if the caller's real user may, after a
 * warning. Fatal when it cannot (EX_UNAVAILABLE), or the list breaks off (EX_SOFTWARE).
 */
void queue_list(const struct queue_client *q, const struct proto_queue_select *select,
                const struct queue_listener *l);

#endif
