/* SPDX-License-Identifier: Apache-2.0 */
/* sendmail.h - handing in a message: reading it, its recipients, and the way to postdrop. */
#ifndef PR_CLEANUP_SENDMAIL_H
#define PR_CLEANUP_SENDMAIL_H

#include "base/buf.h"
#include "base/vec.h"
#include "mail/envelope.h"
#include "postconf/config.h"

struct submission {
    struct slice sender; /* borrowed; internal form, may lack a domain */
    struct slice full_name, envid;
    uint32_t flags, dsn_ret, notify;
    struct vec rcpts;   /* char * */
    struct buf content; /* wire form */
    const char *command_directory, *config_directory;
};
void submission_fini(struct submission *s); /* empty again */
/* Addresses as they stand in arguments and headers. */
void submission_add_recipients(struct submission *s, struct slice text);
/* Reads LF or CRLF text; a lone dot ends it unless ignore_dots. extract: recipients of To, Cc, Bcc (or of Resent-*) are added. */
NODISCARD int submission_read(struct submission *s, int fd, bool extract, bool ignore_dots,
                              struct err *err);
/* In place of submission_read(), for MAIL_PROBE: a header that names sender and recipients, and no body. */
void submission_make_probe(struct submission *s);
/* Runs postdrop. */
NODISCARD int submission_send(const struct submission *s, struct err *err);
/* sendmail -bs: SMTP on standard input and output; each message is handed in. Returns the exit status. */
int sendmail_smtp(struct submission *s, const char *myhostname, const char *mail_name);

#endif
