/* SPDX-License-Identifier: Apache-2.0 */
/* postqueue_move.c - see postqueue_move.h. */
#include "qmgr/postqueue_move.h"

#include <errno.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/log.h"
#include "mail/address.h"
#include "qmgr/postqueue_print.h"
#include "qmgr/queue_select.h"

#define SEND_MS 10000
#define WAIT_MS                                                                                    \
    (7 * 86400 *                                                                                   \
     1000) /* an agent may take as long as it may; the connection says whether qmgr lives */

struct mover {
    const char *host;
    bool json;
    bool on_terminal;
    bool has_line; /* progress stands on the terminal */
    struct proto_queue_moved count;
};

/* --- what is told ----------------------------------------------------------------------------------- */

static void wipe_progress(struct mover *m)
{
    if (m->has_line)
        fputs("\r\033[K", stderr);
    m->has_line = false;
}

static void show_progress(struct mover *m)
{
    const struct proto_queue_moved *n = &m->count;

    if (!m->on_terminal)
        return;
    wipe_progress(m);
    fprintf(stderr, "%llu of %llu%s moved", (unsigned long long) n->moved,
            (unsigned long long) n->meant, n->found_all != 0 ? "" : " or more");
    if (n->stayed > 0)
        fprintf(stderr, ", %llu stay", (unsigned long long) n->stayed);
    fflush(stderr);
    m->has_line = true;
}

static void print_stayed(const struct proto_queue_stayed *s)
{
    struct buf text = BUF_INIT(SIZE_MAX);

    buf_printf(&text, "%.*s: ", SLICE_FMT(s->queue_id));
    if (s->addr.len > 0) {
        buf_puts(&text, "to=<");
        address_quote(s->addr, &text);
        buf_puts(&text, ">: ");
    }
    buf_put_slice(&text, s->reason);
    if (s->others > 0)
        buf_printf(&text, " (and %llu more recipient%s)", (unsigned long long) s->others,
                   s->others == 1 ? "" : "s");
    queue_print_text(stdout, buf_view(&text));
    putchar('\n');
    buf_fini(&text);
}

static void print_stayed_json(const struct proto_queue_stayed *s)
{
    struct buf sender = BUF_INIT(SIZE_MAX);
    struct buf addr = BUF_INIT(SIZE_MAX);

    address_quote(s->sender, &sender);
    address_quote(s->addr, &addr);
    const struct {
        const char *name;
        struct slice value;
    } texts[] = {{"queue_id", s->queue_id},
                 {"sender", buf_view(&sender)},
                 {"recipient", buf_view(&addr)},
                 {"reason", s->reason}};

    putchar('{');
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        queue_print_json(stdout, texts[i].name, texts[i].value);
        fputs(", ", stdout);
    }
    printf("\"more_recipients\": %llu}\n", (unsigned long long) s->others);
    buf_fini(&sender);
    buf_fini(&addr);
}

static void put_count(FILE *out, const char *before, uint64_t n, const char *one, const char *many)
{
    if (n > 0)
        fprintf(out, "%s%llu %s", before, (unsigned long long) n, n == 1 ? one : many);
}

void postqueue_move_sum(FILE *out, const char *host, const struct proto_queue_moved *n,
                        struct slice why)
{
    fprintf(out, "moved %llu of %llu message%s to %s", (unsigned long long) n->moved,
            (unsigned long long) n->meant, n->meant == 1 ? "" : "s", host);
    put_count(out, "; ", n->stayed, "stays", "stay");
    put_count(out, "; ", n->untried, "was not tried", "were not tried");
    put_count(out, "; ", n->elsewhere, "was delivered or dealt with otherwise meanwhile",
              "were delivered or dealt with otherwise meanwhile");
    put_count(out, "; ", n->held, "on hold was left (--held)", "on hold were left (--held)");
    put_count(out, "; ", n->arrived, "has arrived since and was left",
              "have arrived since and were left");
    fputc('\n', out);
    if (why.len > 0) {
        fputs("ended early: ", out);
        queue_print_text(out, why);
        fputc('\n', out);
    }
}

static void print_sum_json(const struct mover *m, struct slice why)
{
    const struct proto_queue_moved *n = &m->count;
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {
        {"messages", n->meant},  {"moved", n->moved},         {"stayed", n->stayed},
        {"untried", n->untried}, {"elsewhere", n->elsewhere}, {"left_on_hold", n->held},
        {"arrived", n->arrived},
    };

    putchar('{');
    queue_print_json(stdout, "moved_to", slice_str(m->host));
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        printf(", \"%s\": %llu", counts[i].name, (unsigned long long) counts[i].value);
    if (why.len > 0) {
        fputs(", ", stdout);
        queue_print_json(stdout, "ended_early", why);
    }
    puts("}");
}

