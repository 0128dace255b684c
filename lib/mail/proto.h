/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proto.h - every message between Postrider's processes: names, types, limits, version. Declared here
 * and nowhere else; tables in proto.c. Type numbers and tags are never reused.
 *
 * Each side sends PROTO_HELLO first on every connection and checks the other's: see proto_hello().
 */
#ifndef PR_MAIL_PROTO_H
#define PR_MAIL_PROTO_H

#include "base/frame.h"
#include "mail/envelope.h"

#define PROTO_VERSION 1

enum proto_type {
    PROTO_HELLO = 1,

    /* Intake. Client: smtpd, pickup, bounce, local. Server: cleanup, socket public/cleanup.
     * ENVELOPE RCPT* DATA* END -> RESULT, then the next message; ABORT forgets the one under way. */
    PROTO_ENVELOPE = 10,
    PROTO_RCPT = 11,
    PROTO_DATA =
        12, /* payload: content bytes as on the wire (CRLF), dots unstuffed; not msg-encoded */
    PROTO_END = 13,
    PROTO_ABORT = 14,
    PROTO_RESULT = 15, /* struct proto_result */
    PROTO_GOODBYE =
        16, /* server: after the message that may be on its way, take another connection */
    /* Much content, in memory of both (base/share.h), in place of DATA from there on to END, which ends its use: SHARE, with
     * its descriptor, SHARED*; the server answers TAKEN, so that a slot is filled again only when its content was taken. */
    PROTO_SHARE = 17,
    PROTO_SHARED = 18, /* struct proto_shared: of the next slot in turn */
    PROTO_TAKEN = 19,  /* struct proto_taken */

    /* Queue. Client: cleanup (COMMITTED only) and the queue commands. Server: qmgr, socket public/qmgr. */
    PROTO_COMMITTED = 20,   /* struct proto_committed: no answer */
    PROTO_QUEUE_FLUSH = 21, /* struct proto_queue_op -> RESULT */
    PROTO_QUEUE_LIST = 22,  /* struct proto_queue_select -> (QUEUE_ITEM QUEUE_RCPT*)* END */
    PROTO_QUEUE_ITEM = 23,  /* struct proto_queue_item */
    PROTO_QUEUE_RCPT = 24,  /* struct proto_queue_rcpt */
    PROTO_QUEUE_EDIT = 25,  /* struct proto_queue_op -> RESULT; owner and root only */
    /* struct proto_suspension; SUSPEND, RESUME: -> RESULT, owner and root only; LIST: -> SUSPENSION* END */
    PROTO_QUEUE_SUSPENSION = 26,
    /* struct proto_queue_move -> (QUEUE_MOVED | QUEUE_STAYED)* QUEUE_MOVED RESULT; owner and root only. It ends with the connection. */
    PROTO_QUEUE_MOVE = 27,
    PROTO_QUEUE_MOVED = 28,  /* struct proto_queue_moved: how far it has come */
    PROTO_QUEUE_STAYED = 29, /* struct proto_queue_stayed */

    /* Delivery. Client: qmgr. Server: a delivery agent, socket private/SERVICE.
     * DELIVER (with the content's descriptor) DELIVER_RCPT* END -> STATUS* (one each, any order) DONE. */
    PROTO_DELIVER = 30,      /* struct proto_deliver */
    PROTO_DELIVER_RCPT = 31, /* struct proto_deliver_rcpt */
    PROTO_STATUS = 32,       /* struct proto_status */
    PROTO_DONE = 33,

    /* Reports. Client: qmgr. Server: bounce, socket private/bounce. REPORT (with descriptor)
     * REPORT_RCPT* END -> RESULT (text: queue id of the notification, or empty when none was due). */
    PROTO_REPORT = 40,      /* struct proto_report */
    PROTO_REPORT_RCPT = 41, /* struct proto_report_rcpt */

    /* master and worker, over the socket pair that the worker inherits. */
    PROTO_WORKER_STATUS =
        50, /* worker -> master: struct proto_worker_status; master -> worker: its new capacity */
    PROTO_WORKER_DRAIN = 51, /* master -> worker: finish your clients, then leave */
    /* master -> worker: the same, and serve who waits at your sockets: nobody else will, as they are given up */
    PROTO_WORKER_DRAIN_ALL = 56,
    PROTO_WORKER_RELOAD =
        52, /* master -> loop worker: a new configuration; the descriptor is main.cf's text */
    PROTO_WORKER_WAKEUP = 53, /* master -> worker: periodic wake-up, or a trigger */
    PROTO_WORKER_STOP =
        54, /* master -> worker: as DRAIN, and do not wait for clients that are silent */
    PROTO_WORKER_LOG =
        55, /* master -> worker: log to the descriptor that comes along; without one: syslog */

