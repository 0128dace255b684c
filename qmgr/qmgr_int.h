/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_int.h - what the files of the queue manager share. All of it belongs to the loop's thread; what runs on the pools
 * (resolving, moves of queue files) is told what it may touch by the job that names it.
 *
 * A queued message, from found() to "removed":
 *
 *   IN_INCOMING  new, in line for activation            -> IN_ACTIVE
 *   IN_DUE       deferred, its time has come            -> IN_ACTIVE
 *   IN_DEFERRED  in the heap until its next retry       -> IN_DUE, IN_MOVING (held)
 *   IN_ACTIVE    read, see struct active                -> removed, IN_DEFERRED, IN_REQUEUE, IN_MOVING (held)
 *   IN_HOLD      waits for postsuper -H                 -> IN_MOVING
 *   IN_REQUEUE   in line for cleanup, see qmgr_move.c   -> IN_MOVING
 *   IN_HANDOVER  in line for another host, see below    -> IN_ACTIVE, where it was before, IN_MOVING (held)
 *   IN_MOVING    a helper thread has the store's handle -> IN_HOLD, IN_DUE, IN_REQUEUE, IN_CORRUPT, removed
 *   IN_CORRUPT   its bytes are set aside                -> removed (at once)
 */
#ifndef PR_QMGR_INT_H
#define PR_QMGR_INT_H

#include <stdatomic.h>
#include <sys/queue.h>

#include "base/pool.h"
#include "mail/proto.h"
#include "master/worker.h"
#include "postconf/master_cf.h"
#include "qmgr/qmgr_clock_file.h"
#include "qmgr/qmgr_link.h"
#include "qmgr/qmgr_retry.h"
#include "qmgr/qmgr_sched.h"
#include "qmgr/qmgr_suspend.h"
#include "qmgr/store.h"
#include "route/route.h"

struct qmgr;
TAILQ_HEAD(suspend_walk_list, suspend_walk);
TAILQ_HEAD(suspend_write_list, suspend_write);

/* --- qmgr_config.c: one generation of the configuration ---------------------------------------- */

struct qmgr_params {
    int64_t active_limit, recipient_limit, recipient_minimum;
    int64_t minimal_backoff_s, maximal_backoff_s;
    int64_t maximal_lifetime_s, bounce_lifetime_s;
    int64_t delay_warning_s;
    bool confirm_delay_cleared;
    int64_t transport_retry_s;
    int64_t initial_concurrency;
    int64_t clog_warn_s;
    bool helpful_warnings;
    int64_t resolver_threads;
    bool feedback_debug;
    const char *defer_transports;
    const char *retry_schedule_maps;
    const char *flush_domains;
    const char *bounce_service_name;
    const char *filter_nexthop;
};
extern const struct param_set qmgr_params;
extern const struct param_set qmgr_limit_params;
extern const struct param_set qmgr_built_in_params;

struct qmgr_config {
    atomic_uint refs; /* the current one, and resolver jobs */
    struct config *cfg;
    struct map_env *maps;
    struct route *route;
    struct map_list *schedules; /* retry_schedule_maps */
    struct match_list *flush_domains;
    bool tells_postmaster; /* of mail that is returned: notify_classes */
    bool is_local_only;    /* nothing that is asked when a recipient is resolved can block */
    struct qmgr_params p;
    struct master_cf *services;
    int64_t daemon_timeout_s, max_idle_s, default_process_limit;
};
NODISCARD int qmgr_config_new(const struct config *cfg, struct qmgr_config **out, struct err *err);
struct qmgr_config *qmgr_config_ref(struct qmgr_config *g);
void qmgr_config_unref(struct qmgr_config **g);
/* The limits of a transport. A bad value is -1; *out then has what the family's default says. */
NODISCARD int qmgr_config_limits(const struct qmgr_config *g, const char *transport,
                                 struct sched_limits *out, struct err *err);
bool qmgr_config_defers(const struct qmgr_config *g, struct slice transport); /* defer_transports */
/* The requests at once that a service of master.cf allows; 0: no limit. */
unsigned qmgr_config_processes(const struct qmgr_config *g, const char *service);

