/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mailbox.c - see mailbox.h. mbox: "From " lines in the text are quoted with ">".
 */
#include "local/mailbox.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/blocking.h"
#include "base/file.h"
#include "base/log.h"
#include "local/mailbox_int.h"
#include "local/maildir.h"
#include "mail/address.h"
#include "mail/content.h"

#define PIECE 65536

/* In Linux a thread has ids of its own; the C library's calls would change those of all threads. */
static int set_effective_uid(uid_t uid)
{
    return (int) syscall(SYS_setresuid, (uid_t) -1, uid, (uid_t) -1);
}

static int set_effective_gid(gid_t gid)
{
    return (int) syscall(SYS_setresgid, (gid_t) -1, gid, (gid_t) -1);
}

int mailbox_become(const struct mailbox_owner *owner, struct err *err)
{
    if (geteuid() != 0 && getuid() != 0) {
        if (owner->uid != geteuid())
            return err_set(err, ERR_TEMPORARY, "4.3.5",
                           "cannot deliver as user %lu: the mail system runs as user %lu",
                           (unsigned long) owner->uid, (unsigned long) geteuid());
        return 0;
    }
    if (set_effective_gid(owner->gid) == -1 || set_effective_uid(owner->uid) == -1) {
        err_sys(err, "become user %lu", (unsigned long) owner->uid);
        mailbox_become_root();
        return -1;
    }
    return 0;
}

void mailbox_become_root(void)
{
    if (getuid() != 0)
        return;
    if (set_effective_uid(0) == -1 || set_effective_gid(0) == -1)
        panic("cannot become root again");
}

int mailbox_write_error(struct err *err, const char *path)
{
    int code = errno;

    err_sys(err, "write %s", path);
    if (code == EDQUOT)
        err_set(err, ERR_PERMANENT, "5.2.2", "cannot write %s: disk quota exceeded", path);
    return -1;
}

static void put_headers(const struct deliver_request *r, const struct mailbox_headers *h, bool mbox,
                        struct buf *out)
{
    (void) r;
    if (mbox) {
        time_t now = time(NULL);
        struct tm tm;
        char stamp[64] = "";

        if (localtime_r(&now, &tm) != NULL)
            (void) strftime(stamp, sizeof(stamp), "%a %b %e %H:%M:%S %Y", &tm);
        buf_puts(out, "From ");
        if (h->return_path.len > 0)
            address_quote(h->return_path, out);
        else
            buf_puts(out, "MAILER-DAEMON");
        buf_printf(out, " %s\n", stamp);
    }
    buf_puts(out, "Return-Path: <");
    address_quote(h->return_path, out);
    buf_puts(out, ">\n");
    if (h->original_to.len > 0)
        buf_printf(out, "X-Original-To: %.*s\n", SLICE_FMT(h->original_to));
    if (h->delivered_to.len > 0)
        buf_printf(out, "Delivered-To: %.*s\n", SLICE_FMT(h->delivered_to));
}

/* Quotes lines that begin with "From " (and ">From "); *at_start: the piece begins a line. */
static void put_mbox_text(struct slice s, bool *at_start, struct buf *out)
{
    while (s.len > 0) {
        ptrdiff_t nl = slice_find(s, '\n');
        size_t n = nl == -1 ? s.len : (size_t) nl + 1;

        if (*at_start) {
            struct slice rest = s;

            while (rest.len > 0 && rest.ptr[0] == '>')
                rest = slice_sub(rest, 1, rest.len);
            if (slice_starts_with(rest, SLICE_LIT("From ")))
                buf_putc(out, '>');
        }
        buf_put_slice(out, slice_sub(s, 0, n));
        *at_start = nl != -1;
        s = slice_sub(s, n, s.len);
    }
}

int mailbox_write_message(const struct deliver_request *r, int fd, const char *path,
                          const struct mailbox_headers *h, bool mbox, struct err *err)
{
    struct buf out = BUF_INIT(SIZE_MAX);
    struct buf text = BUF_INIT(SIZE_MAX);
    char *piece = xmalloc(PIECE);
    bool last_cr = false;
    bool at_start = true;
    uint64_t at = 0;
    int ret = -1;

    put_headers(r, h, mbox, &out);
    while (at < r->msg.content_bytes) {
        ssize_t n = deliver_content(r, at, piece, PIECE, err);

        if (n == -1)
            goto done;
        at += (uint64_t) n;
        if (mbox) {
            content_to_unix(slice_of(piece, (size_t) n), &last_cr, &text);
            put_mbox_text(buf_view(&text), &at_start, &out);
            buf_reset(&text);
        } else {
            content_to_unix(slice_of(piece, (size_t) n), &last_cr, &out);
        }
        if (at == r->msg.content_bytes && mbox)
            buf_puts(&out, out.len > 0 && out.ptr[out.len - 1] == '\n' ? "\n" : "\n\n");
        if (fd_write_all(fd, out.ptr, out.len) == -1) {
            mailbox_write_error(err, path);
            goto done;
        }
        buf_reset(&out);
    }
    ret = 0;
done:
    free(piece);
    buf_fini(&out);
    buf_fini(&text);
    return ret;
}

