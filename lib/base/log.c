/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - see log.h.
 *
 * A line is built on the stack and leaves in one system call: a datagram to /dev/log, or a write to the maillog
 * descriptor (O_APPEND: lines of many processes do not mix); or in none, by a ring (log_ring.h). The stamp is cached for the
 * second, by thread.
 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "base/file.h"
#include "base/lock.h"
#include "base/mtime.h"

#define LINE_MAX_BYTES   2000
#define REPEAT_WINDOW_MS 60000
#define REPEAT_LIMIT     10
#define REPEAT_SLOTS     16
#define REPEAT_TEXT      256 /* so much of a warning tells it from others */
#define RECONNECT_MS     1000
#define LINES_A_CALL     64

static struct {
    char tag[128]; /* "postfix/smtpd[123]" */
    char host[256];
    int facility;
    int maillog_fd;
    bool to_stderr, no_syslog, opened;
    char program[64];
    const char *syslog_path;
    void (*address)(struct slice addr, struct buf *out);
    pid_t pid;
} target = {.facility = LOG_MAIL, .maillog_fd = -1, .to_stderr = true};

static _Atomic int syslog_fd = -1;
static _Atomic int64_t syslog_retry_us;     /* no daemon: when to look again */
static _Atomic(struct log_ring *) log_ring; /* NULL: lines are sent from here */
static int verbosity;
static int fatal_status = 1;

/* Warnings that repeat. */
static struct lock repeat_lock = {PTHREAD_MUTEX_INITIALIZER, LOCK_LOG};
static struct repeat {
    char text[REPEAT_TEXT];
    struct mono_time since; /* of the first in its window */
    unsigned count;         /* 0: free */
} repeats[REPEAT_SLOTS] GUARDED_BY(repeat_lock);
static _Atomic bool
    repeats_pending; /* some warning was kept back, and its number is not told yet */

static int facility_number(const char *name)
{
    static const struct {
        const char *name;
        int number;
    } names[] = {
        {"auth", LOG_AUTH},     {"authpriv", LOG_AUTHPRIV}, {"cron", LOG_CRON},
        {"daemon", LOG_DAEMON}, {"ftp", LOG_FTP},           {"local0", LOG_LOCAL0},
        {"local1", LOG_LOCAL1}, {"local2", LOG_LOCAL2},     {"local3", LOG_LOCAL3},
        {"local4", LOG_LOCAL4}, {"local5", LOG_LOCAL5},     {"local6", LOG_LOCAL6},
        {"local7", LOG_LOCAL7}, {"lpr", LOG_LPR},           {"mail", LOG_MAIL},
        {"news", LOG_NEWS},     {"user", LOG_USER},         {"uucp", LOG_UUCP},
    };

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(name, names[i].name) == 0)
            return names[i].number;
    return LOG_MAIL;
}

static int connect_syslog(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    snprintf(un.sun_path, sizeof(un.sun_path), "%s", target.syslog_path);
    if (fd != -1 && connect(fd, (struct sockaddr *) &un, sizeof(un)) == -1)
        fd_close(&fd);
    if (fd != -1) {
        struct timeval limit = {
            .tv_sec = 1}; /* a syslog daemon that does not read may cost a line, not the mail */

        (void) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    }
    return fd;
}

/* "Nov 23 12:16:21", cached for the thread. */
static struct slice stamp(void)
{
    static _Thread_local int64_t second = -1;
    static _Thread_local char text[32];
    static _Thread_local size_t len;
    struct wall_time now = wall_now();

    if (wall_seconds(now) != second) {
        struct buf b = BUF_INIT(sizeof(text));

        wall_syslog(now, &b);
        len = b.len < sizeof(text) ? b.len : sizeof(text);
        memcpy(text, b.ptr, len);
        buf_fini(&b);
        second = wall_seconds(now);
    }
    return slice_of(text, len);
}

