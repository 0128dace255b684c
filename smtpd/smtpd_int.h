/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtpd_int.h - what the files of the SMTP server share: the process's state, a session, a transaction.
 *
 * A session's states, and what is true in each:
 *   COMMAND  the next bytes are a command line (smtpd_input.c takes lines apart, smtpd_commands.c dispatches)
 *   DATA     content up to CRLF.CRLF (smtpd_data.c); intake is open unless the transaction has failed
 *   BDAT     a chunk of known length (smtpd_bdat.c)
 *   RESULT   END was sent to cleanup; parked on its connection, no thread held
 *   SLEEP    parked until wake_at (error delay, sleep restriction); then COMMAND
 *   CLOSING  the last reply is on its way out
 */
#ifndef PR_SMTPD_INT_H
#define PR_SMTPD_INT_H

#include "base/arena.h"
#include "base/vec.h"
#include "cleanup/receive.h"
#include "dns/dns.h"
#include "mail/intake.h"
#include "mail/queue_id.h"
#include "maps/policy.h"
#include "master/worker.h"
#include "route/route.h"
#include "smtpd/policy.h"

struct smtpd_params {
    const char *banner, *forbidden_commands, *noop_commands, *discard_ehlo_keywords,
        *local_header_rewrite_clients;
    const char *forbid_bare_newline, *forbid_bare_newline_exclusions, *discard_ehlo_keyword_maps,
        *remote_header_rewrite_domain;
    int64_t timeout_s, hard_error_limit, soft_error_limit, junk_command_limit, error_sleep_s,
        in_flow_delay_s;
    int64_t recipient_limit, recipient_overshoot_limit, line_length_limit, history_flush_threshold;
    int64_t bare_newline_code, queue_minfree;
    bool helo_required, disable_vrfy, strict_rfc821, peername_lookup, client_port_logging;
    bool smtputf8_enable, strict_smtputf8, soft_bounce, relay_first;
    const char *command_filter;
    const char *reject_footer, *reject_footer_maps, *expansion_filter; /* smtpd_footer.c */
    const char *notice_recipient;                                      /* smtpd_notify.c */
    /* other folders', by name */
    const char *myhostname;
    int64_t message_size_limit;
    bool long_queue_ids;
};

enum bare_newline { BARE_ACCEPT, BARE_NORMALIZE, BARE_REJECT };

/* One for each process; read-only after start-up. */
struct smtpd {
    struct smtpd_params p;
    struct receive_options receive;
    unsigned notify; /* enum notify_class: whose transcripts somebody wants */
    const char *double_bounce_sender, *mail_name, *myorigin; /* for these */
    struct route *route;
    struct dns *dns;
    struct policy *policy;
    struct intake_pool *intake;
    struct match_list *forbidden, *noop, *bare_exclusions, *mynetworks, *rewrite_clients;
    struct map_list *discard_ehlo_maps, *command_filter, *reject_footers;
    enum bare_newline bare_newline;
    _Atomic int64_t space_bytes,
        space_asked_us; /* of the queue's file system, and when that was (monotonic) */
    _Atomic int64_t
        notice_after_us; /* no transcript of the server's own trouble before that (monotonic) */
};

enum smtpd_state {
    STATE_COMMAND,
    STATE_DATA,
    STATE_BDAT,
    STATE_RESULT,
    STATE_SLEEP,
    STATE_CLOSING
};

/* Commands that the disconnect line counts. */
enum smtpd_command {
    CMD_HELO,
    CMD_EHLO,
    CMD_MAIL,
    CMD_RCPT,
    CMD_DATA,
    CMD_BDAT,
    CMD_RSET,
    CMD_NOOP,
    CMD_VRFY,
    CMD_ETRN,
    CMD_QUIT,
    CMD_UNKNOWN,
    CMD_COUNT
};

/* From MAIL to the end of the message; released as a whole. */
struct transaction {
    struct arena *arena;
    bool begun; /* MAIL was accepted */
    struct slice sender;
    struct vec rcpts;                /* struct mail_rcpt *, accepted */
    char queue_id[QUEUE_ID_MAX + 1]; /* "" until the first recipient is accepted */
    uint32_t flags;                  /* MAIL_ bits */
    uint32_t dsn_ret;
    struct slice envid;
    int64_t overshoot; /* recipients beyond the limit */
    struct intake *intake;
    uint64_t arrival_us;
    uint64_t bytes;
    bool too_big, failed, bare_lf; /* the content is read, and refused at its end */
    struct slice filter, redirect;
    struct vec prepends; /* char *, header lines */
    struct vec bccs;     /* char * */
    bool hold, discard;
};

