/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor_main.c - floor: the bare durable relay, the bound that this machine sets for a mail transfer agent.
 *
 * No policy, no rewriting, no log, no separation of privileges. A thread for each session, one journal with group
 * commit before each 250, and threads that pass the messages on over connections that they keep. What waits to be
 * passed on is in memory; when that is much, sessions wait. Started for a measurement, ended by a signal.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "arguments.h"
#include "base/file.h"
#include "base/lock.h"
#include "base/log.h"
#include "endpoint.h"
#include "floor_conn.h"
#include "floor_journal.h"

enum {
    JOURNAL_BYTES = 256 << 20,
    QUEUED_BYTES = 128 << 20, /* then intake waits */
    MESSAGE_BYTES = 64 << 20,
    ENVELOPE_BYTES = 4 << 20,
    STACK_BYTES = 256 * 1024
};

/* The bytes in the order of the wire: MAIL, the RCPTs, DATA; then the content. */
struct message {
    struct message *next;
    struct buf bytes;
    size_t envelope_len;
    size_t commands;
};

struct relay {
    int listen_fd;
    struct endpoint next_hop;
    bool keep;
    struct floor_journal *journal;
    struct lock lock;
    pthread_cond_t filled, drained;
    struct message *first GUARDED_BY(lock);
    struct message **last GUARDED_BY(lock);
    size_t queued_bytes GUARDED_BY(lock);
};

/* --- the queue ------------------------------------------------------------------------------------------ */

static void message_free(struct message *m)
{
    buf_fini(&m->bytes);
    free(m);
}

static void enqueue(struct relay *r, struct message *m)
{
    lock_take(&r->lock);
    while (r->queued_bytes > QUEUED_BYTES)
        lock_wait(&r->lock, &r->drained);
    *r->last = m;
    r->last = &m->next;
    r->queued_bytes += m->bytes.len;
    pthread_cond_signal(&r->filled);
    lock_release(&r->lock);
}

static struct message *dequeue(struct relay *r)
{
    struct message *m;

    lock_take(&r->lock);
    while (r->first == NULL)
        lock_wait(&r->lock, &r->filled);
    m = r->first;
    r->first = m->next;
    if (r->first == NULL)
        r->last = &r->first;
    r->queued_bytes -= m->bytes.len;
    pthread_cond_signal(&r->drained);
    lock_release(&r->lock);
    return m;
}

/* --- in ---------------------------------------------------------------------------------------------------- */

static struct message *message_new(void)
{
    struct message *m = xcalloc(1, sizeof(*m));

    buf_init(&m->bytes, MESSAGE_BYTES);
    return m;
}

/* DATA was said: the content, the journal, the queue. False: the session ends. */
static bool take_message(struct relay *r, struct floor_conn *c, struct message **message)
{
    struct message *m = *message;

    buf_puts(&m->bytes, "DATA\r\n");
    m->envelope_len = m->bytes.len;
    m->commands++;
    if (floor_conn_say(c, SLICE_LIT("354 go on\r\n")) == -1 || !floor_conn_content(c, &m->bytes) ||
        floor_journal_commit(r->journal, buf_view(&m->bytes)) == -1)
        return false;
    *message = NULL;
    enqueue(r, m);
    return floor_conn_say(c, SLICE_LIT("250 queued\r\n")) == 0;
}

static void put_command(struct message *m, struct slice line)
{
    if (m->bytes.len > ENVELOPE_BYTES)
        return; /* the next hop will miss it: this is no product */
    buf_put_slice(&m->bytes, line);
    buf_puts(&m->bytes, "\r\n");
    m->commands++;
}

static void serve(struct relay *r, struct floor_conn *c)
{
    struct message *m = message_new();
    struct slice line;
    bool going = floor_conn_say(c, SLICE_LIT("220 floor ESMTP\r\n")) == 0;

    while (going && floor_conn_line(c, &line)) {
        struct slice reply = SLICE_LIT("250 ok\r\n");

        if (slice_case_starts_with(line, SLICE_LIT("DATA"))) {
            going = take_message(r, c, &m);
            if (m == NULL)
                m = message_new();
            continue;
        }
        if (slice_case_starts_with(line, SLICE_LIT("MAIL")) ||
            slice_case_starts_with(line, SLICE_LIT("RCPT"))) {
            put_command(m, line);
        } else if (slice_case_starts_with(line, SLICE_LIT("EHLO"))) {
            reply = SLICE_LIT("250-floor\r\n250 PIPELINING\r\n");
        } else if (slice_case_starts_with(line, SLICE_LIT("RSET"))) {
            buf_reset(&m->bytes);
            m->commands = 0;
        } else if (slice_case_starts_with(line, SLICE_LIT("QUIT"))) {
            reply = SLICE_LIT("221 bye\r\n");
            going = false;
        }
        if (floor_conn_say(c, reply) == -1)
            going = false;
    }
    message_free(m);
}

