/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bounce.c - who gets which notification, and handing it to cleanup.
 *
 * A report that cannot be delivered comes back here with the null sender and goes to nobody, or, with class 2bounce in
 * notify_classes, to the postmaster; what comes back from there (double_bounce_sender) is dropped. So nothing circles.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mtime.h"
#include "mail/address.h"
#include "mail/queue_id.h"
#include "qmgr/bounce_int.h"
#include "qmgr/notify_classes.h"

#define PIECE_BYTES    65536
#define RESULT_WAIT_MS 300000
#define RCPTS_MAX      MAIL_RECIPIENTS_MAX
#define REPORT_MAX     (64U << 20) /* of what is composed, without the message */

static const struct param rows[] = {
    PARAM_INT(
        "bounce_size_limit", struct bounce_params, size_limit, .def = "50000", .min = 1,
        .services = "bounce,sendmail",
        .doc =
            "A larger message is not returned whole with a non-delivery notification, but its header."),
    PARAM_STRING(
        "notify_classes", struct bounce_params, notify_classes, .def = "resource, software",
        .services = "smtpd,smtp,error,bounce",
        .doc =
            "The kinds of trouble that the postmaster is told about: bounce, 2bounce, delay, policy, protocol; "
            "data, resource and software are accepted but not yet effective."),
    PARAM_STRING("bounce_notice_recipient", struct bounce_params, bounce_recipient,
                 .def = "postmaster", .not_empty = true, .services = "error,bounce",
                 .doc = "Who gets copies of non-delivery notifications (class bounce)."),
    PARAM_STRING("2bounce_notice_recipient", struct bounce_params, bounce2_recipient,
                 .def = "postmaster", .not_empty = true, .services = "error,bounce",
                 .doc = "Who gets notifications that could not be delivered (class 2bounce)."),
    PARAM_STRING("delay_notice_recipient", struct bounce_params, delay_recipient,
                 .def = "postmaster", .not_empty = true, .services = "bounce",
                 .doc = "Who gets copies of delay warnings (class delay)."),
    PARAM_STRING("double_bounce_sender", struct bounce_params, double_bounce_sender,
                 .def = "double-bounce", .not_empty = true, .services = "smtpd,error,discard",
                 .doc = "The sender of mail whose non-delivery nobody wants to hear of."),
    PARAM_STRING("bounce_template_file", struct bounce_params, template_file, .def = "",
                 .services = "bounce,postconf",
                 .doc = "File with the texts at the beginning of notifications: see bounce(5)."),
    PARAM_BOOL(
        "enable_threaded_bounces", struct bounce_params, threaded, .def = "no",
        .services = "bounce",
        .doc = "Notifications refer to the message, so that mail readers show them in its thread."),
};

const struct param_set bounce_params =
    PARAM_SET_CHECKED("bounce", struct bounce_params, rows, notify_classes_check);

/* --- the request ------------------------------------------------------------------------------- */

void bounce_request_init(struct bounce_request *req)
{
    *req = (struct bounce_request){.arena = arena_new(0), .fd = -1};
}

void bounce_request_fini(struct bounce_request *req)
{
    arena_free(&req->arena);
    free(req->rcpts);
    fd_close(&req->fd);
}

static void copy(struct arena *a, struct slice *s)
{
    *s = s->len > 0 ? arena_slice(a, *s) : SLICE_EMPTY;
}

int bounce_request_head(struct bounce_request *req, struct frame *f, struct err *err)
{
    req->fd = f->fd;
    f->fd = -1;
    if (proto_decode(f, &msg_report, &req->r, err) == -1)
        return -1;
    if (req->fd == -1)
        return err_input(err, "report request without the message");
    copy(req->arena, &req->r.queue_id);
    copy(req->arena, &req->r.sender);
    copy(req->arena, &req->r.dsn_envid);
    copy(req->arena, &req->r.message_id);
    return 0;
}

int bounce_request_rcpt(struct bounce_request *req, const struct frame *f, struct err *err)
{
    struct proto_report_rcpt *r;

    if (req->nrcpts == RCPTS_MAX)
        return err_input(err, "report request with too many recipients");
    if (req->nrcpts == req->cap) {
        req->cap = req->cap == 0 ? 4 : req->cap * 2;
        req->rcpts = xrealloc(req->rcpts, req->cap * sizeof(*req->rcpts));
    }
    r = &req->rcpts[req->nrcpts];
    if (proto_decode(f, &msg_report_rcpt, r, err) == -1)
        return -1;
    struct slice *strings[] = {&r->addr,      &r->orig,      &r->orcpt,    &r->code, &r->text,
                               &r->diag_type, &r->diag_text, &r->mta_name, &r->relay};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        copy(req->arena, strings[i]);
    req->nrcpts++;
    return 0;
}