struct session {
    struct smtpd *g;
    struct worker *worker;
    struct worker_session *ws;
    int fd;
    struct arena *arena; /* client facts, helo */
    enum smtpd_state state;
    struct slice name, addr, port, reverse_name, namaddr; /* NAME[ADDR] */
    bool name_verified, name_tempfail;
    struct slice helo;
    struct slice etrn_domain; /* while smtpd_etrn_restrictions judge it; else empty */
    bool esmtp;
    bool is_mynetwork, rewrites_headers, bare_excluded;
    struct buf in; /* bytes not yet handled */
    size_t in_at;
    struct buf out;
    size_t out_at;
    struct transaction t;
    struct policy_state policy; /* what stands over from earlier lists */
    unsigned good[CMD_COUNT], total[CMD_COUNT];
    int64_t errors, junk;
    struct mono_time wake_at, deadline;
    bool greeted, lost, logged_end, last_failed;
    bool drained;      /* all input that was there has been read */
    const char *where; /* the last command, for "lost connection after" */
    /* smtpd_notify.c */
    struct buf transcript; /* empty unless somebody wants it */
    bool transcript_cut;   /* it has reached its limit */
    unsigned troubles;     /* enum notify_class */
    const char *aborted;   /* why the session ended before QUIT, or NULL */
    /* DATA and BDAT */
    bool line_start; /* the last line ended in CRLF */
    bool mid_line;   /* a piece of a long line was passed on */
    uint64_t chunk_left;
    bool chunk_last, chunk_cr;
};

/* smtpd_reply.c. dsn: "" for replies that have none. */
void smtpd_reply(struct session *s, int code, const char *dsn, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
void smtpd_reply_line(struct session *s, const char *text); /* as it is, CRLF added */
/* "NOQUEUE: reject: RCPT from NAME[ADDR]: TEXT; from=<> to=<> proto= helo=" */
void smtpd_log_verdict(struct session *s, const char *what, const char *stage, struct slice text,
                       struct slice rcpt);
/* smtpd_footer.c: a reply of 4xx or 5xx, without CRLF, and its footer. */
void smtpd_put_refusal(struct session *s, struct slice reply);
/* What postfix check says of the template in main.cf. */
void smtpd_footer_check(struct map_env *env, struct findings *f);
void smtpd_error(struct session *s); /* counts one more */
/* smtpd_notify.c: notify_classes. A line of the client's; what the server has put into s->out from there on. */
void smtpd_transcript_in(struct session *s, struct slice line);
void smtpd_transcript_out(struct session *s, size_t from);
/* A reply's class, if it is for a broken protocol. */
void smtpd_note_reply(struct session *s, int code, const char *dsn);
void smtpd_note_verdict(struct session *s, const char *reply);
/* At the end of the session: mails the transcript if there was trouble of a class that somebody wants to hear of. */
void smtpd_notify(struct session *s);
/* A policy verdict: replies and logs when it refuses. True: go on. */
bool smtpd_apply(struct session *s, const struct policy_result *r, const char *stage,
                 struct slice rcpt);

/* smtpd_commands.c */
void smtpd_command(struct session *s, struct slice line);
void smtpd_reset_transaction(struct session *s);

/* smtpd_rcpt.c */
void smtpd_mail(struct session *s, struct slice args);
void smtpd_rcpt(struct session *s, struct slice args);
/* An address, in internal form, with characters beyond ASCII; requested: the client has said SMTPUTF8. -1: refused, and answered. */
NODISCARD int smtpd_check_utf8(struct session *s, struct slice addr, bool requested,
                               const char *verb);
/* Evaluates lists in turn; side effects go to the transaction. False: refused, and answered. */
bool smtpd_judge(struct session *s, const enum policy_list *lists, size_t n, const char *stage,
                 struct slice rcpt, bool has_rcpt);

/* smtpd_etrn.c */
void smtpd_etrn(struct session *s, struct slice args);

/* smtpd_data.c: each takes what it can from s->in; true: there was progress. */
void smtpd_data_begin(struct session *s);
bool smtpd_data_feed(struct session *s);
void smtpd_bdat_begin(struct session *s, struct slice args);
bool smtpd_bdat_feed(struct session *s);
/* Where content may be read to without being copied (intake_room() in mail/intake.h), and how much of it whole plain lines
 * are. NULL: nowhere, it goes by way of s->in. */
char *smtpd_data_room(struct session *s);
void smtpd_data_room_filled(struct session *s, size_t len);
/* The intake connection for this message, made at its first content. */
void smtpd_content(struct session *s, struct slice piece);
void smtpd_content_end(struct session *s);
void smtpd_result(struct session *s); /* cleanup has answered, or its connection is readable */

extern const struct param_set smtpd_params;

#endif
