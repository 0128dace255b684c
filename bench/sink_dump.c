/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink_dump.c - mail transactions as files, for smtp-sink -d (a file each) and -D (one file for many).
 *
 * A message is collected in memory. A single dump is written whenever there is much of it, and removed if its end does
 * not come; one of many is appended when it is whole, in one write, so that sessions do not mix.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "sink_int.h"

enum { WRITE_BYTES = 256 * 1024, NAME_TRIES = 100, NAME_MAX_BYTES = 1024 };

struct sink_dump {
    char path[NAME_MAX_BYTES + 16];
    int fd;
    bool single;
    int error; /* errno of the first write that failed */
    struct buf text;
};

static int open_with_directories(const char *path, int flags)
{
    int fd = open(path, flags, 0644);
    struct err ignored = ERR_INIT;
    char *copy;

    if (fd != -1 || errno != ENOENT)
        return fd;
    copy = xstrdup(path);
    if (dir_make(dirname(copy), 0755, &ignored) == 0) /* NOLINT(concurrency-mt-unsafe): its own */
        fd = open(path, flags, 0644);
    else
        errno = ENOENT;
    free(copy);
    return fd;
}

/* The template is the user's own. 0: it expands to nothing, or to more than fits. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static size_t expand(const char *template, char *out, size_t len)
{
    time_t now = time(NULL);
    struct tm tm;

    return localtime_r(&now, &tm) != NULL ? strftime(out, len, template, &tm) : 0;
}
#pragma GCC diagnostic pop

/* Sets path, fd and the random part of the name. */
static int open_file(const struct sink_options *o, struct sink_dump *d, unsigned *id,
                     struct err *err)
{
    char base[NAME_MAX_BYTES];
    const char *template = o->dump_one != NULL ? o->dump_one : o->dump_all;

    if (expand(template, base, sizeof(base)) == 0)
        return err_input(err, "%s: expands to no name, or one that is too long", template);
    for (int i = 0; i < NAME_TRIES && d->fd == -1; i++) {
        *id = arc4random();
        if (d->single)
            (void) snprintf(d->path, sizeof(d->path), "%s%08x", base, *id);
        else
            (void) snprintf(d->path, sizeof(d->path), "%s", base);
        d->fd = open_with_directories(d->path, O_WRONLY | O_CREAT | O_CLOEXEC |
                                                   (d->single ? O_EXCL : O_APPEND));
        if (d->fd == -1 && errno != EEXIST)
            break;
    }
    return d->fd == -1 ? err_sys(err, "%s", d->path) : 0;
}

static void put_head(struct sink_dump *d, const struct sink_options *o,
                     const struct sink_envelope *e, unsigned id)
{
    struct slice rest = e->rcpts;
    struct slice rcpt;
    char address[80];

    (void) snprintf(address, sizeof(address), "[%s]", e->client);
    buf_put_slice(&d->text, o->dump_start);
    buf_printf(&d->text, "X-Client-Addr: %s\nX-Client-Proto: %s\n", e->client, e->protocol);
    if (e->helo.len > 0)
        buf_printf(&d->text, "X-Helo-Args: %.*s\n", SLICE_FMT(e->helo));
    buf_printf(&d->text, "X-Mail-Args: %.*s\n", SLICE_FMT(e->mail));
    while (slice_token(&rest, "\n", &rcpt))
        buf_printf(&d->text, "X-Rcpt-Args: %.*s\n", SLICE_FMT(rcpt));
    buf_printf(&d->text, "Received: from %.*s (%s)\n\tby %s (smtp-sink) with %s id %08x;\n\t",
               SLICE_FMT(e->helo.len > 0 ? e->helo : slice_str(address)), address, o->hostname,
               e->protocol, id);
    wall_rfc5322(wall_now(), &d->text);
    buf_putc(&d->text, '\n');
}

int sink_dump_open(const struct sink_options *o, const struct sink_envelope *e,
                   struct sink_dump **out, struct err *err)
{
    struct sink_dump *d = xcalloc(1, sizeof(*d));
    unsigned id = 0;

    d->fd = -1;
    d->single = o->dump_one != NULL;
    buf_init(&d->text, SIZE_MAX);
    if (open_file(o, d, &id, err) == -1) {
        free(d);
        return -1;
    }
    put_head(d, o, e, id);
    *out = d;
    return 0;
}

static void write_out(struct sink_dump *d)
{
    if (d->error == 0 && fd_write_all(d->fd, d->text.ptr, d->text.len) == -1)
        d->error = errno;
    buf_reset(&d->text);
}

void sink_dump_put(struct sink_dump *d, struct slice data)
{
    buf_put_slice(&d->text, data);
    if (d->single && d->text.len >= WRITE_BYTES)
        write_out(d);
}

int sink_dump_close(struct sink_dump **dump, bool whole, struct err *err)
{
    struct sink_dump *d = *dump;
    int ret = 0;

    if (whole) {
        buf_putc(&d->text, '\n');
        write_out(d);
    }
    if (close(d->fd) == -1 && d->error == 0)
        d->error = errno;
    if (d->error != 0) {
        errno = d->error;
        ret = err_sys(err, "%s", d->path);
    }
    if (d->single && (!whole || ret == -1))
        (void) unlink(d->path);
    buf_fini(&d->text);
    free(d);
    *dump = NULL;
    return ret;
}
