/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow.h - in_flow_delay: intake is held back while the queue manager cannot keep up. What they tell each other lies in the
 * counters that all processes of an instance share (base/metrics.h), so it costs no message between them. Lock-free.
 *
 * There is a backlog while the active queue is full and new mail waits for a place in it. Then a message may enter at once for each
 * that has left the active queue since; without such a token it pauses for in_flow_delay and enters. So with n clients at
 * once, intake is at most n / in_flow_delay faster than delivery. Without backlog nothing pauses.
 */
#ifndef PR_MAIL_FLOW_H
#define PR_MAIL_FLOW_H

#include <stdbool.h>

/* The queue manager: is there a backlog? Costs little when nothing has changed. */
void flow_set_backlog(bool is_backlog);
/* The queue manager: a message has left the active queue. */
void flow_left(void);
/* Intake, once for each message: does it pause? */
bool flow_must_pause(void);

#endif
