/* SPDX-License-Identifier: Apache-2.0 */
/*
 * maillog.c - maillog_file: log lines in a file (or on standard output) in place of syslog.
 *
 * Master opens the file, and workers inherit the descriptor, so that daemons without privilege write their lines themselves.
 * Commands send theirs, complete with stamp, as datagrams to public/postlog, which master appends. That is postlogd(8).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "master/master_int.h"

#define LINE_MAX_BYTES  4096
#define LINES_AT_A_TIME 64

/* The file lies in one of maillog_file_prefixes: so that no mail program is made to write elsewhere. */
static bool prefix_allows(const struct generation *g, const char *path)
{
    struct slice rest = slice_str(g->p.maillog_file_prefixes);
    struct slice prefix;

    while (slice_token(&rest, ", \t\r\n", &prefix)) {
        struct slice p = slice_str(path);

        while (prefix.len > 1 && prefix.ptr[prefix.len - 1] == '/')
            prefix.len--;
        if (slice_starts_with(p, prefix) &&
            (p.len == prefix.len || p.ptr[prefix.len] == '/' || prefix.len == 1))
            return true;
    }
    return false;
}

bool maillog_is_standard(const struct generation *g)
{
    return strcmp(g->common.maillog_file, "/dev/stdout") == 0 ||
           strcmp(g->common.maillog_file, "/dev/stderr") == 0;
}

int maillog_open(const struct generation *g, int *fd, struct err *err)
{
    const char *path = g->common.maillog_file;
    uint64_t mode;

    *fd = -1;
    if (path[0] == '\0')
        return 0;
    if (num_parse_u64_base(slice_str(g->p.maillog_file_permissions), 8, 0777, &mode, err) == -1)
        return err_prefix(err, "maillog_file_permissions: ");
    if (!prefix_allows(g, path))
        return err_permanent(err, "maillog_file \"%s\" matches none of maillog_file_prefixes (%s)",
                             path, g->p.maillog_file_prefixes);
    /* which open() refuses when it is a socket */
    if (maillog_is_standard(g))
        *fd = fcntl(strcmp(path, "/dev/stdout") == 0 ? STDOUT_FILENO : STDERR_FILENO,
                    F_DUPFD_CLOEXEC, 0);
    else
        *fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, (mode_t) mode);
    return *fd == -1 ? err_sys(err, "maillog_file %s", path) : 0;
}

static void postlog_address(const struct generation *g, struct sockaddr_un *un, bool absolute)
{
    struct buf path = BUF_INIT(4096);

    if (absolute)
        buf_printf(&path, "%s/", g->common.queue_directory);
    buf_printf(&path, "public/%s", g->p.postlog_service_name);
    *un = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (path.len < sizeof(un->sun_path))
        memcpy(un->sun_path, buf_cstr(&path), path.len);
    buf_fini(&path);
}

int postlog_listen(const struct generation *g, struct err *err)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un un;

    if (fd == -1)
        return err_sys(err, "socket for log lines");
    postlog_address(g, &un, false);
    (void) unlink(un.sun_path);
    if (bind(fd, (struct sockaddr *) &un, sizeof(un)) == -1 || chmod(un.sun_path, 0666) == -1) {
        err_sys(err, "bind %s", un.sun_path);
        fd_close(&fd);
    }
    return fd;
}

void postlog_receive(int fd, int log_fd)
{
    for (int i = 0; i < LINES_AT_A_TIME; i++) {
        char line[LINE_MAX_BYTES + 1];
        ssize_t n = recv(fd, line, LINE_MAX_BYTES, 0);
        size_t len;

        if (n <= 0)
            return; /* no more, or an error that the next event repeats */
        len = (size_t) n;
        if (line[len - 1] == '\n')
            len--;
        for (size_t k = 0; k < len; k++)
            if ((unsigned char) line[k] < ' ' || line[k] == 127)
                line[k] = '?';
        line[len] = '\n';
        if (log_fd != -1 && fd_write_all(log_fd, line, len + 1) == -1)
            log_debug("a line of a command is lost: errno %d", errno);
    }
}

void command_log_open(const struct generation *g, const char *program, bool whole_tag,
                      bool to_stderr)
{
    struct log_target t = {
        .syslog_name = whole_tag ? "" : g->common.syslog_name,
        .program = program,
        .facility = g->common.syslog_facility,
        .maillog_fd = -1,
        .to_stderr = to_stderr,
    };
    struct sockaddr_un un;
    struct err err = ERR_INIT;
    int fd;

    if (g->common.maillog_file[0] == '\0') {
        log_open(&t);
        return;
    }
    /* a line that is written to a connected datagram socket is one datagram */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    postlog_address(g, &un, true);
    if (fd != -1 && connect(fd, (struct sockaddr *) &un, sizeof(un)) == -1)
        fd_close(&fd);
    /* without rights to either, as an ordinary user's sendmail(1): syslog */
    if (fd == -1 && !maillog_is_standard(g) && maillog_open(g, &fd, &err) == -1)
        log_debug("%s", err.text);
    t.maillog_fd = fd;
    t.no_syslog = fd != -1;
    log_open(&t);
}

bool maillog_is_rotated(const char *name)
{
    const char *slash = strrchr(name, '/');
    const char *base = slash != NULL ? slash + 1 : name;
    char *dir = slash != NULL ? xstrndup(name, (size_t) (base - name)) : xstrdup(".");
    size_t len = strlen(base);
    bool found = false;
    struct dirent *e;
    DIR *d = opendir(dir);

    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    while (d != NULL && !found && (e = readdir(d)) != NULL)
        found =
            strncmp(e->d_name, base, len) == 0 && (e->d_name[len] == '\0' || e->d_name[len] == '.');
    if (d != NULL)
        (void) closedir(d);
    free(dir);
    return found;
}
