/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue_select.h - which messages of the queue are meant: what qmgr, and the commands while it is stopped, ask of a message before it is
 * listed.
 */
#ifndef PR_QMGR_QUEUE_SELECT_H
#define PR_QMGR_QUEUE_SELECT_H

#include "mail/proto.h"
#include "qmgr/store.h"

/* Is this queue one of those that are named? */
bool queue_select_names(const struct proto_queue_select *s, const char *queue);
/* What is known of a message before its record is read. */
bool queue_select_name(const struct proto_queue_select *s, const char *queue, struct slice id);
bool queue_select_envelope(const struct proto_queue_select *s, struct slice sender,
                           uint64_t arrival_us);
/* A recipient that waits; a message is meant when one of them is, or when nothing is asked of recipients. */
bool queue_select_rcpt(const struct proto_queue_select *s, struct slice addr, struct slice reason);
bool queue_select_asks_rcpt(const struct proto_queue_select *s);
/* All of these, for a message whose name and queue are meant already. */
bool queue_select_message(const struct proto_queue_select *s, struct slice sender,
                          uint64_t arrival_us, const struct store_rcpt *rcpts, size_t n);

/* What it points to, into the arena: for a selection that outlives its frame. */
void queue_select_keep(struct proto_queue_select *s, struct arena *arena);

/* Who has put a message on hold, for people. */
struct slice queue_hold_text(const struct mail_envelope *env);

#endif
