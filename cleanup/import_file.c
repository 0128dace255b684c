/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import_file.c - what becomes of one queue file: which state its message gets here, and which of its recipients still matter.
 *
 * Recipients that failed, and whose sender does not know it yet (bounce/), go into a message of their own for each reason, with
 * the error transport as its content filter: it returns them, with the reason that they had, and delivers nothing.
 */
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mtime.h"
#include "cleanup/import_int.h"
#include "cleanup/import_log.h"

#define LOG_BYTES_MAX (256U << 20)

static int no_content(void *arg, struct slice wire, struct err *err)
{
    (void) arg;
    (void) wire;
    (void) err;
    return 0;
}

/* --- logfiles ---------------------------------------------------------------------------------- */

static int read_log(const struct importer *im, const char *path, struct buf *out, struct err *err)
{
    int fd = openat(im->dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    char *room;
    ssize_t n = 0;

    if (fd == -1)
        return err_sys(err, "open");
    do {
        room = buf_reserve(out, 65536);
        if (room == NULL)
            break;
        n = fd_read_some(fd, room, 65536);
        if (n > 0)
            buf_advance(out, (size_t) n);
    } while (n > 0);
    if (n < 0)
        err_sys(err, "read");
    fd_close(&fd);
    return room == NULL ? err_permanent(err, "the file is too long") : n < 0 ? -1 : 0;
}

/* A deferral's reason that cannot be read is a loss that is named; a failure that cannot be read is none that one may pass over. */
static int apply_logs(const struct import_file *f, struct import_message *m, struct err *err)
{
    static const enum import_log kinds[] = {IMPORT_DEFER_LOG, IMPORT_BOUNCE_LOG};
    struct importer *im = f->im;
    int ret = 0;

    for (size_t i = 0; i < ARRAY_LEN(kinds) && ret == 0; i++) {
        const char *path = htable_get(im->logs[kinds[i]], f->id);
        struct buf text = BUF_INIT(LOG_BYTES_MAX);
        struct err why = ERR_INIT;

        if (path == NULL)
            continue;
        if (read_log(im, path, &text, &why) == 0)
            import_log_apply(m, kinds[i], buf_view(&text));
        else if (kinds[i] == IMPORT_DEFER_LOG)
            import_message_lose(m, "%s (%s)", path, why.text);
        else
            ret = err_set(err, why.kind, "", "%s: %s", path, why.text);
        buf_fini(&text);
    }
    if (htable_get(im->traces, f->id) != NULL)
        import_message_lose(m, "%s (reports of deliveries that were made)",
                            (const char *) htable_get(im->traces, f->id));
    return ret;
}

/* --- which one is it --------------------------------------------------------------------------- */

/* 1: it is in our queue; 0: not; -1: cannot be known. */
static int is_present(const struct importer *im, struct slice id, const struct import_message *m,
                      struct err *err)
{
    struct store_msg *other = store_find(im->present, id);
    struct arena *arena;
    struct mail_envelope env;
    struct store_rcpt *rcpts;
    size_t n;
    int ret;

    if (other == NULL)
        return 0;
    arena = arena_new(0);
    ret = store_msg_read(im->present, other, arena, &env, &rcpts, &n, err);
    if (ret == 0)
        ret = env.arrival_us == m->env.arrival_us && env.content_bytes == m->facts.bytes ? 1 : 0;
    else
        err_prefix(err, "there is a message of this id in the queue already: ");
    arena_free(&arena);
    return ret;
}

/* The id stays, for who looks for it, unless it is taken, or could be one that our clock has yet to give. */
static void choose_id(const struct importer *im, struct slice id, char *out)
{
    if (queue_id_valid(id) && queue_id_us(id) <= wall_now().us &&
        store_find(im->present, id) == NULL && !import_ledger_has_id(im->ledger, id)) {
        memcpy(out, id.ptr, id.len);
        out[id.len] = '\0';
    } else {
        queue_id_new(im->long_ids, out);
    }
}

/* --- putting it -------------------------------------------------------------------------------- */

static void set_state(const struct import_file *f, struct mail_envelope *env)
{
    int64_t retry_us =
        (int64_t) f->st.st_mtim.tv_sec * 1000000 + (int64_t) f->st.st_mtim.tv_nsec / 1000;

    if (f->state == IMPORT_HOLD || f->state == IMPORT_CORRUPT)
        env->flags |= MAIL_HOLD;
    if (f->state == IMPORT_DEFERRED) /* the file's time is that of the next attempt */
        env->next_retry_us = retry_us > 0 ? (uint64_t) retry_us : 1;
    if ((f->st.st_mode & 0010) != 0 && f->state != IMPORT_MAILDROP)
        env->flags |= MAIL_FORCED_EXPIRE;
    env->flags |= MAIL_RECEIVED_DONE;
}

/* Those of the recipients that wait (of == NULL), or that failed as `of` did. */
static size_t choose_rcpts(const struct import_message *m, const struct import_rcpt *of,
                           struct mail_rcpt *out)
{
    size_t n = 0;

    for (size_t i = 0; i < m->rcpts.len; i++) {
        struct import_rcpt *r = m->rcpts.items[i];

        if (of == NULL ? r->done
                       : r->reported || !slice_eq(r->r.code, of->r.code) ||
                             !slice_eq(r->r.reason, of->r.reason))
            continue;
        out[n] = r->r;
        out[n].index = (uint32_t) n;
        if (of != NULL)
            out[n].code = out[n].reason = SLICE_EMPTY;
        n++;
    }
    return n;
}

static int put_waiting(struct import_file *f, struct import_message *m, struct mail_rcpt *rcpts,
                       const char *id, struct err *err)
{
    struct import_put p = {.f = f, .m = m, .env = m->env, .rcpts = rcpts};

    p.nrcpts = choose_rcpts(m, NULL, rcpts);
    if (p.nrcpts == 0)
        return 0;
    p.env.queue_id = slice_str(id);
    p.env.rcpt_count = (uint32_t) p.nrcpts;
    if (f->state == IMPORT_MAILDROP)
        return import_put_maildrop(&p, err) == -1 ? -1 : 0;
    set_state(f, &p.env);
    return import_put_queue(&p, err);
}

static int put_failed(struct import_file *f, struct import_message *m, struct mail_rcpt *rcpts,
                      struct err *err)
{
    for (size_t i = 0; i < m->rcpts.len; i++) {
        struct import_rcpt *of = m->rcpts.items[i];
        struct import_put p = {.f = f, .m = m, .env = m->env, .rcpts = rcpts};
        char id[QUEUE_ID_MAX + 1];

        if (of->reported)
            continue;
        p.nrcpts = choose_rcpts(m, of, rcpts);
        queue_id_new(f->im->long_ids, id);
        p.env.queue_id = slice_str(id);
        p.env.rcpt_count = (uint32_t) p.nrcpts;
        p.env.redirect = SLICE_EMPTY;
        p.env.filter =
            slice_str(arena_printf(m->arena, "error:%.*s %.*s",
                                   SLICE_FMT(of->r.code.len > 0 ? of->r.code : SLICE_LIT("5.0.0")),
                                   SLICE_FMT(slice_sub(of->r.reason, 0, 3500))));
        set_state(f, &p.env);
        p.env.next_retry_us = 0;
        if (import_put_queue(&p, err) == -1)
            return -1;
        log_info("%.*s: %zu failed recipient%s, not reported yet: returned by %s", SLICE_FMT(f->id),
                 p.nrcpts, p.nrcpts == 1 ? "" : "s", id);
        for (size_t k = i + 1; k < m->rcpts.len; k++) {
            struct import_rcpt *r = m->rcpts.items[k];

            if (slice_eq(r->r.code, of->r.code) && slice_eq(r->r.reason, of->r.reason))
                r->reported = true;
        }
        of->reported = true;
    }
    return 0;
}

static void tell(const struct import_file *f, const struct import_message *m, const char *id)
{
    struct buf lost = BUF_INIT(4096);

    if (f->state == IMPORT_CORRUPT)
        log_warning("%.*s: was set aside as corrupt, and is whole: imported on hold",
                    SLICE_FMT(f->id));
    if (!slice_eq_str(f->id, id))
        log_info("%.*s: imported as %s", SLICE_FMT(f->id), id);
    for (size_t i = 0; i < m->lost.len; i++)
        buf_printf(&lost, "%s%s", i > 0 ? ", " : "", (const char *) m->lost.items[i]);
    if (lost.len > 0)
        log_warning("%s: imported without: %.*s%s", id, SLICE_FMT(buf_view(&lost)),
                    buf_ok(&lost) ? "" : " and more");
    buf_fini(&lost);
}

static bool has_work(const struct import_message *m)
{
    for (size_t i = 0; i < m->rcpts.len; i++) {
        const struct import_rcpt *r = m->rcpts.items[i];

        if (!r->done || !r->reported)
            return true;
    }
    return false;
}

/* What only maildrop's files have, or what pickup will decide anew. */
static void lose_of_maildrop(const struct import_file *f, struct import_message *m)
{
    if ((m->env.flags & MAIL_LOCAL_ORIGIN) == 0)
        import_message_lose(m, "rewrite_context");
    if (f->st.st_uid != geteuid())
        import_message_lose(m, "the user who sent it (uid %ld)", (long) f->st.st_uid);
}

static int take(struct import_file *f, struct import_message *m, struct err *err)
{
    struct importer *im = f->im;
    char id[QUEUE_ID_MAX + 1];
    struct mail_rcpt *rcpts;
    int present;

    if (f->state == IMPORT_MAILDROP)
        lose_of_maildrop(f, m);
    else if (apply_logs(f, m, err) == -1)
        return -1;
    if (m->killed || (m->rcpts.len > 0 && !has_work(m))) {
        im->finished++;
        return 0;
    }
    if (m->rcpts.len == 0)
        return err_input(err, "the message has no recipients");
    if (import_ledger_has(im->ledger, f->id, m->env.arrival_us, m->facts.bytes)) {
        im->repeated++;
        return 0;
    }
    present = is_present(im, f->id, m, err);
    if (present == -1)
        return -1;
    if (present == 1) {
        im->repeated++;
        return import_ledger_add(im->ledger, f->id, m->env.arrival_us, m->facts.bytes, f->id, err);
    }
    choose_id(im, f->id, id);
    rcpts = arena_alloc(m->arena, m->rcpts.len * sizeof(*rcpts));
    if (put_waiting(f, m, rcpts, id, err) == -1 || put_failed(f, m, rcpts, err) == -1)
        return -1;
    if (import_ledger_add(im->ledger, f->id, m->env.arrival_us, m->facts.bytes, slice_str(id),
                          err) == -1) {
        im->stopped = true;
        return err_prefix(err, "the message is in the queue, but that cannot be noted: ");
    }
    tell(f, m, id);
    im->imported[f->state]++;
    return 0;
}

void import_file(struct import_file *f)
{
    struct importer *im = f->im;
    struct import_message m;
    struct import_reader r;
    struct err err = ERR_INIT;

    arena_reset(im->arena);
    import_message_init(&m, im->arena);
    import_reader_init(&r, f->fd, (uint64_t) f->st.st_size);
    if (import_message_read(&m, &r, no_content, NULL, &err) == -1 || take(f, &m, &err) == -1)
        import_failed(im, f->path, &err);
    import_reader_fini(&r);
    import_message_fini(&m);
}
