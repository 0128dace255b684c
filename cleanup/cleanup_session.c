/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup_session.c - cleanup(8)'s process and its connections: ENVELOPE RCPT* DATA* (SHARE SHARED*)? END -> RESULT.
 *
 * States of a session: reading (the pool thread that has it owns everything); committing (after END: the message
 * is with the store, no thread has the session); then reading again. In committing the store's thread answers
 * the client directly, so that one commit of many messages needs no further thread switch. The lock divides
 * the two: a client that hangs up while its message is being committed wakes a pool thread, which then only
 * marks the session as orphaned; the committing thread wakes it again.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/share.h"
#include "cleanup/cleanup_int.h"
#include "mail/queue_id.h"

extern const struct worker_service cleanup_service;

struct session {
    struct cleanup *c;
    struct worker *worker;
    struct worker_session *ws;
    int ws_fd; /* the client's; the framework's to close */
    struct chan *chan;
    bool greeted;
    bool in_message;
    bool said_goodbye;
    struct cleanup_msg msg;
    struct share *share; /* the client's memory, from SHARE to END */
    char *copied;        /* of a slot: the client may change it at any time */
    uint64_t slot;       /* the next one in turn */
    uint32_t taken;      /* slots that the client has not been told of */
    struct lock lock;
    bool committing GUARDED_BY(lock);
    bool orphaned GUARDED_BY(lock);
};

void cleanup_fail(struct cleanup_msg *m, uint32_t smtp_code, const char *code, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;

    if (cleanup_failed(m))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    m->smtp_code = smtp_code;
    m->code = arena_slice(m->arena, slice_str(code));
    m->text = arena_slice(m->arena, slice_str(text));
}

static void sharing_end(struct session *s)
{
    share_free(&s->share);
    free(s->copied);
    s->copied = NULL;
}

static void message_end(struct session *s)
{
    struct cleanup_msg *m = &s->msg;

    sharing_end(s);
    if (m->put != NULL)
        store_put_abort(&m->put);
    buf_fini(&m->head);
    buf_fini(&m->prepend);
    buf_fini(&m->line);
    vec_fini(&m->rcpts);
    arena_reset(m->arena);
    s->in_message = false;
}

static struct slice copy(struct arena *a, struct slice s)
{
    return s.len == 0 ? SLICE_EMPTY : arena_slice(a, s);
}

static int message_begin(struct session *s, const struct frame *f, struct err *err)
{
    struct cleanup_msg *m = &s->msg;
    struct arena *arena = m->arena;
    struct mail_envelope *e = &m->env;

    if (s->in_message)
        return err_input(err, "a message begins before the last one has ended");
    *m = (struct cleanup_msg){.c = s->c, .arena = arena};
    if (proto_decode(f, &msg_envelope, e, err) == -1)
        return -1;
    if (!queue_id_valid(e->queue_id))
        return err_input(err, "bad queue id");
    struct slice *strings[] = {
        &e->queue_id,    &e->sender,      &e->dsn_envid,           &e->client_name,
        &e->client_addr, &e->client_port, &e->client_reverse_name, &e->helo,
        &e->protocol,    &e->tls_comment, &e->sasl_method,         &e->sasl_username,
        &e->sasl_sender, &e->full_name,   &e->rewrite_domain,      &e->filter,
        &e->redirect,    &e->log_tag,     &e->message_id,
    };
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        *strings[i] = copy(arena, *strings[i]);
    buf_init(&m->head, (size_t) s->c->p.header_size_limit + 65536);
    buf_init(&m->prepend, 65536);
    buf_init(&m->line, 65536);
    content_facts_init(&m->facts);
    m->put = store_put_begin(s->c->writer);
    s->in_message = true;
    return 0;
}

static int message_rcpt(struct session *s, const struct frame *f, struct err *err)
{
    struct mail_rcpt r;

    if (proto_decode(f, &msg_rcpt, &r, err) == -1)
        return -1;
    if (s->msg.rcpts.len >= MAIL_RECIPIENTS_MAX)
        return err_input(err, "more than %d recipients", MAIL_RECIPIENTS_MAX);
    cleanup_add_rcpt(&s->msg, &s->msg.rcpts, &r);
    return 0;
}

