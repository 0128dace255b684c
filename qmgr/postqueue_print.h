/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postqueue_print.h - the queue as mailq(1) and postqueue -j show it, one message after the other. Memory: one message.
 */
#ifndef PR_POSTQUEUE_PRINT_H
#define PR_POSTQUEUE_PRINT_H

#include <stdio.h>

#include "mail/proto.h"

struct queue_printer {
    FILE *out;
    bool json;
    bool long_ids;           /* enable_long_queue_ids: wider first column */
    const char *null_sender; /* shown for the null sender: empty_address_recipient */
    /* private */
    unsigned long messages;
    unsigned long long bytes;
    bool in_item;
    unsigned long rcpts;
    struct buf reason; /* the one that was printed last */
    struct buf waits;  /* said behind the recipients */
    struct buf last_wait;
};

/* The caller has set the first four members and zeroed the rest. */
void queue_print_item(struct queue_printer *p, const struct proto_queue_item *item);
void queue_print_rcpt(struct queue_printer *p, const struct proto_queue_rcpt *rcpt);
/* The end of the list; -1: something could not be written (errno). */
NODISCARD int queue_print_end(struct queue_printer *p);

/* Without bytes that a terminal would obey. */
void queue_print_text(FILE *out, struct slice text);
/* "name": "value" */
void queue_print_json(FILE *out, const char *name, struct slice value);

#endif
