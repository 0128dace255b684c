/* SPDX-License-Identifier: Apache-2.0 */
/* test_qmgr_ask.h - queue commands, asked of test_qmgr.h's queue manager by a client of its own. */
#ifndef PR_TEST_QMGR_ASK_H
#define PR_TEST_QMGR_ASK_H

#include <sys/socket.h>

#include "test_qmgr.h"

/* One command, asked by a thread while the loop runs. */
struct asker {
    struct fixture *f;
    struct chan *c;
    uint16_t type;
    struct proto_queue_op op;
    pthread_t thread;
    atomic_bool done;
    uint32_t status;
    uint64_t count;
    char listing[4000]; /* "queue id sender: rcpt(reason) ..." a line each */
};

static struct asker *asking;

static inline void *ask(void *arg)
{
    struct asker *a = arg;
    struct err err = ERR_INIT;
    struct frame f;
    struct buf payload = BUF_INIT(FRAME_PAYLOAD_MAX);
    size_t at = 0;

    proto_hello(a->c, "test");
    if (a->type != PROTO_QUEUE_LIST)
        assert_int_equal(msg_encode(&msg_queue_op, &a->op, &payload, &err), 0);
    chan_put(a->c, a->type, buf_view(&payload), -1);
    assert_int_equal(chan_flush_wait(a->c, WAIT_MS, &err), CHAN_OK);
    while (!atomic_load(&a->done) && proto_get_wait(a->c, &f, WAIT_MS, &err) == CHAN_OK) {
        struct proto_result result;
        struct proto_queue_item item;
        struct proto_queue_rcpt rcpt;

        if (f.type == PROTO_RESULT) {
            assert_int_equal(proto_decode(&f, &msg_result, &result, &err), 0);
            a->status = result.status;
            a->count = result.count;
            atomic_store(&a->done, true);
        } else if (f.type == PROTO_QUEUE_ITEM) {
            assert_int_equal(proto_decode(&f, &msg_queue_item, &item, &err), 0);
            at += (size_t) snprintf(a->listing + at, sizeof(a->listing) - at,
                                    "%s%.*s %.*s %.*s:", at > 0 ? "\n" : "", SLICE_FMT(item.queue),
                                    SLICE_FMT(item.queue_id), SLICE_FMT(item.sender));
        } else if (f.type == PROTO_QUEUE_RCPT) {
            assert_int_equal(proto_decode(&f, &msg_queue_rcpt, &rcpt, &err), 0);
            at += (size_t) snprintf(a->listing + at, sizeof(a->listing) - at, " %.*s(%.*s)",
                                    SLICE_FMT(rcpt.addr), SLICE_FMT(rcpt.reason));
        } else {
            atomic_store(&a->done, true); /* PROTO_END */
        }
    }
    buf_fini(&payload);
    return NULL;
}

static inline bool is_answered(struct fixture *f)
{
    (void) f;
    return atomic_load(&asking->done);
}

static inline void ask_in_thread(struct fixture *f, struct asker *a, uint16_t type, uint32_t op,
                                 const char *arg, const char *queue)
{
    int pair[2];

    *a = (struct asker){.f = f, .type = type};
    asking = a;
    a->op = (struct proto_queue_op){.op = op, .arg = slice_str(arg), .queue = slice_str(queue)};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    a->c = chan_new(pair[0]);
    server_accepted(f->q, pair[1]);
    pthread_create(&a->thread, NULL, ask, a);
}

/* Asks and runs the loop until the answer is there. */
static inline void command(struct fixture *f, struct asker *a, uint16_t type, uint32_t op,
                           const char *arg, const char *queue)
{
    ask_in_thread(f, a, type, op, arg, queue);
    run_until(f, "the answer to a command", is_answered);
    pthread_join(a->thread, NULL);
    chan_free(&a->c);
}

static inline void expect(struct fixture *f, uint32_t op, const char *arg, const char *queue,
                          uint32_t status, uint64_t count)
{
    struct asker a;

    command(f, &a, op < QUEUE_OP_DELETE ? PROTO_QUEUE_FLUSH : PROTO_QUEUE_EDIT, op, arg, queue);
    if (a.status != status || a.count != count)
        fail_msg("operation %u on %s %s: got %u, count %llu, wanted %u, %llu", op, arg, queue,
                 a.status, (unsigned long long) a.count, status, (unsigned long long) count);
}

static inline void expect_list(struct fixture *f, const char *wanted)
{
    struct asker a;

    command(f, &a, PROTO_QUEUE_LIST, 0, "", "");
    assert_string_equal(a.listing, wanted);
}

static const char slow[] = "minimal_backoff_time = 600s\nmaximal_backoff_time = 600s\n";

static inline bool is_with_agent(struct fixture *f)
{
    return f->requests > 0;
}

#endif
