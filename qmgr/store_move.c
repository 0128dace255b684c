/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_move.c - hold, release, corrupt: moves that are durable when they return.
 *
 * From the journal: the file is made, its directory synced, then the journal copy released (see store_file.c). Between
 * files: one rename, both directories synced. s->lock is not held while anything is synced; nobody else
 * uses the message meanwhile.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "qmgr/store_owner_int.h"

/* Without announcing anything: see store_msg_corrupt(). */
static int flush_quietly(struct store *s, struct err *err)
{
    int ret;

    lock_take(&s->lock);
    ret = store_flush_locked(s, err);
    lock_release(&s->lock);
    return ret;
}

static int sync_message_dir(struct store *s, enum store_queue q, struct slice id, struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    int ret = s->io->sync_dir(s->io->ctx, store_path_dir(&path, s->directory, q, id));

    if (ret == -1)
        store_err_sys(err, "sync", buf_cstr(&path));
    buf_fini(&path);
    return ret;
}

/* From the journal into a file. */
static int move_out(struct store *s, struct store_msg *m, enum store_queue q, struct err *err)
{
    struct promotion *p = NULL;
    struct buf path = BUF_INIT(SIZE_MAX);
    int ret = -1;

    lock_take(&s->lock);
    if (m->promoting)
        err_temporary(err, "%s is just being moved to the deferred queue", m->id);
    else
        ret = store_promotion_begin_locked(s, m, &p, err);
    if (ret == 0)
        m->promoting = true; /* keeps housekeeping away */
    lock_release(&s->lock);
    if (ret == -1)
        goto done;
    store_file_make(s->io, s->directory, q, p);
    ret = p->result == 0 ? sync_message_dir(s, q, slice_str(m->id), err) : -1;
    if (p->result != 0)
        *err = p->err;
    lock_take(&s->lock);
    m->promoting = false;
    if (ret == 0)
        ret = store_promotion_end_locked(s, m, q, p, err);
    if (ret == -1 && p->result == 0)
        (void) s->io->unlink(s->io->ctx,
                             store_path_message(&path, s->directory, q, slice_str(m->id)));
    store_promotion_free(&p);
    lock_release(&s->lock);
done:
    buf_fini(&path);
    return ret;
}

/* From file to file. */
static int move_file(struct store *s, struct store_msg *m, enum store_queue q, struct err *err)
{
    struct buf from = BUF_INIT(SIZE_MAX);
    struct buf to = BUF_INIT(SIZE_MAX);
    struct slice id = slice_str(m->id);
    enum store_queue old;
    int ret = -1;

    lock_take(&s->lock);
    ret = store_flush_locked(s, err); /* pending notes go by the name */
    old = (enum store_queue) m->queue;
    lock_release(&s->lock);
    if (ret == -1)
        goto done;
    ret = -1;
    (void) store_path_message(&from, s->directory, old, id);
    if (q == STORE_DEFERRED &&
        s->io->mkdir(s->io->ctx, store_path_dir(&to, s->directory, q, id), STORE_DIR_MODE) == 0 &&
        s->io->sync_dir(s->io->ctx, store_path(&to, s->directory, "deferred")) == -1) {
        store_err_sys(err, "sync", buf_cstr(&to));
        goto done;
    }
    if (s->io->rename(s->io->ctx, buf_cstr(&from), store_path_message(&to, s->directory, q, id),
                      true) == -1) {
        store_err_sys(err, "rename", buf_cstr(&from));
        goto done;
    }
    lock_take(&s->lock);
    m->queue = (uint8_t) q;
    lock_release(&s->lock);
    /* the new name first: between the two, a power cut may leave both on some file systems, never none */
    if (sync_message_dir(s, q, id, err) == -1 || sync_message_dir(s, old, id, err) == -1)
        goto done;
    ret = 0;
done:
    buf_fini(&from);
    buf_fini(&to);
    return ret;
}

/* Without store_msg_set_state(): whoever uses the message goes on using it. */
static void note_wish(struct store *s, struct store_msg *m, const struct store_state *wish)
{
    struct journal_note n = {.type = NOTE_STATE, .state = *wish};

    lock_take(&s->lock);
    m->state = *wish;
    store_note_locked(s, m, &n);
    if (m->queue != STORE_JOURNAL)
        m->sync_file = true;
    lock_release(&s->lock);
}

