/* SPDX-License-Identifier: Apache-2.0 */
/* smtp_sink_main.c - smtp-sink(1): a server that throws mail away, to measure clients. */
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/num.h"
#include "descriptors.h"
#include "endpoint.h"
#include "sink.h"
#include "tls/tls_certificate.h"

enum { OPT_TLS_CERT = 256, OPT_TLS_KEY, OPT_TLS_WRAPPER, OPT_HELP };

static const struct option long_options[] = {
    {"tls-cert", required_argument, NULL, OPT_TLS_CERT},
    {"tls-key", required_argument, NULL, OPT_TLS_KEY},
    {"tls-wrapper", no_argument, NULL, OPT_TLS_WRAPPER},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static const char usage[] =
    "usage: smtp-sink [-468aceCEFLNpPv] [-A seconds] [-b soft_reply] [-B hard_reply] [-d template]\n"
    "           [-D template] [-f commands] [-h hostname] [-H seconds] [-m sessions] [-M messages]\n"
    "           [-n sessions] [-q commands] [-Q commands] [-r commands] [-R root] [-s commands]\n"
    "           [-S start] [-t seconds] [-T window] [-u user] [-w seconds]\n"
    "           [-W command:seconds[:odds]] [--tls-cert file [--tls-key file] [--tls-wrapper]]\n"
    "           [inet:][host]:port | unix:pathname backlog";

struct command {
    struct sink_options o;
    struct buf start;
    const char *root, *user, *cert, *key;
    int family, window;
};

static int64_t number(const char *option, struct slice text, int64_t min, int64_t max)
{
    struct err err = ERR_INIT;
    int64_t value;

    if (num_parse_i64(text, min, max, &value, &err) == -1)
        fatal("%s: %s", option, err.text);
    return value;
}

static int64_t seconds(const char *option, int64_t min)
{
    return number(option, slice_str(optarg), min, 86400);
}

static struct sink_rule *rule_of(struct command *c, const char *option, struct slice name)
{
    int verb = sink_verb_parse(name);

    if (verb == -1)
        fatal("%s: unknown command: %.*s", option, SLICE_FMT(name));
    return &c->o.rules[verb];
}

static void set_fates(struct command *c, const char *option, enum sink_fate fate)
{
    struct slice rest = slice_str(optarg);
    struct slice name;

    while (slice_token(&rest, ", \t\r\n", &name))
        rule_of(c, option, name)->fate = fate;
    if (fate == SINK_SOFT || fate == SINK_HARD)
        c->o.no_pipelining = true; /* a client that sends ahead would not notice in time */
}

static void set_logged(struct command *c)
{
    struct slice rest = slice_str(optarg);
    struct slice name;

    while (slice_token(&rest, ", \t\r\n", &name))
        rule_of(c, "-s", name)->log = true;
}

/* command:seconds[:odds] */
static void set_delay(struct command *c)
{
    struct slice rest = slice_str(optarg);
    struct slice part[3];
    size_t n = 0;
    struct sink_rule *rule;

    while (n < ARRAY_LEN(part) && slice_token(&rest, ":", &part[n]))
        n++;
    if (n < 2 || rest.len > 0)
        fatal("-W: want command:seconds or command:seconds:odds, not \"%s\"", optarg);
    rule = rule_of(c, "-W", part[0]);
    rule->delay_s = number("-W", part[1], 1, 86400);
    rule->odds = n == 3 ? (int) number("-W", part[2], 1, 99) : 0;
}

static const char *take_reply(const char *option, char first)
{
    struct slice s = slice_str(optarg);

    if (s.len < 3 || s.ptr[0] != first || !ascii_is_digit(s.ptr[1]) || !ascii_is_digit(s.ptr[2]) ||
        (s.len > 3 && s.ptr[3] != ' ') || slice_find(s, '\n') != -1)
        fatal("%s: want a reply that begins with %cxx, not \"%s\"", option, first, optarg);
    return optarg;
}

/* The escapes of C. */
static void take_start(struct buf *out)
{
    static const char from[] = "abfnrtv\\";
    static const char to[] = "\a\b\f\n\r\t\v\\";

    for (const char *p = optarg; *p != '\0'; p++) {
        const char *escape = *p == '\\' && p[1] != '\0' ? strchr(from, p[1]) : NULL;

        if (escape != NULL) {
            buf_putc(out, to[escape - from]);
            p++;
        } else if (*p == '\\' && p[1] >= '0' && p[1] <= '7') {
            unsigned value = 0;

            for (int i = 0; i < 3 && p[1] >= '0' && p[1] <= '7'; i++)
                value = value * 8 + (unsigned) (*++p - '0');
            buf_putc(out, (char) value);
        } else if (*p == '\\') {
            fatal("-S: unknown escape in \"%s\"", optarg);
        } else {
            buf_putc(out, *p);
        }
    }
}

static void take_long_option(struct command *c, int option)
{
    switch (option) {
    case OPT_TLS_CERT:
        c->cert = optarg;
        break;
    case OPT_TLS_KEY:
        c->key = optarg;
        break;
    case OPT_TLS_WRAPPER:
        c->o.tls_wrapped = true;
        break;
    case OPT_HELP:
        (void) puts(usage);
        exit(0); /* NOLINT(concurrency-mt-unsafe): no threads */
    default:
        (void) fprintf(stderr, "%s\n", usage);
        exit(1); /* NOLINT(concurrency-mt-unsafe): no threads */
    }
}

static bool take_switch(struct command *c, int option)
{
    const struct {
        char option;
        bool *target;
    } switches[] = {
        {'8', &c->o.no_8bitmime}, {'a', &c->o.no_auth},       {'c', &c->o.counters},
        {'C', &c->o.no_xclient},  {'e', &c->o.no_esmtp},      {'E', &c->o.no_enhanced},
        {'F', &c->o.no_xforward}, {'L', &c->o.lmtp},          {'N', &c->o.no_dsn},
        {'P', &c->o.pix},         {'p', &c->o.no_pipelining}, {'v', &c->o.verbose},
    };

    for (size_t i = 0; i < ARRAY_LEN(switches); i++)
        if (switches[i].option == option) {
            *switches[i].target = true;
            return true;
        }
    return false;
}

static void take_option(struct command *c, int option)
{
    switch (option) {
    case '4':
        c->family = AF_INET;
        break;
    case '6':
        c->family = AF_INET6;
        break;
    case 'A':
        c->o.abort_after_s = seconds("-A", 0);
        break;
    case 'b':
        c->o.soft_reply = take_reply("-b", '4');
        break;
    case 'B':
        c->o.hard_reply = take_reply("-B", '5');
        break;
    case 'd':
        c->o.dump_one = optarg;
        break;
    case 'D':
        c->o.dump_all = optarg;
        break;
    case 'f':
        set_fates(c, "-f", SINK_HARD);
        break;
    case 'h':
        c->o.hostname = optarg;
        break;
    case 'H':
        c->o.read_delay_s = seconds("-H", 1);
        break;
    case 'm':
        c->o.max_sessions = number("-m", slice_str(optarg), 1, 1000000);
        break;
    case 'M':
        c->o.quit_messages = number("-M", slice_str(optarg), 1, INT64_MAX);
        break;
    case 'n':
        c->o.quit_sessions = number("-n", slice_str(optarg), 1, INT64_MAX);
        break;
    case 'q':
        set_fates(c, "-q", SINK_DROP);
        break;
    case 'Q':
        set_fates(c, "-Q", SINK_421);
        break;
    case 'r':
        set_fates(c, "-r", SINK_SOFT);
        break;
    case 'R':
        c->root = optarg;
        break;
    case 's':
        set_logged(c);
        break;
    case 'S':
        take_start(&c->start);
        break;
    case 't':
        c->o.timeout_s = seconds("-t", 1);
        break;
    case 'T':
        c->window = (int) number("-T", slice_str(optarg), 1, 65535);
        break;
    case 'u':
        c->user = optarg;
        break;
    case 'w':
        c->o.rules[SINK_DATA].delay_s = seconds("-w", 1);
        break;
    case 'W':
        set_delay(c);
        break;
    default:
        if (!take_switch(c, option))
            take_long_option(c, option);
    }
}

static SSL_CTX *make_tls(const struct command *c)
{
    struct tls_certificate *certificate = NULL;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    struct err err = ERR_INIT;

    if (ctx == NULL)
        fatal("TLS: cannot be set up");
    if (tls_certificate_load(c->cert, c->key != NULL ? c->key : c->cert, &certificate, &err) ==
            -1 ||
        tls_certificate_use(certificate, ctx, &err) == -1)
        fatal("--tls-cert: %s", err.text);
    tls_certificate_free(&certificate);
    return ctx;
}

static void drop_privileges(const struct command *c)
{
    const struct passwd *pw = NULL;

    if (c->user != NULL &&
        (pw = getpwnam(c->user)) == NULL) /* NOLINT(concurrency-mt-unsafe): no threads */
        fatal("-u: unknown user: %s", c->user);
    if (c->root != NULL && (chroot(c->root) == -1 || chdir("/") == -1))
        fatal("-R: %s: %s", c->root, err_errno_text(errno, (char[128]){0}, 128));
    if (pw != NULL && (initgroups(pw->pw_name, pw->pw_gid) == -1 || setgid(pw->pw_gid) == -1 ||
                       setuid(pw->pw_uid) == -1))
        fatal("-u: %s: %s", c->user, err_errno_text(errno, (char[128]){0}, 128));
}

static void log_to(bool syslog)
{
    log_open(&(struct log_target){.syslog_name = "smtp-sink",
                                  .facility = "mail",
                                  .program = "smtp-sink",
                                  .maillog_fd = -1,
                                  .to_stderr = true,
                                  .no_syslog = !syslog});
}

static bool logs_commands(const struct command *c)
{
    for (size_t v = 0; v < SINK_VERBS; v++)
        if (c->o.rules[v].log)
            return true;
    return false;
}

static void check_together(const struct command *c)
{
    if (c->o.dump_one != NULL && c->o.dump_all != NULL)
        fatal("specify one of -d -D");
    if (c->cert == NULL && (c->key != NULL || c->o.tls_wrapped))
        fatal("--tls-key and --tls-wrapper want --tls-cert");
    if (geteuid() == 0 && c->user == NULL)
        fatal("-u is wanted when started by root");
    if (c->root != NULL && geteuid() != 0)
        fatal("-R is for root");
}

int main(int argc, char **argv)
{
    struct command c = {.o = {.hostname = "smtp-sink",
                              .soft_reply = "450 4.3.0 Error: command failed",
                              .hard_reply = "500 5.3.0 Error: command failed",
                              .abort_after_s = -1,
                              .timeout_s = 100,
                              .max_sessions = 256}};
    struct endpoint where;
    struct err err = ERR_INIT;
    int option;
    int fd;

    log_to(false);
    buf_init(&c.start, SIZE_MAX);
    (void) signal(SIGPIPE, SIG_IGN);
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    while ((option = getopt_long(argc, argv,
                                 "468aA:b:B:cCd:D:eEf:Fh:H:Lm:M:n:NpPq:Q:r:R:s:S:t:T:u:vw:W:",
                                 long_options, NULL)) != -1)
        take_option(&c, option);
    if (argc - optind != 2)
        take_long_option(&c, '?');
    check_together(&c);
    c.o.no_esmtp = c.o.no_esmtp || c.o.pix;
    c.o.dump_start = buf_view(&c.start);
    if (logs_commands(&c))
        log_to(true);
    descriptors_raise(c.o.max_sessions * 2); /* a dump each */
    if (c.cert != NULL)
        c.o.tls_context = make_tls(&c);
    if (endpoint_parse(argv[optind], c.family, true, &where, &err) == -1 ||
        endpoint_listen(&where, argv[optind],
                        (int) number("backlog", slice_str(argv[optind + 1]), 1, INT_MAX), c.window,
                        &fd, &err) == -1)
        fatal("%s", err.text);
    drop_privileges(&c);
    if (sink_run(&c.o, fd, &err) == -1)
        fatal("%s", err.text);
    SSL_CTX_free(c.o.tls_context);
    buf_fini(&c.start);
    return fflush(stdout) == 0 ? 0 : 1;
}
