/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.c - the owner's store: opening it, its index, the handles.
 */
#include "qmgr/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/metrics.h"
#include "base/num.h"
#include "qmgr/store_owner_int.h"

/* Into the lock's file: it only says who. */
static int write_process_id(struct store *s)
{
    char text[32];
    struct iovec iov = {text, 0};

    iov.iov_len = (size_t) snprintf(text, sizeof(text), "%-20ld\n", (long) getpid());
    return s->io->pwritev(s->io->ctx, s->lock_fd, &iov, 1, 0);
}

static int take_lock(struct store *s, struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    char text[32];
    ssize_t n;
    int ret = -1;

    s->lock_fd = s->io->open(s->io->ctx, store_path(&path, s->directory, "journal/lock"),
                             O_RDWR | O_CREAT, STORE_FILE_MODE);
    if (s->lock_fd == -1) {
        store_err_sys(err, "open", buf_cstr(&path));
        goto done;
    }
    if (s->io->lock(s->io->ctx, s->lock_fd) == -1) {
        n = errno == EWOULDBLOCK ? s->io->pread(s->io->ctx, s->lock_fd, text, sizeof(text) - 1, 0)
                                 : -1;
        if (n >= 0)
            err_temporary(err, "the queue is in use by process %.*s",
                          SLICE_FMT(slice_trim(slice_of(text, (size_t) n), NULL)));
        else
            store_err_sys(err, "lock", buf_cstr(&path));
        goto done;
    }
    if (write_process_id(s) == -1)
        log_warning("cannot write the process id to %s", buf_cstr(&path));
    ret = 0;
done:
    buf_fini(&path);
    return ret;
}

int store_open_io(const struct store_options *opt, const struct io_ops *io,
                  const struct store_events *ev, void *arg, bool readonly, struct store **out,
                  struct err *err)
{
    struct store *s = xcalloc(1, sizeof(*s));

    s->opt = *opt;
    s->directory = xstrdup(opt->queue_directory);
    s->opt.queue_directory = s->directory;
    s->io = io;
    s->events = *ev;
    s->arg = arg;
    s->readonly = readonly;
    s->lock_fd = -1;
    s->index = htable_new(false);
    s->segments = s->fresh = s->damages = s->wanted = VEC_INIT;
    s->scan = BUF_INIT(SIZE_MAX);
    s->unremoved = VEC_INIT;
    s->jobs_tail = &s->jobs;
    s->results_tail = &s->results;
    for (size_t i = 0; i < CONTENT_SLOTS; i++)
        s->content[i].fd = -1;
    lock_init(&s->lock, LOCK_STORE);
    lock_init(&s->helper_lock, LOCK_STORE_JOBS);
    pthread_cond_init(&s->helper_work, NULL);
    pthread_cond_init(&s->helper_idle, NULL);
    if (!readonly && take_lock(s, err) == -1) {
        store_abandon(&s);
        return -1;
    }
    *out = s;
    return 0;
}

int store_open(const struct store_options *opt, const struct store_events *ev, void *arg,
               struct store **out, struct err *err)
{
    return store_open_io(opt, &io_posix, ev, arg, false, out, err);
}

int store_open_readonly(const struct store_options *opt, const struct store_events *ev, void *arg,
                        struct store **out, struct err *err)
{
    return store_open_io(opt, &io_posix, ev, arg, true, out, err);
}

void store_segment_free(struct store *s, struct segment *seg)
{
    if (seg->fd != -1)
        s->io->close(s->io->ctx, seg->fd);
    if (seg->content_fd != -1)
        s->io->close(s->io->ctx, seg->content_fd);
    if (seg->companion_fd != -1)
        s->io->close(s->io->ctx, seg->companion_fd);
    buf_fini(&seg->notes);
    vec_clear(&seg->large_done, free);
    vec_fini(&seg->large_done);
    free(seg);
}

static void msg_free(void *value)
{
    struct store_msg *m = value;

    if (m->pending != NULL) {
        buf_fini(m->pending);
        free(m->pending);
    }
    free(m);
}

void store_abandon(struct store **sp)
{
    struct store *s = *sp;

    *sp = NULL;
    if (s == NULL)
        return;
    store_helper_stop(s);
    for (size_t i = 0; i < CONTENT_SLOTS; i++) {
        if (s->content[i].fd != -1)
            s->io->close(s->io->ctx, s->content[i].fd);
    }
    for (size_t i = 0; i < s->segments.len; i++)
        store_segment_free(s, s->segments.items[i]);
    vec_fini(&s->segments);
    vec_fini(&s->fresh);
    vec_clear(&s->damages, free);
    vec_fini(&s->damages);
    vec_fini(&s->wanted);
    vec_clear(&s->unremoved, free);
    vec_fini(&s->unremoved);
    buf_fini(&s->scan);
    htable_free(&s->index, msg_free);
    if (s->lock_fd != -1)
        s->io->close(s->io->ctx, s->lock_fd);
    pthread_cond_destroy(&s->helper_work);
    pthread_cond_destroy(&s->helper_idle);
    lock_fini(&s->helper_lock);
    lock_fini(&s->lock);
    free(s->directory);
    free(s);
}

