/* SPDX-License-Identifier: Apache-2.0 */
/*
 * local_command.c - a command that gets a message on its standard input. It runs as the owner of what named it, never as root, in a
 * process group of its own, for a limited time. Its exit status is of sysexits.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "local/local_int.h"
#include "mail/address.h"
#include "mail/content.h"

#define OUTPUT_MAX 2000

static char *variable(const struct local_job *j, const char *name, struct slice value)
{
    struct buf b = BUF_INIT(65536);

    buf_printf(&b, "%s=", name);
    /* values come from outside: only what is harmless for a shell is kept */
    for (size_t i = 0; i < value.len; i++)
        buf_putc(&b, value.ptr[i] != '\0' && strchr(j->l->p.command_filter, value.ptr[i]) != NULL
                         ? value.ptr[i]
                         : '_');
    return buf_take(&b);
}

/* export_environment: "NAME", or "NAME=value". */
static void export(const struct local_job *j, struct vec *env)
{
    struct slice rest = slice_str(j->l->p.export_environment);
    struct slice word;

    while (slice_token_braces(&rest, ", \t\r\n", &word)) {
        char *text = slice_dup(word);

        if (strchr(text, '=') == NULL) {
            const char *value = getenv(text); /* NOLINT(concurrency-mt-unsafe): single-threaded */
            struct buf pair = BUF_INIT(SIZE_MAX);

            if (value != NULL) {
                buf_printf(&pair, "%s=%s", text, value);
                vec_push(env, buf_take(&pair));
            }
        } else {
            vec_push(env, xstrdup(text));
        }
        free(text);
    }
}