static int sharing_begin(struct session *s, const struct frame *f, struct err *err)
{
    if (f->fd == -1 || s->share != NULL)
        return err_input(err, "shared memory twice, or without its descriptor");
    s->share = share_adopt(f->fd, err);
    if (s->share == NULL)
        return -1;
    s->copied = xmalloc(SHARE_SLOT_BYTES);
    s->slot = s->taken = 0;
    return 0;
}

static int shared_content(struct session *s, const struct frame *f, struct err *err)
{
    struct proto_shared shared;
    struct proto_taken taken;

    if (proto_decode(f, &msg_shared, &shared, err) == -1)
        return -1;
    if (s->share == NULL)
        return err_input(err, "content in memory that is not shared");
    memcpy(s->copied, share_slot(s->share, s->slot++), shared.bytes);
    taken.slots = ++s->taken;
    if (s->taken >= SHARE_SLOTS / 2) { /* a client that waits has given all of them */
        if (proto_put(s->chan, &msg_taken, &taken, -1, err) == -1)
            return -1;
        s->taken = 0;
    }
    cleanup_content(&s->msg, slice_of(s->copied, shared.bytes));
    return 0;
}

static void put_result(struct session *s, uint32_t status, uint32_t smtp_code, struct slice code,
                       struct slice text)
{
    struct proto_result result = {
        .status = status, .smtp_code = smtp_code, .code = code, .text = text};
    struct err err = ERR_INIT;
    char soft[DSN_CODE_MAX + 1];

    if (status == PROTO_PERMANENT && s->c->p.soft_bounce) {
        (void) snprintf(soft, sizeof(soft), "4%.*s", SLICE_FMT(slice_sub(code, 1, DSN_CODE_MAX)));
        result.code = slice_str(soft);
        result.smtp_code -= 100;
        result.status = PROTO_TEMPORARY;
    }

    if (proto_put(s->chan, &msg_result, &result, -1, &err) == -1)
        log_warning("result for client: %s", err.text);
}

/* The store's thread: durable, or failed. */
static void committed(void *arg, int result, const struct err *why)
{
    struct session *s = arg;
    struct err err = ERR_INIT;
    bool wake;

    lock_take(&s->lock);
    if (result == 0) {
        put_result(s, PROTO_OK, 250, SLICE_LIT("2.0.0"), SLICE_LIT("Ok"));
    } else {
        /* without its id, which nobody has been told: on a disk that takes nothing, all say the same */
        log_warning("cannot store a message: %s", why->text);
        if (slice_eq_str(slice_str(why->dsn), "4.3.1"))
            put_result(s, PROTO_TEMPORARY, 452, SLICE_LIT("4.3.1"),
                       SLICE_LIT("Insufficient system storage"));
        else
            put_result(s, PROTO_TEMPORARY, 451, SLICE_LIT("4.3.0"),
                       SLICE_LIT("Error: queue file write error"));
    }
    message_end(s);
    /* A socket buffer that is full, or a client that has gone, is for a pool thread. */
    wake = s->orphaned || chan_flush(s->chan, &err) != CHAN_OK;
    s->committing = false;
    if (wake)
        worker_wake(s->ws);
    lock_release(&s->lock);
}

/* After END. True when the store has the message now. */
static bool message_finish(struct session *s)
{
    struct cleanup_msg *m = &s->msg;
    struct mail_rcpt *rcpts;
    size_t n;

    sharing_end(s);
    cleanup_content_end(m);
    if (!cleanup_failed(m))
        cleanup_envelope(m);
    if (!cleanup_failed(m) && m->rcpts.len == 0 && !m->discard)
        cleanup_fail(m, 554, "5.5.1", "Error: no valid recipients");
    if (cleanup_failed(m) || m->discard) {
        if (cleanup_failed(m))
            put_result(s, m->smtp_code < 500 ? PROTO_TEMPORARY : PROTO_PERMANENT, m->smtp_code,
                       m->code, m->text);
        else
            put_result(s, PROTO_OK, 250, SLICE_LIT("2.0.0"), SLICE_LIT("Ok"));
        message_end(s);
        return false;
    }
    n = m->rcpts.len;
    rcpts = arena_alloc(m->arena, n * sizeof(*rcpts));
    for (size_t i = 0; i < n; i++) {
        rcpts[i] = *(struct mail_rcpt *) m->rcpts.items[i];
        rcpts[i].index = (uint32_t) i;
    }
    m->env.flags |= m->facts.flags;
    m->env.content_bytes = m->facts.bytes;
    m->env.longest_line = m->facts.longest_line;
    m->env.rcpt_count = (uint32_t) n;
    cleanup_utf8(m);
    lock_take(&s->lock);
    s->committing = true;
    lock_release(&s->lock);
    store_put_commit(&m->put, &m->env, rcpts, n, committed, s);
    return true;
}