int store_msg_hold(struct store *s, struct store_msg *m, struct err *err)
{
    struct store_state over = m->state;
    int ret;

    if (m->queue == STORE_HOLD) /* perhaps by a call whose sync failed */
        ret = sync_message_dir(s, STORE_HOLD, slice_str(m->id), err);
    else if (m->queue == STORE_JOURNAL)
        ret = move_out(s, m, STORE_HOLD, err);
    else
        ret = move_file(s, m, STORE_HOLD, err);
    over.hold = false;
    if (ret == 0 && m->state.hold)
        note_wish(s, m, &over);
    return ret;
}

void store_msg_hold_later(struct store *s, struct store_msg *m)
{
    struct store_state wish = m->state;

    wish.hold = true;
    note_wish(s, m, &wish);
}

void store_msg_remove_later(struct store *s, struct store_msg *m)
{
    struct store_state wish = m->state;

    wish.remove = true;
    note_wish(s, m, &wish);
}

void store_msg_requeue_later(struct store *s, struct store_msg *m)
{
    struct store_state wish = m->state;

    wish.requeue = true;
    note_wish(s, m, &wish);
}

void store_msg_expire_later(struct store *s, struct store_msg *m)
{
    struct store_state wish = m->state;

    wish.forced_expire = true;
    note_wish(s, m, &wish);
}

int store_msg_release(struct store *s, struct store_msg *m, struct err *err)
{
    struct store_state state;

    if (m->queue != STORE_HOLD)
        return err_permanent(err, "%s is not on hold", m->id);
    if (move_file(s, m, STORE_DEFERRED, err) == -1)
        return -1;
    state = m->state;
    state.next_retry_us = 0;
    state.hold = false;
    store_msg_set_state(s, m, &state);
    return flush_quietly(s, err);
}

/* To corrupt/ID.content, so that it is no orphan to the next recovery. Before the record: what a crash leaves between the two is
 * a message whose content is missing, which comes here again. */
static int set_large_aside(struct store *s, const struct store_msg *m, struct err *err)
{
    struct buf from = BUF_INIT(SIZE_MAX);
    struct buf to = BUF_INIT(SIZE_MAX);
    int ret = 0;

    if (m->large == 0)
        return 0;
    buf_printf(&to, "%s/corrupt/%s.content", s->directory, m->id);
    if (s->io->rename(s->io->ctx, store_path_large(&from, s->directory, m->large), buf_cstr(&to),
                      true) == -1 &&
        errno != ENOENT) {
        ret = store_err_sys(err, "rename", buf_cstr(&from));
    } else if (s->io->sync_dir(s->io->ctx, store_path(&to, s->directory, "corrupt")) == -1) {
        ret = store_err_sys(err, "sync", buf_cstr(&to));
    }
    buf_fini(&from);
    buf_fini(&to);
    return ret;
}

int store_msg_corrupt(struct store *s, struct store_msg *m, const char *why, struct err *err)
{
    enum set_aside aside = ASIDE_DONE;

    if (m->queue == STORE_CORRUPT)
        return 0;
    if (set_large_aside(s, m, err) == -1)
        return -1;
    if (m->queue == STORE_JOURNAL) {
        struct segment *seg = m->seg;

        /* as it is: nothing in it can be relied upon */
        aside = store_set_aside(s, seg->fd, m->offset, m->offset + m->length, m->id, err);
        if (aside == ASIDE_FAILED)
            return -1;
        lock_take(&s->lock);
        if (aside == ASIDE_PART)
            seg->keep = true; /* without a note: the next start looks at it again */
        else
            store_note_gone_locked(s, seg, m->offset, NOTE_MOVED);
        store_unpin_locked(s, m);
        store_segment_unlink_locked(s, m);
        m->queue = STORE_CORRUPT;
        lock_release(&s->lock);
        if (flush_quietly(s, err) == -1)
            return -1;
    } else if (move_file(s, m, STORE_CORRUPT, err) == -1) {
        return -1;
    }
    lock_take(&s->lock);
    if (aside == ASIDE_PART)
        store_damage_locked(
            s, "%s: %s; it stays where it is, what could be read is kept as corrupt/%s.part", m->id,
            why, m->id);
    else
        store_damage_locked(s, "%s: message is damaged (%s), kept as corrupt/%s", m->id, why,
                            m->id);
    lock_release(&s->lock);
    return 0; /* said on the owner's thread, which this may not be */
}