/* --- mbox ----------------------------------------------------------------------------------------------- */

/* Creates PATH.lock, breaking a stale one. */
static int take_dotlock(const char *lock, const struct mailbox_options *opt)
{
    struct stat st;
    int fd = open(lock, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd == -1 && errno == EEXIST && stat(lock, &st) == 0 &&
        time(NULL) - st.st_mtime > opt->stale_lock_s) {
        (void) unlink(lock);
        fd = open(lock, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    }
    if (fd == -1)
        return -1;
    fd_close(&fd);
    return 0;
}

static int lock_mbox(int fd, const char *lock, const struct mailbox_options *opt, bool *dotlocked)
{
    for (int64_t i = 0; i < opt->lock_attempts; i++) {
        /* the open file's: a process's would not keep its other threads out */
        struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

        if (i > 0)
            (void) poll(NULL, 0, (int) (opt->lock_delay_s * 1000));
        if (opt->dotlock && !*dotlocked) {
            /* where the directory is not ours to write, the other locks must do */
            if (take_dotlock(lock, opt) == 0)
                *dotlocked = true;
            else if (errno == EEXIST)
                continue;
        }
        if (opt->fcntl_lock && fcntl(fd, F_OFD_SETLK, &fl) == -1)
            continue;
        if (opt->flock_lock && flock(fd, LOCK_EX | LOCK_NB) == -1)
            continue;
        return 0;
    }
    return -1;
}

static int deliver_mbox(const struct deliver_request *r, const char *path,
                        const struct mailbox_headers *h, const struct mailbox_options *opt,
                        off_t *at, struct err *err)
{
    struct buf lock = BUF_INIT(4096);
    bool dotlocked = false;
    struct stat st;
    int fd;
    int ret = -1;

    buf_printf(&lock, "%s.lock", path);
    fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd == -1) {
        err_sys(err, "open mailbox %s", path);
        err_set(err, ERR_TEMPORARY, "4.2.0", "%s", err->text);
        goto done;
    }
    /* /dev/null: what is written there needs no lock, and is not cut back */
    if (fstat(fd, &st) == 0 && S_ISCHR(st.st_mode)) {
        ret = mailbox_write_message(r, fd, path, h, true, err);
        goto done;
    }
    if (lock_mbox(fd, buf_cstr(&lock), opt, &dotlocked) == -1) {
        err_set(err, ERR_TEMPORARY, "4.2.0", "unable to lock mailbox %s", path);
        goto done;
    }
    if (fstat(fd, &st) == -1) {
        err_sys(err, "stat %s", path);
        goto done;
    }
    if (!S_ISREG(st.st_mode) || st.st_nlink > 1) {
        err_set(err, ERR_PERMANENT, "5.2.0", "destination %s is not a regular file of its own",
                path);
        goto done;
    }
    if (opt->strict_ownership && st.st_uid != geteuid()) {
        err_set(err, ERR_TEMPORARY, "4.2.0", "destination %s is not owned by recipient", path);
        goto done;
    }
    if (opt->size_limit > 0 && st.st_size > opt->size_limit) {
        err_set(err, ERR_PERMANENT, "5.2.2",
                "cannot update mailbox %s: larger than mailbox_size_limit", path);
        goto done;
    }
    if (at != NULL)
        *at = st.st_size;
    ret = mailbox_write_message(r, fd, path, h, true, err);
    if (ret == 0 && fsync(fd) == -1)
        ret = mailbox_write_error(err, path);
    /* nobody has put anything into it before: perhaps it is new */
    if (ret == 0 && st.st_size == 0)
        ret = mailbox_sync_name(path, fd, err);
    if (ret == -1 && ftruncate(fd, st.st_size) == -1)
        log_warning("%s: half a message could not be removed: errno %d", path, errno);
done:
    if (dotlocked)
        (void) unlink(buf_cstr(&lock));
    fd_close(&fd);
    buf_fini(&lock);
    return ret;
}

static int deliver_maildir(const struct deliver_request *r, const char *dir,
                           const struct mailbox_headers *h, const struct mailbox_options *opt,
                           struct err *err)
{
    struct maildir_file f;
    int ret = maildir_write(r, dir, h, opt, &f, err);

    if (ret == 0)
        ret = maildir_finish(&f, err);
    maildir_close(&f);
    return ret;
}

int mailbox_deliver(const struct deliver_request *r, const char *path,
                    const struct mailbox_owner *owner, const struct mailbox_headers *headers,
                    const struct mailbox_options *opt, off_t *at, struct err *err)
{
    size_t len = strlen(path);
    int ret;

    if (len == 0)
        return err_set(err, ERR_TEMPORARY, "4.3.5", "empty mailbox path");
    if (mailbox_become(owner, err) == -1)
        return -1;
    blocking_begin();
    ret = path[len - 1] == '/' ? deliver_maildir(r, path, headers, opt, err)
                               : deliver_mbox(r, path, headers, opt, at, err);
    blocking_end();
    mailbox_become_root();
    return ret;
}
