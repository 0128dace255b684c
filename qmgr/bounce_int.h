/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bounce_int.h - what the files of bounce(8) share.
 */
#ifndef PR_BOUNCE_INT_H
#define PR_BOUNCE_INT_H

#include "base/arena.h"
#include "mail/intake.h"
#include "mail/proto.h"
#include "postconf/bounce_template.h"

struct bounce_params {
    int64_t size_limit;
    const char *notify_classes;
    const char *bounce_recipient, *bounce2_recipient, *delay_recipient;
    const char *double_bounce_sender;
    const char *template_file;
    const char *mail_name, *myhostname, *myorigin;
    bool long_queue_ids, threaded;
};
extern const struct param_set bounce_params;

struct bounce {
    struct bounce_params p;
    unsigned classes; /* enum notify_class: what p.notify_classes says */
    struct intake_pool *intake;
    struct bounce_templates *templates;
    char *letters[BOUNCE_TEMPLATE_KINDS]; /* the templates' texts, expanded; lines end with LF */
};
/* The templates that p.template_file names, and their texts. What is wrong in the file is logged. */
NODISCARD int bounce_letters_load(struct bounce *b, const struct config *cfg, struct err *err);
void bounce_letters_free(struct bounce *b);

/* What qmgr asks for: everything lies in the arena. */
struct bounce_request {
    struct arena *arena;
    struct proto_report r;
    struct proto_report_rcpt *rcpts;
    size_t nrcpts, cap;
    int fd; /* the message's content; -1 only before the first frame was taken */
};
void bounce_request_init(struct bounce_request *req);
void bounce_request_fini(struct bounce_request *req);
/* The REPORT frame (its descriptor is taken over), then a REPORT_RCPT. -1: broken request. */
NODISCARD int bounce_request_head(struct bounce_request *req, struct frame *f, struct err *err);
NODISCARD int bounce_request_rcpt(struct bounce_request *req, const struct frame *f,
                                  struct err *err);

/* One message to be made of a request. */
struct bounce_notice {
    const char *to;     /* header and envelope recipient */
    bool is_postmaster; /* a copy: other subject, no text for the sender */
    bool full;          /* the message comes back whole */
    bool utf8;          /* message/global and so on, RFC 6533 */
    char boundary[128];
};
/* The notification has bytes above 127: of the template, of addresses, or of what it returns. */
bool bounce_is_8bit(const struct bounce *b, const struct bounce_request *req,
                    const struct bounce_notice *n);
/* Everything up to the returned message. Wire form. */
void bounce_compose_head(const struct bounce *b, const struct bounce_request *req,
                         const struct bounce_notice *n, struct buf *out);
/* What ends it. */
void bounce_compose_tail(const struct bounce_notice *n, struct buf *out);

/*
 * Makes and submits what the request asks for and notify_classes adds. 0: done, new_id has the queue id of the sender's
 * notification, or "" when none was due; -1: temporary trouble, nothing is lost by asking again.
 */
NODISCARD int bounce_serve(const struct bounce *b, const struct bounce_request *req, char *new_id,
                           struct err *err);

#endif
