/* SPDX-License-Identifier: Apache-2.0 */
/* postqueue_suspend.c - see postqueue_suspend.h. */
#include "qmgr/postqueue_suspend.h"

#include <errno.h>
#include <sysexits.h>

#include "base/log.h"
#include "base/mtime.h"
#include "qmgr/postqueue_print.h"
#include "qmgr/qmgr_suspend.h"

#define SEND_MS   10000
#define ANSWER_MS 60000

NORETURN static void is_down(const struct err *err)
{
    log_fatal_status(EX_UNAVAILABLE);
    fatal("Cannot ask the queue manager - mail system is down (%s)", err->text);
}

/* The channel on which the answer comes. */
static struct chan *ask(const struct queue_client *q, const struct proto_suspension *p)
{
    struct err err = ERR_INIT;
    struct chan *c = queue_client_connect(q, &err);

    if (c == NULL)
        is_down(&err);
    if (proto_put(c, &msg_suspension, p, -1, &err) == -1)
        fatal("%s", err.text); /* too long */
    if (chan_flush_wait(c, SEND_MS, &err) != CHAN_OK)
        is_down(&err);
    return c;
}

static void next_answer(struct chan *c, struct frame *f)
{
    struct err err = ERR_INIT;
    enum chan_result res = proto_get_wait(c, f, ANSWER_MS, &err);

    if (res == CHAN_OK)
        return;
    if (res != CHAN_ERROR)
        err_temporary(&err, "the queue manager does not answer");
    is_down(&err);
}

static void have_done(const struct queue_client *q, const struct proto_suspension *p,
                      const char *what)
{
    struct chan *c = ask(q, p);
    struct proto_result result;
    struct frame f;
    struct err err = ERR_INIT;

    next_answer(c, &f);
    if (proto_decode(&f, &msg_result, &result, &err) == -1)
        is_down(&err);
    if (result.status != PROTO_OK) {
        log_fatal_status(result.status == PROTO_DENIED ? EX_NOPERM : EX_UNAVAILABLE);
        fatal("Cannot %s %.*s %.*s: %.*s", what, SLICE_FMT(p->kind), SLICE_FMT(p->name),
              SLICE_FMT(result.text));
    }
    chan_free(&c);
}

void postqueue_suspend(const struct queue_client *q, const char *kind, const char *name,
                       const char *reason, const char *until)
{
    struct err err = ERR_INIT;
    int64_t until_us;

    if (postqueue_until(slice_str(until), wall_now().us, &until_us, &err) == -1)
        fatal("--until %s: %s", until, err.text);
    have_done(q,
              &(struct proto_suspension){.op = SUSPENSION_BEGIN,
                                         .kind = slice_str(kind),
                                         .name = slice_str(name),
                                         .by = queue_client_who(SUSPENSION_BY_MAX),
                                         .reason = slice_str(reason),
                                         .until_us = (uint64_t) until_us},
              "suspend");
}

void postqueue_resume(const struct queue_client *q, const char *kind, const char *name)
{
    have_done(q,
              &(struct proto_suspension){.op = SUSPENSION_END,
                                         .kind = slice_str(kind),
                                         .name = slice_str(name),
                                         .by = queue_client_who(SUSPENSION_BY_MAX)},
              "resume");
}

/* --- listing -------------------------------------------------------------------------------------- */

static void print_json(const struct proto_suspension *p)
{
    const struct {
        const char *name;
        struct slice value;
    } texts[] = {{"kind", p->kind}, {"name", p->name}, {"by", p->by}, {"reason", p->reason}};

    putchar('{');
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        queue_print_json(stdout, texts[i].name, texts[i].value);
        fputs(", ", stdout);
    }
    printf("\"since\": %llu, \"until\": %llu}\n", (unsigned long long) (p->since_us / 1000000),
           (unsigned long long) (p->until_us / 1000000));
}

static void print_text(const struct proto_suspension *p)
{
    struct buf until = BUF_INIT(64);

    suspension_time((int64_t) p->until_us, &until);
    printf("%.*s %.*s until %s by %.*s: %.*s\n", SLICE_FMT(p->kind), SLICE_FMT(p->name),
           buf_cstr(&until), SLICE_FMT(p->by), SLICE_FMT(p->reason));
    buf_fini(&until);
}

void postqueue_suspended(const struct queue_client *q, bool json)
{
    struct proto_suspension p = {.op = SUSPENSION_LIST};
    struct err err = ERR_INIT;
    struct chan *c;
    struct frame f;

    queue_client_authorize(q, "authorized_mailq_users", "view the mail queue");
    c = ask(q, &p);
    for (next_answer(c, &f); f.type != PROTO_END; next_answer(c, &f)) {
        if (proto_decode(&f, &msg_suspension, &p, &err) == -1)
            is_down(&err);
        if (json)
            print_json(&p);
        else
            print_text(&p);
    }
    chan_free(&c);
    if (fflush(stdout) == EOF || ferror(stdout) != 0) {
        log_fatal_status(EX_IOERR);
        fatal("output write error: %s", err_errno_text(errno, (char[128]){0}, 128));
    }
}
