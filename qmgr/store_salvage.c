/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_salvage.c - what is damaged, or what the disk does not give back, goes to corrupt/.
 *
 * Damaged bytes are as they are: once they lie in corrupt/, the original is not needed. What cannot be read (EIO) may be read
 * tomorrow, when a cable is in its place again: the pages that can be read are copied, to NAME.part, and the original
 * stays, and with it the segment that it lies in. Each start looks at it again.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "qmgr/store_owner_int.h"

#define PAGE_BYTES  4096U
#define PIECE_BYTES (1U << 20)

ssize_t store_pread_salvage(const struct io_ops *io, int fd, void *data, size_t len,
                            uint64_t offset, uint64_t *lost_to)
{
    ssize_t n = io->pread(io->ctx, fd, data, len, offset);
    struct io_stat st;

    if (n >= 0 || errno != EIO)
        return n;
    if (io->stat_fd(io->ctx, fd, &st) == -1)
        return -1;
    if (offset >= st.bytes)
        return 0;
    if (len > st.bytes - offset)
        len = (size_t) (st.bytes - offset);
    for (size_t at = 0; at < len;) {
        size_t want = PAGE_BYTES - (size_t) ((offset + at) % PAGE_BYTES);

        if (want > len - at)
            want = len - at;
        n = io->pread(io->ctx, fd, (char *) data + at, want, offset + at);
        if (n < 0 && errno != EIO)
            return -1;
        if (n < 0) {
            memset((char *) data + at, 0, want);
            if (offset + at + want > *lost_to)
                *lost_to = offset + at + want;
        } else if ((size_t) n < want) {
            return (ssize_t) at + n; /* cut back meanwhile */
        }
        at += want;
    }
    return (ssize_t) len;
}

/* Into `out`, from its beginning. */
static int copy(struct store *s, int fd, uint64_t from, uint64_t to, int out, const char *path,
                uint64_t *lost_to, struct err *err)
{
    const struct io_ops *io = s->io;
    struct buf data = BUF_INIT(SIZE_MAX);
    uint64_t at = 0;
    int ret = -1;

    while (from < to) {
        size_t n = to - from < PIECE_BYTES ? (size_t) (to - from) : PIECE_BYTES;
        struct iovec iov;
        ssize_t got;

        buf_reset(&data);
        got = store_pread_salvage(io, fd, buf_reserve(&data, n), n, from, lost_to);
        if (got < 0) {
            store_err_sys(err, "read", "what is to be set aside");
            goto done;
        }
        if (got == 0)
            break;
        iov = (struct iovec){data.ptr, (size_t) got};
        if (io->pwritev(io->ctx, out, &iov, 1, at) == -1) {
            store_err_sys(err, "write", path);
            goto done;
        }
        from += (uint64_t) got;
        at += (uint64_t) got;
    }
    if (io->fdatasync(io->ctx, out) == -1) {
        store_err_sys(err, "sync", path);
        goto done;
    }
    ret = 0;
done:
    buf_fini(&data);
    return ret;
}

enum set_aside store_set_aside(struct store *s, int fd, uint64_t from, uint64_t to,
                               const char *name, struct err *err)
{
    const struct io_ops *io = s->io;
    struct buf path = BUF_INIT(SIZE_MAX);
    struct buf tmp = BUF_INIT(SIZE_MAX);
    struct io_stat st;
    uint64_t lost_to = 0;
    enum set_aside ret = ASIDE_FAILED;
    int out = -1;

    buf_printf(&path, "%s/corrupt/%s", s->directory, name);
    if (io->stat_path(io->ctx, buf_cstr(&path), &st) == 0 && st.bytes == to - from) {
        ret = ASIDE_BEFORE;
        goto done;
    }
    buf_printf(&tmp, "%s.part", buf_cstr(&path));
    out = io->open(io->ctx, buf_cstr(&tmp), O_RDWR | O_CREAT | O_TRUNC, STORE_FILE_MODE);
    if (out == -1) {
        store_err_sys(err, "create", buf_cstr(&tmp));
        goto done;
    }
    if (copy(s, fd, from, to, out, buf_cstr(&tmp), &lost_to, err) == -1) {
        (void) io->unlink(io->ctx, buf_cstr(&tmp));
        goto done;
    }
    if (lost_to == 0 && io->rename(io->ctx, buf_cstr(&tmp), buf_cstr(&path), true) == -1) {
        store_err_sys(err, "rename", buf_cstr(&tmp));
        goto done;
    }
    if (io->sync_dir(io->ctx, store_path(&path, s->directory, "corrupt")) == -1) {
        store_err_sys(err, "sync", buf_cstr(&path));
        goto done;
    }
    ret = lost_to == 0 ? ASIDE_DONE : ASIDE_PART;
done:
    if (out != -1)
        io->close(io->ctx, out);
    buf_fini(&path);
    buf_fini(&tmp);
    return ret;
}

void store_report_damage(struct store *s, struct segment *seg, uint64_t from, uint64_t to)
{
    struct err err = ERR_INIT;
    struct buf what = BUF_INIT(SIZE_MAX);
    char name[48];

    s->had_damage = true;
    snprintf(name, sizeof(name), "%016" PRIX64 "-%" PRIX64, seg->number, from);
    buf_printf(&what, "journal segment %016" PRIX64 ": %" PRIu64 " bytes at %" PRIu64, seg->number,
               to - from, from);
    if (s->readonly) {
        store_damage_locked(s, "%s are damaged", buf_cstr(&what));
        goto done;
    }
    switch (store_set_aside(s, seg->fd, from, to, name, &err)) {
    case ASIDE_DONE:
        store_damage_locked(s, "%s are damaged, kept as corrupt/%s", buf_cstr(&what), name);
        break;
    case ASIDE_BEFORE: /* reported by an earlier recovery */
        break;
    case ASIDE_PART:
        seg->keep = s->left_unread = true;
        store_damage_locked(
            s,
            "%s cannot be read: I/O error; they stay where they are, what could be read is kept as corrupt/%s.part",
            buf_cstr(&what), name);
        break;
    case ASIDE_FAILED:
        seg->keep = true;
        store_damage_locked(s, "%s are damaged; cannot keep them elsewhere: %s", buf_cstr(&what),
                            err.text);
        break;
    }
done:
    buf_fini(&what);
}
