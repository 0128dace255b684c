/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_sched.h - which recipients of which message go out next. Knows transports, destinations and limits;
 * knows nothing of connections, files or mail formats.
 *
 * Transport -> destination (next hop) -> job (one message's recipients for it) -> recipients. A transport takes its
 * destinations in turn, a destination its jobs in turn, one request each time; so neither a busy site nor a message with very
 * many recipients keeps others waiting.
 *
 * Three lanes: fresh mail, mail that is tried again, bulk mail (messages that need many requests). Fresh mail goes first, as far as the
 * delivery slots allow that the other two have earned: qmgr_sched_turn.c has the rules, and how the parameters of the reference
 * (delivery_slot_cost and its kin) steer them.
 *
 * Concurrency of a destination: begins at `initial`, changes by feedback (qmgr_sched_feedback.c), is never above the
 * limit; a destination that fails too often is dead until a time that the caller sets. One thread.
 */
#ifndef PR_QMGR_SCHED_H
#define PR_QMGR_SCHED_H

#include <sys/queue.h>

#include "base/err.h"
#include "base/mtime.h"

struct sched;
struct sched_transport;
struct sched_dest;
struct sched_job;

/* A recipient on its way; a member of the caller's own struct. */
struct sched_rcpt {
    struct sched_rcpt *next; /* in its job or request */
};

/* Where a message's recipients stand in line. */
enum sched_lane { SCHED_FRESH, SCHED_RETRY, SCHED_BULK, SCHED_LANES };

/* A message's jobs; a member of the caller's own struct. */
TAILQ_HEAD(sched_jobs, sched_job);

/* "1", "1/4", "1/concurrency", "1/sqrt_concurrency". */
enum sched_feedback_kind { FEEDBACK_NUMBER, FEEDBACK_CONCURRENCY, FEEDBACK_SQRT_CONCURRENCY };
struct sched_feedback {
    enum sched_feedback_kind kind;
    double numerator;
};
/* -1 with err unless text is such a value, 0..1. */
NODISCARD int sched_feedback_parse(struct slice text, struct sched_feedback *out, struct err *err);

struct sched_limits {
    unsigned processes;      /* requests at once; 0: no limit */
    unsigned concurrency;    /* requests at once for one destination; 0: no limit */
    unsigned recipients;     /* in one request; 0: no limit; 1: a destination is one recipient */
    unsigned initial;        /* concurrency to begin with; at least 1 */
    unsigned failed_cohorts; /* this many in a row make a destination dead; 0: never */
    unsigned slot_cost; /* requests of bulk that earn fresh mail one; 0: no lanes, no preemption */
    unsigned slot_discount; /* percent of what a job needs that it gets in advance */
    unsigned slot_loan;     /* slots more in advance */
    unsigned minimum_slots; /* a message that could not earn so many is no bulk */
    /* between two requests to one destination, which then go one by one; 0: none */
    int64_t rate_delay_ms;
    int64_t transport_rate_delay_ms; /* between the starts of any two requests; 0: none */
    struct sched_feedback positive, negative;
};

NODISCARD struct sched *sched_new(void);
/* Every job must be gone before. */
void sched_free(struct sched **s);

/* Finds or makes. made (may be NULL): true if it is new and has no limits yet. */
struct sched_transport *sched_transport(struct sched *s, struct slice name, bool *made);
const char *sched_transport_name(const struct sched_transport *t);
void sched_transport_set_limits(struct sched_transport *t, const struct sched_limits *limits);
const struct sched_limits *sched_transport_limits(const struct sched_transport *t);
/* The caller's. */
void sched_transport_set_data(struct sched_transport *t, void *data);
void *sched_transport_data(const struct sched_transport *t);
unsigned sched_transport_busy(const struct sched_transport *t);
void sched_each_transport(struct sched *s, void (*fn)(struct sched_transport *t, void *arg),
                          void *arg);

/* fn must not add recipients to t. */
void sched_each_dest(struct sched_transport *t, void (*fn)(struct sched_dest *d, void *arg),
                     void *arg);

/* Finds or makes the destination of a next hop and recipient (asked for where the recipient limit is 1). */
struct sched_dest *sched_dest(struct sched_transport *t, struct slice nexthop,
                              struct slice recipient);
struct slice sched_dest_nexthop(const struct sched_dest *d);
struct sched_transport *sched_dest_transport(const struct sched_dest *d);
/* The same, if it is there; and the dead one, of any transport, that has this next hop. NULL: none. */
const struct sched_dest *sched_dest_find(const struct sched *s, struct slice transport,
                                         struct slice nexthop, struct slice recipient);
const struct sched_dest *sched_find_dead(const struct sched *s, struct slice nexthop);
/* Messages of which something is in line or with an agent. */
size_t sched_dest_messages(const struct sched_dest *d);
/* True, unless it was so less than every_ms ago: for warnings of a destination. */
bool sched_dest_may_warn(struct sched_dest *d, struct mono_time now, int64_t every_ms);
/* Dead: nothing of it is handed out. */
bool sched_dest_is_dead(const struct sched_dest *d);
/* Code and text of the failure that made it dead; "" before. */
void sched_dest_set_reason(struct sched_dest *d, struct slice code, struct slice text);
struct slice sched_dest_reason_code(const struct sched_dest *d);
struct slice sched_dest_reason_text(const struct sched_dest *d);
/* Lives again, if it was dead. */
void sched_dest_revive(struct sched_dest *d);
/* Dead until then. */
void sched_dest_kill(struct sched_dest *d, struct mono_time until);
/*
 * Gives up what waits for it now, dead or not: it is not handed out any more, even if the destination lives again; the caller takes it, a
 * recipient at a time. What is added later is no part of it. why: the caller's, borrowed until all is taken.
 */
void sched_dest_give_up(struct sched_dest *d, const char *why);
struct sched_given_up {
    struct sched_dest *dest;
    void *message;
    struct sched_rcpt *rcpt;
    const char *why; /* of the last time that something of the destination was given up */
};
/* One recipient, of those that were given up first; false: there is none. */
bool sched_take_given_up(struct sched *s, struct sched_given_up *out);
/* Of one message: is some of it given up and not taken yet? */
bool sched_is_given_up(const struct sched_jobs *jobs);

/* Puts a recipient of `message` in line. jobs: the message's. lane: FRESH or RETRY, or what sched_settle() said. */
void sched_add(struct sched_dest *d, struct sched_jobs *jobs, void *message, enum sched_lane lane,
               struct sched_rcpt *r);
/*
 * All recipients of a message that are in memory are in line (`more`: so many are not): if it needs many requests, it goes
 * over to the bulk lane. The lane for what is added later.
 */
enum sched_lane sched_settle(struct sched_jobs *jobs, enum sched_lane lane, size_t more);
/* Puts recipients that were handed out back in front of the line. */
void sched_put_back(struct sched_dest *d, struct sched_jobs *jobs, void *message,
                    enum sched_lane lane, struct sched_rcpt *first);
/* Takes all that waits of one message out; the chain of its recipients. */
struct sched_rcpt *sched_withdraw(struct sched_jobs *jobs);

struct sched_request {
    struct sched_dest *dest;
    void *message;
    struct sched_rcpt *rcpts; /* chain */
    unsigned count;
    enum sched_lane lane;
    bool
        is_busy; /* the destination has more waiting, or several requests at once: a connection is worth keeping */
};
/* The next request of a transport, if something is due and the limits allow it. Ends with sched_done(). */
bool sched_next(struct sched_transport *t, struct mono_time now, struct sched_request *out);
/* Would sched_next() give something? */
bool sched_is_ready(const struct sched_transport *t);

enum sched_outcome {
    SCHED_GOOD,    /* the site answered, whatever it said of the recipients */
    SCHED_BAD,     /* the site could not be reached or did not talk to us */
    SCHED_NEUTRAL, /* says nothing about the site */
};
/* Ends a request. True: this failure was one too many; the caller may kill the destination now. An idle destination
 * lives until the next sched_tick() or sched_dest(). */
bool sched_done(const struct sched_request *r, enum sched_outcome outcome, struct mono_time now);

/* What the feedback has come to: destination_concurrency_feedback_debug. */
struct sched_dest_info {
    unsigned limit, window, busy;
    double success, failure, failed_cohorts;
    struct mono_time dead_until;                       /* us 0: alive */
    struct mono_time not_before, transport_not_before; /* rate delays; us 0: none is under way */
};
void sched_dest_info(const struct sched_dest *d, struct sched_dest_info *out);

/* The earliest time at which a rate delay ends; us 0: none is under way. sched_tick() is due then. */
struct mono_time sched_delayed_until(const struct sched *s);
/* Once a second or so, and when a rate delay ends: dead destinations whose time is over live again, those idle for long are forgotten. */
void sched_tick(struct sched *s, struct mono_time now);
/* All dead destinations live again. */
void sched_revive_all(struct sched *s);
/* Waiting recipients and requests under way, of all transports. */
void sched_counts(const struct sched *s, size_t *waiting, size_t *busy);

#endif
