/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deliver.h - the agents' side of a delivery request: read it, read its content, log and answer each
 * recipient. Shared by smtp, lmtp, local, virtual, pipe, error, discard.
 */
#ifndef PR_MAIL_DELIVER_H
#define PR_MAIL_DELIVER_H

#include "base/mtime.h"
#include "mail/proto.h"

struct deliver_rcpt {
    struct proto_deliver_rcpt r;
    bool done; /* answered */
};

/* May change outcome, code and text, in `space`; the outcome stays a success, or a failure. */
typedef void deliver_filter_fn(void *arg, struct dsn_status *status, struct buf *space);

struct deliver_request {
    struct proto_deliver msg; /* slices live as long as the request */
    struct deliver_rcpt *rcpts;
    size_t nrcpts;
    int fd; /* content; the request's */
    struct chan *chan;
    struct mono_time agent_start; /* when the agent took it: delays=../../c/d count from here */
    struct mono_time
        connected;        /* set by the agent when the connection stands (zero: none was made) */
    bool soft_bounce;     /* set after deliver_read(): what cannot be delivered is deferred */
    int delay_resolution; /* the same: places after the point in delay= and delays= */
    deliver_filter_fn *filter; /* the same; NULL: none */
    void *filter_arg;
    void *session;  /* master/agent.c's */
    void *delivery; /* the agent's, of a delivery in steps */
};

/* What a delivery in steps waits for between two of them (master/agent.h). */
struct deliver_wait {
    unsigned happened; /* POLLER_ bits, for the step: why it is called; 0 at the first one */
    int fd;            /* set by the step: to become readable */
    struct mono_time deadline;
};

/* Reads one whole request; waits up to timeout_ms for its first frame. CHAN_EOF: the queue manager left. */
NODISCARD enum chan_result deliver_read(struct chan *c, int timeout_ms,
                                        struct deliver_request **out, struct err *err);
void deliver_free(struct deliver_request **r);
/* Content bytes [from, from+len) relative to the content's start; fewer at its end; -1 with err. */
NODISCARD ssize_t deliver_content(const struct deliver_request *r, uint64_t from, void *data,
                                  size_t len, struct err *err);
/*
 * Logs the recipient's line ("QID: to=<>, orig_to=<>, relay=, conn_use=, delay=, delays=, dsn=, status=")
 * and queues its STATUS. relay "none" when there was none; conn_use 0 or 1 prints nothing.
 */
void deliver_status(struct deliver_request *r, size_t rcpt, struct slice relay, unsigned conn_use,
                    const struct dsn_status *status, bool site_dead);
/* Passes on the STATUS of another agent, which has logged the delivery. Its index is set here. */
void deliver_passed(struct deliver_request *r, size_t rcpt, const struct proto_status *status);
/* Nothing is to be delivered: the status says whether it could be (OUTCOME_SENT: yes), as far as can be told. */
bool deliver_is_probe(const struct deliver_request *r);
/* The word of status=; flags: the message's. */
const char *deliver_status_name(uint32_t flags, enum outcome outcome);
/* All recipients that are not answered yet. */
void deliver_status_all(struct deliver_request *r, struct slice relay,
                        const struct dsn_status *status, bool site_dead);
/* DONE, and flush. Every recipient has been answered before. */
NODISCARD enum chan_result deliver_done(struct deliver_request *r, struct err *err);
/* "0.05", "3.2", "120": Postfix's two significant digits (delay_logging_resolution_limit). */
void deliver_delay_print(int64_t us, int resolution_limit, struct buf *out);

#endif
