/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postsuper_main.c - postsuper(1): deletes, holds, releases, requeues and expires queued mail. While the system runs qmgr does
 * it; while it is stopped this program opens the queue itself.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mtime.h"
#include "base/vec.h"
#include "mail/queue_id.h"
#include "master/queue_owners.h"
#include "qmgr/queue_client.h"
#include "qmgr/queue_maildrop.h"

/* What the letters mean, and how the count of them is told. */
static const struct kind {
    char option;
    enum proto_queue_operation op;
    const char *log;   /* of one message */
    const char *total; /* of all */
} kinds[] = {
    {'d', QUEUE_OP_DELETE, "removed", "Deleted"},
    {'e', QUEUE_OP_EXPIRE, "expired", "Force-expired"},
    {'f', QUEUE_OP_EXPIRE, "expired", "Force-expired"}, /* and released: 'H' */
    {'h', QUEUE_OP_HOLD, "placed on hold", "Placed on hold"},
    {'H', QUEUE_OP_RELEASE, "released from hold", "Released from hold"},
    {'r', QUEUE_OP_REQUEUE, "requeued", "Requeued"},
};

/* Those without messages of ours are accepted where Postfix has them. */
static const char *const queues[] = {"hold",   "incoming", "active", "deferred", "maildrop",
                                     "bounce", "defer",    "trace",  "flush"};

struct work {
    const struct kind *kind;
    const char *arg; /* queue id, "-", "ALL" */
};

struct postsuper {
    struct queue_client q;
    const char *config_dir;
    struct vec work;   /* struct work * */
    struct vec queues; /* const char *; empty: the operation's own */
    bool check;        /* -s, -S */
    size_t damages;    /* told */
    bool purge;        /* -p */
    struct chan *chan; /* to qmgr, or NULL: */
    struct store *store;
    unsigned long counts[ARRAY_LEN(kinds)];
    bool asked[ARRAY_LEN(kinds)]; /* the count is told, be it none */
};

NORETURN static void usage(void)
{
    fatal("usage: postsuper [-c config_dir] [-d queue_id (delete)] [-e queue_id (expire)] "
          "[-f queue_id (expire and/or un-hold)] [-h queue_id (hold)] [-H queue_id (un-hold)] "
          "[-p (purge temporary files)] [-r queue_id (requeue)] [-s (structure fix)] "
          "[-S (redundant structure fix)][-v (verbose)] [queue...]");
}

static void add_work(struct postsuper *p, char option, const char *arg)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (kinds[i].option == 'H' && option == 'f')
            p->asked[i] = true;
        if (kinds[i].option == option) {
            struct work *w = xcalloc(1, sizeof(*w));

            w->kind = &kinds[i];
            w->arg = arg;
            p->asked[i] = true;
            vec_push(&p->work, w);
        }
    }
}

static void parse(struct postsuper *p, int argc, char **argv)
{
    int ch;

    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    while ((ch = getopt(argc, argv, "c:d:e:f:h:H:pr:sSv")) != -1) {
        switch (ch) {
        case 'c':
            p->config_dir = optarg;
            break;
        case 'p':
            p->purge = true;
            break;
        case 's':
        case 'S':
            p->check = true;
            break;
        case 'v':
            log_verbose(log_verbosity() + 1);
            break;
        case '?':
            usage();
        default:
            add_work(p, (char) ch, optarg);
        }
    }
    for (; optind < argc; optind++) {
        size_t i = 0;

        while (i < ARRAY_LEN(queues) && strcmp(queues[i], argv[optind]) != 0)
            i++;
        if (i == ARRAY_LEN(queues))
            fatal("invalid directory name: %s", argv[optind]);
        vec_push(&p->queues, argv[optind]);
    }
    if (p->work.len == 0)
        p->check = true;
}

/* --- while the system runs ----------------------------------------------------------------------- */

static unsigned long ask(struct postsuper *p, enum proto_queue_operation op, const char *id,
                         const char *queue)
{
    struct proto_queue_op msg = {.op = op, .arg = slice_str(id), .queue = slice_str(queue)};
    struct proto_result result;
    struct err err = ERR_INIT;

    if (queue_client_ask(p->chan, PROTO_QUEUE_EDIT, &msg, &result, &err) == -1) {
        log_fatal_status(EX_UNAVAILABLE);
        fatal("%s: %s", id, err.text);
    }
    if (result.status == PROTO_NOT_FOUND)
        return 0;
    if (result.status != PROTO_OK) {
        log_fatal_status(result.status == PROTO_DENIED ? EX_NOPERM : EX_UNAVAILABLE);
        fatal("%s: %.*s", id, SLICE_FMT(result.text));
    }
    return (unsigned long) result.count;
}

/* --- while it is stopped ------------------------------------------------------------------------- */