static void make_environment(const struct local_job *j, const struct local_rights *rights,
                             const char *shell, struct vec *env)
{
    struct slice local = address_local(j->rcpt->addr);
    struct slice user;
    struct slice ext;

    (void) address_split_extension(local, j->l->delimiter, &user, &ext);
    if (rights->user != NULL)
        user = slice_str(rights->user);
    const struct {
        const char *name;
        struct slice value;
    } variables[] = {
        {"SENDER", j->r->msg.sender},
        {"RECIPIENT", j->rcpt->addr},
        {"LOCAL", local},
        {"USER", user},
        {"EXTENSION", ext},
        {"DOMAIN", address_domain(j->rcpt->addr)},
        {"HOME", slice_str(rights->home != NULL ? rights->home : "/")},
        {"LOGNAME", user},
        {"SHELL", slice_str(shell)},
        {"ORIGINAL_RECIPIENT", j->rcpt->orig.len > 0 ? j->rcpt->orig : j->rcpt->addr},
        {"CLIENT_ADDRESS", j->r->msg.client_addr},
        {"CLIENT_HELO", j->r->msg.helo},
        {"CLIENT_HOSTNAME", j->r->msg.client_name},
        {"CLIENT_PROTOCOL", j->r->msg.protocol},
    };
    export(j, env);
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        vec_push(env, variable(j, variables[i].name, variables[i].value));
    vec_push(env, xstrdup("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
    vec_push(env, NULL);
}

/* Goes where the command runs; false when command_execution_directory cannot be entered. */
static bool enter(const struct local_job *j, const struct local_rights *rights)
{
    const struct local_names names = {rights->user, rights->home, NULL};
    struct buf path = BUF_INIT(4096);

    if (j->l->p.command_directory[0] == '\0')
        return (rights->home != NULL && chdir(rights->home) == 0) || chdir("/") == 0;
    local_expand(j, slice_str(j->l->p.command_directory), &names, j->l->p.directory_filter, &path);
    if (chdir(buf_cstr(&path)) == 0)
        return true;
    fprintf(stderr, "4.3.0 cannot change to directory %s: errno %d\n", buf_cstr(&path), errno);
    return false;
}

NORETURN static void child(struct local_job *j, const char *command,
                           const struct local_rights *rights, int in, int out)
{
    const char *shell = j->l->p.command_shell[0] != '\0' ? j->l->p.command_shell : "/bin/sh";
    struct slice rest = slice_str(shell);
    struct slice word;
    struct vec argv = VEC_INIT;
    struct vec env = VEC_INIT;

    /* "/bin/dash -c", or the shell alone */
    while (slice_token(&rest, " \t", &word))
        vec_push(&argv, slice_dup(word));
    if (argv.len == 1)
        vec_push(&argv, xstrdup("-c"));
    vec_push(&argv, (void *) (uintptr_t) command);
    vec_push(&argv, NULL);
    make_environment(j, rights, argv.items[0], &env);
    (void) setpgid(0, 0);
    if (dup2(in, 0) == -1 || dup2(out, 1) == -1 || dup2(out, 2) == -1)
        _exit(EX_TEMPFAIL);
    if (getuid() == 0) {
        if (rights->owner.uid == 0 || setgroups(0, NULL) == -1 || setgid(rights->owner.gid) == -1 ||
            setuid(rights->owner.uid) == -1)
            _exit(EX_TEMPFAIL);
    } else if (rights->owner.uid != getuid()) {
        _exit(EX_NOPERM);
    }
    if (!enter(j, rights))
        _exit(EX_TEMPFAIL);
    signal(SIGPIPE, SIG_DFL);
    execve(argv.items[0], (char *const *) argv.items, (char *const *) env.items);
    _exit(EX_TEMPFAIL);
}

/* The message as a text with LF line ends, in memory: commands read it as they like. */
static int message(struct local_job *j, struct buf *out, struct err *err)
{
    char *piece = xmalloc(65536);
    bool last_cr = false;
    uint64_t at = 0;
    int ret = 0;

    buf_puts(out, "Return-Path: <");
    address_quote(j->r->msg.sender, out);
    buf_printf(out, ">\nX-Original-To: %.*s\n",
               SLICE_FMT(j->rcpt->orig.len > 0 ? j->rcpt->orig : j->rcpt->addr));
    if (local_has_word(j->l->p.prepend_delivered_header, "command"))
        buf_printf(out, "Delivered-To: %.*s\n", SLICE_FMT(j->delivered_to));
    while (at < j->r->msg.content_bytes) {
        ssize_t n = deliver_content(j->r, at, piece, 65536, err);

        if (n <= 0) {
            ret = -1;
            break;
        }
        content_to_unix(slice_of(piece, (size_t) n), &last_cr, out);
        at += (uint64_t) n;
    }
    free(piece);
    return ret;
}

/* Feeds and reads until the command is done or the time is up. False: time is up. */
static bool converse(int in, int out, const struct buf *text, struct buf *output,
                     struct mono_time deadline)
{
    size_t at = 0;

    while (out != -1) {
        struct pollfd p[2] = {{.fd = out, .events = POLLIN},
                              {.fd = at < text->len ? in : -1, .events = POLLOUT}};
        int n = poll(p, 2, mono_poll_ms(deadline));
        char piece[1024];

        if (n == 0)
            return false;
        if (n == -1)
            continue;
        if (p[1].revents != 0) {
            ssize_t w = write(in, text->ptr + at, text->len - at);

            if (w > 0)
                at += (size_t) w;
            else if (w == -1 && errno != EAGAIN && errno != EINTR)
                at = text->len; /* it reads no more; its exit status tells whether that was meant */
        }
        if (at >= text->len)
            fd_close(&in);
        if (p[0].revents != 0) {
            ssize_t r = read(out, piece, sizeof(piece));

            if (r == 0 || (r == -1 && errno != EAGAIN && errno != EINTR)) {
                out = -1;
            } else if (r > 0) {
                if (output->len + (size_t) r < OUTPUT_MAX)
                    buf_put(output, piece, (size_t) r);
            }
        }
    }
    fd_close(&in);
    return true;
}

static int judge(int status, const char *command, const struct buf *output, struct err *err)
{
    struct slice text = slice_trim(buf_view(output), NULL);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    struct slice rest = text;
    struct slice given = dsn_code_split(text, &rest);
    char dsn[DSN_CODE_MAX + 1];
    bool temporary = code == EX_TEMPFAIL || code == -1;

    if (code == 0)
        return 0;
    if (given.len > 0 && (given.ptr[0] == '4' || given.ptr[0] == '5')) {
        (void) snprintf(dsn, sizeof(dsn), "%.*s", SLICE_FMT(given));
        temporary = given.ptr[0] == '4';
    } else {
        (void) snprintf(dsn, sizeof(dsn), "%s",
                        temporary           ? "4.3.0"
                        : code == EX_NOUSER ? "5.1.1"
                        : code == EX_NOPERM ? "5.7.0"
                                            : "5.3.0");
    }
    if (code == -1)
        return err_set(err, ERR_TEMPORARY, "4.3.0", "command \"%s\" died by signal %d", command,
                       WTERMSIG(status));
    if (rest.len > 0)
        return err_set(err, temporary ? ERR_TEMPORARY : ERR_PERMANENT, dsn,
                       "command \"%s\" exit status %d: %.*s", command, code, SLICE_FMT(rest));
    return err_set(err, temporary ? ERR_TEMPORARY : ERR_PERMANENT, dsn,
                   "Command died with status %d: \"%s\"", code, command);
}

int local_command(struct local_job *j, const char *command, const struct local_rights *given,
                  struct err *err)
{
    struct local_rights changed = *given;
    const struct local_rights *rights = &changed;
    struct buf text = BUF_INIT(SIZE_MAX);
    struct buf output = BUF_INIT(OUTPUT_MAX + 2048);
    int in[2] = {-1, -1};
    int out[2] = {-1, -1};
    int status = 0;
    int ret = -1;
    pid_t pid;

    if (deliver_is_probe(j->r)) {
        j->delivered++;
        if (j->how.len == 0)
            buf_printf(&j->how, "delivers to command: %s", command);
        return 0;
    }
    /* mail for root lies in a mailbox of root's, but no command runs as root */
    if (changed.owner.uid == 0)
        changed.owner = j->l->default_privs;
    if (message(j, &text, err) == -1)
        goto done;
    if (pipe2(in, O_CLOEXEC) == -1 || pipe2(out, O_CLOEXEC) == -1 ||
        fd_set_nonblocking(in[1], true) == -1) {
        err_sys(err, "pipe");
        goto done;
    }
    pid = fork();
    if (pid == -1) {
        err_sys(err, "fork");
        goto done;
    }
    if (pid == 0)
        child(j, command, rights, in[0], out[1]);
    fd_close(&in[0]);
    fd_close(&out[1]);
    if (!converse(in[1], out[0], &text, &output,
                  mono_after_ms(mono_now(), j->l->p.command_time_limit_s * 1000))) {
        (void) kill(-pid, SIGKILL);
        err_set(err, ERR_TEMPORARY, "4.3.0", "command time limit exceeded: \"%s\"", command);
        (void) waitpid(pid, &status, 0);
        in[1] = -1;
        goto done;
    }
    in[1] = -1; /* closed there */
    while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
        continue;
    ret = judge(status, command, &output, err);
    if (ret == 0) {
        j->delivered++;
        if (j->how.len == 0)
            buf_printf(&j->how, "delivered to command: %s", command);
    }
done:
    for (int i = 0; i < 2; i++) {
        fd_close(&in[i]);
        fd_close(&out[i]);
    }
    buf_fini(&text);
    buf_fini(&output);
    return ret;
}
