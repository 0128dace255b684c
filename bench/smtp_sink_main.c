/* SPDX-License-Identifier: Apache-2.0 */
/* smtp_sink_main.c - smtp-sink(1): a server that throws mail away, to measure clients. */
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "arguments.h"
#include "base/log.h"
#include "base/num.h"
#include "descriptors.h"
#include "endpoint.h"
#include "sink.h"
#include "tls/tls_certificate.h"

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

static struct sink_rule *rule_of(struct command *c, const char *option, struct slice name)
{
    int verb = sink_verb_parse(name);

    if (verb == -1)
        fatal("%s: unknown command: %.*s", option, SLICE_FMT(name));
    return &c->o.rules[verb];
}

static void set_fates(void *arg, const char *option, const char *value)
{
    static const struct {
        char letter;
        enum sink_fate fate;
    } fates[] = {{'r', SINK_SOFT}, {'f', SINK_HARD}, {'Q', SINK_421}, {'q', SINK_DROP}};
    struct command *c = arg;
    struct slice rest = slice_str(value);
    struct slice name;
    enum sink_fate fate = SINK_OBEY;

    for (size_t i = 0; i < ARRAY_LEN(fates); i++)
        if (fates[i].letter == option[1])
            fate = fates[i].fate;
    while (slice_token(&rest, ", \t\r\n", &name))
        rule_of(c, option, name)->fate = fate;
    if (fate == SINK_SOFT || fate == SINK_HARD)
        c->o.no_pipelining = true; /* a client that sends ahead would not notice in time */
}

static void set_logged(void *arg, const char *option, const char *value)
{
    struct slice rest = slice_str(value);
    struct slice name;

    while (slice_token(&rest, ", \t\r\n", &name))
        rule_of(arg, option, name)->log = true;
}

/* command:seconds[:odds] */
static void set_delay(void *arg, const char *option, const char *value)
{
    struct slice rest = slice_str(value);
    struct slice part[3];
    size_t n = 0;
    struct sink_rule *rule;

    while (n < ARRAY_LEN(part) && slice_token(&rest, ":", &part[n]))
        n++;
    if (n < 2 || rest.len > 0)
        fatal("%s: want command:seconds or command:seconds:odds, not \"%s\"", option, value);
    rule = rule_of(arg, option, part[0]);
    rule->delay_s = number(option, part[1], 1, ARGUMENT_SECONDS_MAX);
    rule->odds = n == 3 ? (int) number(option, part[2], 1, 99) : 0;
}

/* -b and -B: 4xx and 5xx */
static void set_reply(void *arg, const char *option, const char *value)
{
    struct command *c = arg;
    char first = option[1] == 'b' ? '4' : '5';
    struct slice s = slice_str(value);

    if (s.len < 3 || s.ptr[0] != first || !ascii_is_digit(s.ptr[1]) || !ascii_is_digit(s.ptr[2]) ||
        (s.len > 3 && s.ptr[3] != ' ') || slice_find(s, '\n') != -1)
        fatal("%s: want a reply that begins with %cxx, not \"%s\"", option, first, value);
    *(first == '4' ? &c->o.soft_reply : &c->o.hard_reply) = value;
}

/* The escapes of C. */
static void set_start(void *arg, const char *option, const char *value)
{
    static const char from[] = "abfnrtv\\";
    static const char to[] = "\a\b\f\n\r\t\v\\";
    struct buf *out = &((struct command *) arg)->start;

    for (const char *p = value; *p != '\0'; p++) {
        const char *escape = *p == '\\' && p[1] != '\0' ? strchr(from, p[1]) : NULL;

        if (escape != NULL) {
            buf_putc(out, to[escape - from]);
            p++;
        } else if (*p == '\\' && p[1] >= '0' && p[1] <= '7') {
            unsigned code = 0;

            for (int i = 0; i < 3 && p[1] >= '0' && p[1] <= '7'; i++)
                code = code * 8 + (unsigned) (*++p - '0');
            buf_putc(out, (char) code);
        } else if (*p == '\\') {
            fatal("%s: unknown escape in \"%s\"", option, value);
        } else {
            buf_putc(out, *p);
        }
    }
}

