/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp_int.h - what the files of the SMTP client share.
 *
 * The way of a request: smtp_deliver.c asks smtp_target.c for the hosts of the next hop, in order; for each it takes a
 * connection (smtp_cache.c, or a fresh one by smtp_conn.c and smtp_hello.c) and runs one mail transaction on it
 * (smtp_transaction.c) for the recipients that are still open. The transaction's waiting is the worker's: any thread goes on with it. All
 * else (names, connections, greetings, content that the socket does not take at once) is straight-line code that blocks.
 */
#ifndef PR_SMTP_INT_H
#define PR_SMTP_INT_H

#include <sys/socket.h>

#include "base/buf.h"
#include "base/lock.h"
#include "base/mtime.h"
#include "base/vec.h"
#include "dns/dns.h"
#include "mail/deliver.h"
#include "maps/policy.h"

struct smtp_params {
    const char *helo_name, *bind_address, *bind_address6, *fallback_relay, *host_lookup,
        *dns_support_level;
    const char *connection_cache_destinations;
    int64_t connect_timeout_s, helo_timeout_s, mail_timeout_s, rcpt_timeout_s, data_init_timeout_s;
    int64_t data_xfer_timeout_s, data_done_timeout_s, rset_timeout_s;
    int64_t mx_address_limit, mx_session_limit, line_length_limit;
    int64_t cache_time_limit_s, reuse_time_limit_s, reuse_count_limit;
    const char *tcp_port, *generic_maps, *address_preference, *discard_ehlo_keywords,
        *discard_ehlo_maps;
    int64_t quit_timeout_s;
    bool randomize_addresses, ignore_mx_lookup_error;
    bool cache_on_demand, skip_5xx_greeting, skip_quit_response, always_send_ehlo, never_send_ehlo;
    bool defer_if_no_mx_address_found, disable_dns_lookups, quote_envelope;
    bool disable_mime_conversion, balance_inet_protocols;
    /* other folders', by name */
    const char *myhostname, *myorigin, *recipient_delimiter;
};

/* One for each process; read-only after start-up, but for the cache, which locks itself. */
struct smtp {
    struct smtp_params p;
    struct dns *dns;
    struct match_list *cache_destinations;
    struct smtp_cache *cache;
    struct map_list *generic, *discard_ehlo;
    struct match_list *mydestination;
    bool generic_extensions; /* propagate_unmatched_extensions has generic */
};

struct map_env;
struct findings;
void smtp_check(struct map_env *env, struct findings *f); /* smtp_check.c */

/* --- smtp_target.c: where a next hop leads ------------------------------------------------------- */

struct smtp_address {
    char *host;                   /* as logs show it */
    struct sockaddr_storage addr; /* with the port */
    socklen_t len;
    uint16_t port;
};
struct smtp_targets {
    struct smtp_address *list;
    size_t count;
    size_t cap;
};
void smtp_targets_fini(struct smtp_targets *t);
/* Addresses of "domain", "domain:port", "[host]", "[host]:port", best first. -1: why, with the code that recipients get. */
NODISCARD int smtp_targets_find(struct smtp *s, struct slice nexthop, struct smtp_targets *out,
                                struct err *err);

/* --- smtp_conn.c: a connection, its lines, its time limits ------------------------------------- */

enum {
    SMTP_FEATURE_ESMTP = 1,
    SMTP_FEATURE_PIPELINING = 2,
    SMTP_FEATURE_SIZE = 4,
    SMTP_FEATURE_8BITMIME = 8,
    SMTP_FEATURE_DSN = 16,
    SMTP_FEATURE_SMTPUTF8 = 32
};

struct smtp_conn {
    int fd;
    struct buf addr;    /* the server's, as tables are asked for it */
    struct buf relay;   /* "HOST[ADDR]:PORT" */
    struct buf namaddr; /* "HOST[ADDR]" */
    char *host;
    unsigned features;
    uint64_t size_limit; /* 0: none */
    bool is_self;        /* it calls itself what this system is called */
    bool lends_pages;    /* content that went out by sendfile may lie in the socket yet */
    unsigned uses;       /* transactions begun */
    struct mono_time since;
    int64_t receive_timeout_s, send_timeout_s; /* what the socket has now; -1: nothing */
    struct buf in;
    size_t in_at;
    uint64_t received; /* bytes, in all */
    struct buf out;
};

struct smtp_reply {
    int code;         /* 0: none was read, or not all of it */
    int lines;        /* read so far */
    struct buf text;  /* all lines, flattened to one: "250 2.1.5 Ok" */
    struct slice dsn; /* enhanced code in text, or empty; view */
};

/* NULL: err says "connect to H[A]:P: why" (temporary). */
NODISCARD struct smtp_conn *smtp_conn_open(struct smtp *s, const struct smtp_address *a,
                                           struct err *err);
