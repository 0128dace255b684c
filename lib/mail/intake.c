/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intake.c - see intake.h.
 *
 * A small message leaves in one write, at intake_end(). A pooled connection may have died while it was idle: it is looked
 * at before use. Losing it later is a temporary failure of that one message: the client tries again.
 *
 * When much content has come, the rest of it goes through shared memory (base/share.h), which lives as long as the
 * message. Slots are filled in turn; `put` and `taken` count them. Where there is no such memory, DATA goes on.
 */
#include "mail/intake.h"

#include <stdlib.h>

#include "base/lock.h"
#include "base/log.h"
#include "base/share.h"
#include "base/vec.h"

#define FLUSH_BYTES        65536
#define WRITE_TIMEOUT_MS   60000
#define CONNECT_TIMEOUT_MS 10000
#define DATA_FRAME_BYTES   (131072 - 64) /* of content in one frame */
#define DIRECT_BYTES       16384         /* from here on content is sent from where it lies */
#define SHARE_FROM         (256U << 10) /* of content, before memory is shared for the rest of it */
#define SHARES_MAX         32           /* at once: slow clients shall not hold much memory */
#define IDLE_MAX           64

struct intake_pool {
    char *path;
    char *service;
    struct lock lock;
    struct vec idle GUARDED_BY(lock); /* struct chan * */
    unsigned shares GUARDED_BY(lock); /* messages that have shared memory */
};

struct intake {
    struct intake_pool *pool;
    struct chan *chan;
    bool ended;    /* END is out */
    bool answered; /* RESULT was read */
    bool broken;
    bool goodbye;   /* the server wants no further message on this connection */
    uint64_t bytes; /* of content */
    struct share *share;
    bool share_tried;
    uint64_t put, taken; /* slots: told to the server, given back by it */
    size_t fill;         /* bytes in the slot that is put next */
};

struct intake_pool *intake_pool_new(const char *path, const char *service)
{
    struct intake_pool *p = xcalloc(1, sizeof(*p));

    p->path = xstrdup(path);
    p->service = xstrdup(service);
    lock_init(&p->lock, LOCK_INTAKE);
    return p;
}

void intake_pool_free(struct intake_pool **pool)
{
    struct intake_pool *p = *pool;

    if (p == NULL)
        return;
    lock_take(&p->lock);
    for (size_t i = 0; i < p->idle.len; i++) {
        struct chan *c = p->idle.items[i];

        chan_free(&c);
    }
    vec_fini(&p->idle);
    lock_release(&p->lock);
    lock_fini(&p->lock);
    free(p->path);
    free(p->service);
    free(p);
    *pool = NULL;
}

/* Nothing has come but perhaps the server's hello: no goodbye, no end. */
static bool is_usable(struct chan *c)
{
    struct err err = ERR_INIT;
    struct frame f;
    enum chan_result res;

    while ((res = chan_get(c, &f, &err)) == CHAN_OK && f.type == PROTO_HELLO)
        if (proto_check_hello(&f, &err) == -1)
            return false;
    return res == CHAN_AGAIN;
}

void intake_pool_trim(struct intake_pool *p)
{
    size_t kept = 0;

    lock_take(&p->lock);
    for (size_t i = 0; i < p->idle.len; i++) {
        struct chan *c = p->idle.items[i];

        if (is_usable(c))
            p->idle.items[kept++] = c;
        else
            chan_free(&c);
    }
    p->idle.len = kept;
    lock_release(&p->lock);
}

/* An idle connection whose other end is still there, or NULL. */
static struct chan *take_idle(struct intake_pool *p)
{
    for (;;) {
        struct chan *c;

        lock_take(&p->lock);
        c = vec_pop(&p->idle);
        lock_release(&p->lock);
        if (c == NULL || is_usable(c))
            return c;
        chan_free(&c);
    }
}

struct intake *intake_begin(struct intake_pool *p, const struct mail_envelope *env, struct err *err)
{
    struct intake *in;
    struct chan *c = take_idle(p);

    if (c == NULL)
        c = proto_connect(p->path, p->service, CONNECT_TIMEOUT_MS, err);
    if (c == NULL)
        return NULL;
    if (proto_put(c, &msg_envelope, env, -1, err) == -1) {
        chan_free(&c);
        return NULL;
    }
    in = xcalloc(1, sizeof(*in));
    in->pool = p;
    in->chan = c;
    return in;
}