static void damaged(void *arg, const char *text)
{
    struct postsuper *p = arg;

    p->damages++;
    log_warning("%s", text);
}

static void open_store(struct postsuper *p)
{
    static const struct store_events events = {NULL, damaged};
    struct store_options opt;
    struct err err = ERR_INIT;

    queue_client_store_options(&p->q, &opt);
    queue_client_become_owner(&p->q);
    if (store_open(&opt, &events, p, &p->store, &err) == -1 ||
        store_recover(p->store, &err) == -1) {
        log_fatal_status(EX_UNAVAILABLE);
        fatal("%s", err.text);
    }
}

static const char *queue_of(const struct store_msg *m)
{
    if (store_msg_state(m)->requeue)
        return "maildrop"; /* where Postfix has such mail */
    switch (store_msg_queue(m)) {
    case STORE_HOLD:
        return "hold";
    case STORE_DEFERRED:
        return "deferred";
    case STORE_CORRUPT:
        return "corrupt";
    case STORE_JOURNAL:
        break;
    }
    return store_msg_state(m)->attempts == 0 ? "incoming" : "deferred";
}

static bool is_meant(const struct store_msg *m, enum proto_queue_operation op, const char *queue)
{
    const char *name = queue_of(m);

    if (op != QUEUE_OP_DELETE && strcmp(name, "maildrop") == 0)
        return false;
    if (queue[0] != '\0')
        return strcmp(name, queue) == 0;
    if (op == QUEUE_OP_HOLD)
        return strcmp(name, "hold") != 0;
    if (op == QUEUE_OP_RELEASE)
        return strcmp(name, "hold") == 0;
    return strcmp(name, "corrupt") != 0;
}

/* What is said to be done is noted. */
static void note(struct postsuper *p)
{
    struct err err = ERR_INIT;

    if (p->store != NULL && store_flush(p->store, &err) == -1) {
        log_fatal_status(EX_UNAVAILABLE);
        fatal("what was done cannot be noted: %s", err.text);
    }
}

/* 1: done; 0: there was nothing to do. */
static unsigned long edit_here(struct postsuper *p, struct store_msg *m,
                               enum proto_queue_operation op)
{
    struct store_state s = *store_msg_state(m);
    struct err err = ERR_INIT;
    int ret = 0;

    switch (op) {
    case QUEUE_OP_DELETE:
        store_msg_remove(p->store, &m);
        return 1;
    case QUEUE_OP_HOLD:
        if (store_msg_queue(m) == STORE_HOLD)
            return 0;
        ret = store_msg_hold(p->store, m, &err);
        break;
    case QUEUE_OP_RELEASE:
        if (store_msg_queue(m) != STORE_HOLD)
            return 0;
        ret = store_msg_release(p->store, m, &err);
        break;
    case QUEUE_OP_EXPIRE:
        if (s.forced_expire)
            return 0;
        s.forced_expire = true;
        s.next_retry_us = wall_now().us;
        store_msg_set_state(p->store, m, &s);
        return 1;
    case QUEUE_OP_REQUEUE:
        store_msg_requeue_later(p->store, m); /* by the next queue manager */
        return 1;
    case QUEUE_OP_FLUSH_ALL:
    case QUEUE_OP_FLUSH_SITE:
    case QUEUE_OP_FLUSH_ID:
        return 0;
    }
    if (ret == -1) {
        log_warning("%.*s: %s", SLICE_FMT(store_msg_id(m)), err.text);
        return 0;
    }
    return 1;
}

struct collect {
    struct vec msgs;
    enum proto_queue_operation op;
    const char *queue;
};

static bool collect_one(struct store_msg *m, void *arg)
{
    struct collect *c = arg;

    if (is_meant(m, c->op, c->queue))
        vec_push(&c->msgs, m);
    return true;
}

static unsigned long edit_all_here(struct postsuper *p, enum proto_queue_operation op,
                                   const char *queue)
{
    struct collect c = {.op = op, .queue = queue};
    unsigned long n = 0;

    store_each(p->store, collect_one, &c);
    for (size_t i = 0; i < c.msgs.len; i++)
        n += edit_here(p, c.msgs.items[i], op);
    vec_fini(&c.msgs);
    return n;
}

/* --- either ------------------------------------------------------------------------------------ */

/* From maildrop/, where pickup has not come yet: all that can be done there, with or without a queue manager. */
static unsigned long delete_dropped(struct postsuper *p, const char *id)
{
    const char *queue_directory = p->q.common.queue_directory;
    struct err err = ERR_INIT;
    size_t n = 0;

    if ((strcmp(id, "ALL") == 0 ? queue_maildrop_remove_all(queue_directory, &n, &err)
                                : queue_maildrop_remove(queue_directory, id, &n, &err)) == -1)
        log_warning("%s", err.text);
    return (unsigned long) n;
}