static char **take_arguments(struct command *c, int argc, char **argv)
{
    struct sink_options *o = &c->o;
    const struct argument rows[] = {
        {"-4", .choice = &c->family, .chosen = AF_INET},
        {"-6", .choice = &c->family, .chosen = AF_INET6},
        {"-8", .on = &o->no_8bitmime},
        {"-a", .on = &o->no_auth},
        {"-A", .number = &o->abort_after_s, .min = 0, .max = ARGUMENT_SECONDS_MAX},
        {"-b", .take = set_reply, .arg = c},
        {"-B", .take = set_reply, .arg = c},
        {"-c", .on = &o->counters},
        {"-C", .on = &o->no_xclient},
        {"-d", .text = &o->dump_one},
        {"-D", .text = &o->dump_all},
        {"-e", .on = &o->no_esmtp},
        {"-E", .on = &o->no_enhanced},
        {"-f", .take = set_fates, .arg = c},
        {"-F", .on = &o->no_xforward},
        {"-h", .text = &o->hostname},
        {"-H", .number = &o->read_delay_s, .min = 1, .max = ARGUMENT_SECONDS_MAX},
        {"-L", .on = &o->lmtp},
        {"-m", .number = &o->max_sessions, .min = 1, .max = 1000000},
        {"-M", .number = &o->quit_messages, .min = 1, .max = INT64_MAX},
        {"-n", .number = &o->quit_sessions, .min = 1, .max = INT64_MAX},
        {"-N", .on = &o->no_dsn},
        {"-p", .on = &o->no_pipelining},
        {"-P", .on = &o->pix},
        {"-q", .take = set_fates, .arg = c},
        {"-Q", .take = set_fates, .arg = c},
        {"-r", .take = set_fates, .arg = c},
        {"-R", .text = &c->root},
        {"-s", .take = set_logged, .arg = c},
        {"-S", .take = set_start, .arg = c},
        {"-t", .number = &o->timeout_s, .min = 1, .max = ARGUMENT_SECONDS_MAX},
        {"-T", .integer = &c->window, .min = 1, .max = 65535},
        {"-u", .text = &c->user},
        {"-v", .on = &o->verbose},
        {"-w", .number = &o->rules[SINK_DATA].delay_s, .min = 1, .max = ARGUMENT_SECONDS_MAX},
        {"-W", .take = set_delay, .arg = c},
        {"--tls-cert", .text = &c->cert},
        {"--tls-key", .text = &c->key},
        {"--tls-wrapper", .on = &o->tls_wrapped},
        {NULL},
    };

    return arguments_take(argc, argv, rows, usage, 2);
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
    char **operand;
    int fd;

    log_to(false);
    buf_init(&c.start, SIZE_MAX);
    (void) signal(SIGPIPE, SIG_IGN);
    operand = take_arguments(&c, argc, argv);
    check_together(&c);
    c.o.no_esmtp = c.o.no_esmtp || c.o.pix;
    c.o.dump_start = buf_view(&c.start);
    if (logs_commands(&c))
        log_to(true);
    descriptors_raise(c.o.max_sessions * 2); /* a dump each */
    if (c.cert != NULL)
        c.o.tls_context = make_tls(&c);
    if (endpoint_parse(operand[0], c.family, true, &where, &err) == -1 ||
        endpoint_listen(&where, operand[0],
                        (int) number("backlog", slice_str(operand[1]), 1, INT_MAX), c.window, &fd,
                        &err) == -1)
        fatal("%s", err.text);
    drop_privileges(&c);
    if (sink_run(&c.o, fd, &err) == -1)
        fatal("%s", err.text);
    SSL_CTX_free(c.o.tls_context);
    buf_fini(&c.start);
    return fflush(stdout) == 0 ? 0 : 1;
}