void log_open(const struct log_target *t)
{
    if (!target.opened)
        fd_fill_standard(); /* each program begins with this, before it opens anything */
    snprintf(target.program, sizeof(target.program), "%s", t->program);
    target.pid = getpid();
    if (t->syslog_name != NULL && t->syslog_name[0] != '\0')
        snprintf(target.tag, sizeof(target.tag), "%s/%s[%d]", t->syslog_name, t->program,
                 (int) target.pid);
    else
        snprintf(target.tag, sizeof(target.tag), "%s[%d]", t->program, (int) target.pid);
    if (gethostname(target.host, sizeof(target.host)) == -1)
        snprintf(target.host, sizeof(target.host), "localhost");
    target.host[strcspn(target.host, ".")] = '\0';
    target.facility = facility_number(t->facility != NULL ? t->facility : "mail");
    target.maillog_fd = t->maillog_fd;
    target.to_stderr = t->to_stderr;
    target.no_syslog = t->no_syslog;
    target.address = t->address;
    target.syslog_path = t->syslog_path != NULL ? t->syslog_path : "/dev/log";
    target.opened = true;
    (void) stamp(); /* reads the time zone's file while it can be read */
    if (target.maillog_fd == -1 && !target.no_syslog && atomic_load(&syslog_fd) == -1)
        atomic_store(&syslog_fd, connect_syslog());
}

void log_verbose(int level)
{
    verbosity = level;
}

int log_verbosity(void)
{
    return verbosity;
}

void log_fatal_status(int status)
{
    fatal_status = status;
}

static int priority(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_DEBUG:
    case LOG_LEVEL_INFO:
        return LOG_INFO;
    case LOG_LEVEL_WARNING:
        return LOG_WARNING;
    case LOG_LEVEL_ERROR:
        return LOG_ERR;
    case LOG_LEVEL_FATAL:
    case LOG_LEVEL_PANIC:
        return LOG_CRIT;
    }
    return LOG_INFO;
}

/* False: the daemon that was there is gone, or does not read. Where none ever was, lines go nowhere. */
static bool send_syslog(const char *line, size_t len, int flags)
{
    for (int i = 0; i < 2; i++) {
        int fd = atomic_load(&syslog_fd);
        int64_t now_us;
        int fresh;

        if (fd != -1 && send(fd, line, len, MSG_NOSIGNAL | flags) != -1)
            return true;
        if (fd != -1 && (errno == EAGAIN || errno == EMSGSIZE))
            return false;
        now_us = mono_now().us;
        if (now_us < atomic_load(&syslog_retry_us))
            return fd == -1;
        /* the daemon was restarted, or was not there: the new socket takes the old one's number, so that other
         * threads never send on a stranger's descriptor */
        fresh = connect_syslog();
        if (fresh == -1) {
            atomic_store(&syslog_retry_us, now_us + RECONNECT_MS * INT64_C(1000));
            return fd == -1;
        }
        if (fd == -1) {
            if (!atomic_compare_exchange_strong(&syslog_fd, &fd, fresh))
                fd_close(&fresh);
        } else {
            (void) dup3(fresh, fd, O_CLOEXEC);
            fd_close(&fresh);
        }
    }
    return false;
}

void log_use_ring(struct log_ring *ring)
{
    atomic_store(&log_ring, ring);
}

static void send_left(struct mono_time put, struct slice line, void *arg)
{
    (void) put;
    (void) arg;
    log_pass_on(&line, 1);
}

void log_leave_ring(void)
{
    struct log_ring *ring = atomic_exchange(&log_ring, NULL);

    if (ring == NULL)
        return;
    log_ring_close(ring);
    if (!log_ring_take(ring, MONO_NEVER, send_left, NULL))
        panic("log: our own ring is damaged");
    /* it stays mapped: another thread may be about to put a line, and be refused */
}