/* One frame. -1: the connection ends. 1: the message is with the store. */
static int handle(struct session *s, const struct frame *f, struct err *err)
{
    if (!s->greeted) {
        s->greeted = true;
        return proto_check_hello(f, err);
    }
    if (f->type == PROTO_ENVELOPE)
        return message_begin(s, f, err);
    if (!s->in_message)
        return err_input(err, "frame of type %u outside a message", f->type);
    switch (f->type) {
    case PROTO_RCPT:
        return message_rcpt(s, f, err);
    case PROTO_DATA:
        cleanup_content(&s->msg, f->payload);
        return 0;
    case PROTO_SHARE:
        return sharing_begin(s, f, err);
    case PROTO_SHARED:
        return shared_content(s, f, err);
    case PROTO_ABORT:
        message_end(s);
        return 0;
    case PROTO_END:
        return message_finish(s) ? 1 : 0;
    default:
        return err_input(err, "frame of unexpected type %u", f->type);
    }
}

static enum worker_verdict session_work(void *arg, unsigned events)
{
    struct session *s = arg;
    struct err err = ERR_INIT;
    struct frame f;
    int budget = 64; /* frames before others have their turn */

    (void) events; /* whatever woke it: what is there is read */
    lock_take(&s->lock);
    if (s->committing) {
        s->orphaned = true;
        lock_release(&s->lock);
        worker_wait_for(s->ws, -1, 0, MONO_NEVER);
        return WORKER_WAIT;
    }
    s->orphaned = false;
    lock_release(&s->lock);
    /* Leaving: the client is told, and may finish what it has begun; it closes. */
    if (worker_is_draining(s->worker) && !s->said_goodbye) {
        proto_put_empty(s->chan, PROTO_GOODBYE);
        s->said_goodbye = true;
    }
    for (;;) {
        enum chan_result res = chan_get(s->chan, &f, &err);

        if (res == CHAN_AGAIN)
            break;
        if (res == CHAN_EOF)
            return WORKER_CLOSE;
        if (res == CHAN_OK) {
            int done = handle(s, &f, &err);

            if (f.fd != -1)
                fd_close(&f.fd);
            if (done == 1) {
                /* from here on the store's thread may use the session: touch nothing of it but the wait */
                worker_wait_for(s->ws, s->ws_fd, POLLER_READ, MONO_NEVER);
                return WORKER_WAIT;
            }
            if (done == -1)
                res = CHAN_ERROR;
        }
        if (res == CHAN_ERROR) {
            log_warning("connection from a client: %s", err.text);
            return WORKER_CLOSE;
        }
        if (--budget == 0)
            break;
    }
    if (chan_has_output(s->chan)) {
        enum chan_result res = chan_flush(s->chan, &err);

        if (res != CHAN_OK && res != CHAN_AGAIN)
            return WORKER_CLOSE;
        if (res == CHAN_AGAIN) {
            worker_wait_for(s->ws, chan_fd(s->chan), POLLER_READ | POLLER_WRITE, MONO_NEVER);
            return WORKER_WAIT;
        }
    }
    if (budget == 0)
        return WORKER_AGAIN;
    chan_trim(s->chan);
    worker_wait_for(s->ws, chan_fd(s->chan), POLLER_READ, MONO_NEVER);
    return WORKER_WAIT;
}

static void *session_open(struct worker *w, struct worker_session *ws,
                          const struct worker_client *client)
{
    struct session *s = xcalloc(1, sizeof(*s));

    s->c = worker_data(w);
    s->worker = w;
    s->ws = ws;
    s->ws_fd = client->fd;
    s->chan = chan_new(client->fd);
    s->msg.arena = arena_new(0);
    lock_init(&s->lock, LOCK_SESSION);
    proto_hello(s->chan, "cleanup");
    return s;
}

static void session_close(void *arg)
{
    struct session *s = arg;

    if (s->in_message)
        message_end(s);
    (void) chan_take_fd(s->chan); /* the framework closes it */
    chan_free(&s->chan);
    arena_free(&s->msg.arena);
    lock_fini(&s->lock);
    free(s);
}

