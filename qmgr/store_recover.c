/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_recover.c - finds everything at start-up.
 *
 * Order matters: large files first (an unlocked one that no record names by the time everything has been read belongs to a writer who
 * died, but one that was made meanwhile may still get its record); message files before segments (of two copies the file
 * counts). Safe while writers are at work.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/metrics.h"
#include "qmgr/store_owner_int.h"

#define LARGE_AGE_US (60 * 1000000LL)

static void collect(void *arg, const char *name)
{
    vec_push(arg, xstrdup(name));
}

/* ENOENT is an empty directory. */
static int list(struct store *s, const char *path, struct vec *names, struct err *err)
{
    if (s->io->list(s->io->ctx, path, collect, names) == -1 && errno != ENOENT)
        return store_err_sys(err, "list", path);
    return 0;
}

/* --- large files ------------------------------------------------------------------------------- */

/* Is its writer gone, or done with it? */
static bool large_is_free(struct store *s, const char *path)
{
    int fd = s->io->open(s->io->ctx, path, O_RDWR, 0);
    struct io_stat st;
    bool ret;

    if (fd == -1)
        return false;
    ret = s->io->lock(s->io->ctx, fd) == 0 && s->io->stat_fd(s->io->ctx, fd, &st) == 0 &&
          (st.bytes > 0 ||
           wall_now().us - st.mtime_us > LARGE_AGE_US); /* just made, not locked yet? */
    s->io->close(s->io->ctx, fd);
    return ret;
}

static int list_large(struct store *s, struct htable *out, struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    struct vec names = VEC_INIT;
    int ret = list(s, store_path(&path, s->directory, "large"), &names, err);

    for (size_t i = 0; i < names.len; i++) {
        uint64_t number;

        if (!store_parse_number(slice_str(names.items[i]), &number))
            continue;
        metrics_unique_raise((int64_t) number);
        (void) store_path_large(&path, s->directory, number);
        if (large_is_free(s, buf_cstr(&path)))
            (void) htable_put(out, slice_of((const char *) &number, sizeof(number)),
                              xstrdup(buf_cstr(&path)));
    }
    vec_clear(&names, free);
    vec_fini(&names);
    buf_fini(&path);
    return ret;
}

static bool is_named(struct slice key, void *value, void *arg)
{
    const struct store_msg *m = value;

    (void) key;
    if (m->large != 0)
        free(htable_remove(arg, slice_of((const char *) &m->large, sizeof(m->large))));
    return true;
}

static bool remove_orphan(struct slice key, void *value, void *arg)
{
    struct store *s = arg;

    (void) key;
    if (s->io->unlink(s->io->ctx, value) == -1)
        log_warning("cannot remove %s, which belongs to no message", (const char *) value);
    else
        log_info("removed %s, which belongs to no message", (const char *) value);
    return true;
}

/* A damaged record may have named it: then it is somebody's only copy, which the next recovery, without that record, would remove. */
static bool keep_orphan(struct slice key, void *value, void *arg)
{
    struct store *s = arg;
    struct buf to = BUF_INIT(SIZE_MAX);
    const char *name = strrchr(value, '/');

    (void) key;
    buf_printf(&to, "%s/corrupt%s.content", s->directory, name);
    if (s->io->rename(s->io->ctx, value, buf_cstr(&to), true) == -1)
        store_damage_locked(s, "%s may belong to a damaged message; cannot move it to corrupt/",
                            (const char *) value);
    else
        store_damage_locked(s, "%s may belong to a damaged message; moved to corrupt%s.content",
                            (const char *) value, name);
    buf_fini(&to);
    return true;
}

/* Those of removed messages that wait for a sync go their own way. */
static void forget_done(struct store *s, struct htable *large)
{
    for (size_t i = 0; i < s->segments.len; i++) {
        struct segment *seg = s->segments.items[i];

        for (size_t k = 0; k < seg->large_done.len; k++) {
            const char *p = seg->large_done.items[k];
            uint64_t number;

            if (strlen(p) > 16 && store_parse_number(slice_of(p + strlen(p) - 16, 16), &number))
                free(htable_remove(large, slice_of((const char *) &number, sizeof(number))));
        }
    }
}

/* --- message files ----------------------------------------------------------------------------- */