void log_pass_on(const struct slice *lines, size_t count)
{
    struct mmsghdr messages[LINES_A_CALL] = {0};
    struct iovec pieces[LINES_A_CALL];
    int flags = MSG_NOSIGNAL;

    while (count > 0) {
        size_t n = count < LINES_A_CALL ? count : LINES_A_CALL;
        int sent;

        for (size_t i = 0; i < n; i++) {
            pieces[i] = (struct iovec){(void *) (uintptr_t) lines[i].ptr, lines[i].len};
            messages[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
        }
        sent = sendmmsg(atomic_load(&syslog_fd), messages, (unsigned) n, flags);
        if (sent <= 0) {
            /* the first one is what there is trouble with */
            sent = 1;
            if (!send_syslog(lines[0].ptr, lines[0].len, flags)) {
                fprintf(stderr, "%.*s\n", SLICE_FMT(lines[0]));
                flags |= MSG_DONTWAIT;
            }
        }
        lines += sent;
        count -= (size_t) sent;
    }
}

static void write_line(enum log_level level, const char *text, size_t len)
{
    char line[LINE_MAX_BYTES + 512];
    struct slice when = stamp();
    struct log_ring *ring = atomic_load(&log_ring);
    bool written = true;
    int n;

    if (target.maillog_fd != -1) {
        n = snprintf(line, sizeof(line), "%.*s %s %s: %.*s\n", SLICE_FMT(when), target.host,
                     target.tag, (int) len, text);
        written = fd_write_all(target.maillog_fd, line, (size_t) n) == 0;
    } else if (target.opened && !target.no_syslog) {
        n = snprintf(line, sizeof(line), "<%d>%.*s %s: %.*s", target.facility | priority(level),
                     SLICE_FMT(when), target.tag, (int) len, text);
        written = (ring != NULL && log_ring_put(ring, slice_of(line, (size_t) n))) ||
                  send_syslog(line, (size_t) n, 0);
    }
    if (!target.opened)
        fprintf(stderr, "%.*s\n", (int) len, text);
    else if (target.to_stderr || !written)
        fprintf(stderr, "%s: %.*s\n", target.program, (int) len, text);
}

static void write_repeats(const struct repeat *r)
{
    char text[REPEAT_TEXT + 100];
    int n = snprintf(text, sizeof(text), "warning: %s ... last warning repeated %u times", r->text,
                     r->count - REPEAT_LIMIT);

    write_line(LOG_LEVEL_WARNING, text, (size_t) n);
}

/* Tells once of each kind of warning that was kept back, when its window is over. */
static void report_repeats(void)
{
    struct mono_time now = mono_now();
    bool pending = false;

    for (size_t i = 0; i < REPEAT_SLOTS; i++) {
        struct repeat r;

        lock_take(&repeat_lock);
        r = repeats[i];
        if (r.count != 0 && mono_diff_ms(now, r.since) > REPEAT_WINDOW_MS)
            repeats[i].count = 0;
        else if (r.count > REPEAT_LIMIT)
            pending = true;
        lock_release(&repeat_lock);
        if (r.count > REPEAT_LIMIT && mono_diff_ms(now, r.since) > REPEAT_WINDOW_MS)
            write_repeats(&r);
    }
    atomic_store(&repeats_pending, pending);
}

static void emit(enum log_level level, const char *text, size_t len)
{
    static _Atomic int64_t looked_second;
    int64_t second;

    if (atomic_load_explicit(&repeats_pending, memory_order_relaxed)) {
        second = mono_now().us / 1000000;
        if (atomic_exchange(&looked_second, second) != second)
            report_repeats();
    }
    write_line(level, text, len);
}

/* The length of the UTF-8 sequence at p, or 0: RFC 3629, less the control characters U+0080..U+009F. */
static size_t utf8_len(const unsigned char *p, size_t len)
{
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;

    if (p[0] < 0xc2 || p[0] > 0xf4 || len < n)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xc2 && p[1] < 0xa0) || (p[0] == 0xe0 && p[1] < 0xa0) ||
        (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

/* Control bytes and what is not UTF-8 become '?'. */
static size_t clean(char *text, size_t len)
{
    unsigned char *p = (unsigned char *) text;
    size_t i = 0;

    while (i < len) {
        size_t n = 1;

        if (p[i] >= 0x80)
            n = utf8_len(p + i, len - i);
        else if (p[i] < ' ' || p[i] == 127)
            n = 0;
        if (n == 0)
            p[i++] = '?';
        else
            i += n;
    }
    return len;
}

static void message(enum log_level level, const char *prefix, const char *fmt, va_list ap)
{
    char text[LINE_MAX_BYTES];
    int n = snprintf(text, sizeof(text), "%s", prefix);
    int m = vsnprintf(text + n, sizeof(text) - (size_t) n, fmt, ap);

    n += m < 0 ? 0 : m;
    emit(level, text, clean(text, (size_t) n < sizeof(text) ? (size_t) n : sizeof(text) - 1));
}

/* True if the warning is to be printed: not the eleventh of its text in a minute. */
static bool admit(const char *fmt, va_list ap)
{
    char text[REPEAT_TEXT];
    struct mono_time now = mono_now();
    struct repeat old = {.count = 0};
    struct repeat *r = &repeats[0];
    bool ok = true;

    if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
        return true;
    (void) clean(text, strlen(text));
    lock_take(&repeat_lock);
    for (size_t i = 0; i < REPEAT_SLOTS; i++) {
        if (repeats[i].count != 0 && strcmp(repeats[i].text, text) == 0) {
            r = &repeats[i];
            break;
        }
        /* else: a free one, or the oldest */
        if (r->count != 0 && (repeats[i].count == 0 || repeats[i].since.us < r->since.us))
            r = &repeats[i];
    }
    if (r->count != 0 && strcmp(r->text, text) == 0 &&
        mono_diff_ms(now, r->since) <= REPEAT_WINDOW_MS) {
        ok = ++r->count <= REPEAT_LIMIT;
    } else {
        old = *r;
        memcpy(r->text, text, strlen(text) + 1);
        r->since = now;
        r->count = 1;
    }
    lock_release(&repeat_lock);
    if (!ok)
        atomic_store(&repeats_pending, true);
    if (old.count > REPEAT_LIMIT)
        write_repeats(&old);
    return ok;
}

void log_debug(const char *fmt, ...)
{
    va_list ap;

    if (verbosity == 0)
        return;
    va_start(ap, fmt);
    message(LOG_LEVEL_DEBUG, "", fmt, ap);
    va_end(ap);
}

void log_info(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    message(LOG_LEVEL_INFO, "", fmt, ap);
    va_end(ap);
}

void log_warning(const char *fmt, ...)
{
    va_list ap;
    bool ok;

    va_start(ap, fmt);
    ok = admit(fmt, ap);
    va_end(ap);
    if (!ok)
        return;
    va_start(ap, fmt);
    message(LOG_LEVEL_WARNING, "warning: ", fmt, ap);
    va_end(ap);
}

void log_error(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    message(LOG_LEVEL_ERROR, "error: ", fmt, ap);
    va_end(ap);
}

void fatal(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    message(LOG_LEVEL_FATAL, "fatal: ", fmt, ap);
    va_end(ap);
    exit(fatal_status); /* NOLINT(concurrency-mt-unsafe): at start-up there is one thread */
}

void panic(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    message(LOG_LEVEL_PANIC, "panic: ", fmt, ap);
    va_end(ap);
    abort();
}

/* A line under construction; what does not fit is cut. */
struct line {
    char *text;
    size_t len;
};

static void put(struct line *l, struct slice s)
{
    size_t room = LINE_MAX_BYTES - l->len;
    size_t n = s.len < room ? s.len : room;

    if (n > 0)
        memcpy(l->text + l->len, s.ptr, n);
    l->len += n;
}

void log_put_address(struct buf *out, struct slice addr)
{
    buf_putc(out, '<');
    if (target.address != NULL)
        target.address(addr, out);
    else
        buf_put_slice(out, addr);
    buf_putc(out, '>');
}

static void put_address(struct line *l, struct slice addr)
{
    struct buf text = BUF_INIT(LINE_MAX_BYTES);

    log_put_address(&text, addr);
    put(l, buf_view(&text));
    buf_fini(&text);
}

void log_event_fields(enum log_level level, const char *event, struct slice queue_id,
                      const struct log_field *fields, size_t count)
{
    char text[LINE_MAX_BYTES];
    struct line l = {text, 0};
    bool first = true;

    (void) event; /* the text form does not show it */
    if (queue_id.len > 0) {
        put(&l, queue_id);
        put(&l, SLICE_LIT(": "));
    }
    for (size_t i = 0; i < count; i++) {
        const struct log_field *f = &fields[i];
        bool optional = f->kind == LF_KIND_OPT_TEXT || f->kind == LF_KIND_OPT_ADDR;
        char number[32];

        if (optional && f->text.len == 0)
            continue;
        if (f->kind == LF_KIND_PAREN) {
            put(&l, SLICE_LIT(" ("));
            put(&l, f->text);
            put(&l, SLICE_LIT(")"));
            continue;
        }
        if (!first)
            put(&l, SLICE_LIT(", "));
        first = false;
        if (f->kind != LF_KIND_RAW) {
            put(&l, slice_str(f->name));
            put(&l, SLICE_LIT("="));
        }
        switch (f->kind) {
        case LF_KIND_RAW:
        case LF_KIND_TEXT:
        case LF_KIND_OPT_TEXT:
            put(&l, f->text);
            break;
        case LF_KIND_ADDR:
        case LF_KIND_OPT_ADDR:
            put_address(&l, f->text);
            break;
        case LF_KIND_INT:
            snprintf(number, sizeof(number), "%lld", (long long) f->number);
            put(&l, slice_str(number));
            break;
        case LF_KIND_PAREN:
            break;
        }
    }
    emit(level, text, clean(text, l.len));
}