static void print_sum(struct mover *m, struct slice why)
{
    wipe_progress(m);
    if (m->json)
        print_sum_json(m, why);
    else
        postqueue_move_sum(stdout, m->host, &m->count, why);
    if (fflush(stdout) == EOF || ferror(stdout) != 0) {
        log_fatal_status(EX_IOERR);
        fatal("output write error: %s", err_errno_text(errno, (char[128]){0}, 128));
    }
}

/* --- what is heard ---------------------------------------------------------------------------------- */

NORETURN static void refused(const struct mover *m, const struct proto_result *r)
{
    log_fatal_status(r->status == PROTO_DENIED ? EX_NOPERM : EX_UNAVAILABLE);
    fatal("Cannot move the queue to %s: %.*s", m->host, SLICE_FMT(r->text));
}

/* The last frame. */
static int take_result(struct mover *m, const struct frame *f, bool has_begun, struct err *err)
{
    struct proto_result r;

    if (proto_decode(f, &msg_result, &r, err) == -1)
        return -1;
    if (!has_begun)
        refused(m, &r);
    print_sum(m, r.status == PROTO_OK ? SLICE_EMPTY : r.text);
    return r.status == PROTO_OK && m->count.stayed + m->count.untried == 0 ? EX_OK : EX_TEMPFAIL;
}

static int take_stayed(struct mover *m, const struct frame *f, struct err *err)
{
    struct proto_queue_stayed s;

    if (proto_decode(f, &msg_queue_stayed, &s, err) == -1)
        return -1;
    wipe_progress(m);
    if (m->json)
        print_stayed_json(&s);
    else
        print_stayed(&s);
    if (ferror(stdout) != 0) /* nobody reads: hanging up ends it */
        print_sum(m, SLICE_EMPTY);
    return 0;
}

/* -1: the connection is over, or makes no sense. */
static int listen_to(struct mover *m, struct chan *c, struct err *err)
{
    bool has_begun = false;
    struct frame f;

    for (;;) {
        switch (proto_get_wait(c, &f, WAIT_MS, err)) {
        case CHAN_OK:
            break;
        case CHAN_AGAIN:
        case CHAN_EOF:
            return err_temporary(err, "the queue manager has gone");
        case CHAN_ERROR:
            return -1;
        }
        if (f.type == PROTO_QUEUE_MOVED) {
            if (proto_decode(&f, &msg_queue_moved, &m->count, err) == -1)
                return -1;
            show_progress(m);
        } else if (f.type == PROTO_QUEUE_STAYED) {
            if (take_stayed(m, &f, err) == -1)
                return -1;
        } else {
            return take_result(m, &f, has_begun, err);
        }
        has_begun = true;
    }
}

int postqueue_move(const struct queue_client *q, const char *host,
                   const struct proto_queue_select *select, bool held, bool json)
{
    struct mover m = {.host = host, .json = json, .on_terminal = isatty(STDERR_FILENO) == 1};
    struct proto_queue_move ask = {.select = *select,
                                   .nexthop = slice_str(host),
                                   .held = held ? 1 : 0,
                                   .by = queue_client_who(MOVE_BY_MAX)};
    struct buf queues = BUF_INIT(SIZE_MAX);
    struct err err = ERR_INIT;
    struct chan *c;
    int status = -1;

    if (!queue_client_is_owner(q)) {
        log_fatal_status(EX_NOPERM);
        fatal("only root and %s may move the queue", q->common.mail_owner);
    }
    buf_put_slice(&queues, select->queues);
    if (held && queues.len > 0 && !queue_select_names(select, "hold"))
        buf_puts(&queues, ",hold");
    ask.select.queues = buf_view(&queues);
    c = queue_client_connect(q, &err);
    if (c == NULL) {
        log_fatal_status(EX_UNAVAILABLE);
        fatal("Cannot move the queue - mail system is down (%s): it does this while it runs; see "
              "postqueue(1) for how to keep new mail out meanwhile",
              err.text);
    }
    if (proto_put(c, &msg_queue_move, &ask, -1, &err) == -1)
        fatal("%s", err.text); /* too long */
    if (chan_flush_wait(c, SEND_MS, &err) == CHAN_OK)
        status = listen_to(&m, c, &err);
    if (status == -1) {
        wipe_progress(&m);
        log_fatal_status(EX_TEMPFAIL);
        fatal("Moving the queue to %s has broken off: %s. %llu messages or more were moved, the "
              "others are still here: give the command again",
              host, err.text, (unsigned long long) m.count.moved);
    }
    chan_free(&c);
    buf_fini(&queues);
    return status;
}
