/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postqueue_main.c - postqueue(1): lists the queue, has its mail tried at once or handed to another host. Set-gid: the group opens the way to
 * public/qmgr; authorized_mailq_users and authorized_flush_users say who may go it.
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mtime.h"
#include "base/num.h"
#include "mail/address.h"
#include "mail/queue_id.h"
#include "qmgr/next_hop.h"
#include "qmgr/postqueue_move.h"
#include "qmgr/postqueue_print.h"
#include "qmgr/postqueue_suspend.h"
#include "qmgr/queue_list.h"
#include "qmgr/queue_select.h"

struct options {
    const char *config_dir;
    char mode; /* p j f i s, n: names of what is selected, w: words, m: --move-to */
    const char *arg;
    struct proto_queue_select select;
    bool has_select;
    bool is_json;
    const char *until;
    const char *move_to;
    bool is_held_too;
    char **words; /* suspend, resume, suspended: NULL-terminated */
};

NORETURN static void usage(void)
{
    fatal(
        "usage: postqueue -f | postqueue -i queueid | postqueue -j | postqueue -p | postqueue -s site"
        " | postqueue [-p | -j] [--queue name] [--id queueid] [--sender address]"
        " [--recipient address] [--domain name] [--reason text] [--older time]"
        " | postqueue [-j] --move-to host [--held] [-i queueid] [--queue name] ..."
        " | postqueue suspend {destination | sender | transport} name --reason text --until time"
        " | postqueue resume {destination | sender | transport} name | postqueue [-j] suspended");
}

enum {
    OPT_QUEUE = 256,
    OPT_ID,
    OPT_SENDER,
    OPT_RECIPIENT,
    OPT_DOMAIN,
    OPT_REASON,
    OPT_OLDER,
    OPT_UNTIL,
    OPT_MOVE_TO,
    OPT_HELD
};

static const struct option long_options[] = {
    {"queue", required_argument, NULL, OPT_QUEUE},
    {"id", required_argument, NULL, OPT_ID},
    {"sender", required_argument, NULL, OPT_SENDER},
    {"recipient", required_argument, NULL, OPT_RECIPIENT},
    {"domain", required_argument, NULL, OPT_DOMAIN},
    {"reason", required_argument, NULL, OPT_REASON},
    {"older", required_argument, NULL, OPT_OLDER},
    {"until", required_argument, NULL, OPT_UNTIL},
    {"move-to", required_argument, NULL, OPT_MOVE_TO},
    {"held", no_argument, NULL, OPT_HELD},
    {"json", no_argument, NULL, 'j'},
    {NULL, 0, NULL, 0},
};

static void set_mode(struct options *o, int ch)
{
    if (o->mode != '\0')
        usage();
    o->mode = (char) ch;
    o->arg = optarg;
}

static uint64_t arrived_to(const char *text)
{
    struct err err = ERR_INIT;
    int64_t age_s;

    if (num_parse_time(slice_str(text), 's', 100LL * 366 * 86400, &age_s, &err) == -1)
        fatal("--older %s: %s", text, err.text);
    return (uint64_t) (wall_now().us - age_s * 1000000);
}

/* What would select nothing, and so everything, is a mistake. */
static void select_by(struct options *o, struct slice *field)
{
    *field = slice_str(optarg);
    if (field->len == 0)
        fatal("an empty value selects nothing: the null sender is \"<>\"");
    o->has_select = true;
}

static void select_option(struct options *o, int ch)
{
    struct proto_queue_select *s = &o->select;
    struct slice older;

    switch (ch) {
    case OPT_QUEUE:
        select_by(o, &s->queues);
        break;
    case OPT_ID:
        select_by(o, &s->queue_id);
        if (!queue_id_valid(s->queue_id))
            fatal("invalid name of a message: \"%.100s\"", optarg);
        break;
    case OPT_SENDER:
        select_by(o, &s->sender);
        break;
    case OPT_RECIPIENT:
        select_by(o, &s->recipient);
        break;
    case OPT_DOMAIN:
        select_by(o, &s->domain);
        break;
    case OPT_REASON:
        select_by(o, &s->reason);
        break;
    case OPT_OLDER:
        select_by(o, &older);
        s->arrived_to_us = arrived_to(optarg);
        break;
    case OPT_UNTIL:
        o->until = optarg;
        break;
    case OPT_MOVE_TO:
        o->move_to = optarg;
        break;
    case OPT_HELD:
        o->is_held_too = true;
        break;
    default:
        usage();
    }
}

