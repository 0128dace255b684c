/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sendmail_smtp.c - sendmail -bs: an SMTP dialogue on standard input and output, for programs that want one. The caller is a
 * local user: no policy applies but that of postdrop.
 */
#include "cleanup/sendmail.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mail/address.h"
#include "mail/content.h"

#define LINE_LIMIT 65536

struct dialogue {
    struct submission *s;
    struct buf sender;
    bool has_sender;
};

static void say(const char *text)
{
    printf("%s\r\n", text);
    fflush(stdout);
}

static void reset(struct dialogue *d)
{
    submission_fini(d->s);
    buf_reset(&d->sender);
    d->has_sender = false;
}

static void mail(struct dialogue *d, struct slice args)
{
    struct err err = ERR_INIT;

    if (!slice_case_starts_with(args, SLICE_LIT("FROM:"))) {
        say("501 5.5.4 Syntax: MAIL FROM:<address>");
        return;
    }
    args = slice_sub(args, 5, args.len);
    reset(d);
    if (address_parse_path(&args, false, true, &d->sender, &err) == -1) {
        say("501 5.1.7 Bad sender address syntax");
        return;
    }
    d->has_sender = true;
    say("250 2.1.0 Ok");
}

static void rcpt(struct dialogue *d, struct slice args)
{
    struct buf addr = BUF_INIT(MAIL_ADDR_MAX);
    struct err err = ERR_INIT;

    args =
        slice_case_starts_with(args, SLICE_LIT("TO:")) ? slice_sub(args, 3, args.len) : SLICE_EMPTY;
    if (!d->has_sender)
        say("503 5.5.1 Error: need MAIL command");
    else if (address_parse_path(&args, false, true, &addr, &err) == -1 || addr.len == 0)
        say("501 5.1.3 Bad recipient address syntax");
    else {
        vec_push(&d->s->rcpts, slice_dup(buf_view(&addr)));
        say("250 2.1.5 Ok");
    }
    buf_fini(&addr);
}

/* False: the input ended in the middle. */
static bool data(struct dialogue *d, char **line, size_t *cap)
{
    struct err err = ERR_INIT;
    bool last_cr = false;
    ssize_t n;

    if (d->s->rcpts.len == 0) {
        say("554 5.5.1 Error: no valid recipients");
        return true;
    }
    say("354 End data with <CR><LF>.<CR><LF>");
    buf_init(&d->s->content, SIZE_MAX);
    while ((n = getline(line, cap, stdin)) > 0) {
        struct slice l = slice_of(*line, (size_t) n);

        if (slice_eq_str(slice_trim(l, "\r\n"), ".")) {
            d->s->sender = buf_view(&d->sender);
            if (submission_send(d->s, &err) == 0)
                say("250 2.0.0 Ok: queued");
            else
                say("451 4.3.0 Error: queue file write error");
            reset(d);
            return true;
        }
        if (l.ptr[0] == '.')
            l = slice_sub(l, 1, l.len);
        content_to_wire(l, &last_cr, &d->s->content);
    }
    return false;
}

int sendmail_smtp(struct submission *s, const char *myhostname, const char *mail_name)
{
    struct dialogue d = {.s = s, .sender = BUF_INIT(MAIL_ADDR_MAX)};
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    bool more = true;

    printf("220 %s ESMTP %s\r\n", myhostname, mail_name);
    fflush(stdout);
    while (more && (n = getline(&line, &cap, stdin)) > 0) {
        struct slice rest =
            slice_trim(slice_of(line, n < LINE_LIMIT ? (size_t) n : LINE_LIMIT), NULL);
        struct slice verb = SLICE_EMPTY;

        (void) slice_token(&rest, " \t", &verb);
        rest = slice_trim(rest, NULL);
        if (slice_caseeq_str(verb, "HELO")) {
            printf("250 %s\r\n", myhostname);
            fflush(stdout);
        } else if (slice_caseeq_str(verb, "EHLO")) {
            printf("250-%s\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n",
                   myhostname);
            fflush(stdout);
        } else if (slice_caseeq_str(verb, "MAIL")) {
            mail(&d, rest);
        } else if (slice_caseeq_str(verb, "RCPT")) {
            rcpt(&d, rest);
        } else if (slice_caseeq_str(verb, "DATA")) {
            more = data(&d, &line, &cap);
        } else if (slice_caseeq_str(verb, "RSET")) {
            reset(&d);
            say("250 2.0.0 Ok");
        } else if (slice_caseeq_str(verb, "NOOP")) {
            say("250 2.0.0 Ok");
        } else if (slice_caseeq_str(verb, "VRFY")) {
            say("252 2.0.0 It will be tried");
        } else if (slice_caseeq_str(verb, "QUIT")) {
            say("221 2.0.0 Bye");
            more = false;
        } else {
            say("500 5.5.2 Error: command not recognized");
        }
    }
    reset(&d);
    buf_fini(&d.sender);
    free(line);
    return 0;
}
