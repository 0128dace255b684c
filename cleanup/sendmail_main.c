/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sendmail_main.c - sendmail(1), mailq(1), newaliases(1): what cron, PHP, git and all others call.
 */
#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "cleanup/sendmail.h"
#include "mail/address.h"
#include "maps/map_build.h"

struct options {
    enum { MODE_SEND, MODE_SMTP, MODE_MAILQ, MODE_NEWALIASES, MODE_FLUSH, MODE_NOTHING } mode;
    bool extract, ignore_dots;
    const char *sender, *full_name, *config_dir, *flush_site, *flush_id;
    struct submission sub;
};

static struct config *cfg;
static struct config_common common;

NORETURN static void usage(void)
{
    fatal("usage: sendmail [-t] [-i] [-f sender] [-F name] [-bm|-bs|-bp|-bi] [-q] [recipient ...]");
}

/* A queue command with its one option, and its argument if it has one. */
NORETURN static void run(const char *option, const char *argument)
{
    const char *const argv[] = {"postqueue", "-c", config_dir(cfg), option, argument, NULL};
    struct buf path = BUF_INIT(8192);

    path_join(&path, common.command_directory, argv[0]);
    execv(buf_cstr(&path), (char *const *) (uintptr_t) argv);
    fatal("cannot run %s: %s", buf_cstr(&path), err_errno_text(errno, (char[128]){0}, 128));
}

/* -q: the whole queue (an interval, -q15m, says no more); -qRsite, -qIid. */
static void take_q(struct options *o, const char *arg)
{
    if (!ascii_is_digit(arg[0]) && arg[0] != 'R' && arg[0] != 'I')
        fatal("-q%c is not implemented", arg[0]);
    if (arg[0] == 'R' && arg[1] == '\0')
        fatal("specify: -qRsitename");
    if (arg[0] == 'I' && arg[1] == '\0')
        fatal("specify: -qIqueueid");
    if (arg[0] == 'R')
        o->flush_site = arg + 1;
    else if (arg[0] == 'I')
        o->flush_id = arg + 1;
}

static void take_o(struct options *o, const char *value)
{
    if (strcmp(value, "i") == 0)
        o->ignore_dots = true;
    /* others are of the original sendmail; nothing here hangs on them */
}

static void take_b(struct options *o, const char *value)
{
    switch (value[0]) {
    case 'm':
        o->mode = MODE_SEND;
        break;
    case 's':
        o->mode = MODE_SMTP;
        break;
    case 'v':
        o->sub.flags |= MAIL_PROBE;
        break;
    case 'p':
        o->mode = MODE_MAILQ;
        break;
    case 'i':
        o->mode = MODE_NEWALIASES;
        break;
    case 'h':
    case 'H':
        o->mode = MODE_NOTHING; /* what is known of other hosts is in no file */
        break;
    case 'd':
    case 'l':
        fatal("-b%c: the daemon is started with \"postfix start\"", value[0]);
    default:
        fatal("unsupported: -b%s", value);
    }
}

