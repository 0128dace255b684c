/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_suspend_command.c - suspensions: begun and ended by postqueue, ended by time, kept in journal/suspended.
 *
 * What is in memory is in force, and the file follows: it is written as a whole by the helper thread, one after the other, so that the last
 * one written is the latest. An administrator is told of success only when it is on disk. What becomes of the mail: qmgr_suspend_walk.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "qmgr/qmgr_int.h"

#define SUSPENSION_FILE "journal/suspended"
#define FILE_MODE       0600
#define ITEMS_A_STEP    50

const struct suspension *suspend_of(const struct part *p, const struct rcpt *r)
{
    const struct vec *list = &p->m->qmgr->suspensions;

    /* at retry it comes to nothing but its own deferral */
    if (list->len == 0 || p->m->handover != NULL || slice_eq_str(r->transport, "retry"))
        return NULL;
    return suspension_find(list, &(struct suspension_mail){
                                     .transport = r->transport,
                                     .nexthop = r->nexthop,
                                     .addr = r->addr,
                                     .sender = p->m->env.sender,
                                     .has_sender = true,
                                 });
}

/* --- begun and ended ---------------------------------------------------------------------------------- */

/* It is out of the list. */
static void ended(struct qmgr *q, struct suspension *s)
{
    q->suspensions_ended++;
    suspend_walk_begin(q, s);
}

/* --- the file ------------------------------------------------------------------------------------- */

struct suspend_write {
    struct qmgr *q;
    struct buf text;
    int result;
    struct err err;
    void (*done)(void *arg, int result, const struct err *err);
    void *arg;
    TAILQ_ENTRY(suspend_write) list;
};

static void written(void *arg)
{
    struct suspend_write *w = arg;

    w->q->nhelping--;
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): what is freed has left the list */
    TAILQ_REMOVE(&w->q->suspend_writes, w, list);
    if (w->result == -1)
        log_warning("suspensions are not kept for the next start: %s", w->err.text);
    if (w->done != NULL)
        w->done(w->arg, w->result, &w->err);
    buf_fini(&w->text);
    free(w);
}

static void write_on_helper(void *arg)
{
    struct suspend_write *w = arg;

    w->result = file_replace(SUSPENSION_FILE, buf_view(&w->text), FILE_MODE, &w->err);
    loop_post(w->q->loop, written, w);
}

/* done may be NULL. */
static void write_file(struct qmgr *q, void (*done)(void *arg, int result, const struct err *err),
                       void *arg)
{
    struct suspend_write *w = xcalloc(1, sizeof(*w));

    w->q = q;
    w->text = BUF_INIT(SIZE_MAX);
    w->done = done;
    w->arg = arg;
    suspension_write(&q->suspensions, &w->text);
    q->nhelping++;
    TAILQ_INSERT_TAIL(&q->suspend_writes, w, list);
    pool_run(q->movers, write_on_helper, w);
}

static void damaged(void *arg, unsigned line, const char *why)
{
    (void) arg;
    log_warning("%s line %u is damaged, so what it suspended is not: %s", SUSPENSION_FILE, line,
                why);
}

void suspend_begin(struct qmgr *q)
{
    struct buf text = BUF_INIT(SUSPENSION_FILE_MAX);
    struct err err = ERR_INIT;

    if (access(SUSPENSION_FILE, F_OK) == -1 && errno == ENOENT)
        return;
    if (file_read(SUSPENSION_FILE, &text, &err) == -1)
        log_warning("what is suspended cannot be read, so nothing is: %s", err.text);
    else
        suspension_read(&q->suspensions, buf_view(&text), damaged, NULL);
    buf_fini(&text);
    if (q->suspensions.len > 0)
        log_info("%zu suspensions in force", q->suspensions.len);
}

void suspend_tick(struct qmgr *q)
{
    int64_t now_us = wall_now().us;
    bool any = false;

    for (size_t i = 0; i < q->suspensions.len;) {
        struct suspension *s = q->suspensions.items[i];

        if (s->until_us > now_us) {
            i++;
            continue;
        }
        log_info("resumed %s %s: the time for which it was suspended is over",
                 suspension_kind_name(s->kind), s->name);
        vec_remove(&q->suspensions, i);
        ended(q, s);
        any = true;
    }
    if (any)
        write_file(q, NULL, NULL);
}

void suspend_fini(struct qmgr *q)
{
    struct suspend_write *next;

    for (struct suspend_write *write = TAILQ_FIRST(&q->suspend_writes); write != NULL;
         write = next) {
        next = TAILQ_NEXT(write, list);
        written(write); /* no loop is there any more to say so */
    }
    suspend_walk_fini(q);
    for (size_t i = 0; i < q->suspensions.len; i++) {
        struct suspension *s = q->suspensions.items[i];

        suspension_free(&s);
    }
    vec_fini(&q->suspensions);
}

