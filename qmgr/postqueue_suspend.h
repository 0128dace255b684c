/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postqueue_suspend.h - postqueue suspend, resume, suspended. What fails is fatal: EX_USAGE for what makes no sense, EX_NOPERM, EX_UNAVAILABLE
 * when the mail system is down.
 */
#ifndef PR_POSTQUEUE_SUSPEND_H
#define PR_POSTQUEUE_SUSPEND_H

#include "qmgr/queue_client.h"

/* until: a time from now ("30m", "2h", "3d"), or RFC 3339. */
void postqueue_suspend(const struct queue_client *q, const char *kind, const char *name,
                       const char *reason, const char *until);
void postqueue_resume(const struct queue_client *q, const char *kind, const char *name);
/* Lists, on standard output. */
void postqueue_suspended(const struct queue_client *q, bool json);

/* The time that `text` names, as above; now_us: wall clock. */
NODISCARD int postqueue_until(struct slice text, int64_t now_us, int64_t *out_us, struct err *err);

#endif
