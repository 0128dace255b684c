/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_trial.c - has each daemon try its start on a configuration that is not in force yet.
 *
 * Only smtpd knows what a restriction is, only cleanup its classes: so each program is run with option -T, does what it does at
 * its start, up to where it would give up its privileges, and ends. What it could not do there it could not do for clients.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "master/master_int.h"
#include "master/worker_int.h"

#define OUTPUT_MAX 65536

struct trial {
    const struct master_service *service;
    pid_t pid;
    int fd; /* what it says */
};

static bool same_words(char *const *a, char *const *b)
{
    while (*a != NULL && *b != NULL && strcmp(*a, *b) == 0) {
        a++;
        b++;
    }
    return *a == NULL && *b == NULL;
}

/* bounce, defer and trace are one program with one configuration; the name may be asked for in it, the result is one. */
static bool is_tried(const struct trial *trials, size_t n, const struct master_service *s)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(trials[i].service->command, s->command) == 0 &&
            same_words(trials[i].service->args, s->args))
            return true;
    return false;
}

NORETURN static void run(const struct generation *g, const struct master_service *s, int out,
                         char **environment)
{
    struct buf path = BUF_INIT(8192);
    struct vec argv = VEC_INIT;
    int null = open("/dev/null", O_RDWR);

    service_program(g, s, &path);
    vec_push(&argv, s->command);
    vec_push(&argv, (void *) (uintptr_t) "-n");
    vec_push(&argv, s->name);
    vec_push(&argv, (void *) (uintptr_t) "-T");
    for (char **a = s->args; *a != NULL; a++)
        vec_push(&argv, *a);
    vec_push(&argv, NULL);
    /* the highest number first: neither may lie on a place of the others */
    if (null == -1 || (out = fcntl(out, F_DUPFD_CLOEXEC, WORKER_FD_LISTEN)) == -1 ||
        dup2(g->config_fd, WORKER_FD_CONFIG) == -1 || dup2(null, STDIN_FILENO) == -1 ||
        dup2(out, STDOUT_FILENO) == -1 || dup2(out, STDERR_FILENO) == -1)
        _exit(1);
    if (g->config_fd == WORKER_FD_CONFIG && fd_set_cloexec(WORKER_FD_CONFIG, false) == -1)
        _exit(1);
    execve(buf_cstr(&path), (char **) argv.items, environment);
    _exit(1);
}

static bool begin(const struct generation *g, const struct master_service *s, struct trial *t,
                  char **environment)
{
    int pair[2];

    if (pipe2(pair, O_CLOEXEC) == -1)
        return false;
    t->service = s;
    t->fd = pair[0];
    t->pid = fork();
    if (t->pid == 0)
        run(g, s, pair[1], environment);
    fd_close(&pair[1]);
    if (t->pid == -1)
        fd_close(&t->fd);
    return t->pid != -1;
}

/* A line of the program: "smtpd: fatal: REASON", "smtpd: warning: TEXT". */
static struct slice without_prefix(struct slice line, const char *program)
{
    static const char *const kinds[] = {"fatal: ", "warning: ", "error: "};
    size_t len = strlen(program);

    if (slice_starts_with(line, slice_of(program, len)) &&
        slice_starts_with(slice_sub(line, len, line.len), SLICE_LIT(": ")))
        line = slice_sub(line, len + 2, line.len);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (slice_starts_with(line, slice_str(kinds[i])))
            line = slice_sub(line, strlen(kinds[i]), line.len);
    return line;
}

static void tell(const struct generation *g, const struct trial *t, bool is_fatal,
                 struct slice reason, check_report_fn fn, void *arg)
{
    struct buf text = BUF_INIT(OUTPUT_MAX);

    buf_printf(&text, "%s, line %d: service %s: %.*s", g->cf->path, t->service->line,
               t->service->name, SLICE_FMT(reason));
    fn(is_fatal, buf_cstr(&text), arg);
    buf_fini(&text);
}

static int end(const struct generation *g, struct trial *t, check_report_fn fn, void *arg)
{
    struct buf out = BUF_INIT(OUTPUT_MAX);
    struct slice last = SLICE_LIT("it cannot start, and does not say why");
    struct slice rest;
    struct slice line;
    char piece[4096];
    int status = 0;
    bool failed;
    ssize_t n;

    while ((n = fd_read_some(t->fd, piece, sizeof(piece))) > 0)
        buf_put(&out, piece, (size_t) n);
    fd_close(&t->fd);
    failed = waitpid(t->pid, &status, 0) == -1 || status != 0;
    rest = buf_view(&out);
    if (WIFSIGNALED(status))
        last = SLICE_LIT("it crashes at its start");
    while (slice_token(&rest, "\n", &line)) {
        line = without_prefix(line, t->service->command);
        /* the last line of one that failed is the reason */
        if (failed && !WIFSIGNALED(status) && slice_trim(rest, NULL).len == 0)
            last = line;
        else
            tell(g, t, false, line, fn, arg);
    }
    if (failed)
        tell(g, t, true, last, fn, arg);
    buf_fini(&out);
    return failed ? 1 : 0;
}

int check_trials(const struct generation *g, check_report_fn fn, void *arg)
{
    struct trial *trials = xcalloc(g->cf->services.len + 1, sizeof(*trials));
    char **environment = daemon_environment(g);
    size_t n = 0;
    int fatal = 0;

    /* all at once: a reload takes as long as the slowest */
    for (size_t i = 0; i < g->cf->services.len; i++) {
        const struct master_service *s = g->cf->services.items[i];

        if (service_kind(g, s) != SERVICE_RUN || is_tried(trials, n, s))
            continue;
        if (begin(g, s, &trials[n], environment)) {
            n++;
        } else {
            fn(true, "daemons cannot be tried: no process", arg);
            fatal++;
            break;
        }
    }
    for (size_t i = 0; i < n; i++)
        fatal += end(g, &trials[i], fn, arg);
    daemon_environment_free(&environment);
    free(trials);
    return fatal;
}