    /* Tables. Client: any process. Server: proxymap, socket private/proxymap or private/proxywrite. */
    PROTO_MAP_REQUEST =
        70, /* struct proto_map_request -> MAP_ANSWER; LIST: -> MAP_ANSWER*, the last one no ROW */
    PROTO_MAP_ANSWER = 71, /* struct proto_map_answer */

    /* postfix(1) and master, socket private/control: struct proto_control -> RESULT */
    PROTO_CONTROL = 60,

    /* postmap(1) and master, socket private/control: TABLE_ASK -> TABLE_SAID* (one of each process) END. Master and worker:
     * TABLE_ASK -> TABLE_SAID. */
    PROTO_TABLE_ASK = 61,  /* struct proto_table_ask */
    PROTO_TABLE_SAID = 62, /* struct proto_table_said */
};

struct proto_hello {
    uint32_t version;
    struct slice service;
};

/* What became of a request. Exactly what a client is told. */
struct proto_result {
    uint32_t status;    /* enum proto_result_status */
    struct slice code;  /* enhanced status code */
    struct slice text;  /* reason, or what was done */
    uint32_t smtp_code; /* reply code for intake: 250, 450, 451, 452, 550, 554 ... or 0 */
    uint64_t count;     /* messages concerned, for the queue commands */
};
enum proto_result_status {
    PROTO_OK = 1,
    PROTO_TEMPORARY = 2,
    PROTO_PERMANENT = 3,
    PROTO_DENIED = 4,
    PROTO_NOT_FOUND = 5
};

struct proto_shared {
    uint32_t bytes;
};
struct proto_taken {
    uint32_t slots; /* since the last one */
};

struct proto_committed {
    uint64_t source; /* store_writer's number for what it writes to */
    uint64_t end;    /* all before this offset is durable */
};

enum proto_queue_operation {
    QUEUE_OP_FLUSH_ALL = 1,
    QUEUE_OP_FLUSH_SITE = 2,
    QUEUE_OP_FLUSH_ID = 3,
    QUEUE_OP_DELETE = 10,
    QUEUE_OP_HOLD = 11,
    QUEUE_OP_RELEASE = 12,
    QUEUE_OP_REQUEUE = 13,
    QUEUE_OP_EXPIRE = 14,
};
struct proto_queue_op {
    uint32_t op;
    struct slice arg;   /* queue id, "ALL", or site */
    struct slice queue; /* with ALL: "hold", "deferred", "active", "incoming", or empty */
};
/* Which messages are listed: those for which all that is not empty holds, and recipient, domain, reason for one recipient that waits. */
struct proto_queue_select {
    struct slice queues; /* names, separated by commas; empty: all */
    struct slice queue_id;
    struct slice sender; /* address, "@domain", or "<>" */
    struct slice recipient;
    struct slice domain;    /* of a recipient; ".domain": and below it */
    struct slice reason;    /* a part of a recipient's reason */
    uint64_t arrived_to_us; /* not younger; 0: any age */
};
struct proto_queue_item {
    struct slice queue; /* maildrop, incoming, active, deferred, hold, corrupt */
    struct slice queue_id;
    struct slice sender;
    uint64_t arrival_us;
    uint64_t size;
    uint64_t next_retry_us; /* 0: none */
    uint32_t forced_expire;
    struct slice
        waits_for; /* a word: what the message waits for, or empty: nothing that can be named */
    struct slice waits_text; /* the same for people, without the time */
    uint64_t waits_until_us; /* wall clock; 0: nobody knows */
};
struct proto_queue_rcpt {
    struct slice addr;
    struct slice reason; /* why delayed, or empty */
    /* as the message's, where a recipient of it waits for something of its own */
    struct slice waits_for, waits_text;
    uint64_t waits_until_us;
};

enum proto_suspension_op {
    SUSPENSION_IS = 0,
    SUSPENSION_BEGIN = 1,
    SUSPENSION_END = 2,
    SUSPENSION_LIST = 3
};
#define SUSPENSION_REASON_MAX 300
#define SUSPENSION_BY_MAX     100
/* What is not tried for a while. */
struct proto_suspension {
    uint32_t op;       /* enum proto_suspension_op; IS: one of the list */
    struct slice kind; /* "destination", "sender", "transport" */
    struct slice name;
    struct slice by, reason;
    uint64_t since_us, until_us; /* wall clock */
};