static int open_maps(struct worker *w, struct cleanup *c, struct err *err)
{
    struct map_env *env = worker_maps(w);
    const struct {
        const char *value;
        struct map_list **out;
    } lists[] = {
        {c->p.canonical_maps, &c->canonical},
        {c->p.sender_canonical_maps, &c->sender_canonical},
        {c->p.recipient_canonical_maps, &c->recipient_canonical},
        {c->p.virtual_alias_maps, &c->virtual_alias},
        {c->p.sender_bcc_maps, &c->sender_bcc},
        {c->p.recipient_bcc_maps, &c->recipient_bcc},
        {c->p.header_checks, &c->header_checks},
        {c->p.body_checks, &c->body_checks},
    };

    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        if (map_list_open(env, lists[i].value, lists[i].out, err) == -1)
            return -1;
    return route_new(env, &c->route, err);
}

static void drop_header(struct slice name, void *arg)
{
    static char yes;

    htable_put(arg, name, &yes);
}

static int start(struct worker *w, struct err *err)
{
    struct cleanup *c = xcalloc(1, sizeof(*c));
    uid_t uid;
    gid_t gid;

    worker_set_data(w, c);
    if (config_bind(worker_config(w), &cleanup_params, &c->p, err) == -1)
        return -1;
    c->p.myhostname = config_get(worker_config(w), "myhostname");
    c->p.myorigin = config_get(worker_config(w), "myorigin");
    c->p.mail_name = config_get(worker_config(w), "mail_name");
    c->p.virtual_alias_maps = config_get(worker_config(w), "virtual_alias_maps");
    c->p.empty_address_recipient = config_get(worker_config(w), "empty_address_recipient");
    const struct {
        const char *name, *value;
        unsigned *out;
    } classes[] = {
        {"canonical_classes", c->p.canonical_classes, &c->canonical_classes},
        {"sender_canonical_classes", c->p.sender_canonical_classes, &c->sender_canonical_classes},
        {"recipient_canonical_classes", c->p.recipient_canonical_classes,
         &c->recipient_canonical_classes},
        {"masquerade_classes", c->p.masquerade_classes, &c->masquerade_classes},
    };
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        *classes[i].out = cleanup_classes_parse(classes[i].value, err);
        if (*classes[i].out == 0)
            return err_prefix(err, "%s: ", classes[i].name);
    }
    if (cleanup_characters_parse(c->p.message_reject_characters, &c->reject, err) == -1 ||
        cleanup_characters_parse(c->p.message_strip_characters, &c->strip, err) == -1)
        return -1;
    if (cleanup_utf8_classes_parse(c->p.smtputf8_autodetect_classes, &c->utf8_classes, err) == -1)
        return err_prefix(err, "smtputf8_autodetect_classes: ");
    c->smtputf8_enable =
        slice_caseeq_str(slice_str(config_get(worker_config(w), "smtputf8_enable")), "yes");
    worker_owner(w, &uid, &gid);
    if (store_make_directories(".", uid, gid, err) == -1)
        return -1;
    c->drop_headers = htable_new(true);
    config_list_each(c->p.message_drop_headers, drop_header, c->drop_headers);
    return open_maps(w, c, err);
}

/* The journal belongs to mail_owner: opened without privilege. */
static int ready(struct worker *w, struct err *err)
{
    struct cleanup *c = worker_data(w);
    struct store_options opt;
    struct buf path = BUF_INIT(4096);

    if (store_options_from(worker_config(w), &opt, err) == -1)
        return -1;
    opt.queue_directory = ".";
    worker_service_path(w, "public", "queue_service_name", &path);
    c->notify = notify_new(buf_cstr(&path));
    buf_fini(&path);
    return store_writer_open(&opt, notify_committed, c->notify, &c->writer, err);
}

static void stop(struct worker *w)
{
    struct cleanup *c = worker_data(w);

    if (c->writer != NULL)
        store_writer_close(&c->writer);
    notify_free(&c->notify);
}

const struct worker_service cleanup_service = {
    .program = "cleanup",
    .shape = WORKER_THREADED,
    .start = start,
    .ready = ready,
    .session_open = session_open,
    .session_work = session_work,
    .session_close = session_close,
    .stop = stop,
};