/* --- submitting -------------------------------------------------------------------------------- */

/* [0, bytes) of the message; the rest of a message that is shorter than it says is left out, with a word in the log. */
static int put_content(const struct bounce_request *req, struct intake *in, uint64_t bytes,
                       struct err *err)
{
    char *piece = xmalloc(PIECE_BYTES);
    uint64_t at = 0;
    int ret = 0;

    while (ret == 0 && at < bytes) {
        size_t want = bytes - at < PIECE_BYTES ? (size_t) (bytes - at) : PIECE_BYTES;
        ssize_t n = fd_pread_all(req->fd, piece, want, (off_t) (req->r.content_offset + at));

        if (n <= 0) {
            log_warning("%.*s: the message cannot be read for its notification",
                        SLICE_FMT(req->r.queue_id));
            break;
        }
        ret = intake_data(in, slice_of(piece, (size_t) n), err);
        at += (uint64_t) n;
    }
    free(piece);
    return ret;
}

/* How much of the message comes back: all, or its header, cut at the end of a line when it is over the limit. */
static uint64_t returned_bytes(const struct bounce *b, const struct bounce_request *req, bool full)
{
    uint64_t limit = (uint64_t) b->p.size_limit;
    uint64_t bytes = full ? req->r.content_bytes : req->r.header_bytes;
    char *piece;
    ssize_t n;

    if (full || bytes <= limit)
        return bytes;
    if (limit > (1U << 20))
        limit = 1U << 20;
    piece = xmalloc((size_t) limit);
    n = fd_pread_all(req->fd, piece, (size_t) limit, (off_t) req->r.content_offset);
    while (n > 0 && piece[n - 1] != '\n')
        n--;
    free(piece);
    return n > 0 ? (uint64_t) n : 0;
}

static int wait_result(struct intake *in, struct err *err)
{
    struct proto_result result;

    switch (intake_wait(in, RESULT_WAIT_MS, &result, err)) {
    case CHAN_OK:
        break;
    case CHAN_AGAIN:
        return err_temporary(err, "cleanup service: no answer in time");
    case CHAN_EOF:
    case CHAN_ERROR:
        return -1;
    }
    if (result.status != PROTO_OK)
        return err_temporary(err, "cleanup service: %.*s", SLICE_FMT(result.text));
    return 0;
}

/* sender: of the notification's envelope, "" for the null sender. */
static int submit(const struct bounce *b, const struct bounce_request *req, const char *sender,
                  struct bounce_notice *n, char *id, struct err *err)
{
    struct mail_envelope env = {
        .arrival_us = (uint64_t) wall_now().us,
        .flags = MAIL_BOUNCE | MAIL_LOCAL_ORIGIN | MAIL_NO_HEADER_CHECKS | MAIL_NO_MILTERS,
        .sender = slice_str(sender),
        .rcpt_count = 1,
    };
    struct mail_rcpt rcpt = {.addr = slice_str(n->to), .notify = DSN_NOTIFY_NEVER};
    struct buf text = BUF_INIT(REPORT_MAX);
    struct intake *in = NULL;
    int ret = -1;

    queue_id_new(b->p.long_queue_ids, id);
    env.queue_id = slice_str(id);
    n->utf8 = (req->r.flags & MAIL_SMTPUTF8) != 0;
    if (n->utf8)
        env.flags |= MAIL_SMTPUTF8;
    if (bounce_is_8bit(b, req, n))
        env.flags |= MAIL_8BITMIME;
    snprintf(n->boundary, sizeof(n->boundary), "%s.%lld/%.60s", id,
             (long long) wall_seconds(wall_now()), b->p.myhostname);
    bounce_compose_head(b, req, n, &text);
    in = intake_begin(b->intake, &env, err);
    if (in == NULL || intake_rcpt(in, &rcpt, err) == -1 ||
        intake_data(in, buf_view(&text), err) == -1 ||
        put_content(req, in, returned_bytes(b, req, n->full), err) == -1)
        goto done;
    buf_reset(&text);
    bounce_compose_tail(n, &text);
    if (intake_data(in, buf_view(&text), err) == -1 || intake_end(in, err) == -1)
        goto done;
    ret = wait_result(in, err);
done:
    intake_free(&in);
    buf_fini(&text);
    return ret;
}