/* What is selected is handed to another host. */
#define MOVE_BY_MAX 100
struct proto_queue_move {
    struct proto_queue_select select;
    struct slice nexthop;
    uint32_t held;   /* 1: what is on hold, too */
    struct slice by; /* who has it done, for the log */
};
struct proto_queue_moved {
    uint64_t meant; /* messages found so far */
    uint64_t moved; /* the other host has all that was left of them */
    uint64_t
        stayed; /* some of their recipients were offered and not taken, or they cannot be offered */
    uint64_t untried;   /* it ended before their turn */
    uint64_t elsewhere; /* delivered, deleted, held, queued anew meanwhile */
    uint64_t held;      /* selected but for being on hold */
    uint64_t arrived;   /* messages that are new since it began */
    uint32_t found_all; /* 1: meant is final */
};
/* A message that stayed; of its recipients that did, one. */
struct proto_queue_stayed {
    struct slice queue_id;
    struct slice sender;
    struct slice addr; /* empty: the reason is the message's */
    struct slice reason;
    uint64_t others; /* more recipients that stayed */
};

struct proto_deliver {
    struct slice queue_id;
    struct slice nexthop;
    struct slice sender;
    uint64_t content_offset; /* into the descriptor */
    uint64_t content_bytes;
    uint32_t header_bytes;
    uint32_t flags; /* MAIL_ bits */
    uint32_t longest_line;
    uint64_t arrival_us;
    uint64_t queued_us; /* when qmgr first saw it in this attempt: delays=a/b */
    uint32_t dsn_ret;
    struct slice dsn_envid;
    struct slice client_name, client_addr, client_port, helo, protocol;
    struct slice sasl_method, sasl_username, sasl_sender;
    uint32_t reuse; /* 1: the destination is busy; keep the connection */
    struct slice message_id;
    /* 1: handed to another host. This next hop alone is asked, as the envelope stands, and what it refuses is not the end. */
    uint32_t handover;
};
struct proto_deliver_rcpt {
    uint32_t index; /* as in the message */
    struct slice addr;
    struct slice orig;
    struct slice orcpt;
    uint32_t notify;
};
struct proto_status {
    uint32_t index;
    uint32_t outcome; /* enum outcome */
    struct slice code, text, diag_type, diag_text, mta_name;
    struct slice relay; /* as logged; only with MAIL_PROBE or MAIL_TRACE */
    uint32_t
        site_dead; /* 1: failed before any recipient was offered: it says something about the next hop */
    uint32_t notify_passed; /* 1: sent, and the next host reports success itself */
};

enum report_kind { REPORT_FAILURE = 1, REPORT_DELAY = 2, REPORT_SUCCESS = 3, REPORT_VERIFY = 4 };
struct proto_report {
    uint32_t kind; /* enum report_kind */
    struct slice queue_id;
    struct slice sender; /* of the message: the report's recipient */
    uint64_t content_offset;
    uint64_t content_bytes;
    uint32_t header_bytes;
    uint32_t flags;
    uint64_t arrival_us;
    uint32_t dsn_ret;
    struct slice dsn_envid;
    uint64_t expires_us; /* REPORT_DELAY: until when it is tried */
    struct slice message_id;
};
struct proto_report_rcpt {
    struct slice addr, orig, orcpt;
    uint32_t notify;
    uint32_t outcome;
    struct slice code, text, diag_type, diag_text, mta_name;
    struct slice relay; /* REPORT_VERIFY, REPORT_SUCCESS: who was asked, "none" or empty: nobody */
};

struct proto_worker_status {
    uint32_t sessions; /* clients now */
    uint32_t capacity; /* clients it would take now; 0: full or leaving */
    uint64_t served;   /* clients since the start */
    uint32_t ready;    /* 1: start-up is over */
    uint32_t leaving;  /* 1: takes no more clients, ends when the last has gone */
    uint32_t shape;    /* 1 + enum worker_shape */
};

enum proto_control_op {
    CONTROL_RELOAD = 1,
    CONTROL_STOP = 2,
    CONTROL_STATUS = 3,
    CONTROL_WAKE = 4,
    CONTROL_REOPEN_LOG = 5,
    CONTROL_METRICS = 6, /* the result comes with the descriptor of base/metrics.h */
};
struct proto_control {
    uint32_t op;
    struct slice arg; /* CONTROL_WAKE: service */
};