static void take_state(const struct journal_note *n, void *arg)
{
    if (n->type == NOTE_STATE)
        *(struct store_state *) arg = n->state;
}

static int load_file(struct store *s, enum store_queue q, const char *path, const char *name,
                     struct err *err) REQUIRES(s->lock)
{
    struct journal_record r;
    struct store_state state = {0};
    struct store_msg *m;
    uint64_t epoch;
    uint64_t end;
    int ret = -1;
    int fd = s->io->open(s->io->ctx, path, O_RDONLY, 0);

    if (fd == -1)
        return store_err_sys(err, "open", path);
    if (store_file_head(s->io, fd, &epoch, &r, err) == -1 ||
        store_file_notes_each(s, fd, epoch, JOURNAL_FILE_START + r.length, take_state, &state, &end,
                              err) == -1)
        goto done;
    m = xcalloc(1, sizeof(*m));
    memcpy(m->id, name, strlen(name));
    m->state = state;
    m->state.hold = state.hold && q != STORE_HOLD; /* there it is done */
    m->offset = JOURNAL_FILE_START;
    m->length = r.length;
    m->content_bytes = r.content_bytes;
    m->large = r.large;
    m->log_at = end;
    m->meta_bytes = r.meta_bytes;
    m->payload_crc = r.payload_crc;
    m->queue = (uint8_t) q;
    if (htable_get(s->index, slice_str(m->id)) != NULL) {
        /* a rename that a power cut left half done on a file system that can: hold counts, it was read first */
        free(m);
        ret = err_permanent(err, "there is a message of this id on hold");
        goto done;
    }
    store_index_add_locked(s, m);
    ret = 0;
done:
    s->io->close(s->io->ctx, fd);
    return ret;
}

/* What cannot be read goes to corrupt/. */
static void set_file_aside(struct store *s, const char *path, const char *name, const char *why)
{
    struct buf to = BUF_INIT(SIZE_MAX);
    struct buf dir = BUF_INIT(SIZE_MAX);

    s->had_damage = true;
    buf_printf(&to, "%s/corrupt/%s", s->directory, name);
    if (!s->readonly && s->io->rename(s->io->ctx, path, buf_cstr(&to), true) == 0) {
        if (s->io->sync_dir(s->io->ctx, store_path(&dir, s->directory, "corrupt")) == -1)
            log_warning("cannot sync %s", buf_cstr(&dir));
        store_damage_locked(s, "%s: %s; moved to corrupt/%s", path, why, name);
    } else {
        store_damage_locked(s, "%s: %s", path, why);
    }
    buf_fini(&to);
    buf_fini(&dir);
}

/* What may be read the next time stays. */
static void leave_unread(struct store *s, const char *path, const struct err *why)
{
    s->left_unread = true;
    store_damage_locked(s, "%s: %s; it stays where it is", path, why->text);
}

static int load_directory(struct store *s, enum store_queue q, const char *dir, struct err *err)
    REQUIRES(s->lock)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    struct vec names = VEC_INIT;
    int ret = list(s, dir, &names, err);

    for (size_t i = 0; i < names.len && ret == 0; i++) {
        const char *name = names.items[i];
        struct slice n = slice_str(name);
        struct err why;

        buf_reset(&path);
        buf_printf(&path, "%s/%s", dir, name);
        if (queue_id_valid(n)) {
            if (load_file(s, q, buf_cstr(&path), name, &why) == 0)
                continue;
            if (why.kind == ERR_PERMANENT)
                set_file_aside(s, buf_cstr(&path), name, why.text);
            else
                leave_unread(s, buf_cstr(&path), &why);
        } else if (slice_ends_with(n, SLICE_LIT(".tmp")) && !s->readonly) {
            (void) s->io->unlink(s->io->ctx, buf_cstr(&path));
        }
    }
    vec_clear(&names, free);
    vec_fini(&names);
    buf_fini(&path);
    return ret;
}

static int load_files(struct store *s, struct err *err) REQUIRES(s->lock)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    int ret = load_directory(s, STORE_HOLD, store_path(&path, s->directory, "hold"), err);

    for (const char *digit = "0123456789ABCDEF"; *digit != '\0' && ret == 0; digit++) {
        buf_reset(&path);
        buf_printf(&path, "%s/deferred/%c", s->directory, *digit);
        ret = load_directory(s, STORE_DEFERRED, buf_cstr(&path), err);
    }
    buf_fini(&path);
    return ret;
}

