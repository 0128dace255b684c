/* SPDX-License-Identifier: Apache-2.0 */
/*
 * params_built_in.c - parameters that steer how Postfix is built, where this system is built otherwise: accepted, and what stands
 * in for them said. Those of one folder's own stand there.
 */
#include "postconf/param.h"

#define KEPT_CONNECTIONS                                                                           \
    "connections for reuse are kept by the processes that made them, and no service is asked for them"
#define NO_REWRITE                                                                                 \
    "addresses are rewritten and resolved by the program that needs it, and no service is asked"
#define QUEUE_LISTS                                                                                \
    "the queue manager itself lists and flushes the queue, by destination too, from its index in memory"
#define QUEUE_INDEX                                                                                \
    "the queue manager finds messages by an index in memory, and spreads the files of those that stay by itself"
#define TABLES_DEFER                                                                               \
    "a start or reload with a table that cannot be opened is refused; when it breaks later, mail that needs it is deferred"
#define LATE_QUEUE     "nothing is in the queue before the content comes, whatever recipients there are"
#define FIXED_ENVELOPE "an envelope has a fixed set of attributes, each with a limit of its own"
#define INSTALLATION   "a note of where the package has put things, which no program reads"
#define NO_WAIT_TO_WAKE                                                                            \
    "who wakes another program writes to its socket, which is taken at once or not at all"
#define CALLER_TRIES_AGAIN                                                                         \
    "a command that cannot start another ends with status 75, on which its caller tries again"

#define BUILT_IN(name_, default_, type_, services_, note_)                                         \
    PARAM_BY_NAME(name_, PARAM_TYPE_##type_, .def = (default_), .status = PARAM_BUILT_IN,          \
                  .services = (services_), .note = (note_))

/* clang-format off */
static const struct param rows[] = {
    BUILT_IN("connection_cache_protocol_timeout", "5s", TIME, "smtp", KEPT_CONNECTIONS),
    BUILT_IN("connection_cache_service_name", "scache", STRING, "smtp,lmtp", KEPT_CONNECTIONS),
    BUILT_IN("connection_cache_status_update_time", "600s", TIME, "scache", KEPT_CONNECTIONS),
    BUILT_IN("connection_cache_ttl_limit", "2s", TIME, "scache", KEPT_CONNECTIONS),
    BUILT_IN("rewrite_service_name", "rewrite", STRING, "all", NO_REWRITE),
    BUILT_IN("showq_service_name", "showq", STRING, "all", QUEUE_LISTS),
    BUILT_IN("flush_service_name", "flush", STRING, "all", QUEUE_LISTS),
    BUILT_IN("fast_flush_purge_time", "7d", TIME, "flush", QUEUE_LISTS),
    BUILT_IN("fast_flush_refresh_time", "12h", TIME, "flush", QUEUE_LISTS),
    BUILT_IN("hash_queue_depth", "1", INT, "postsuper", QUEUE_INDEX),
    BUILT_IN("hash_queue_names", "deferred, defer", STRING, "postsuper", QUEUE_INDEX),
    BUILT_IN("daemon_table_open_error_is_fatal", "no", BOOL, "all", TABLES_DEFER),
    BUILT_IN("smtpd_delay_open_until_valid_rcpt", "yes", BOOL, "smtpd", LATE_QUEUE),
    BUILT_IN("queue_file_attribute_count_limit", "100", INT, "cleanup", FIXED_ENVELOPE),
    BUILT_IN("html_directory", "/usr/share/doc/postfix/html", STRING, "postfix", INSTALLATION),
    BUILT_IN("mailq_path", "/usr/bin/mailq", STRING, "postfix", INSTALLATION),
    BUILT_IN("manpage_directory", "/usr/share/man", STRING, "postfix", INSTALLATION),
    BUILT_IN("meta_directory", "/etc/postfix", STRING, "postfix,postmulti", INSTALLATION),
    BUILT_IN("newaliases_path", "/usr/bin/newaliases", STRING, "postfix", INSTALLATION),
    BUILT_IN("readme_directory", "/usr/share/doc/postfix", STRING, "postfix", INSTALLATION),
    BUILT_IN("sample_directory", "/etc/postfix", STRING, "postfix", INSTALLATION),
    BUILT_IN("sendmail_path", "/usr/sbin/sendmail", STRING, "postfix", INSTALLATION),
    BUILT_IN("mail_release_date", "20240304", STRING, "all", INSTALLATION),
    BUILT_IN("application_event_drain_time", "100s", TIME, "postkick", NO_WAIT_TO_WAKE),
    BUILT_IN("trigger_timeout", "10s", TIME, "postdrop,postqueue", NO_WAIT_TO_WAKE),
    BUILT_IN("fork_attempts", "5", INT, "sendmail,postlock", CALLER_TRIES_AGAIN),
    BUILT_IN("fork_delay", "1s", TIME, "sendmail,postlock", CALLER_TRIES_AGAIN),
};
/* clang-format on */

struct no_members {
    char unused;
};
const struct param_set built_in_params = PARAM_SET("built in", struct no_members, rows);