static void *session_thread(void *arg)
{
    struct relay *r = arg;
    struct floor_conn *c = xmalloc(sizeof(*c));

    for (;;) {
        int fd = accept4(r->listen_fd, NULL, NULL, SOCK_CLOEXEC);

        if (fd == -1 && errno != EINTR && errno != ECONNABORTED)
            fatal("accept: %s", err_errno_text(errno, (char[128]){0}, 128));
        if (fd == -1)
            continue;
        floor_conn_init(c, fd);
        serve(r, c);
        fd_close(&fd);
    }
    return NULL;
}

/* --- out --------------------------------------------------------------------------------------------------- */

static void connect_out(struct relay *r, struct floor_conn *c)
{
    int fd = -1;

    for (size_t i = 0; i < r->next_hop.count && fd == -1; i++) {
        fd = socket(r->next_hop.addr[i].ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd != -1 &&
            connect(fd, (const struct sockaddr *) &r->next_hop.addr[i], r->next_hop.len[i]) == -1)
            fd_close(&fd);
    }
    if (fd == -1)
        fatal("the next hop cannot be reached: %s", err_errno_text(errno, (char[128]){0}, 128));
    floor_conn_init(c, fd);
    if (floor_conn_reply(c, '2') == -1 || floor_conn_say(c, SLICE_LIT("EHLO floor\r\n")) == -1 ||
        floor_conn_reply(c, '2') == -1)
        fatal("the next hop does not greet");
}

static void send_message(struct floor_conn *c, const struct message *m)
{
    struct slice all = buf_view(&m->bytes);
    bool good = floor_conn_say(c, slice_sub(all, 0, m->envelope_len)) == 0;

    for (size_t i = 0; i < m->commands && good; i++)
        good = floor_conn_reply(c, i + 1 < m->commands ? '2' : '3') == 0;
    if (!good || floor_conn_say(c, slice_sub(all, m->envelope_len, all.len)) == -1 ||
        floor_conn_reply(c, '2') == -1)
        fatal("the next hop refuses a message"); /* a measurement that lost one is none */
}

static void *sender_thread(void *arg)
{
    struct relay *r = arg;
    struct floor_conn *c = xmalloc(sizeof(*c));
    bool connected = false;

    for (;;) {
        struct message *m = dequeue(r);

        if (!connected)
            connect_out(r, c);
        connected = true;
        send_message(c, m);
        message_free(m);
        if (r->keep)
            continue;
        if (floor_conn_say(c, SLICE_LIT("QUIT\r\n")) == -1 || floor_conn_reply(c, '2') == -1)
            log_warning("the next hop does not say goodbye");
        fd_close(&c->fd);
        connected = false;
    }
    return NULL;
}

/* --- start --------------------------------------------------------------------------------------------------- */

static void start_threads(int64_t count, void *(*run)(void *), struct relay *r)
{
    pthread_attr_t attr;
    pthread_t thread;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    for (int64_t i = 0; i < count; i++)
        if (pthread_create(&thread, &attr, run, r) != 0)
            fatal("threads cannot be started");
    pthread_attr_destroy(&attr);
}

int main(int argc, char **argv)
{
    struct relay r = {0};
    struct endpoint here;
    struct err err = ERR_INIT;
    int64_t sessions = 128;
    int64_t senders = 50;
    bool quits = false;
    const struct argument rows[] = {
        {"-q", .on = &quits},
        {"-s", .number = &sessions, .min = 1, .max = 10000},
        {"-o", .number = &senders, .min = 1, .max = 10000},
        {NULL},
    };
    char **operand;

    log_open(&(struct log_target){
        .program = "floor", .maillog_fd = -1, .to_stderr = true, .no_syslog = true});
    (void) signal(SIGPIPE, SIG_IGN);
    operand = arguments_take(
        argc, argv, rows,
        "usage: floor [-q] [-s sessions] [-o senders] [inet:][host]:port next_hop journal", 3);
    r.keep = !quits;
    lock_init(&r.lock, LOCK_BENCH);
    pthread_cond_init(&r.filled, NULL);
    pthread_cond_init(&r.drained, NULL);
    r.last = &r.first;
    if (endpoint_parse(operand[0], AF_UNSPEC, true, &here, &err) == -1 ||
        endpoint_parse(operand[1], AF_UNSPEC, false, &r.next_hop, &err) == -1 ||
        floor_journal_open(operand[2], JOURNAL_BYTES, &r.journal, &err) == -1 ||
        endpoint_listen(&here, operand[0], 1024, 0, &r.listen_fd, &err) == -1)
        fatal("%s", err.text);
    if (fd_set_nonblocking(r.listen_fd, false) == -1)
        fatal("the socket cannot be made to block");
    start_threads(senders, sender_thread, &r);
    start_threads(sessions, session_thread, &r);
    for (;;)
        pause();
}