static void take_options(struct options *o, int argc, char **argv)
{
    struct err err = ERR_INIT;
    int c;

    while ((c = getopt(argc, argv, "A:B:C:F:GIL:N:O:R:UV:X:b:ce:f:h:imno:p:q:r:tvx")) != -1) {
        switch (c) {
        case 'B':
            if (strcasecmp(optarg, "8BITMIME") == 0)
                o->sub.flags |= MAIL_8BITMIME;
            else if (strcasecmp(optarg, "7BIT") != 0)
                fatal("-B option needs 8BITMIME or 7BIT");
            break;
        case 'C':
            o->config_dir = optarg;
            break;
        case 'F':
            o->full_name = optarg;
            break;
        case 'I':
            o->mode = MODE_NEWALIASES;
            break;
        case 'N':
            if (dsn_notify_parse(slice_str(optarg), &o->sub.notify, &err) == -1)
                log_warning("bad -N option value -- ignored: %s", err.text);
            break;
        case 'R':
            if (strcasecmp(optarg, "full") == 0)
                o->sub.dsn_ret = DSN_RET_FULL;
            else if (strcasecmp(optarg, "hdrs") == 0)
                o->sub.dsn_ret = DSN_RET_HDRS;
            else
                log_warning("bad -R option value -- ignored: not full or hdrs");
            break;
        case 'V':
            if (optarg[0] == '\0')
                log_warning("bad syntax in -V option value -- ignored");
            o->sub.envid = slice_str(optarg);
            break;
        case 'b':
            take_b(o, optarg);
            break;
        case 'f':
        case 'r':
            o->sender = optarg;
            break;
        case 'i':
            o->ignore_dots = true;
            break;
        case 'o':
            take_o(o, optarg);
            break;
        case 'q':
            o->mode = MODE_FLUSH;
            take_q(o, optarg);
            break;
        case 't':
            o->extract = true;
            break;
        case 'v':
            if ((o->sub.flags & MAIL_TRACE) != 0)
                log_verbose(log_verbosity() + 1);
            o->sub.flags |= MAIL_TRACE;
            break;
        case 'X':
            fatal("unsupported: -X%s", optarg);
        case 'n':
            fatal(
                "-n option not supported"); /* no aliases for once: it would go where it was not meant to */
        case 'A':
        case 'G':
        case 'L':
        case 'O':
        case 'U':
        case 'c':
        case 'e':
        case 'h':
        case 'm':
        case 'p':
        case 'x':
            break; /* of the original sendmail, without a meaning here */
        default:
            usage();
        }
    }
}

/* getopt wants an argument after -q; sendmail takes it alone: "-q" becomes "-q0". */
static void normalise(int argc, char **argv)
{
    static char q0[] = "-q0";

    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "-q") == 0)
            argv[i] = q0;
}

static char *login_name(void)
{
    const struct passwd *pw = getpwuid(getuid()); /* NOLINT(concurrency-mt-unsafe): no threads */
    struct buf b = BUF_INIT(64);

    if (pw != NULL)
        return xstrdup(pw->pw_name);
    buf_printf(&b, "%ld", (long) getuid());
    return buf_take(&b);
}

static char *login_full_name(void)
{
    const struct passwd *pw = getpwuid(getuid()); /* NOLINT(concurrency-mt-unsafe): no threads */

    return xstrndup(pw != NULL ? pw->pw_gecos : "", pw != NULL ? strcspn(pw->pw_gecos, ",") : 0);
}

static int newaliases(void)
{
    struct slice rest = slice_str(config_get(cfg, "alias_database"));
    struct slice spec;

    while (slice_token(&rest, ", \t\r\n", &spec)) {
        struct err err = ERR_INIT;
        char *text = slice_dup(spec);

        if (postalias_build(cfg, text, &err) == -1)
            fatal("%s", err.text);
        free(text);
    }
    return 0;
}

struct sender {
    struct buf address;
    size_t count;
};

static void take_address(struct slice raw, struct slice addr, void *arg)
{
    struct sender *s = arg;

    (void) raw;
    if (s->count++ == 0)
        buf_put_slice(&s->address, addr);
}

/* -f: an address as it may stand in a header field. */
static void parse_sender(const char *text, struct sender *s)
{
    struct slice bare = slice_trim(slice_str(text), NULL);

    if (bare.len == 0 || slice_eq_str(bare, "<>"))
        return;
    address_header_each(bare, take_address, s);
    if (s->count != 1)
        log_warning("-f option specified malformed sender: %s", text);
}

