/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue_id.h - names of messages. Short: upper-case hex of metrics_unique_us(), 13 digits. Long
 * (enable_long_queue_ids): seconds and microseconds in base 52, "z", as logwatch and others expect.
 */
#ifndef PR_MAIL_QUEUE_ID_H
#define PR_MAIL_QUEUE_ID_H

#include "base/slice.h"

#define QUEUE_ID_MAX 31

/* A fresh one, NUL-terminated, into out[QUEUE_ID_MAX + 1]. */
void queue_id_new(bool long_form, char *out);
bool queue_id_valid(
    struct slice s); /* safe as a file name, too: only letters and digits, 6..QUEUE_ID_MAX */
/* The unique number in it, 0 if it has none. */
int64_t queue_id_us(struct slice s);

#endif