/* --- qmgr_queue.c: every message of the queue -------------------------------------------------- */

enum where {
    IN_INCOMING,
    IN_DUE,
    IN_DEFERRED,
    IN_ACTIVE,
    IN_HOLD,
    IN_REQUEUE,
    IN_HANDOVER,
    IN_MOVING,
    IN_CORRUPT
};

struct queued {
    struct store_msg *m;
    struct active *active; /* IN_ACTIVE */
    TAILQ_ENTRY(queued) all;
    TAILQ_ENTRY(queued) line; /* IN_INCOMING, IN_DUE, IN_REQUEUE, IN_HANDOVER */
    uint32_t heap_at;         /* IN_DEFERRED: place in the heap plus 1 */
    uint32_t site;            /* queue_site() of what is deferred, SITE_UNKNOWN, SITE_SEVERAL */
    uint8_t where;            /* enum where */
    uint8_t was;              /* of a handover: where it goes back to if it stays */
    bool flushed; /* the next attempt is asked for: no dead site or defer_transports counts */
};
TAILQ_HEAD(queued_list, queued);

/* A walk over all messages that may take many turns. */
struct queue_cursor {
    struct queued *next; /* NULL: at the end */
    struct queued *last; /* the walk ends with it; NULL: with whatever is the last then */
    TAILQ_ENTRY(queue_cursor) list;
};
TAILQ_HEAD(queue_cursor_list, queue_cursor);

struct queue {
    struct queued_list all, incoming, due, requeue, handover;
    size_t nhandover; /* IN_HANDOVER */
    uint64_t added;   /* messages that have come in since the process began */
    struct queue_cursor_list cursors;
    struct queued **heap; /* by next retry */
    size_t heap_len, heap_cap;
    size_t nactive;
    bool due_next; /* whose turn it is */
};
/* For a flush of one site: the domain of an address as a number; what has another is not looked at. */
enum { SITE_UNKNOWN, SITE_SEVERAL };
uint32_t queue_site(struct slice addr);
/* Of the recipients that are not done. */
uint32_t queue_site_of(const struct store_rcpt *rcpts, size_t n);

void queue_init(struct queue *q);
void queue_fini(struct queue *q); /* the handles are the store's */
struct queued *queue_add(struct queue *q, struct store_msg *m);
/* Out of every list, and freed. The store's handle stays. */
void queue_forget(struct queue *q, struct queued **qd);
/* Puts it into the line, heap or nothing that belongs to `where`. */
void queue_place(struct queue *q, struct queued *qd, enum where where);
/* The next one to activate, taken out of its line; NULL: none. retries: also those that are due again. */
struct queued *queue_next(struct queue *q, bool retries);
/* Deferred ones whose time has come get in line, at most `limit`. True when there are more. */
bool queue_take_due(struct queue *q, int64_t wall_us, size_t limit);
void queue_cursor_begin(struct queue *q, struct queue_cursor *c);
/* Right after that: what comes in from now on is left out. */
void queue_cursor_bound(struct queue *q, struct queue_cursor *c);
struct queued *queue_cursor_next(struct queue_cursor *c);
void queue_cursor_end(struct queue *q, struct queue_cursor *c);
/* "incoming", "active", "deferred", "hold", "maildrop" (to be queued anew), "corrupt". */
const char *queue_name(const struct queued *qd);

/* --- qmgr_active.c: messages that are being delivered, and their recipients in memory ------------------ */

enum rcpt_state {
    RCPT_WAITING,  /* not yet tried in this attempt */
    RCPT_INFLIGHT, /* with an agent */
    RCPT_DONE,     /* delivered or reported: it is over */
    RCPT_DEFERRED,
    RCPT_FAILED, /* bounced or expired: to be reported */
};

struct rcpt {
    struct sched_rcpt line; /* first member */
    struct part *part;
    struct store_rcpt *s;
    struct slice addr; /* where it goes: resolved */
    struct slice transport, nexthop;
    void *request;                         /* RCPT_INFLIGHT: the one that has it */
    const struct retry_schedule *schedule; /* in the arena; NULL: by age */
    int64_t suspended_until_us;            /* deferred because of it; 0: not */
    uint8_t state;
    uint8_t breaks;            /* times that an agent broke off with it */
    bool report_success;       /* delivered, and the sender wants to know */
    bool traced;               /* has a status that MAIL_PROBE, MAIL_TRACE ask for */
    struct dsn_status *status; /* in the arena; NULL: none to report */
};