/* --- companions without segment ---------------------------------------------------------------- */

static void sweep_companions(struct store *s)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    struct vec names = VEC_INIT;

    if (s->io->list(s->io->ctx, store_path(&path, s->directory, "journal"), collect, &names) == -1)
        goto done;
    for (size_t i = 0; i < names.len; i++) {
        struct slice n = slice_str(names.items[i]);
        struct io_stat st;
        uint64_t number;

        if (!slice_ends_with(n, SLICE_LIT(".done")) ||
            !store_parse_number(slice_sub(n, 0, n.len - 5), &number) ||
            s->io->stat_path(s->io->ctx, store_path_segment(&path, s->directory, number), &st) ==
                0 ||
            errno != ENOENT)
            continue;
        (void) s->io->unlink(s->io->ctx, store_path_companion(&path, s->directory, number));
    }
done:
    vec_clear(&names, free);
    vec_fini(&names);
    buf_fini(&path);
}

/* What was to be removed or put on hold when somebody was done with it: nobody has it now. A hold that fails stays wanted. */
static void settle_wishes(struct store *s)
{
    for (size_t i = 0; i < s->fresh.len; i++) {
        struct store_msg *m = s->fresh.items[i];
        struct err err = ERR_INIT;

        if (m->state.remove) {
            log_info("%s: removed", m->id);
            store_msg_remove(s, &m);
            continue;
        }
        if (!m->state.hold)
            continue;
        if (store_msg_hold(s, m, &err) == 0)
            log_info("%s: placed on hold", m->id);
        else
            log_warning("%s: cannot be put on hold: %s", m->id, err.text);
    }
}

int store_recover_id(struct store *s, struct slice id, struct err *err)
{
    static const enum store_queue queues[] = {STORE_HOLD, STORE_DEFERRED};
    struct buf path = BUF_INIT(SIZE_MAX);
    char name[QUEUE_ID_MAX + 1] = "";
    bool found = false;
    int ret = 0;

    memcpy(name, id.ptr, id.len < QUEUE_ID_MAX ? id.len : QUEUE_ID_MAX);
    lock_take(&s->lock);
    for (size_t i = 0; i < ARRAY_LEN(queues) && ret == 0 && !found; i++) {
        struct io_stat st;

        found = s->io->stat_path(s->io->ctx, store_path_message(&path, s->directory, queues[i], id),
                                 &st) == 0;
        if (found)
            ret = load_file(s, queues[i], buf_cstr(&path), name, err);
        else if (errno != ENOENT)
            ret = store_err_sys(err, "look for", buf_cstr(&path));
    }
    if (ret == 0 && !found)
        ret = store_look_for_segments_locked(s, err);
    lock_release(&s->lock);
    buf_fini(&path);
    store_announce(s);
    return ret;
}

/* Ids that were given when the clock was ahead of what it is now, to mail that has left, must not be given again: each such message
 * changed what lies in these directories later than it got its id. */
static void raise_unique(struct store *s)
{
    static const char *const dirs[] = {"journal", "journal/free"};
    struct buf path = BUF_INIT(SIZE_MAX);

    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        struct io_stat st;

        if (s->io->stat_path(s->io->ctx, store_path(&path, s->directory, dirs[i]), &st) == 0)
            metrics_unique_raise(st.mtime_us);
    }
    buf_fini(&path);
}

int store_recover(struct store *s, struct err *err)
{
    struct htable *large = htable_new(false);
    int ret = -1;

    raise_unique(s);

    lock_take(&s->lock);
    if (!s->readonly && list_large(s, large, err) == -1)
        goto done;
    if (load_files(s, err) == -1 || store_look_for_segments_locked(s, err) == -1)
        goto done;
    if (!s->readonly) {
        sweep_companions(s);
        store_segment_sweep_free(s->io, s->directory);
        htable_each(s->index, is_named, large);
        forget_done(s, large);
        if (!s->left_unread)
            htable_each(large, s->had_damage ? keep_orphan : remove_orphan, s);
    }
    ret = 0;
done:
    lock_release(&s->lock);
    htable_free(&large, free);
    if (ret == 0 && !s->readonly)
        settle_wishes(s);
    if (ret == 0)
        store_announce(s);
    return ret;
}