void store_close(struct store **sp)
{
    struct store *s = *sp;
    struct err err;

    if (s != NULL && !s->readonly) {
        store_finish_jobs(s); /* their results may want notes */
        if (store_flush(s, &err) == -1)
            log_warning("queue: completion records are lost, mail may be delivered twice: %s",
                        err.text);
        store_finish_jobs(s);
        if (s->removal_failed)
            log_warning(
                "queue: mail that is finished cannot be removed, and may be delivered twice: %s",
                s->trouble.text);
    }
    store_abandon(sp);
}

struct segment *store_segment_find(struct store *s, uint64_t number)
{
    for (size_t i = s->segments.len; i > 0; i--) {
        struct segment *seg = s->segments.items[i - 1];

        if (seg->number == number)
            return seg;
    }
    return NULL;
}

void store_segment_link_locked(struct store *s, struct store_msg *m)
{
    struct segment *seg = m->seg;

    (void) s;
    m->prev = NULL;
    m->next = seg->first;
    if (seg->first != NULL)
        seg->first->prev = m;
    seg->first = m;
    seg->live++;
    seg->live_bytes += m->length;
}

void store_segment_unlink_locked(struct store *s, struct store_msg *m)
{
    struct segment *seg = m->seg;

    (void) s;
    if (m->prev != NULL)
        m->prev->next = m->next;
    else
        seg->first = m->next;
    if (m->next != NULL)
        m->next->prev = m->prev;
    m->prev = m->next = NULL;
    seg->live--;
    seg->live_bytes -= m->length;
    m->seg = NULL;
}

void store_index_add_locked(struct store *s, struct store_msg *m)
{
    struct store_msg *other;
    size_t len = strlen(m->id);

    while ((other = htable_get(s->index, slice_str(m->id))) != NULL) {
        if (other->queue != STORE_JOURNAL && m->queue == STORE_JOURNAL &&
            other->payload_crc == m->payload_crc && other->content_bytes == m->content_bytes) {
            /* a crash between the making of its file and the note that says so */
            if (!s->readonly)
                store_note_gone_locked(s, m->seg, m->offset, NOTE_MOVED);
            free(m);
            return;
        }
        /* two messages of one id, both accepted: the clock was set back. None may be lost. */
        if (len < QUEUE_ID_MAX && (m->id[len] == '\0' || m->id[len] < '9')) {
            m->id[len] = m->id[len] == '\0' ? '1' : (char) (m->id[len] + 1);
            m->id[len + 1] = '\0';
        } else {
            store_damage_locked(
                s, "%s: too many messages with this queue id; this one stays unread in the journal",
                m->id);
            if (m->seg != NULL)
                m->seg->keep = true;
            s->had_damage = true;
            free(m);
            return;
        }
    }
    (void) htable_put(s->index, slice_str(m->id), m);
    if (m->queue == STORE_JOURNAL)
        store_segment_link_locked(s, m);
    metrics_unique_raise(queue_id_us(slice_str(m->id)));
    vec_push(&s->fresh, m);
}

void store_damage_locked(struct store *s, const char *fmt, ...)
{
    struct buf text = BUF_INIT(SIZE_MAX);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    vec_push(&s->damages, buf_take(&text));
}

void store_announce(struct store *s)
{
    for (size_t i = 0;; i++) {
        struct store_msg *m = NULL;
        char *text = NULL;
        bool more;

        lock_take(&s->lock);
        if (s->damages.len > 0) {
            text = s->damages.items[0];
            vec_remove(&s->damages, 0);
        }
        more = i < s->fresh.len || text != NULL;
        if (i < s->fresh.len)
            m = s->fresh.items[i];
        if (m != NULL && m->announced)
            m = NULL; /* by a call from within found() */
        if (m != NULL)
            m->announced = true;
        if (!more)
            vec_clear(&s->fresh, NULL);
        lock_release(&s->lock);
        if (!more)
            break;
        if (text != NULL && s->events.damaged != NULL)
            s->events.damaged(s->arg, text);
        free(text);
        if (m != NULL && s->events.found != NULL)
            s->events.found(s->arg, m);
    }
}

int store_committed(struct store *s, uint64_t source, uint64_t end, struct err *err)
{
    struct segment *seg;
    struct vec found = VEC_INIT;
    int ret = 0;

    lock_take(&s->lock);
    seg = store_segment_find(s, source);
    if (seg == NULL) {
        ret = store_segment_open(s, source, &seg, err);
        if (ret != 0) {
            ret = ret == 1 ? 0 : -1; /* finished and recycled already */
            goto done;
        }
    }
    ret = store_segment_scan_locked(s, seg, end, true, &found, err);
    for (size_t i = 0; i < found.len; i++)
        store_index_add_locked(s, found.items[i]);
done:
    lock_release(&s->lock);
    vec_fini(&found);
    store_announce(s);
    return ret;
}