/* --- commands ------------------------------------------------------------------------------------- */

struct suspend {
    struct command command;
    struct qmgr *q;
    size_t next;     /* LIST */
    bool is_writing; /* written() comes yet */
    bool abandoned;  /* the client has gone meanwhile */
    int result;
    struct err err;
};

static enum step list_step(struct command *command)
{
    struct suspend *c = (struct suspend *) command; /* its first member */
    const struct vec *list = &c->q->suspensions;
    struct err err = ERR_INIT;

    for (int i = 0; i < ITEMS_A_STEP && c->next < list->len; i++) {
        const struct suspension *s = list->items[c->next++];
        struct proto_suspension p = {
            .op = SUSPENSION_IS,
            .kind = slice_str(suspension_kind_name(s->kind)),
            .name = slice_str(s->name),
            .by = slice_str(s->by),
            .reason = slice_str(s->reason),
            .since_us = (uint64_t) s->since_us,
            .until_us = (uint64_t) s->until_us,
        };

        if (proto_put(command->client->chan, &msg_suspension, &p, -1, &err) == -1)
            log_warning("suspension of %s cannot be listed: %s", s->name, err.text);
    }
    if (c->next < list->len)
        return STEP_MORE;
    proto_put_empty(command->client->chan, PROTO_END);
    return STEP_DONE;
}

static enum step write_step(struct command *command)
{
    struct suspend *c = (struct suspend *) command;
    struct buf text = BUF_INIT(SIZE_MAX);

    if (c->is_writing)
        return STEP_WAITS;
    if (c->result == 0) {
        client_answer(command->client, PROTO_OK, 1, "");
    } else {
        buf_printf(&text, "done, but only until the queue manager starts again: %s", c->err.text);
        client_answer(command->client, PROTO_TEMPORARY, 0, buf_cstr(&text));
    }
    buf_fini(&text);
    return STEP_DONE;
}

static void suspend_free(struct command *command)
{
    struct suspend *c = (struct suspend *) command;

    if (c->is_writing)
        c->abandoned = true;
    else
        free(c);
}

static void file_written(void *arg, int result, const struct err *err)
{
    struct suspend *c = arg;

    c->is_writing = false;
    c->result = result;
    c->err = *err;
    if (c->abandoned)
        free(c);
    else
        client_continue(c->command.client);
}

static int begin_one(struct qmgr *q, const struct proto_suspension *p, struct err *err)
{
    struct proto_suspension now = *p;
    struct buf until = BUF_INIT(64);
    struct suspension *s;

    now.since_us = (uint64_t) wall_now().us;
    s = suspension_new(&now, err);
    if (s != NULL && s->until_us <= (int64_t) now.since_us) {
        err_input(err, "the time at which it ends is over");
        suspension_free(&s);
    }
    if (s == NULL || suspension_add(&q->suspensions, s, err) == -1) {
        suspension_free(&s);
        return -1;
    }
    suspension_time(s->until_us, &until);
    log_info("suspended %s %s until %s by %s: %s", suspension_kind_name(s->kind), s->name,
             buf_cstr(&until), s->by, s->reason);
    buf_fini(&until);
    suspend_walk_begin(q, NULL); /* what is in line already */
    return 0;
}

static void end_one(struct qmgr *q, size_t at, struct slice by)
{
    struct suspension *s = q->suspensions.items[at];

    log_info("resumed %s %s by %.*s", suspension_kind_name(s->kind), s->name, SLICE_FMT(by));
    vec_remove(&q->suspensions, at);
    ended(q, s);
}

struct command *suspend_command(struct client *client, const struct proto_suspension *p)
{
    struct qmgr *q = client->qmgr;
    struct suspend *c;
    struct err err = ERR_INIT;
    ptrdiff_t at;

    switch ((enum proto_suspension_op) p->op) {
    case SUSPENSION_LIST:
        c = xcalloc(1, sizeof(*c));
        c->command = (struct command){list_step, suspend_free, client};
        c->q = q;
        return &c->command;
    case SUSPENSION_BEGIN:
        if (begin_one(q, p, &err) == 0)
            break;
        client_answer(client, PROTO_PERMANENT, 0, err.text);
        return NULL;
    case SUSPENSION_END:
        at = suspension_at(&q->suspensions, p->kind, p->name);
        if (at != -1) {
            end_one(q, (size_t) at, p->by);
            break;
        }
        client_answer(client, PROTO_NOT_FOUND, 0, "it is not suspended");
        return NULL;
    case SUSPENSION_IS:
        client_answer(client, PROTO_PERMANENT, 0, "unknown operation");
        return NULL;
    }
    c = xcalloc(1, sizeof(*c));
    c->command = (struct command){write_step, suspend_free, client};
    c->q = q;
    c->is_writing = true;
    write_file(q, file_written, c);
    return &c->command;
}
