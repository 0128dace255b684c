/* SPDX-License-Identifier: Apache-2.0 */
/* smtp_source_main.c - smtp-source(1): many SMTP or LMTP sessions side by side, to measure a server. */
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/num.h"
#include "descriptors.h"
#include "message.h"
#include "progress.h"
#include "tls/tls_certificate.h"

enum {
    OPT_TLS = 256,
    OPT_TLS_WRAPPER,
    OPT_TLS_RESUME,
    OPT_TLS_CAFILE,
    OPT_PIPELINING,
    OPT_DOMAINS,
    OPT_LATENCY,
    OPT_JSON,
    OPT_QUIET,
    OPT_HELP,
};

static const struct option long_options[] = {
    {"tls", no_argument, NULL, OPT_TLS},
    {"tls-wrapper", no_argument, NULL, OPT_TLS_WRAPPER},
    {"tls-resume", no_argument, NULL, OPT_TLS_RESUME},
    {"tls-cafile", required_argument, NULL, OPT_TLS_CAFILE},
    {"pipelining", no_argument, NULL, OPT_PIPELINING},
    {"domains", required_argument, NULL, OPT_DOMAINS},
    {"latency", no_argument, NULL, OPT_LATENCY},
    {"json", no_argument, NULL, OPT_JSON},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static const char usage[] =
    "usage: smtp-source [-46AcdLNov] [-C tries] [-f from] [-F file] [-l length] [-m messages]\n"
    "           [-M hostname] [-r recipients] [-R seconds] [-s sessions] [-S subject] [-t to]\n"
    "           [-T window] [-w seconds] [--tls | --tls-wrapper] [--tls-resume]\n"
    "           [--tls-cafile file] [--pipelining] [--domains count] [--latency | --json]\n"
    "           [--quiet] [inet:]host[:port] | unix:pathname";

struct command {
    struct source_options o;
    const char *file, *cafile;
    int64_t length;
    int family;
    bool counter, latency, json, quiet;
};

static int64_t number(const char *option, const char *text, int64_t min, int64_t max)
{
    struct err err = ERR_INIT;
    int64_t value;

    if (num_parse_i64(slice_str(text), min, max, &value, &err) == -1)
        fatal("%s: %s", option, err.text);
    return value;
}

static void take_long_option(struct command *c, int option)
{
    switch (option) {
    case OPT_TLS:
        c->o.tls = SOURCE_STARTTLS;
        break;
    case OPT_TLS_WRAPPER:
        c->o.tls = SOURCE_WRAPPED;
        break;
    case OPT_TLS_RESUME:
        c->o.tls_resume = true;
        break;
    case OPT_TLS_CAFILE:
        c->cafile = optarg;
        break;
    case OPT_PIPELINING:
        c->o.pipelining = true;
        break;
    case OPT_DOMAINS:
        c->o.domains = number("--domains", optarg, 1, INT_MAX);
        break;
    case OPT_LATENCY:
        c->latency = true;
        break;
    case OPT_JSON:
        c->json = true;
        break;
    case OPT_QUIET:
        c->quiet = true;
        break;
    case OPT_HELP:
        (void) puts(usage);
        exit(0); /* NOLINT(concurrency-mt-unsafe): no threads */
    default:
        (void) fprintf(stderr, "%s\n", usage);
        exit(1); /* NOLINT(concurrency-mt-unsafe): no threads */
    }
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
        c->o.carry_on = true;
        break;
    case 'c':
        c->counter = true;
        break;
    case 'C':
        c->o.connect_tries = number("-C", optarg, 1, INT_MAX);
        break;
    case 'd':
        c->o.keep_connection = true;
        break;
    case 'f':
        c->o.sender = optarg;
        break;
    case 'F':
        c->file = optarg;
        break;
    case 'l':
        c->length = number("-l", optarg, 1, INT_MAX);
        break;
    case 'L':
        c->o.lmtp = true;
        break;
    case 'm':
        c->o.messages = number("-m", optarg, 1, INT64_MAX);
        break;
    case 'M':
        c->o.hostname = optarg;
        break;
    case 'N':
        c->o.number_all = true;
        break;
    case 'o':
        c->o.old = true;
        break;
    case 'r':
        c->o.recipients = number("-r", optarg, 1, INT_MAX);
        break;
    case 'R':
        c->o.random_wait_s = number("-R", optarg, 1, 86400);
        break;
    case 's':
        c->o.sessions = number("-s", optarg, 1, 100000);
        break;
    case 'S':
        c->o.subject = optarg;
        break;
    case 't':
        c->o.recipient = optarg;
        break;
    case 'T':
        c->o.window = (int) number("-T", optarg, 1, 65535);
        break;
    case 'v':
        c->o.verbose = true;
        break;
    case 'w':
        c->o.wait_s = number("-w", optarg, 1, 86400);
        break;
    default:
        take_long_option(c, option);
    }
}