enum phase { PHASE_RESOLVING, PHASE_DELIVERING, PHASE_REPORTING };

/*
 * Some recipients of an active message, all of them if there is room: resolved, delivered, reported and let go together. A part
 * never waits for another.
 */
struct part {
    struct active *m;
    struct arena *arena; /* the message's, or its own */
    struct store_rcpt *stored;
    struct rcpt *rcpts;
    size_t nrcpts;
    size_t pending;    /* recipients without an outcome in this attempt */
    unsigned requests; /* with agents */
    struct sched_jobs jobs;
    enum phase phase;
    bool delay_report; /* a delay report is due */
    unsigned report_tries;
    struct part *next_report;
    TAILQ_ENTRY(part) list;
};

/* What an active message waits for as to its recipients that are not in memory. */
enum feed {
    FEED_NONE,     /* there are none, or enough of the message is in memory */
    FEED_HUNGRY,   /* for room; some are in memory */
    FEED_STARVING, /* none is: it gets some next, room or not */
};

struct active {
    struct qmgr *qmgr;
    struct queued *qd;
    struct arena *arena;
    struct mail_envelope env;
    struct store_cursor cursor; /* which recipients were in no part yet */
    TAILQ_HEAD(, part) parts;
    size_t loaded; /* recipients in parts */
    TAILQ_ENTRY(active) feed_list;
    enum feed feed;
    unsigned guard; /* do not end it: somebody walks over its parts */
    enum sched_lane lane;
    uint64_t queued_us;
    int64_t
        retry_after_us; /* the earliest of the parts that have ended; -1: none has anything left */
    bool is_left;       /* some recipients of those are not over */
    bool is_large;      /* has more than qmgr_message_recipient_minimum recipients */
    bool is_flushed;    /* asked for */
    uint32_t site;      /* of its deferred recipients */
    bool is_redirected; /* one stands for all, and has been seen to */
    bool is_withdrawn;  /* the attempt ends when those agents are done that have it */
    struct handover *handover; /* the attempt is to hand it to another host; NULL: to deliver it */
    TAILQ_ENTRY(active) handover_list;
    uint64_t ends_for; /* number of the handover that waits for the end of this attempt; 0: none */
    uint64_t kept;     /* recipients that the other host has been offered and has not taken */
    struct slice kept_addr, kept_reason; /* one of them */
    bool is_asked_again;                 /* another attempt follows at once: see message_ask() */
    bool is_suspended;                   /* so a recipient was deferred */
    uint64_t suspended_at;               /* qmgr.suspensions_ended then */
    bool wants_delete, wants_hold, wants_requeue; /* asked for while it was active */
    bool delay_judged, delay_due;                 /* of this attempt */
    bool traced; /* the sender is told of this attempt, recipient by recipient */
};
TAILQ_HEAD(active_list, active);

/* store_events.found */
void message_found(void *arg, struct store_msg *m);
/* Makes messages active as far as limits allow; bounded. True when there is more to do now. */
bool message_activate_some(struct qmgr *q);
/* Reads more recipients of active messages as far as limits allow; bounded. True when there is more to do now. */
bool active_feed(struct qmgr *q);
/* The part's attempt is over: it is let go, and the message if it was the last. */
void active_part_over(struct part *p);
/* After guard was let go: reads on, or ends the message if no part is left. */
void active_go_on(struct active *m);
/* Lets go of its memory; the queued message stays, and is in no list. */
void active_end(struct active **m);
/* Makes it active, to be handed over: it is in no line. If that cannot be, sees to it. */
void message_hand_over(struct qmgr *q, struct queued *qd, struct handover *h);
/* Takes what waits out of line: delete, hold, requeue need only wait for what is with an agent. The message may be over then. */
void message_withdraw(struct active *m);
bool message_is_withdrawn(const struct active *m);
/* At the end of the process: the message stays in the store as it is. */
void message_forget(struct active *m);

