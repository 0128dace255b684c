/* SPDX-License-Identifier: Apache-2.0 */
/*
 * master_ask.c - "postmap --live": one question goes to every worker, their answers come back.
 *
 * A question ends when all have answered or have gone, or when its time is over: a worker that waits for its one client (local)
 * hears master only afterwards, and is told of as silent.
 */
#include <stdlib.h>

#include "base/log.h"
#include "master/master_services.h"

#define ANSWER_MS 5000

struct asked {
    pid_t pid;
    char *program;
};

struct table_ask {
    struct master *m;
    uint64_t id;
    struct vec waiting; /* struct asked * */
    struct loop_timer *timer;
    table_said_fn said;
    void (*done)(void *arg);
    void *arg;
};

static void asked_free(void *p)
{
    struct asked *a = p;

    free(a->program);
    free(a);
}

void table_ask_free(struct table_ask **ask)
{
    struct table_ask *a = *ask;

    if (a == NULL)
        return;
    for (size_t i = 0; i < a->m->asks.len; i++)
        if (a->m->asks.items[i] == a) {
            vec_remove(&a->m->asks, i);
            break;
        }
    vec_clear(&a->waiting, asked_free);
    vec_fini(&a->waiting);
    loop_timer_free(&a->timer);
    free(a);
    *ask = NULL;
}

/* All have answered, or will not. */
static void on_timer(void *arg)
{
    struct table_ask *a = arg;

    for (size_t i = 0; i < a->waiting.len; i++) {
        const struct asked *w = a->waiting.items[i];
        struct proto_table_said said = {.status = PROTO_TABLE_SILENT,
                                        .text = SLICE_LIT("no answer: the process is at work"),
                                        .program = slice_str(w->program),
                                        .pid = (uint32_t) w->pid};

        a->said(&said, a->arg);
    }
    a->done(a->arg);
}

static void ask_children(struct table_ask *a, const struct service *s,
                         const struct proto_table_ask *msg)
{
    struct err err = ERR_INIT;

    for (size_t i = 0; i < s->children.len; i++) {
        struct child *c = s->children.items[i];
        struct asked *w;

        if (proto_put(c->chan, &msg_table_ask, msg, -1, &err) == -1) {
            log_warning("service %s: %s", s->cf->name, err.text);
            continue;
        }
        child_flush(c);
        w = xcalloc(1, sizeof(*w));
        w->pid = c->pid;
        w->program = xstrdup(s->cf->command);
        vec_push(&a->waiting, w);
    }
}

struct table_ask *table_ask_new(struct master *m, struct slice table, struct slice key,
                                table_said_fn said, void (*done)(void *arg), void *arg)
{
    struct table_ask *a = xcalloc(1, sizeof(*a));
    struct proto_table_ask msg = {.id = ++m->asks_begun, .table = table, .key = key};

    a->m = m;
    a->id = msg.id;
    a->said = said;
    a->done = done;
    a->arg = arg;
    a->timer = loop_timer_new(m->loop, on_timer, a);
    for (size_t i = 0; i < m->services.len; i++)
        ask_children(a, m->services.items[i], &msg);
    for (size_t i = 0; i < m->leaving.len; i++)
        ask_children(a, m->leaving.items[i], &msg);
    loop_timer_set(a->timer, a->waiting.len == 0 ? 0 : ANSWER_MS);
    vec_push(&m->asks, a);
    return a;
}

/* Not waited for any more. False: it was not. */
static bool take_asked(struct table_ask *a, pid_t pid)
{
    for (size_t i = 0; i < a->waiting.len; i++) {
        struct asked *w = a->waiting.items[i];

        if (w->pid != pid)
            continue;
        vec_remove(&a->waiting, i);
        asked_free(w);
        if (a->waiting.len == 0)
            loop_timer_set(a->timer, 0);
        return true;
    }
    return false;
}

void table_ask_said(struct master *m, const struct child *c, const struct frame *f)
{
    struct proto_table_said said;
    struct err err = ERR_INIT;

    if (proto_decode(f, &msg_table_said, &said, &err) == -1) {
        log_warning("service %s: answer of process %d: %s", c->service->cf->name, (int) c->pid,
                    err.text);
        return;
    }
    said.program = slice_str(c->service->cf->command);
    said.pid = (uint32_t) c->pid;
    for (size_t i = 0; i < m->asks.len; i++) {
        struct table_ask *a = m->asks.items[i];

        /* one that comes after its time has nobody to hear it */
        if (a->id == said.id && take_asked(a, c->pid))
            a->said(&said, a->arg);
    }
}

void table_ask_gone(struct master *m, const struct child *c)
{
    for (size_t i = 0; i < m->asks.len; i++)
        (void) take_asked(m->asks.items[i], c->pid);
}