/* --- who gets what ----------------------------------------------------------------------------- */

/* A copy for the postmaster: when it cannot be sent, that is logged, and does not hold up the sender's. */
static void tell_postmaster(const struct bounce *b, const struct bounce_request *req,
                            const char *recipient, bool full)
{
    struct bounce_notice n = {.to = recipient, .is_postmaster = true, .full = full};
    struct buf sender = BUF_INIT(MAIL_ADDR_MAX);
    char id[QUEUE_ID_MAX + 1];
    struct err err = ERR_INIT;

    buf_printf(&sender, "%s@%s", b->p.double_bounce_sender, b->p.myorigin);
    if (submit(b, req, buf_cstr(&sender), &n, id, &err) == 0)
        log_info("%.*s: postmaster %snotification: %s", SLICE_FMT(req->r.queue_id),
                 req->r.kind == REPORT_DELAY ? "delay " : "non-delivery ", id);
    else
        log_warning("%.*s: postmaster notification failed: %s", SLICE_FMT(req->r.queue_id),
                    err.text);
    buf_fini(&sender);
}

static bool is_double_bounce(const struct bounce *b, struct slice sender)
{
    return slice_caseeq_str(address_local(sender), b->p.double_bounce_sender) &&
           (address_domain(sender).len == 0 ||
            slice_caseeq_str(address_domain(sender), b->p.myorigin));
}

/* What nobody else will ever see comes to the postmaster whole. */
static int serve_null_sender(const struct bounce *b, const struct bounce_request *req)
{
    if (req->r.kind == REPORT_FAILURE && (b->classes & NOTIFY_2BOUNCE) != 0)
        tell_postmaster(b, req, b->p.bounce2_recipient,
                        req->r.content_bytes <= (uint64_t) b->p.size_limit);
    return 0;
}

/*
 * The recipients of whose failure the sender wants to hear (NOTIFY); the postmaster hears of all. Borrows from req; rcpts is
 * the caller's.
 */
static struct bounce_request for_sender(const struct bounce_request *req)
{
    struct bounce_request some = *req;

    some.rcpts = xcalloc(req->nrcpts + 1, sizeof(*some.rcpts));
    some.nrcpts = 0;
    for (size_t i = 0; i < req->nrcpts; i++) {
        uint32_t notify = req->rcpts[i].notify;

        if (req->r.kind != REPORT_FAILURE || notify == 0 || (notify & DSN_NOTIFY_FAILURE) != 0)
            some.rcpts[some.nrcpts++] = req->rcpts[i];
    }
    return some;
}

static const char *log_word(const struct bounce_request *req)
{
    switch ((enum report_kind) req->r.kind) {
    case REPORT_DELAY:
        return "delay";
    case REPORT_SUCCESS:
    case REPORT_VERIFY:
        return "delivery status";
    case REPORT_FAILURE:
        break;
    }
    return "non-delivery";
}

int bounce_serve(const struct bounce *b, const struct bounce_request *req, char *new_id,
                 struct err *err)
{
    struct bounce_notice n = {0};
    bool is_failure = req->r.kind == REPORT_FAILURE;
    struct bounce_request some;
    char *to;
    int ret = 0;

    new_id[0] = '\0';
    if (req->r.sender.len == 0)
        return serve_null_sender(b, req);
    if (is_double_bounce(b, req->r.sender)) {
        log_warning("%.*s: undeliverable postmaster notification discarded",
                    SLICE_FMT(req->r.queue_id));
        return 0;
    }
    to = slice_dup(req->r.sender);
    n.to = to;
    n.full = is_failure && req->r.dsn_ret != DSN_RET_HDRS &&
             req->r.content_bytes <= (uint64_t) b->p.size_limit;
    some = for_sender(req);
    if (some.nrcpts > 0)
        ret = submit(b, &some, "", &n, new_id, err);
    free(some.rcpts);
    free(to);
    if (ret == -1) {
        new_id[0] = '\0';
        return -1;
    }
    if (new_id[0] != '\0')
        log_info("%.*s: sender %s notification: %s", SLICE_FMT(req->r.queue_id), log_word(req),
                 new_id);
    if (is_failure && (b->classes & NOTIFY_BOUNCE) != 0)
        tell_postmaster(b, req, b->p.bounce_recipient, false);
    else if (req->r.kind == REPORT_DELAY && (b->classes & NOTIFY_DELAY) != 0)
        tell_postmaster(b, req, b->p.delay_recipient, false);
    return 0;
}