static int broken(struct intake *in, struct err *err)
{
    in->broken = true;
    if (err->kind == ERR_NONE)
        err_temporary(err, "connection closed");
    return err_prefix(err, "cleanup service: ");
}

static int sent(struct intake *in, enum chan_result res, struct err *err)
{
    if (res == CHAN_OK)
        return 0;
    if (res == CHAN_AGAIN)
        err_temporary(err, "time-out while writing");
    return broken(in, err);
}

static int is_lost(struct err *err)
{
    return err_temporary(err, "cleanup service: connection lost");
}

/* Writes when much has gathered, or at the end. */
static int push(struct intake *in, bool all, struct err *err)
{
    if (in->broken)
        return is_lost(err);
    if (!all && chan_output_len(in->chan) < FLUSH_BYTES)
        return 0;
    return sent(in, chan_flush_wait(in->chan, WRITE_TIMEOUT_MS, err), err);
}

int intake_rcpt(struct intake *in, const struct mail_rcpt *rcpt, struct err *err)
{
    if (proto_put(in->chan, &msg_rcpt, rcpt, -1, err) == -1)
        return -1;
    return push(in, false, err);
}

/* --- shared memory --------------------------------------------------------------------------------------- */

static void begin_sharing(struct intake *in)
{
    struct intake_pool *p = in->pool;
    struct err err = ERR_INIT;
    bool allowed;

    in->share_tried = true;
    lock_take(&p->lock);
    allowed = p->shares < SHARES_MAX;
    p->shares += allowed;
    lock_release(&p->lock);
    if (!allowed)
        return;
    in->share = share_new(&err);
    if (in->share != NULL) {
        chan_put(in->chan, PROTO_SHARE, SLICE_EMPTY, share_fd(in->share));
        return;
    }
    log_warning("content goes to cleanup by way of the socket: %s", err.text);
    lock_take(&p->lock);
    p->shares--;
    lock_release(&p->lock);
}

static void end_sharing(struct intake *in)
{
    if (in->share == NULL)
        return;
    share_free(&in->share);
    lock_take(&in->pool->lock);
    in->pool->shares--;
    lock_release(&in->pool->lock);
}

/* What the server says while content is on its way to it. */
static int heard(struct intake *in, const struct frame *f, struct err *err)
{
    struct proto_taken t;

    if (f->type == PROTO_GOODBYE) {
        in->goodbye = true;
        return 0;
    }
    if (proto_decode(f, &msg_taken, &t, err) == -1)
        return -1;
    if (t.slots > in->put - in->taken)
        return err_input(err, "more slots came back than were given");
    in->taken += t.slots;
    return 0;
}

/* The slot in turn is ours, or -1. */
static int wait_for_slot(struct intake *in, struct err *err)
{
    struct mono_time deadline = mono_after_ms(mono_now(), WRITE_TIMEOUT_MS);

    while (in->put - in->taken >= SHARE_SLOTS) {
        struct frame f;
        enum chan_result res = proto_get_wait(in->chan, &f, mono_poll_ms(deadline), err);

        if (res == CHAN_EOF)
            err_temporary(err, "connection closed");
        if (sent(in, res, err) == -1)
            return -1;
        if (heard(in, &f, err) == -1)
            return broken(in, err);
    }
    return 0;
}

/* The slot in turn goes, if there is something in it. */
static int put_slot(struct intake *in, struct err *err)
{
    struct proto_shared s = {.bytes = (uint32_t) in->fill};

    if (in->fill == 0)
        return 0;
    in->fill = 0;
    in->put++;
    if (proto_put(in->chan, &msg_shared, &s, -1, err) == -1)
        return broken(in, err);
    return push(in, true, err);
}

static int share_data(struct intake *in, struct slice content, struct err *err)
{
    while (content.len > 0) {
        struct slice piece = slice_sub(content, 0, SHARE_SLOT_BYTES - in->fill);

        if (wait_for_slot(in, err) == -1)
            return -1;
        memcpy(share_slot(in->share, in->put) + in->fill, piece.ptr, piece.len);
        in->fill += piece.len;
        content = slice_sub(content, piece.len, content.len);
        if (in->fill == SHARE_SLOT_BYTES && put_slot(in, err) == -1)
            return -1;
    }
    return 0;
}