/* --- qmgr_message.c: outcomes, and the end of an attempt ---------------------------------------------- */

/* Delivers the part's recipients that wait. */
void message_begin(struct part *p);
/* All recipients are resolved. */
void message_resolved(struct part *p);
/* The outcome of one recipient. */
void message_outcome(struct part *p, struct rcpt *r, const struct dsn_status *status);
/* Something may have been the last: goes on with reports, retry, removal. */
void message_check(struct part *p);
/* The reports that were due are out (or not needed): ends the attempt. */
void message_conclude(struct part *p);
/* No part is left: removed, held or deferred. */
void message_over(struct active *m);
/* Removes it from the store and the queue; not while it is active or moving. */
void message_remove(struct qmgr *q, struct queued *qd);
/* Logs a recipient's line as an agent does, and defers it: where no agent can be asked. */
void message_defer_here(struct part *p, struct rcpt *r, struct slice code, struct slice text);
/*
 * A flush (of a site; NULL: of all) comes while it is active: true if recipients of it were deferred already, or are about to be without
 * having been tried. Then it is tried again when this attempt is over.
 */
bool message_ask(struct active *m, const char *site);
/* The notes of this message go to disk soon. */
void qmgr_dirty(struct qmgr *q);

/* --- qmgr_resolve.c ---------------------------------------------------------------------------- */

/* Where the recipients go that are RCPT_WAITING; may block. Any thread that has the part and its arena. */
void resolve_part(const struct qmgr_config *g, struct part *p);
/* Calls message_resolved(), now or in a later turn. */
void resolve_message(struct part *p);

/* --- qmgr_deliver.c: requests to agents -------------------------------------------------------- */

struct agents; /* of one transport */

/* Puts each waiting recipient in line for its transport and next hop. */
void deliver_message(struct part *p);
/* Defers what of the message is in line and has been suspended since. The message may be over then. */
void deliver_suspend(struct active *m);
/* Starts what can be started now. */
void deliver_pump(struct qmgr *q);
void deliver_tick(struct qmgr *q, struct mono_time now);
void deliver_delay_over(void *qmgr); /* a rate delay has ended: a timer's callback */
/* New limits for every transport. */
void deliver_reconfigure(struct qmgr *q);
void deliver_fini(struct qmgr *q);
/* What a transport as a whole waits for. */
struct deliver_pause {
    struct mono_time paused_until; /* us 0: it is not paused */
    const char *reason;            /* why it is */
    unsigned busy, processes;      /* requests under way, and how many there may be; 0: no limit */
};
void deliver_pause(struct qmgr *q, struct slice transport, struct deliver_pause *out);
/* Flush: nothing is dead or suspended any more. */
void deliver_revive(struct qmgr *q);

/* --- qmgr_report.c: requests to bounce --------------------------------------------------------- */

/* Reports that are due after an attempt; calls message_conclude(), now or later. */
void report_message(struct part *p);
/* Would this recipient's sender be told of a delay? NOTIFY of RFC 3461. */
bool report_of_delay_wanted(const struct rcpt *r);
void report_pump(struct qmgr *q);
void report_tick(struct qmgr *q, struct mono_time now);
void report_fini(struct qmgr *q);
bool report_is_busy(const struct qmgr *q);

/* --- qmgr_move.c: what the store does with a file, on a helper thread ----------------------------- */

enum move { MOVE_HOLD, MOVE_RELEASE, MOVE_CORRUPT, MOVE_REQUEUE };
/* done (may be NULL) is told how it went. The message must not be active. */
void move_message(struct qmgr *q, struct queued *qd, enum move what, const char *why,
                  void (*done)(void *arg, bool ok), void *arg);
/* Calls back(arg, qd) when qd, which is IN_MOVING, is so no more. It is given NULL if that has left the queue. */
void move_wait(struct qmgr *q, const struct queued *qd, void (*back)(void *arg, struct queued *qd),
               void *arg);
/* Gives cleanup what is IN_REQUEUE, some at a time. */
void move_requeues(struct qmgr *q);
TAILQ_HEAD(move_list, move_job);