/* What lies in the socket of content that a segment of the queue holds is thrown away with it: see smtp_conn_content_taken(). */
void smtp_conn_free(struct smtp_conn **c);
/* Queues text; smtp_conn_flush() sends. */
void smtp_conn_put(struct smtp_conn *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
enum smtp_io { SMTP_IO_OK, SMTP_IO_TIMEOUT, SMTP_IO_LOST, SMTP_IO_BAD, SMTP_IO_AGAIN };
NODISCARD enum smtp_io smtp_conn_flush(struct smtp_conn *c, int64_t timeout_s);
/* Output first, if there is any; then a whole reply. */
NODISCARD enum smtp_io smtp_conn_reply(struct smtp_conn *c, int64_t timeout_s,
                                       struct smtp_reply *r);
/* What is there of a reply, without waiting for the rest (AGAIN: call it again with the same r). After a whole one it begins the next. */
NODISCARD enum smtp_io smtp_conn_reply_now(struct smtp_conn *c, struct smtp_reply *r);
void smtp_reply_init(struct smtp_reply *r);
void smtp_reply_fini(struct smtp_reply *r);
/* True if the idle connection can be used: nothing unexpected to read, not closed. */
bool smtp_conn_is_fresh(struct smtp_conn *c);
/* "lost connection with X while Y" and the like. */
void smtp_io_explain(const struct smtp_conn *c, enum smtp_io io, const char *doing,
                     struct err *err);
/* header: what goes out in place of the message's own, or empty. to_7bit: 8-bit parts are converted. */
NODISCARD enum smtp_io smtp_conn_send_content(struct smtp_conn *c, const struct deliver_request *r,
                                              struct slice header, bool to_7bit, int64_t line_limit,
                                              int64_t timeout_s);
/*
 * The server has replied to the content. False: although not all of it has arrived there. sendfile() lends the socket the pages of the queue's
 * file, and when the message is finished that may be written over: then the rest would go out with bytes of another message. So the connection has
 * to be given up.
 */
NODISCARD bool smtp_conn_content_taken(struct smtp_conn *c);

/* --- smtp_hello.c ------------------------------------------------------------------------------- */

/* Greeting and EHLO/HELO; sets features and is_self. -1: err tells; temporary ones let the next host be tried. */
NODISCARD int smtp_hello(struct smtp *s, struct smtp_conn *c, struct err *err);
void smtp_quit(struct smtp *s, struct smtp_conn **c);

/* --- smtp_transaction.c --------------------------------------------------------------------------- */

/* What is known of a recipient between hosts. */
struct smtp_rcpt {
    struct slice addr;      /* as it is offered */
    bool final;             /* answered: sent, or refused for good */
    bool offered;           /* in this transaction */
    bool accepted;          /* RCPT was accepted in this transaction */
    struct dsn_status last; /* why it is not final: used when no host is left */
    bool has_last, site_dead;
    char *strings[6];   /* heap copies behind last and relay */
    struct slice relay; /* of the host that said so; "none": none was reached */
};
struct smtp_job {
    struct smtp *s;
    struct deliver_request *r;
    struct smtp_rcpt *rcpts; /* r->nrcpts of them */
    struct slice sender;     /* as it is offered */
    struct buf header;       /* what goes out in place of the message's own, or empty */
    struct vec mapped;       /* char *: the addresses that stand in for others */
    /* smtp_deliver.c's: what has not been tried yet, and what is being tried */
    bool asked_cache;
    struct slice nexthops, fallbacks; /* the rest of these lists */
    struct smtp_targets targets;      /* of the hop that was taken from there last */
    size_t next_target;
    int64_t sessions; /* with these targets */
    struct smtp_conn *conn;
    struct smtp_transaction *transaction;
};
/* One mail transaction for the recipients that are not final. The connection stays the caller's, and outlives it. */
struct smtp_transaction *smtp_transaction_new(struct smtp_job *job, struct smtp_conn *c);
void smtp_transaction_free(struct smtp_transaction **t);
enum smtp_progress {
    SMTP_WAITS,  /* for *wait; then it is to be called again */
    SMTP_ENDED,  /* the connection may be used again */
    SMTP_BROKEN, /* it may not */
};
NODISCARD enum smtp_progress smtp_transaction_go(struct smtp_transaction *t,
                                                 struct deliver_wait *wait);

/* --- smtp_rcpt.c ------------------------------------------------------------------------------------ */

/* A recipient's fate by a reply. 5xx and success are final and told at once. */
void smtp_judge(struct smtp_job *job, struct smtp_conn *c, size_t i, const struct smtp_reply *r,
                const char *command);
/* Remembers a temporary failure for all recipients that are not final. */
void smtp_job_defer(struct smtp_job *job, const struct err *err, struct slice mta,
                    struct slice relay, bool site_dead);
size_t smtp_job_open(const struct smtp_job *job); /* recipients that are not final */
void smtp_rcpt_note(struct smtp_rcpt *rcpt, const struct dsn_status *st, struct slice relay,
                    bool site_dead);

/* --- smtp_generic.c --------------------------------------------------------------------------------- */

/* smtp_generic_maps for one address. FOUND: out gets what stands in for it. */
NODISCARD enum map_result smtp_generic(struct smtp *s, struct slice addr, struct buf *out,
                                       struct err *err);
/* The same for all of a request: sender, recipients, header. -1: a table cannot be asked, all is deferred. */
NODISCARD int smtp_generic_job(struct smtp_job *job, struct err *err);

/* --- smtp_cache.c: idle connections --------------------------------------------------------------- */

struct smtp_cache;
NODISCARD struct smtp_cache *smtp_cache_new(int64_t idle_s, int64_t reuse_s, int64_t reuse_count);
void smtp_cache_free(struct smtp_cache **c);
/* One that is fresh, or NULL. */
struct smtp_conn *smtp_cache_take(struct smtp_cache *c, struct slice nexthop);
/* Adopts *conn; closes it when it is too old or too much used. */
void smtp_cache_put(struct smtp_cache *c, struct slice nexthop, struct smtp_conn **conn);

/* --- smtp_deliver.c --------------------------------------------------------------------------------- */

struct smtp_job *smtp_job_new(struct smtp *s, struct deliver_request *r);
void smtp_job_free(struct smtp_job **job);
/* Goes on until it has to wait for a server: then false, with *wait. True: every recipient has been answered. */
NODISCARD bool smtp_job_go(struct smtp_job *job, struct deliver_wait *wait);
extern const struct param_set smtp_params;

#endif
