/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue_select.h - which messages of the queue are meant: what qmgr, and the commands while it is stopped, ask of a message before it is
 * listed.
 */
#ifndef PR_QMGR_QUEUE_SELECT_H
#define PR_QMGR_QUEUE_SELECT_H

#include "mail/proto.h"

/* What is known of a message before its record is read. */
bool queue_select_name(const struct proto_queue_select *s, const char *queue, struct slice id);
bool queue_select_envelope(const struct proto_queue_select *s, struct slice sender,
                           uint64_t arrival_us);
/* A recipient that waits; a message is meant when one of them is, or when nothing is asked of recipients. */
bool queue_select_rcpt(const struct proto_queue_select *s, struct slice addr, struct slice reason);
bool queue_select_asks_rcpt(const struct proto_queue_select *s);

/* Who has put a message on hold, for people. */
struct slice queue_hold_text(const struct mail_envelope *env);

#endif