/* --- qmgr_server.c, qmgr_list.c, qmgr_edit.c: connections to public/qmgr ------------------------ */

struct client {
    struct qmgr *qmgr;
    struct chan *chan;
    struct loop_io *io;
    uid_t uid;
    bool dead;
    bool greeted;
    uint64_t source;         /* of a writer; 0: is none */
    struct command *command; /* under way: frames wait */
    bool in_turn;            /* its next bit is posted */
    unsigned uses;           /* callbacks posted that name it */
    TAILQ_ENTRY(client) list;
};
TAILQ_HEAD(client_list, client);

/* fd is taken over. */
void server_accepted(struct qmgr *q, int fd);
void server_fini(struct qmgr *q);
void client_answer(struct client *c, enum proto_result_status status, uint64_t count,
                   const char *text);
/* Writes; waits for room by itself. */
void client_send(struct client *c);

/* A command that may take many turns. */
enum step {
    STEP_MORE,
    STEP_WAITS,
    STEP_DONE
}; /* WAITS: client_continue() is called when there is something to do */
struct command {
    enum step (*step)(struct command *c); /* a bounded bit */
    void (*free)(struct command *c);
    struct client *client; /* NULL: it has gone */
};
/* NULL: answered already (client_answer). */
struct command *list_command(struct client *c, const struct proto_queue_select *select);
struct command *edit_command(struct client *c, const struct proto_queue_op *op);
struct command *flush_command(struct client *c, const struct proto_queue_op *op);
TAILQ_HEAD(flush_list, flush);
/* After server_fini(), when the pools have ended. */
void flush_fini(struct qmgr *q);
struct command *suspend_command(struct client *client, const struct proto_suspension *p);
struct command *handover_command(struct client *client, const struct proto_queue_move *p);
/* Runs the next bit of the client's command at the end of this turn. */
void client_continue(struct client *c);

/* --- qmgr_suspend_command.c: suspensions begin, end, and are kept on disk ------------------------ */

/* Reads what is kept; the current directory is the queue directory. */
void suspend_begin(struct qmgr *q);
/* Ends those whose time is over. */
void suspend_tick(struct qmgr *q);
/* After server_fini(), when the pools have ended. */
void suspend_fini(struct qmgr *q);
/* What suspends the recipient; NULL: nothing. */
const struct suspension *suspend_of(const struct part *p, const struct rcpt *r);

/* --- qmgr_suspend_walk.c: and what that does to the mail that is there ------------------------------- */

/* s: the suspension that has ended, taken over; NULL: one has begun. */
void suspend_walk_begin(struct qmgr *q, struct suspension *s);
/* When the pools have ended. */
void suspend_walk_fini(struct qmgr *q);

/* --- qmgr_handover.c: postqueue --move-to ------------------------------------------------------------ */

#define HANDOVER_TRANSPORT "smtp"

/* Goes on with it; bounded. True when there is more to do now. */
bool handover_pump(struct qmgr *q);
/* After server_fini(), when no message is active any more. */
void handover_fini(struct qmgr *q);
struct slice handover_nexthop(const struct handover *h);
bool handover_takes_held(const struct handover *h);
/* Of a message that is in no line: it cannot be handed over. It goes back to where it was, and the administrator is told. */
void handover_refuse(struct handover *h, struct queued *qd, const char *why);
/* The same, as it is on hold without having been there yet; the caller puts it there. */
void handover_is_held(struct handover *h);
/* An attempt begins; its memory goes. */
void handover_begins(struct handover *h, struct active *m);
void handover_ends(struct active *m);
/* A recipient was not taken. No text: it was not even offered. */
void handover_kept(struct active *m, const struct rcpt *r, struct slice why);
/* A request of it came back. why: for SCHED_BAD. */
void handover_feedback(struct handover *h, enum sched_outcome outcome, struct slice why);
/* It comes to its end, for a reason that concerns all of it. */
void handover_stop(struct handover *h, struct slice why);
/* The attempt to hand it over has ended. moved: nothing of it is left; is_left: it is to be queued as before. */
void handover_result(struct active *m, bool moved, bool is_left);
/* Where a message that stays goes: where it was; but what need not wait any longer because of something that happened meanwhile is due. */
enum where handover_back(const struct handover *h, const struct queued *qd);
/* An attempt has ended for which handover_pump() asked; true: the message is to get in line for the handover. */
bool handover_waited_for(struct qmgr *q, const struct active *m);

