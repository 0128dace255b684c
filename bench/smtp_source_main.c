/* SPDX-License-Identifier: Apache-2.0 */
/* smtp_source_main.c - smtp-source(1): many SMTP or LMTP sessions side by side, to measure a server. */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "arguments.h"
#include "base/log.h"
#include "descriptors.h"
#include "message.h"
#include "progress.h"
#include "tls/tls_certificate.h"

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
    bool counter, latency, json, quiet, starttls, wrapped;
};

static void check_together(const struct command *c)
{
    if (c->o.wait_s > 0 && c->o.random_wait_s > 0)
        fatal("specify one of -w -R");
    if (c->file != NULL && c->length > 0)
        fatal("specify one of -F -l");
    if (c->starttls && c->wrapped)
        fatal("specify one of --tls --tls-wrapper");
    if (c->o.lmtp && c->o.old)
        fatal("specify one of -L -o");
    if (c->o.old && (c->starttls || c->o.pipelining))
        fatal("with -o nothing is announced: no --tls, no --pipelining");
    if (!c->starttls && !c->wrapped && (c->o.tls_resume || c->cafile != NULL))
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

static char **take_arguments(struct command *c, int argc, char **argv)
{
    struct source_options *o = &c->o;
    const struct argument rows[] = {
        {"-4", .choice = &c->family, .chosen = AF_INET},
        {"-6", .choice = &c->family, .chosen = AF_INET6},
        {"-A", .on = &o->carry_on},
        {"-c", .on = &c->counter},
        {"-C", .number = &o->connect_tries, .min = 1, .max = INT_MAX},
        {"-d", .on = &o->keep_connection},
        {"-f", .text = &o->sender},
        {"-F", .text = &c->file},
        {"-l", .number = &c->length, .min = 1, .max = INT_MAX},
        {"-L", .on = &o->lmtp},
        {"-m", .number = &o->messages, .min = 1, .max = INT64_MAX},
        {"-M", .text = &o->hostname},
        {"-N", .on = &o->number_all},
        {"-o", .on = &o->old},
        {"-r", .number = &o->recipients, .min = 1, .max = INT_MAX},
        {"-R", .number = &o->random_wait_s, .min = 1, .max = ARGUMENT_SECONDS_MAX},
        {"-s", .number = &o->sessions, .min = 1, .max = 100000},
        {"-S", .text = &o->subject},
        {"-t", .text = &o->recipient},
        {"-T", .integer = &o->window, .min = 1, .max = 65535},
        {"-v", .on = &o->verbose},
        {"-w", .number = &o->wait_s, .min = 1, .max = ARGUMENT_SECONDS_MAX},
        {"--tls", .on = &c->starttls},
        {"--tls-wrapper", .on = &c->wrapped},
        {"--tls-resume", .on = &o->tls_resume},
        {"--tls-cafile", .text = &c->cafile},
        {"--pipelining", .on = &o->pipelining},
        {"--domains", .number = &o->domains, .min = 1, .max = INT_MAX},
        {"--latency", .on = &c->latency},
        {"--json", .on = &c->json},
        {"--quiet", .on = &c->quiet},
        {NULL},
    };

    return arguments_take(argc, argv, rows, usage, 1);
}

int main(int argc, char **argv)
{
    char host[HOST_NAME_MAX + 1] = "";
    struct command c = {.o = {.messages = 1, .sessions = 1, .recipients = 1, .connect_tries = 1}};
    struct buf address = BUF_INIT(SIZE_MAX);
    struct buf body = BUF_INIT(SIZE_MAX);
    struct err err = ERR_INIT;
    char **operand;

    log_open(&(struct log_target){
        .program = "smtp-source", .maillog_fd = -1, .to_stderr = true, .no_syslog = true});
    (void) signal(SIGPIPE, SIG_IGN);
    operand = take_arguments(&c, argc, argv);
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
    c.o.tls = c.starttls ? SOURCE_STARTTLS : c.wrapped ? SOURCE_WRAPPED : SOURCE_CLEAR;
    make_body(&c, &body);
    if (endpoint_parse(operand[0], c.family, false, &c.o.to, &err) == -1)
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