#define PROTO_MAP_TABLE_MAX 65536
#define PROTO_MAP_KEY_MAX   65536
#define PROTO_MAP_VALUE_MAX (FRAME_PAYLOAD_MAX - PROTO_MAP_TABLE_MAX - PROTO_MAP_KEY_MAX - 8192)
enum proto_map_op {
    PROTO_MAP_LOOKUP = 1,
    /* proxywrite only: */
    PROTO_MAP_UPDATE = 2,
    PROTO_MAP_DELETE = 3,
    PROTO_MAP_SYNC = 4,
    PROTO_MAP_LIST = 5,
};
struct proto_map_request {
    uint32_t op;        /* enum proto_map_op */
    struct slice table; /* "type:name", without "proxy:" */
    struct slice key;
    struct slice value; /* UPDATE */
    uint32_t
        plain; /* LOOKUP; 1: rules of regular expressions with $number are left out: map_open_plain() */
};
enum proto_map_status {
    PROTO_MAP_FOUND = 1, /* UPDATE, SYNC, LIST: done */
    PROTO_MAP_NOT_FOUND = 2,
    PROTO_MAP_RETRY = 3,
    PROTO_MAP_DENIED = 4, /* the table is not one that this service may serve */
    PROTO_MAP_ROW = 5,    /* LIST: one row, more answers follow */
};
struct proto_map_answer {
    uint32_t status;  /* enum proto_map_status */
    struct slice key; /* ROW */
    struct slice value;
    struct slice text; /* why, for RETRY and DENIED */
};

/* What a table says in the processes that have it open. */
#define PROTO_TABLE_SAID_MAX 65536
struct proto_table_ask {
    uint64_t id;        /* master's, for its workers */
    struct slice table; /* as main.cf names it */
    struct slice key;
};
enum proto_table_status {
    PROTO_TABLE_FOUND = 1,
    PROTO_TABLE_NOT_FOUND = 2,
    PROTO_TABLE_RETRY = 3,
    PROTO_TABLE_NOT_OPEN = 4, /* this process does not use it */
    PROTO_TABLE_SILENT = 5,   /* no answer: why stands in text */
};
struct proto_table_said {
    uint64_t id;
    uint32_t status; /* enum proto_table_status */
    struct slice value;
    struct slice text;    /* why, for RETRY and SILENT */
    uint64_t loaded_us;   /* wall clock: since when the process has what it asked; 0: not opened */
    struct slice program; /* master says: whose answer it is */
    uint32_t pid;
};

extern const struct msg_def msg_hello, msg_result, msg_shared, msg_taken, msg_committed,
    msg_queue_op, msg_queue_select, msg_queue_item, msg_queue_rcpt, msg_suspension, msg_queue_move,
    msg_queue_moved, msg_queue_stayed, msg_deliver, msg_deliver_rcpt, msg_status, msg_report,
    msg_report_rcpt, msg_worker_status, msg_control, msg_map_request, msg_map_answer, msg_table_ask,
    msg_table_said;
/* All of the above with msg_envelope and msg_rcpt, NULL-terminated: for the fuzz target and the tests. */
extern const struct msg_def *const proto_all[];

/* Queues a message of def->type. A field over its limit: -1, err filled, nothing queued. */
NODISCARD int proto_put(struct chan *c, const struct msg_def *def, const void *m, int fd,
                        struct err *err);
/* Queues a frame without fields (END, ABORT, DONE, WORKER_DRAIN ...). */
void proto_put_empty(struct chan *c, uint16_t type);
/* Decodes a frame that must be of def's type. */
NODISCARD int proto_decode(const struct frame *f, const struct msg_def *def, void *m,
                           struct err *err);
/* Queues our hello; to be called once on a fresh channel by both sides. */
void proto_hello(struct chan *c, const char *service);
/* Checks the peer's hello, which must be the first frame. */
NODISCARD int proto_check_hello(const struct frame *f, struct err *err);
/* Client side: connects to a service's socket, sends hello (the answer's hello is checked when the first
 * reply is read by proto_get_wait). Blocks up to timeout_ms. */
NODISCARD struct chan *proto_connect(const char *path, const char *service, int timeout_ms,
                                     struct err *err);
/* Like chan_get_wait(), but swallows (and checks) the peer's hello. */
NODISCARD enum chan_result proto_get_wait(struct chan *c, struct frame *out, int timeout_ms,
                                          struct err *err);

#endif