/* --- qmgr.c ------------------------------------------------------------------------------------- */

struct qmgr {
    struct worker *worker;
    struct loop *loop;
    struct qmgr_config *gen;
    struct store *store;
    struct queue queue;
    struct sched *sched;
    struct qmgr_clock clock;
    bool clock_unsaved; /* a jump is not in the file yet */
    char boot_id[BOOT_ID_MAX];
    uint64_t random;
    size_t nrcpts; /* in memory */
    size_t nlarge; /* of them: of messages with more than qmgr_message_recipient_minimum */
    struct active_list hungry, starving;
    struct pool *resolvers;
    struct pool *movers;
    size_t nhelping;                  /* jobs on either that have not come back */
    struct move_list moves;           /* of them: of messages */
    size_t nrequeues;                 /* of these: from IN_REQUEUE */
    struct mono_time requeues_paused; /* until then; 0: not */
    struct link_pool *bounce;
    char *bounce_service;
    struct part *reports, **reports_tail; /* in line for bounce */
    size_t nreports;                      /* with bounce */
    struct mono_time reports_paused;      /* until then */
    struct client_list clients;
    struct flush_list abandoned_flushes; /* their clients have gone while a table was asked */
    struct vec suspensions;              /* struct suspension * */
    uint64_t suspensions_ended;          /* how many have */
    struct suspend_walk_list suspend_walks;
    struct suspend_write_list suspend_writes; /* under way on the helper */
    struct handover *handover;                /* under way; NULL: none */
    uint64_t handovers;                       /* begun so far */
    struct buf scratch;                       /* for one message's encoding */
    struct arena *reading;                    /* for one message's record */
    _Atomic int64_t *longest_turn_us;         /* a metric */
    struct loop_timer *tick;
    struct loop_timer *delayed; /* for the earliest end of a rate delay: delayed_until */
    struct mono_time delayed_until;
    struct loop_timer *flush;
    bool notes_failed; /* the last flush did, and it was said */
    bool cannot_note;  /* for another reason than a full disk: nothing begins */
    struct mono_time
        probed; /* when something could be written the last time that it was tried: qmgr_may_begin() */
    bool is_dirty;
    bool is_pumping; /* the pump is posted for the end of this turn */
    bool is_draining;
    struct mono_time drain_until;
    void (*drained)(struct qmgr *q);
};

/* worker: for socket paths and leaving; the current directory is the queue directory. *out is set on failure too. */
NODISCARD int qmgr_new(struct worker *w, const struct config *cfg, struct qmgr **out,
                       struct err *err);
/* Takes the queue (waits for a predecessor that is leaving), finds what is in it, begins to work. */
NODISCARD int qmgr_begin(struct qmgr *q, struct loop *loop, struct err *err);
/* -1: the configuration is wrong; the old one stays. */
NODISCARD int qmgr_reload(struct qmgr *q, const struct config *cfg, struct err *err);
/* Starts nothing new; drained() when what is under way has ended, or after a while. */
void qmgr_drain(struct qmgr *q, void (*drained)(struct qmgr *q));
/* After the loop has ended: writes what is to be noted and lets go of the queue. */
void qmgr_end(struct qmgr **q);
/* Runs the pump at the end of this turn. */
void qmgr_wake(struct qmgr *q);
/* May a delivery begin: could its end be noted? Asks the disk now and then. */
bool qmgr_may_begin(struct qmgr *q);
/* The time of day as qmgr_clock.h has it: for next_retry_us and ages. */
int64_t qmgr_now_us(struct qmgr *q);
/* What the wall clock will say, or said, at such a time: for people. */
int64_t qmgr_wall_us(const struct qmgr *q, int64_t us);
int64_t qmgr_age_us(struct qmgr *q, const struct mail_envelope *env);
/* Where a service's socket is, from master.cf. */
void qmgr_service_path(struct qmgr *q, const char *service, struct buf *out);

#endif