char *intake_room(struct intake *in, struct err *err)
{
    if (in->broken || in->share == NULL)
        return NULL;
    return put_slot(in, err) == -1 || wait_for_slot(in, err) == -1 ? NULL
                                                                   : share_slot(in->share, in->put);
}

int intake_room_filled(struct intake *in, size_t len, struct err *err)
{
    in->bytes += len;
    in->fill = len;
    return put_slot(in, err);
}

/* --- content --------------------------------------------------------------------------------------------- */

int intake_data(struct intake *in, struct slice content, struct err *err)
{
    in->bytes += content.len;
    while (content.len > 0) {
        struct slice piece = slice_sub(content, 0, DATA_FRAME_BYTES);

        if (in->broken)
            return is_lost(err);
        if (in->bytes - content.len >= SHARE_FROM && !in->share_tried)
            begin_sharing(in);
        if (in->share != NULL)
            return share_data(in, content, err);
        content = slice_sub(content, piece.len, content.len);
        if (piece.len >= DIRECT_BYTES) {
            enum chan_result res =
                chan_send_wait(in->chan, PROTO_DATA, piece, WRITE_TIMEOUT_MS, err);

            if (sent(in, res, err) == -1)
                return -1;
            continue;
        }
        chan_put(in->chan, PROTO_DATA, piece, -1);
        if (push(in, false, err) == -1)
            return -1;
    }
    return 0;
}

int intake_end(struct intake *in, struct err *err)
{
    if (in->broken)
        return is_lost(err);
    if (put_slot(in, err) == -1)
        return -1;
    end_sharing(in);
    proto_put_empty(in->chan, PROTO_END);
    in->ended = true;
    return push(in, true, err);
}

void intake_received(struct buf *out, const char *myhostname, const char *mail_name, uid_t uid,
                     const char *queue_id)
{
    buf_printf(out, "Received: by %s (%s, from userid %ld)\r\n\tid %s; ", myhostname, mail_name,
               (long) uid, queue_id);
    wall_rfc5322(wall_now(), out);
    buf_puts(out, "\r\n");
}

int intake_fd(const struct intake *in)
{
    return chan_fd(in->chan);
}

enum chan_result intake_wait(struct intake *in, int timeout_ms, struct proto_result *result,
                             struct err *err)
{
    struct frame f;
    enum chan_result res;

    if (in->broken) {
        (void) is_lost(err);
        return CHAN_ERROR;
    }
    while ((res = proto_get_wait(in->chan, &f, timeout_ms, err)) == CHAN_OK &&
           (f.type == PROTO_GOODBYE || f.type == PROTO_TAKEN))
        in->goodbye |= f.type == PROTO_GOODBYE;
    if (res == CHAN_AGAIN)
        return res;
    if (res == CHAN_OK && proto_decode(&f, &msg_result, result, err) == 0) {
        in->answered = true;
        return CHAN_OK;
    }
    if (res == CHAN_EOF)
        err_temporary(err, "connection closed");
    (void) broken(in, err);
    return CHAN_ERROR;
}

enum chan_result intake_poll(struct intake *in, struct proto_result *result, struct err *err)
{
    return intake_wait(in, 0, result, err);
}

bool intake_has_result(const struct intake *in)
{
    return chan_has_frame(in->chan);
}

void intake_free(struct intake **intake)
{
    struct intake *in = *intake;
    struct intake_pool *p;
    bool keep;

    if (in == NULL)
        return;
    end_sharing(in);
    p = in->pool;
    keep = !in->broken && in->answered && !in->goodbye && !chan_has_frame(in->chan);
    if (keep) {
        chan_trim(in->chan);
        lock_take(&p->lock);
        keep = p->idle.len < IDLE_MAX;
        if (keep)
            vec_push(&p->idle, in->chan);
        lock_release(&p->lock);
    }
    if (!keep)
        chan_free(&in->chan); /* without END, cleanup forgets the message */
    free(in);
    *intake = NULL;
}
