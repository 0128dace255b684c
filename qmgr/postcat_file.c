/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postcat_file.c - messages out of a file that is named: a message file, a segment of the journal, a record in corrupt/. Nothing in
 * it is trusted.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/log.h"
#include "qmgr/postcat.h"
#include "qmgr/store_int.h"

/* What is noted behind the record of a message file. */
struct noted {
    struct arena *arena;
    struct store_rcpt *rcpts;
    size_t nrcpts;
    struct store_state state;
};

static void apply_note(struct noted *noted, const struct journal_note *n)
{
    if (n->type == NOTE_STATE)
        noted->state = n->state;
    if (n->index >= noted->nrcpts)
        return;
    if (n->type == NOTE_RCPT_DONE)
        noted->rcpts[n->index].done = true;
    if (n->type == NOTE_DEFERRED)
        noted->rcpts[n->index].reason = arena_slice(noted->arena, n->reason);
}

static int open_large(const char *queue_directory, uint64_t large, struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    int fd = open(store_path_large(&path, queue_directory, large), O_RDONLY | O_CLOEXEC);

    if (fd == -1)
        err_sys(err, "open %s", buf_cstr(&path));
    buf_fini(&path);
    return fd;
}

struct source {
    const struct postcat_options *opt;
    const char *queue_directory;
    const char *path;
    int fd;
    FILE *out;
};

/* at: where in the file; r->offset may be another place when the record was set aside. */
static int print_record(const struct source *src, const struct journal_record *r, uint64_t at,
                        bool is_file, struct err *err)
{
    struct arena *arena = arena_new(0);
    struct buf payload = BUF_INIT(SIZE_MAX);
    struct buf name = BUF_INIT(SIZE_MAX);
    struct postcat_message m = {.name = src->path, .record_at = at, .fd = src->fd};
    struct noted noted = {.arena = arena};
    size_t len = (size_t) r->length - JOURNAL_RECORD_BYTES;
    char *data = len < (1U << 30) ? buf_reserve(&payload, len + 1) : NULL;
    struct slice rest;
    uint32_t count;
    int large = -1;
    int ret = -1;

    if (data == NULL ||
        fd_pread_all(src->fd, data, len, (off_t) (at + JOURNAL_RECORD_BYTES)) != (ssize_t) len) {
        err_permanent(err, "%s: the record at %" PRIu64 " is cut short", src->path, at);
        goto done;
    }
    if (!journal_payload_ok(r, data))
        log_warning("%s: the record at %" PRIu64 " is damaged", src->path, at);
    if (journal_meta_get(slice_of(data, r->meta_bytes), &m.env, &rest, &count, err) == -1)
        goto done;
    noted.nrcpts = count;
    noted.rcpts = arena_alloc(arena, (count + 1) * sizeof(*noted.rcpts));
    for (uint32_t i = 0; i < count; i++) {
        if (journal_rcpt_next(&rest, &noted.rcpts[i].r, err) == -1)
            goto done;
        noted.rcpts[i].reason = noted.rcpts[i].r.reason;
    }
    if (is_file) {
        struct journal_note n;
        struct buf tail = BUF_INIT(SIZE_MAX);
        uint64_t pos = at + r->length;
        size_t used;
        ssize_t got;

        do {
            buf_reset(&tail);
            got = fd_pread_all(src->fd, buf_reserve(&tail, JOURNAL_NOTE_MAX), JOURNAL_NOTE_MAX,
                               (off_t) pos);
            used = got <= 0 ? 0 : journal_note_get(tail.ptr, (size_t) got, r->epoch, &n);
            if (used > 0)
                apply_note(&noted, &n);
            pos += used;
        } while (used > 0);
        buf_fini(&tail);
        m.state = &noted.state;
    } else {
        buf_printf(&name, "%s %.*s", src->path, SLICE_FMT(m.env.queue_id));
        m.name = buf_cstr(&name);
    }
    m.rcpts = noted.rcpts;
    m.nrcpts = count;
    m.content_bytes = r->content_bytes;
    m.content_at = at + journal_content_at(r);
    if (r->large != 0) {
        large = open_large(src->queue_directory, r->large, err);
        if (large == -1)
            goto done;
        m.fd = large;
        m.content_at = 0;
    }
    ret = postcat_print(src->opt, &m, src->out, err);
done:
    if (large != -1)
        fd_close(&large);
    buf_fini(&payload);
    buf_fini(&name);
    arena_free(&arena);
    return ret;
}

static int print_segment(const struct source *src, uint64_t epoch, uint64_t bytes, uint64_t skip,
                         struct err *err)
{
    unsigned char raw[JOURNAL_RECORD_BYTES];
    struct journal_record r;
    uint64_t at = skip > JOURNAL_SEGMENT_START ? skip : JOURNAL_SEGMENT_START;
    int ret = 0;

    while (at < bytes &&
           fd_pread_all(src->fd, raw, sizeof(raw), (off_t) at) == (ssize_t) sizeof(raw) &&
           journal_record_get(raw, sizeof(raw), epoch, at, &r)) {
        if (r.type == JOURNAL_MESSAGE && r.length <= bytes - at &&
            print_record(src, &r, at, false, err) == -1)
            ret = -1;
        at += r.length;
    }
    return ret;
}

int postcat_file(const struct postcat_options *opt, const char *queue_directory, const char *path,
                 int fd, uint64_t skip, FILE *out, struct err *err)
{
    const struct source src = {opt, queue_directory, path, fd, out};
    unsigned char raw[JOURNAL_FILE_START + JOURNAL_RECORD_BYTES];
    struct journal_head head;
    struct journal_record r;
    uint64_t offset = 0;
    ssize_t n = fd_pread_all(fd, raw, sizeof(raw), 0);

    if (n < 0)
        return err_sys(err, "read %s", path);
    if (journal_head_get(raw, (size_t) n, JOURNAL_SEGMENT, &head))
        return print_segment(&src, head.epoch, head.bytes, skip, err);
    if (n == (ssize_t) sizeof(raw) && journal_head_get(raw, (size_t) n, JOURNAL_FILE, &head) &&
        journal_record_get(raw + JOURNAL_FILE_START, JOURNAL_RECORD_BYTES, head.epoch,
                           JOURNAL_FILE_START, &r))
        return skip > JOURNAL_FILE_START ? 0
                                         : print_record(&src, &r, JOURNAL_FILE_START, true, err);
    /* set aside: it names the place where it stood */
    for (int i = 0; n >= JOURNAL_RECORD_BYTES && i < 8; i++)
        offset |= (uint64_t) raw[16 + i] << (8 * i);
    if (journal_record_get_any(raw, (size_t) n, offset, &r) && r.type == JOURNAL_MESSAGE)
        return skip > 0 ? 0 : print_record(&src, &r, 0, false, err);
    return err_permanent(err, "%s: input is not a valid queue file", path);
}
