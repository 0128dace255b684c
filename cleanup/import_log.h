/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import_log.h - the logfiles in defer/ and bounce/ of a Postfix queue, one for each message: why recipients wait, and which have
 * failed without their sender knowing it yet.
 *
 * Text: for each recipient a paragraph of name=value lines (recipient, offset, status, reason and others). The offset is that of the
 * recipient's record in the queue file.
 */
#ifndef PR_CLEANUP_IMPORT_LOG_H
#define PR_CLEANUP_IMPORT_LOG_H

#include "cleanup/import_message.h"

enum import_log { IMPORT_DEFER_LOG, IMPORT_BOUNCE_LOG };

/* Marks m's recipients with what text says; what it says of others, or cannot be understood, changes nothing. */
void import_log_apply(struct import_message *m, enum import_log kind, struct slice text);

#endif