static int send_message(struct options *o, int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct sender sender = {BUF_INIT(SIZE_MAX), 0};
    char *login = login_name();
    char *name = login_full_name();
    int ret;

    if (o->sender != NULL)
        parse_sender(o->sender, &sender);
    o->sub.sender = o->sender != NULL ? buf_view(&sender.address) : slice_str(login);
    o->sub.full_name = slice_str(o->full_name != NULL     ? o->full_name
                                 : getenv("NAME") != NULL ? getenv("NAME")
                                                          : name);
    o->sub.command_directory = common.command_directory;
    o->sub.config_directory = config_dir(cfg);
    for (int i = optind; i < argc; i++)
        submission_add_recipients(&o->sub, slice_str(argv[i]));
    if ((o->sub.flags & MAIL_PROBE) != 0) {
        if (o->extract)
            fatal("-t option cannot be used with -bv");
        if (o->sub.notify != 0)
            fatal("-N option cannot be used with -bv");
        if (o->sub.rcpts.len == 0)
            fatal("-bv: addresses are wanted as arguments");
        submission_make_probe(&o->sub);
        ret = 0;
    } else {
        ret = submission_read(&o->sub, 0, o->extract, o->ignore_dots, &err);
    }
    if (ret == 0)
        ret = submission_send(&o->sub, &err);
    if (ret == -1)
        fatal("%s", err.text);
    if ((o->sub.flags & (MAIL_PROBE | MAIL_TRACE)) != 0)
        (void) printf("Mail Delivery Status Report will be mailed to <%.*s>.\n",
                      SLICE_FMT(o->sub.sender));
    submission_fini(&o->sub);
    buf_fini(&sender.address);
    free(login);
    free(name);
    return 0;
}

static void refuse_recipients(const struct options *o, int count)
{
    static const char *const what[] = {
        [MODE_SMTP] = "stand-alone",
        [MODE_MAILQ] = "display queue",
        [MODE_NEWALIASES] = "alias initialization",
        [MODE_FLUSH] = "flush queue",
        [MODE_NOTHING] = NULL,
    };

    if (count > 0 && what[o->mode] != NULL)
        fatal("%s mode requires no recipient", what[o->mode]);
    if (count == 0 && o->mode == MODE_SEND && !o->extract && (o->sub.flags & MAIL_PROBE) == 0)
        fatal("Recipient addresses must be specified on the command line or via the -t option");
}

int main(int argc, char **argv)
{
    struct options o = {.mode = MODE_SEND};
    const char *base = strrchr(argv[0], '/');
    struct err err = ERR_INIT;

    base = base != NULL ? base + 1 : argv[0];
    if (strcmp(base, "mailq") == 0)
        o.mode = MODE_MAILQ;
    else if (strcmp(base, "newaliases") == 0)
        o.mode = MODE_NEWALIASES;
    log_fatal_status(EX_TEMPFAIL);
    log_open(&(struct log_target){.syslog_name = "postfix",
                                  .program = "sendmail",
                                  .maillog_fd = -1,
                                  .to_stderr = true,
                                  .no_syslog = true});
    signal(SIGPIPE, SIG_IGN);
    normalise(argc, argv);
    take_options(&o, argc, argv);
    if (config_load(o.config_dir, NULL, 0, NULL, &cfg, &err) == -1 ||
        config_bind(cfg, &config_common_params, &common, &err) == -1)
        fatal("%s", err.text);
    refuse_recipients(&o, argc - optind);
    switch (o.mode) {
    case MODE_NOTHING:
        return 0;
    case MODE_MAILQ:
        run("-p", NULL);
    case MODE_FLUSH:
        if (o.flush_site != NULL)
            run("-s", o.flush_site);
        if (o.flush_id != NULL)
            run("-i", o.flush_id);
        run("-f", NULL);
    case MODE_NEWALIASES:
        return newaliases();
    case MODE_SMTP:
        o.sub.command_directory = common.command_directory;
        o.sub.config_directory = config_dir(cfg);
        return sendmail_smtp(&o.sub, common.myhostname, common.mail_name);
    case MODE_SEND:
        break;
    }
    return send_message(&o, argc, argv);
}