int store_writer_gone(struct store *s, uint64_t source, struct err *err)
{
    struct segment *seg;
    int ret;

    lock_take(&s->lock);
    seg = store_segment_find(s, source);
    if (seg != NULL)
        ret = store_segment_look_locked(s, seg, err);
    else
        ret = store_look_for_segments_locked(s, err);
    lock_release(&s->lock);
    store_announce(s);
    return ret;
}

struct slice store_msg_id(const struct store_msg *m)
{
    return slice_str(m->id);
}

enum store_queue store_msg_queue(const struct store_msg *m)
{
    return (enum store_queue) m->queue;
}

const struct store_state *store_msg_state(const struct store_msg *m)
{
    return &m->state;
}

uint64_t store_msg_bytes(const struct store_msg *m)
{
    return m->content_bytes;
}

uint64_t store_msg_record_at(const struct store_msg *m)
{
    return m->offset;
}

void *store_msg_data(const struct store_msg *m)
{
    return m->data;
}

void store_msg_set_data(struct store_msg *m, void *data)
{
    m->data = data;
}

struct store_msg *store_find(struct store *s, struct slice queue_id)
{
    return htable_get(s->index, queue_id);
}

size_t store_count(const struct store *s)
{
    return htable_len(s->index);
}

struct each {
    bool (*fn)(struct store_msg *m, void *arg);
    void *arg;
};

static bool each_entry(struct slice key, void *value, void *arg)
{
    struct each *e = arg;

    (void) key;
    return e->fn(value, e->arg);
}

void store_each(struct store *s, bool (*fn)(struct store_msg *m, void *arg), void *arg)
{
    struct each e = {fn, arg};

    htable_each(s->index, each_entry, &e);
}

void store_unpin_locked(struct store *s, struct store_msg *m)
{
    (void) s;
    if (m->pin != NULL)
        m->pin->pins--;
    m->pin = NULL;
}

void store_content_forget_locked(struct store *s, const struct store_msg *m)
{
    for (size_t i = 0; i < CONTENT_SLOTS; i++) {
        if (s->content[i].m == m && s->content[i].fd != -1) {
            s->io->close(s->io->ctx, s->content[i].fd);
            s->content[i].m = NULL;
            s->content[i].fd = -1;
        }
    }
}

static void forget_in(struct vec *v, const struct store_msg *m)
{
    for (size_t i = 0; i < v->len; i++) {
        if (v->items[i] == m)
            v->items[i] = NULL;
    }
}

void store_msg_remove(struct store *s, struct store_msg **mp)
{
    struct store_msg *m = *mp;
    struct buf path = BUF_INIT(SIZE_MAX);

    *mp = NULL;
    (void) htable_remove(s->index, slice_str(m->id));
    lock_take(&s->lock);
    if (!m->announced)
        forget_in(&s->fresh, m);
    if (m->wanted)
        forget_in(&s->wanted, m);
    store_unpin_locked(s, m);
    store_content_forget_locked(s, m);
    if (m->queue == STORE_JOURNAL) {
        struct segment *seg = m->seg;

        store_note_gone_locked(s, seg, m->offset, NOTE_REMOVED);
        if (m->large != 0) {
            vec_push(&seg->large_done, xstrdup(store_path_large(&path, s->directory, m->large)));
        }
        store_segment_unlink_locked(s, m);
    } else if (m->queue != STORE_CORRUPT) {
        store_pending_drop_locked(s, m);
        store_unlink_later(
            s, xstrdup(store_path_message(&path, s->directory, (enum store_queue) m->queue,
                                          slice_str(m->id))));
        if (m->large != 0)
            store_unlink_later(s, xstrdup(store_path_large(&path, s->directory, m->large)));
    }
    lock_release(&s->lock);
    buf_fini(&path);
    msg_free(m);
}

static int probe_locked(struct store *s, struct err *err) REQUIRES(s->lock)
{
    s->probe_failed = write_process_id(s) == -1;
    return s->probe_failed ? store_err_sys(err, "write", "journal/lock") : 0;
}

int store_probe(struct store *s, struct err *err)
{
    int ret;

    lock_take(&s->lock);
    ret = probe_locked(s, err);
    lock_release(&s->lock);
    return ret;
}

int store_flush(struct store *s, struct err *err)
{
    int ret;

    lock_take(&s->lock);
    ret = store_flush_locked(s, err);
    if (ret == 0 && s->probe_failed)
        ret = probe_locked(s, err);
    if (ret == 0 && (s->removal_failed || s->sync_failed)) {
        *err = s->trouble;
        ret = -1;
    }
    lock_release(&s->lock);
    store_announce(s);
    return ret;
}