static unsigned long operate(struct postsuper *p, enum proto_queue_operation op, const char *id,
                             const char *queue)
{
    struct store_msg *m;
    unsigned long n = 0;

    if (op == QUEUE_OP_DELETE && (queue[0] == '\0' || strcmp(queue, "maildrop") == 0))
        n += delete_dropped(p, id);
    if (p->chan != NULL)
        return n + ask(p, op, id, queue);
    if (strcmp(id, "ALL") == 0)
        return n + edit_all_here(p, op, queue);
    m = store_find(p->store, slice_str(id));
    return m != NULL && is_meant(m, op, queue) ? n + edit_here(p, m, op) : n;
}

static unsigned long in_queues(struct postsuper *p, enum proto_queue_operation op, const char *id)
{
    unsigned long n = 0;

    if (p->queues.len == 0)
        return operate(p, op, id, "");
    for (size_t i = 0; i < p->queues.len; i++)
        n += operate(p, op, id, p->queues.items[i]);
    return n;
}

static const struct kind *kind_of(char option)
{
    const struct kind *k = kinds;

    while (k->option != option)
        k++;
    return k;
}

/* What Postfix takes for a name; others than ours are in no queue of ours. */
static bool may_be_name(const char *id)
{
    size_t n = strspn(id, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_");

    return n > 0 && n <= NAME_MAX && id[n] == '\0';
}

static void one_id(struct postsuper *p, const struct kind *k, const char *id)
{
    unsigned long n;

    if (strcmp(id, "ALL") != 0 && !queue_id_valid(slice_str(id))) {
        if (!may_be_name(id))
            log_warning("invalid mail queue id: %s", id);
        return;
    }
    n = in_queues(p, k->op, id);
    note(p);
    if (n > 0 && strcmp(id, "ALL") != 0)
        log_info("%s: %s", id, k->log);
    p->counts[k - kinds] += n;
    if (k->option == 'f') /* as "-e ID -H ID": what is released is in the queue "hold" no more */
        one_id(p, kind_of('H'), id);
}

static void from_stdin(struct postsuper *p, const struct kind *k)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;

    while ((n = getline(&line, &cap, stdin)) > 0) {
        struct slice id = slice_trim(slice_of(line, (size_t) n), NULL);
        char *text = slice_dup(id);

        one_id(p, k, text);
        free(text);
    }
    free(line);
}

static void on_owner(void *arg, const char *text)
{
    (void) arg;
    log_warning("%s", text);
}

/* Before the store is opened, which is done as mail_owner. */
static void set_owners(const struct postsuper *p)
{
    struct queue_owners q = {0, 0, true, on_owner, NULL, 0, 0, 0};

    queue_client_owner(&p->q, &q.uid, &q.gid);
    queue_owners_look(p->q.common.queue_directory, &q);
    if (q.wrong > 0)
        log_info("owners and modes: %zu looked at, %zu wrong, %zu of them set right", q.looked,
                 q.wrong, q.repaired);
}

static void structure(const struct postsuper *p)
{
    if (p->purge)
        log_info("there are no temporary files to purge: the queue manager removes its own");
    if (!p->check)
        return;
    if (p->chan != NULL)
        log_info("the mail system runs: the queue's structure was checked when it started");
    else
        log_info("the queue was read%s: %zu message%s",
                 p->damages == 0 ? " and is in order" : "; what was damaged is told above",
                 store_count(p->store), store_count(p->store) == 1 ? "" : "s");
}

int main(int argc, char **argv)
{
    static struct postsuper p;
    struct err err = ERR_INIT;

    log_open(&(struct log_target){
        .program = "postsuper", .maillog_fd = -1, .to_stderr = true, .no_syslog = true});
    parse(&p, argc, argv);
    queue_client_init(&p.q, "postsuper", p.config_dir);
    if (!queue_client_is_owner(&p.q))
        fatal("use of this command is reserved for the superuser");
    if (p.check)
        set_owners(&p);
    p.chan = queue_client_connect(&p.q, &err);
    if (p.chan == NULL)
        open_store(&p);
    structure(&p);
    for (size_t i = 0; i < p.work.len; i++) {
        const struct work *w = p.work.items[i];

        if (strcmp(w->arg, "-") == 0)
            from_stdin(&p, w->kind);
        else
            one_id(&p, w->kind, w->arg);
    }
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (p.asked[i])
            log_info("%s: %lu message%s", kinds[i].total, p.counts[i], p.counts[i] == 1 ? "" : "s");
    if (p.store != NULL)
        store_close(&p.store);
    chan_free(&p.chan);
    vec_clear(&p.work, free);
    vec_fini(&p.work);
    vec_fini(&p.queues);
    queue_client_fini(&p.q);
    return 0;
}
