/* SPDX-License-Identifier: Apache-2.0 */
/* qshape_main.c - qshape(1): domains and ages of what is in the queue. From qmgr while the system runs, else from the store. */
#include <errno.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mtime.h"
#include "base/num.h"
#include "qmgr/qshape.h"
#include "qmgr/queue_list.h"

#define CLEAR_SCREEN "\033[H\033[2J"
#define MINUTES_MAX  (366 * 24 * 60)

struct command {
    const char *config_dir;
    struct qshape_options opt;
    bool by_sender;
    size_t batch, top; /* -N, -n */
    bool is_terminal;
    struct buf queues;
    struct qshape *shape;
    int64_t now_us;
    int64_t age_s; /* of the message that is being told */
    size_t messages;
};

NORETURN static void usage(void)
{
    fatal("usage: qshape [-s] [-p] [-m min_subdomains] [-b bucket_count] [-t bucket_time] [-l] "
          "[-w terminal_width] [-N batch_msg_count] [-n batch_top_domains] [-c config_directory] "
          "[queue_name ...]");
}

static int64_t number(char option, const char *text, int64_t max)
{
    struct err err = ERR_INIT;
    int64_t n;

    if (num_parse_i64(slice_str(text), 1, max, &n, &err) == -1)
        fatal("-%c %s: %s", option, text, err.text);
    return n;
}

static void parse(struct command *c, int argc, char **argv)
{
    int ch;

    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    while ((ch = getopt(argc, argv, "spm:b:t:lw:N:n:c:")) != -1) {
        switch (ch) {
        case 's':
            c->by_sender = true;
            break;
        case 'p':
            c->opt.parents = true;
            break;
        case 'm':
            c->opt.min_subdomains = (unsigned) number('m', optarg, INT32_MAX);
            break;
        case 'b':
            c->opt.buckets = (unsigned) number('b', optarg, QSHAPE_BUCKETS_MAX);
            break;
        case 't':
            c->opt.first_s = number('t', optarg, MINUTES_MAX) * 60;
            break;
        case 'l':
            c->opt.is_linear = true;
            break;
        case 'w':
            c->opt.width = (unsigned) number('w', optarg, 10000);
            break;
        case 'N':
            c->batch = (size_t) number('N', optarg, INT32_MAX);
            break;
        case 'n':
            c->top = (size_t) number('n', optarg, INT32_MAX);
            break;
        case 'c':
            c->config_dir = optarg;
            break;
        default:
            usage();
        }
    }
}

/* A name, or the path of what once was the queue's directory. */
static void add_queue(struct command *c, const char *name, const char *queue_directory)
{
    static const char *const known[] = {"maildrop", "incoming", "active", "deferred", "hold"};
    size_t len = strlen(queue_directory);
    size_t i = 0;

    if (strncmp(name, queue_directory, len) == 0 && name[len] == '/')
        name += len + 1;
    while (i < ARRAY_LEN(known) && strcmp(known[i], name) != 0)
        i++;
    if (i == ARRAY_LEN(known))
        fatal("%s: there is no such queue", name);
    buf_printf(&c->queues, "%s%s", c->queues.len > 0 ? "," : "", name);
}

static struct slice domain_of(struct slice addr)
{
    ptrdiff_t at = slice_rfind(addr, '@');

    return at == -1 ? SLICE_EMPTY : slice_sub(addr, (size_t) at + 1, addr.len);
}

static void on_item(void *arg, const struct proto_queue_item *item)
{
    struct command *c = arg;

    if (c->is_terminal && c->messages > 0 && c->messages % c->batch == 0) {
        fputs(CLEAR_SCREEN, stdout);
        qshape_print(c->shape, c->top, stdout);
        fflush(stdout);
    }
    c->messages++;
    c->age_s = (c->now_us - (int64_t) item->arrival_us) / 1000000;
    if (c->by_sender)
        qshape_add(c->shape,
                   item->sender.len == 0 ? SLICE_LIT(QSHAPE_NULL_SENDER) : domain_of(item->sender),
                   c->age_s);
}

static void on_rcpt(void *arg, const struct proto_queue_rcpt *rcpt)
{
    struct command *c = arg;

    if (!c->by_sender)
        qshape_add(c->shape, domain_of(rcpt->addr), c->age_s);
}

int main(int argc, char **argv)
{
    struct command c = {
        .opt = {.buckets = 10, .first_s = 300, .min_subdomains = 5},
        .batch = 1000,
        .top = 20,
        .queues = BUF_INIT(SIZE_MAX),
        .is_terminal = isatty(STDOUT_FILENO) == 1,
    };
    struct proto_queue_select select = {0};
    const struct queue_listener listener = {on_item, on_rcpt, &c};
    struct queue_client q;

    log_open(&(struct log_target){
        .program = "qshape", .maillog_fd = -1, .to_stderr = true, .no_syslog = true});
    log_fatal_status(EX_USAGE);
    parse(&c, argc, argv);
    queue_client_init(&q, "qshape", c.config_dir);
    queue_client_authorize(&q, "authorized_mailq_users", "view the mail queue");
    for (int i = optind; i < argc; i++)
        add_queue(&c, argv[i], q.common.queue_directory);
    if (c.queues.len == 0)
        buf_puts(&c.queues, "incoming,active");
    c.shape = qshape_new(&c.opt);
    c.now_us = wall_now().us;
    select.queues = buf_view(&c.queues);
    queue_list(&q, &select, &listener);
    if (c.is_terminal && c.messages > c.batch)
        fputs(CLEAR_SCREEN, stdout);
    qshape_print(c.shape, c.is_terminal ? c.top : 0, stdout);
    if (fflush(stdout) == EOF || ferror(stdout) != 0) {
        log_fatal_status(EX_IOERR);
        fatal("output write error: %s", err_errno_text(errno, (char[128]){0}, 128));
    }
    qshape_free(&c.shape);
    buf_fini(&c.queues);
    queue_client_fini(&q);
    return EX_OK;
}