/* What is selected besides a reason means nothing to suspensions. */
static bool selects_mail(const struct proto_queue_select *s)
{
    return s->queues.len + s->queue_id.len + s->sender.len + s->recipient.len + s->domain.len > 0 ||
           s->arrived_to_us != 0;
}

static void check_queues(struct slice queues)
{
    static const char *const known[] = {"maildrop", "incoming", "active", "deferred", "hold"};
    struct slice name;

    while (slice_token(&queues, ", ", &name)) {
        size_t i = 0;

        while (i < ARRAY_LEN(known) && !slice_eq_str(name, known[i]))
            i++;
        if (i == ARRAY_LEN(known))
            fatal("--queue %.*s: there is no such queue", SLICE_FMT(name));
    }
}

/* The same -i and -j as elsewhere. */
static void parse_move(struct options *o)
{
    struct err err = ERR_INIT;

    if (o->mode != '\0' && o->mode != 'i' && o->mode != 'j')
        usage();
    o->is_json = o->mode == 'j';
    if (o->mode == 'i') {
        if (o->select.queue_id.len > 0)
            usage();
        o->select.queue_id = slice_str(o->arg);
        if (!queue_id_valid(o->select.queue_id))
            fatal("invalid name of a message: \"%.100s\"", o->arg);
    }
    o->mode = 'm';
    if (next_hop_check(slice_str(o->move_to), &err) == -1)
        fatal("--move-to: %s", err.text);
    if (queue_select_names(&o->select, "maildrop"))
        fatal("--queue maildrop: what lies there can be moved when pickup(8) has taken it into the "
              "queue");
    o->is_held_too |= queue_select_names(&o->select, "hold");
}

static bool is_about_suspensions(const char *word)
{
    return strcmp(word, "suspend") == 0 || strcmp(word, "resume") == 0 ||
           strcmp(word, "suspended") == 0;
}

static struct options parse(int argc, char **argv)
{
    struct options o = {0};
    int ch;

    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    while ((ch = getopt_long(argc, argv, "c:fi:jps:v", long_options, NULL)) != -1) {
        switch (ch) {
        case 'c':
            o.config_dir = optarg;
            break;
        case 'f':
        case 'i':
        case 'j':
        case 'p':
        case 's':
            set_mode(&o, ch);
            break;
        case 'v':
            if (getuid() == 0)
                log_verbose(log_verbosity() + 1);
            break;
        default:
            select_option(&o, ch);
        }
    }
    if (optind < argc && (o.mode == '\0' || o.mode == 'j') && is_about_suspensions(argv[optind])) {
        o.is_json = o.mode == 'j';
        o.mode = 'w';
        o.words = argv + optind;
        if (o.move_to != NULL || o.is_held_too)
            usage();
        return o;
    }
    if (o.until != NULL || optind < argc || (o.is_held_too && o.move_to == NULL))
        usage();
    check_queues(o.select.queues);
    if (o.move_to != NULL) {
        parse_move(&o);
        return o;
    }
    if (o.mode == '\0' && o.has_select)
        o.mode = 'n';
    if (o.mode == '\0' || (o.has_select && strchr("pjn", o.mode) == NULL))
        usage();
    return o;
}

/* --- listing ----------------------------------------------------------------------------------- */

static void print_item(void *arg, const struct proto_queue_item *item)
{
    queue_print_item(arg, item);
}

static void print_rcpt(void *arg, const struct proto_queue_rcpt *rcpt)
{
    queue_print_rcpt(arg, rcpt);
}

/* A list of names, for postsuper. */
static void print_id(void *arg, const struct proto_queue_item *item)
{
    fprintf(arg, "%.*s\n", SLICE_FMT(item->queue_id));
}

static void skip_rcpt(void *arg, const struct proto_queue_rcpt *rcpt)
{
    (void) arg;
    (void) rcpt;
}

NORETURN static void output_failed(void)
{
    fatal("output write error: %s", err_errno_text(errno, (char[128]){0}, 128));
}