static void check_together(const struct command *c)
{
    if (c->o.wait_s > 0 && c->o.random_wait_s > 0)
        fatal("specify one of -w -R");
    if (c->file != NULL && c->length > 0)
        fatal("specify one of -F -l");
    if (c->o.lmtp && c->o.old)
        fatal("specify one of -L -o");
    if (c->o.old && (c->o.tls == SOURCE_STARTTLS || c->o.pipelining))
        fatal("with -o nothing is announced: no --tls, no --pipelining");
    if (c->o.tls == SOURCE_CLEAR && (c->o.tls_resume || c->cafile != NULL))
        fatal("--tls-resume and --tls-cafile want --tls or --tls-wrapper");
    if (c->latency && c->json)
        fatal("specify one of --latency --json");
    if (c->o.domains > 0 && strchr(c->o.recipient, '@') == NULL)
        fatal("--domains wants a recipient with a domain, not \"%s\"", c->o.recipient);
}

static void make_body(const struct command *c, struct buf *body)
{
    struct err err = ERR_INIT;

    if (c->file != NULL) {
        if (message_read(c->file, body, &err) == -1)
            fatal("-F: %s", err.text);
    } else if (c->length > 0) {
        message_fill(body, (size_t) c->length);
    } else {
        for (int i = 1; i <= 4; i++)
            buf_printf(body, "La de da de da %d.\r\n", i);
    }
}

static SSL_CTX *make_tls(const struct command *c)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    struct err err = ERR_INIT;

    if (ctx == NULL)
        fatal("TLS: cannot be set up");
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    if (c->cafile != NULL) {
        if (tls_trust_file(c->cafile, SSL_CTX_get_cert_store(ctx), &err) == -1)
            fatal("--tls-cafile: %s", err.text);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    }
    return ctx;
}

static int run(struct command *c)
{
    static struct source_totals totals;
    struct progress progress = {.wanted = c->o.messages, .totals = &totals, .began = mono_now()};
    struct err err = ERR_INIT;
    int64_t us;
    int ret;

    progress.drawn = progress.began;
    progress.counter = c->counter;
    progress.line = isatty(STDERR_FILENO) == 1 && !c->quiet && !c->o.verbose && !c->counter;
    if (progress.counter || progress.line) {
        c->o.progress = progress_step;
        c->o.progress_arg = &progress;
    }
    ret = source_run(&c->o, &totals, &err);
    us = mono_diff_us(mono_now(), progress.began);
    progress_end(&progress);
    if (ret == -1)
        fatal("%s", err.text);
    if (totals.refused > 0 || totals.refused_recipients > 0)
        log_warning("%lld messages and %lld recipients were refused, the first with: %s",
                    (long long) totals.refused, (long long) totals.refused_recipients,
                    totals.first_refusal);
    if (c->latency)
        report_text(&totals, us);
    if (c->json)
        report_json(&totals, progress.began, us);
    return fflush(stdout) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    char host[HOST_NAME_MAX + 1] = "";
    struct command c = {.o = {.messages = 1, .sessions = 1, .recipients = 1, .connect_tries = 1}};
    struct buf address = BUF_INIT(SIZE_MAX);
    struct buf body = BUF_INIT(SIZE_MAX);
    struct err err = ERR_INIT;
    int option;

    log_open(&(struct log_target){
        .program = "smtp-source", .maillog_fd = -1, .to_stderr = true, .no_syslog = true});
    (void) signal(SIGPIPE, SIG_IGN);
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    while ((option = getopt_long(argc, argv, "46AcC:df:F:l:Lm:M:Nor:R:s:S:t:T:vw:", long_options,
                                 NULL)) != -1)
        take_option(&c, option);
    if (argc - optind != 1)
        take_long_option(&c, '?');
    if (c.o.hostname == NULL) {
        if (gethostname(host, sizeof(host) - 1) == -1)
            fatal("the host has no name: use -M");
        c.o.hostname = host;
    }
    buf_printf(&address, "foo@%s", c.o.hostname);
    if (c.o.sender == NULL)
        c.o.sender = buf_cstr(&address);
    if (c.o.recipient == NULL)
        c.o.recipient = buf_cstr(&address);
    check_together(&c);
    make_body(&c, &body);
    if (endpoint_parse(argv[optind], c.family, false, &c.o.to, &err) == -1)
        fatal("%s", err.text);
    c.o.body = buf_view(&body);
    c.o.body_is_message = c.file != NULL;
    c.o.ehlo = c.o.pipelining || c.o.tls != SOURCE_CLEAR;
    if (c.o.sessions > c.o.messages)
        c.o.sessions = c.o.messages;
    descriptors_raise(c.o.sessions);
    if (c.o.tls != SOURCE_CLEAR)
        c.o.tls_context = make_tls(&c);
    int status = run(&c);

    SSL_CTX_free(c.o.tls_context);
    buf_fini(&address);
    buf_fini(&body);
    return status;
}
