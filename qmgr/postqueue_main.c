/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postqueue_main.c - postqueue(1): lists the queue, and has its mail tried at once. Set-gid: the group opens the way to
 * public/qmgr; authorized_mailq_users and authorized_flush_users say who may go it.
 */
#include <errno.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "mail/address.h"
#include "mail/queue_id.h"
#include "qmgr/postqueue_print.h"
#include "qmgr/queue_client.h"

#define LIST_MS 3600000

struct options {
    const char *config_dir;
    char mode; /* p j f i s, 0: none yet */
    const char *arg;
};

NORETURN static void usage(void)
{
    fatal(
        "usage: postqueue -f | postqueue -i queueid | postqueue -j | postqueue -p | postqueue -s site");
}

static struct options parse(int argc, char **argv)
{
    struct options o = {0};
    int ch;

    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    while ((ch = getopt(argc, argv, "c:fi:jps:v")) != -1) {
        switch (ch) {
        case 'c':
            o.config_dir = optarg;
            break;
        case 'f':
        case 'i':
        case 'j':
        case 'p':
        case 's':
            if (o.mode != '\0')
                usage();
            o.mode = (char) ch;
            o.arg = optarg;
            break;
        case 'v':
            if (getuid() == 0)
                log_verbose(log_verbosity() + 1);
            break;
        default:
            usage();
        }
    }
    if (o.mode == '\0' || optind < argc)
        usage();
    return o;
}

/* --- listing ----------------------------------------------------------------------------------- */

static int list_from_qmgr(struct chan *c, struct queue_printer *p, struct err *err)
{
    struct proto_queue_item item;
    struct proto_queue_rcpt rcpt;
    struct frame f;

    proto_put_empty(c, PROTO_QUEUE_LIST);
    if (chan_flush_wait(c, LIST_MS, err) != CHAN_OK)
        return -1;
    for (;;) {
        switch (proto_get_wait(c, &f, LIST_MS, err)) {
        case CHAN_OK:
            break;
        case CHAN_AGAIN:
        case CHAN_EOF:
            return err_temporary(err, "the list of the queue ends before its end");
        case CHAN_ERROR:
            return -1;
        }
        if (f.type == PROTO_END)
            return 0;
        if (f.type == PROTO_QUEUE_ITEM) {
            if (proto_decode(&f, &msg_queue_item, &item, err) == -1)
                return -1;
            queue_print_item(p, &item);
        } else {
            if (proto_decode(&f, &msg_queue_rcpt, &rcpt, err) == -1)
                return -1;
            queue_print_rcpt(p, &rcpt);
        }
    }
}

struct direct {
    struct store *store;
    struct queue_printer *printer;
    struct arena *arena;
};

static bool list_direct_one(struct store_msg *m, void *arg)
{
    struct direct *d = arg;
    const struct store_state *s = store_msg_state(m);
    struct mail_envelope env;
    struct store_rcpt *rcpts;
    size_t n;
    struct err err = ERR_INIT;

    arena_reset(d->arena);
    if (store_msg_read(d->store, m, d->arena, &env, &rcpts, &n, &err) == -1) {
        log_warning("%.*s: cannot be read: %s", SLICE_FMT(store_msg_id(m)), err.text);
        return true;
    }
    struct proto_queue_item item = {
        .queue = store_msg_queue(m) == STORE_HOLD ? SLICE_LIT("hold")
                 : s->attempts == 0               ? SLICE_LIT("incoming")
                                                  : SLICE_LIT("deferred"),
        .queue_id = store_msg_id(m),
        .sender = env.sender,
        .arrival_us = env.arrival_us,
        .size = store_msg_bytes(m),
        .forced_expire = s->forced_expire ? 1 : 0,
    };
    queue_print_item(d->printer, &item);
    for (size_t i = 0; i < n; i++) {
        struct proto_queue_rcpt r = {.addr = rcpts[i].r.addr, .reason = rcpts[i].reason};

        if (!rcpts[i].done)
            queue_print_rcpt(d->printer, &r);
    }
    return true;
}

static void damaged(void *arg, const char *text)
{
    (void) arg;
    log_warning("%s", text);
}

/* While the system is stopped. Looks only. */
static int list_from_store(const struct queue_client *q, struct queue_printer *p, struct err *err)
{
    static const struct store_events events = {NULL, damaged};
    struct direct d = {.printer = p, .arena = arena_new(0)};
    struct store_options opt;
    int ret = -1;

    queue_client_store_options(q, &opt);
    if (store_open_readonly(&opt, &events, &d, &d.store, err) == -1 ||
        store_recover(d.store, err) == -1)
        goto done;
    store_each(d.store, list_direct_one, &d);
    ret = 0;
done:
    if (d.store != NULL)
        store_close(&d.store);
    arena_free(&d.arena);
    return ret;
}

/* By the real uid: the group that opens the way to qmgr does not open the journal. */
static bool may_read_queue(const struct queue_client *q)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    bool ok;

    path_join(&path, q->common.queue_directory, "journal");
    ok = access(buf_cstr(&path), R_OK | X_OK) == 0;
    buf_fini(&path);
    return ok;
}

static void list(const struct queue_client *q, bool json)
{
    struct queue_printer p = {
        .out = stdout,
        .json = json,
        .long_ids = q->common.enable_long_queue_ids,
        .null_sender = config_get(q->cfg, "empty_address_recipient"),
    };
    struct err err = ERR_INIT;
    struct chan *c;
    int ret;

    queue_client_authorize(q, "authorized_mailq_users", "view the mail queue");
    c = queue_client_connect(q, &err);
    if (c != NULL) {
        ret = list_from_qmgr(c, &p, &err);
        chan_free(&c);
    } else if (may_read_queue(q)) {
        log_warning("Mail system is down -- accessing queue directly (%s)", err.text);
        ret = list_from_store(q, &p, &err);
    } else {
        log_fatal_status(EX_UNAVAILABLE);
        fatal("Queue report unavailable - mail system is down (%s)", err.text);
    }
    if (ret == -1) {
        log_fatal_status(EX_SOFTWARE);
        fatal("%s", err.text);
    }
    if (queue_print_end(&p) == -1) {
        log_fatal_status(EX_IOERR);
        fatal("output write error: errno %d", errno);
    }
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
                : !hostname_valid(site)) {
            log_fatal_status(EX_UNAVAILABLE); /* as postqueue has it */
            fatal("Cannot flush mail queue - invalid destination: \"%.100s\"", o->arg);
        }
    }
    queue_client_authorize(q, "authorized_flush_users", "flush the mail queue");
    c = queue_client_connect(q, &err);
    if (c == NULL || queue_client_ask(c, PROTO_QUEUE_FLUSH, &op, &result, &err) == -1) {
        log_fatal_status(EX_UNAVAILABLE);
        fatal("Cannot flush mail queue - mail system is down (%s)", err.text);
    }
    if (result.status != PROTO_OK) {
        log_fatal_status(EX_UNAVAILABLE);
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

    log_open(&(struct log_target){
        .program = "postqueue", .maillog_fd = -1, .to_stderr = true, .no_syslog = true});
    log_fatal_status(EX_USAGE);
    o = parse(argc, argv);
    queue_client_init(&q, "postqueue", o.config_dir);
    if (o.mode == 'p' || o.mode == 'j')
        list(&q, o.mode == 'j');
    else
        flush(&q, &o);
    queue_client_fini(&q);
    return EX_OK;
}