static void list(const struct queue_client *q, const struct options *o)
{
    struct queue_printer p = {
        .out = stdout,
        .json = o->mode == 'j',
        .long_ids = q->common.enable_long_queue_ids,
        .null_sender = config_get(q->cfg, "empty_address_recipient"),
    };
    const struct queue_listener full = {print_item, print_rcpt, &p};
    const struct queue_listener names = {print_id, skip_rcpt, stdout};

    queue_client_authorize(q, "authorized_mailq_users", "view the mail queue");
    if (o->mode == 'n') {
        queue_list(q, &o->select, &names);
        if (fflush(stdout) == EOF || ferror(stdout) != 0)
            output_failed();
        return;
    }
    queue_list(q, &o->select, &full);
    if (queue_print_end(&p) == -1)
        output_failed();
}

/* --- suspensions -------------------------------------------------------------------------------- */

static void suspensions(const struct queue_client *q, const struct options *o)
{
    const char *verb = o->words[0];
    const char *kind = o->words[1];
    const char *name = kind != NULL ? o->words[2] : NULL;
    const char *reason = o->select.reason.ptr;
    bool is_timed = reason != NULL && o->until != NULL;
    bool is_plain = reason == NULL && o->until == NULL;

    if (selects_mail(&o->select))
        usage();
    if (strcmp(verb, "suspended") == 0) {
        if (kind != NULL || !is_plain)
            usage();
        postqueue_suspended(q, o->is_json);
        return;
    }
    if (name == NULL || o->words[3] != NULL || o->is_json)
        usage();
    if (strcmp(verb, "suspend") == 0 ? !is_timed : !is_plain)
        usage();
    if (is_timed)
        postqueue_suspend(q, kind, name, reason, o->until);
    else
        postqueue_resume(q, kind, name);
}

/* --- flushing ---------------------------------------------------------------------------------- */

static void flush(const struct queue_client *q, const struct options *o)
{
    struct proto_queue_op op = {.op = QUEUE_OP_FLUSH_ALL, .arg = slice_str(o->arg)};
    struct slice site = slice_str(o->arg);
    struct proto_result result;
    struct err err = ERR_INIT;
    struct chan *c;

    if (o->mode == 'i') {
        op.op = QUEUE_OP_FLUSH_ID;
        if (!queue_id_valid(op.arg))
            fatal("Cannot flush queue ID - invalid name: \"%.100s\"", o->arg);
    } else if (o->mode == 's') {
        op.op = QUEUE_OP_FLUSH_SITE;
        if (site.len > 2 && site.ptr[0] == '['
                ? site.ptr[site.len - 1] != ']' ||
                      !address_literal_valid(slice_sub(site, 1, site.len - 1))
                : !hostname_valid(site))
            fatal("Cannot flush mail queue - invalid destination: \"%.100s\"", o->arg);
    }
    queue_client_authorize(q, "authorized_flush_users", "flush the mail queue");
    c = queue_client_connect(q, &err);
    if (c == NULL || queue_client_ask(c, PROTO_QUEUE_FLUSH, &op, &result, &err) == -1)
        fatal("Cannot flush mail queue - mail system is down (%s)", err.text);
    /* a message that is not there, or not any more, has nothing that waits: no error for postqueue -i */
    if (result.status != PROTO_OK && !(o->mode == 'i' && result.status == PROTO_NOT_FOUND)) {
        if (o->mode == 's' && result.status == PROTO_NOT_FOUND)
            fatal("%.*s", SLICE_FMT(result.text)); /* not one of fast_flush_domains */
        fatal("Cannot flush %s: %.*s", o->arg != NULL ? o->arg : "mail queue",
              SLICE_FMT(result.text));
    }
    chan_free(&c);
}

int main(int argc, char **argv)
{
    struct options o;
    struct queue_client q;
    int status = EX_OK;

    log_open(&(struct log_target){
        .program = "postqueue", .maillog_fd = -1, .to_stderr = true, .no_syslog = true});
    log_fatal_status(EX_UNAVAILABLE); /* Postfix's, for wrong usage too */
    o = parse(argc, argv);
    queue_client_init(&q, "postqueue", o.config_dir);
    if (o.mode == 'w')
        suspensions(&q, &o);
    else if (o.mode == 'm')
        status = postqueue_move(&q, o.move_to, &o.select, o.is_held_too, o.is_json);
    else if (o.mode == 'p' || o.mode == 'j' || o.mode == 'n')
        list(&q, &o);
    else
        flush(&q, &o);
    queue_client_fini(&q);
    return status;
}
