/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - one call for each event. It alone renders the text line (JSON later), makes foreign bytes
 * harmless (non-printing become '?'), and limits warnings that repeat.
 *
 * Text goes to syslog (facility mail, /dev/log opened early so that a chroot does not matter), itself or through a ring; to a
 * maillog descriptor; or to standard error, as log_open() is told. Thread-safe.
 */
#ifndef PR_LOG_H
#define PR_LOG_H

#include "base/buf.h"
#include "base/log_ring.h"

enum log_level {
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_INFO,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_ERROR,
    LOG_LEVEL_FATAL,
    LOG_LEVEL_PANIC
};

struct log_target {
    const char *syslog_name; /* "postfix", "postfix/submission" */
    const char *program;     /* "smtpd" */
    const char *facility;    /* "mail" */
    int maillog_fd;          /* -1: syslog; else lines with stamp and host name are appended here */
    bool to_stderr;          /* also to standard error, as commands do */
    bool no_syslog;
    const char *syslog_path; /* NULL: "/dev/log"; must stay as it is while the program runs */
    void (*address)(struct slice addr,
                    struct buf *out); /* how mail addresses are written; NULL: as they are */
};

void log_open(const struct log_target *t);
/* Lines for syslog take this way, as long as there is room: another process sends them soon. Before threads start; NULL: no more. */
void log_use_ring(struct log_ring *ring);
/* That process is gone: what is on the way is sent from here, and so is all that follows. Any thread. */
void log_leave_ring(void);
/* Sends lines of other processes, complete, to syslog, many in a call. A daemon that does not read costs a second at most. */
void log_pass_on(const struct slice *lines, size_t count);
void log_verbose(int level); /* log_debug prints when > 0 */
int log_verbosity(void);
void log_debug(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_info(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_warning(const char *fmt, ...) PRINTF_LIKE(1, 2); /* "warning: ..." */
void log_error(const char *fmt, ...) PRINTF_LIKE(1, 2);   /* "error: ..." */
NORETURN void fatal(const char *fmt, ...)
    PRINTF_LIKE(1, 2); /* start-up only; exit status 1, or log_fatal_status() */
NORETURN void panic(const char *fmt, ...)
    PRINTF_LIKE(1, 2);             /* a broken invariant of our own: abort */
void log_fatal_status(int status); /* commands: sysexits value that fatal() ends with */

/*
 * An event about a message or a client, its fields in the order in which Postfix prints them:
 *   log_event(LOG_LEVEL_INFO, "delivery", qid, LF_ADDR("to", rcpt), LF_TEXT("relay", relay), ...);
 * prints "QID: to=<r>, relay=..., ...". An empty qid prints none. LF_RAW is text without a name
 * ("reject: RCPT from ..."); LF_PAREN puts "(text)" after the previous field without a comma; an empty
 * optional field (LF_OPT_*) is left out.
 */
enum log_field_kind {
    LF_KIND_RAW,
    LF_KIND_TEXT,
    LF_KIND_ADDR,
    LF_KIND_INT,
    LF_KIND_PAREN,
    LF_KIND_OPT_TEXT,
    LF_KIND_OPT_ADDR
};
struct log_field {
    enum log_field_kind kind;
    const char *name; /* JSON's name too */
    struct slice text;
    int64_t number;
};
#define LF_RAW(name, s)      ((struct log_field){LF_KIND_RAW, (name), (s), 0})
#define LF_TEXT(name, s)     ((struct log_field){LF_KIND_TEXT, (name), (s), 0})
#define LF_ADDR(name, s)     ((struct log_field){LF_KIND_ADDR, (name), (s), 0})
#define LF_INT(name, n)      ((struct log_field){LF_KIND_INT, (name), {"", 0}, (n)})
#define LF_PAREN(name, s)    ((struct log_field){LF_KIND_PAREN, (name), (s), 0})
#define LF_OPT_TEXT(name, s) ((struct log_field){LF_KIND_OPT_TEXT, (name), (s), 0})
#define LF_OPT_ADDR(name, s) ((struct log_field){LF_KIND_OPT_ADDR, (name), (s), 0})
/* For a text that is put together: a mail address as LF_ADDR writes it, with its <>. */
void log_put_address(struct buf *out, struct slice addr);
void log_event_fields(enum log_level level, const char *event, struct slice queue_id,
                      const struct log_field *fields, size_t count);
#define log_event(level, event, queue_id, ...)                                                     \
    log_event_fields((level), (event), (queue_id), (const struct log_field[]){__VA_ARGS__},        \
                     sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

#endif
