/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postfix_main.c - postfix(1): start, stop, reload, status, check and their kin.
 *
 * What runs is known by the lock on pid/master.pid; what is asked of it goes over private/control, so that the answer tells
 * whether it was done.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/mtime.h"
#include "base/num.h"
#include "master/instances.h"
#include "master/master_int.h"
#include "master/permissions.h"
#include "master/stock_services.h"

#define STOP_WAIT_MS    30000 /* beyond the grace that workers have */
#define CONNECT_WAIT_MS 5000
#define CONTROL_WAIT_MS 120000 /* a reload checks every table */

struct postfix {
    const char *dir; /* -c; NULL: MAIL_CONFIG or the built-in one */
    struct generation *gen;
    bool debug;
    const char *argument; /* of the command, or NULL */
};

/* The running master's process id; 0: none; -1: it has not said yet. It holds the lock on the pid file. */
static pid_t running(const struct postfix *p)
{
    struct buf path = BUF_INIT(8192);
    struct buf text = BUF_INIT(64);
    struct err err = ERR_INIT;
    int64_t pid = 0;
    int fd;

    path_join(&path, p->gen->common.queue_directory, "pid/master.pid");
    fd = open(buf_cstr(&path), O_RDONLY | O_CLOEXEC);
    if (fd != -1 && flock(fd, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK) {
        if (file_read(buf_cstr(&path), &text, &err) == -1 ||
            num_parse_i64(slice_trim(buf_view(&text), NULL), 1, INT32_MAX, &pid, &err) == -1)
            pid = -1;
    }
    fd_close(&fd);
    buf_fini(&path);
    buf_fini(&text);
    return (pid_t) pid;
}

static void print_finding(bool is_fatal, const char *text, void *arg)
{
    (void) arg;
    if (is_fatal)
        log_error("%s", text);
    else
        log_warning("%s", text);
}

static int check(struct postfix *p, bool network)
{
    struct err err = ERR_INIT;
    int findings = 0;

    /* first: the daemons' own check runs them in the queue directory */
    if (make_directories(p->gen, &err) == -1) {
        log_error("%s", err.text);
        findings++;
    }
    findings += check_generation(p->gen, network, print_finding, NULL);
    return findings > 0 ? 1 : 0;
}

static int do_check(struct postfix *p)
{
    permissions_check(p->gen, print_finding, NULL);
    return check(p, true);
}

static int do_set_permissions(struct postfix *p)
{
    struct err err = ERR_INIT;

    if (permissions_set(p->gen, &err) == 0)
        return 0;
    fatal("set-permissions: %s", err.text);
}

static int do_upgrade_configuration(struct postfix *p)
{
    struct err err = ERR_INIT;

    if (stock_services_add_missing(config_dir(p->gen->cfg), &err) == 0)
        return 0;
    fatal("upgrade-configuration: %s", err.text);
}

/* Postfix's install script copies files about; here they are where they were installed. */
static int do_post_install(struct postfix *p)
{
    (void) p;
    fatal("post-install: there is nothing to be copied; \"postfix set-permissions\" and \"postfix "
          "upgrade-configuration\" do what is left of it");
}

NORETURN static void run(const char *directory, const char *program, const char *const *words,
                         char **environment)
{
    struct buf path = BUF_INIT(8192);
    struct vec argv = VEC_INIT;

    path_join(&path, directory, program);
    vec_push(&argv, (void *) (uintptr_t) program);
    for (; *words != NULL; words++)
        vec_push(&argv, (void *) (uintptr_t) *words);
    vec_push(&argv, NULL);
    execve(buf_cstr(&path), (char **) argv.items, environment);
    log_error("cannot run %s: errno %d", buf_cstr(&path), errno);
    _exit(1);
}

/* ready_fd -1: in the foreground. */
NORETURN static void run_master(struct postfix *p, int ready_fd)
{
    const char *words[16] = {"-c", config_dir(p->gen->cfg)};
    size_t n = 2;
    char number[16];

    (void) snprintf(number, sizeof(number), "%d", ready_fd);
    if (ready_fd != -1) {
        words[n++] = "-r";
        words[n++] = number;
    }
    if (p->debug)
        words[n++] = "-D";
    for (int i = 0; i < log_verbosity() && n < ARRAY_LEN(words) - 1; i++)
        words[n++] = "-v";
    run(p->gen->common.daemon_directory, "master", words, master_environment(p->gen));
}

static void check_can_start(struct postfix *p, bool foreground)
{
    if (running(p) != 0)
        fatal("the Postfix mail system is already running");
    if (!foreground && maillog_is_standard(p->gen))
        fatal("\"maillog_file = %s\" is for \"postfix start-fg\"", p->gen->common.maillog_file);
    /* a start at boot does not wait for a name server that is not up yet */
    if (check(p, false) != 0)
        fatal("the mail system is not started: see above");
}

static int do_start_fg(struct postfix *p)
{
    check_can_start(p, true);
    log_info("starting the Postfix mail system");
    run_master(p, -1);
}

/* Starts master in the background; waits until it serves, or says why it cannot. */
static int do_start(struct postfix *p)
{
    char answer[4096];
    size_t len = 0;
    ssize_t n;
    int pair[2];
    pid_t pid;

    check_can_start(p, false);
    log_info("starting the Postfix mail system");
    if (pipe(pair) == -1)
        fatal("pipe: errno %d", errno);
    pid = fork();
    if (pid == -1)
        fatal("fork: errno %d", errno);
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);

        (void) close(pair[0]);
        (void) setsid();
        if (null == -1 || dup2(null, 0) == -1 || dup2(null, 1) == -1 || dup2(null, 2) == -1)
            _exit(1);
        if (null > 2)
            (void) close(null);
        run_master(p, pair[1]);
    }
    (void) close(pair[1]);
    while (len < sizeof(answer) - 1 &&
           (n = fd_read_some(pair[0], answer + len, sizeof(answer) - 1 - len)) > 0)
        len += (size_t) n;
    answer[len] = '\0';
    if (strcmp(answer, "ok") == 0)
        return 0;
    if (waitpid(pid, NULL, 0) == -1)
        log_debug("master's end was not seen");
    fatal("the mail system is not started: %s",
          len > 0 ? answer : "master ended at its start, its log may say why");
}

static int stop(struct postfix *p, int sig, const char *what)
{
    struct mono_time deadline =
        mono_after_ms(mono_now(), STOP_WAIT_MS + p->gen->p.stop_grace_s * 1000);
    pid_t pid = running(p);

    if (pid == 0)
        fatal("the Postfix mail system is not running");
    log_info("%s the Postfix mail system", what);
    if (pid == -1 || kill(pid, sig) == -1)
        fatal("cannot signal process %d: errno %d", (int) pid, errno);
    while (running(p) != 0) {
        if (mono_poll_ms(deadline) == 0)
            fatal("the mail system does not stop: process %d", (int) pid);
        (void) poll(NULL, 0, 10);
    }
    return 0;
}

static int do_stop(struct postfix *p)
{
    return stop(p, SIGTERM, "stopping");
}

static int do_abort(struct postfix *p)
{
    return stop(p, SIGQUIT, "aborting");
}

/* Asks master; reports why it did not do it. *fd (NULL: not wanted): what came with the answer, or -1. */
static int ask_master(struct postfix *p, uint32_t op, const char *arg, int *fd)
{
    struct buf path = BUF_INIT(8192);
    struct proto_control msg = {.op = op, .arg = slice_str(arg)};
    struct proto_result result;
    struct err err = ERR_INIT;
    struct frame f;
    struct chan *c;
    int ret;

    if (running(p) == 0)
        fatal("the Postfix mail system is not running");
    path_join(&path, p->gen->common.queue_directory, "private/control");
    c = proto_connect(buf_cstr(&path), "postfix", CONNECT_WAIT_MS, &err);
    if (c == NULL || proto_put(c, &msg_control, &msg, -1, &err) == -1 ||
        chan_flush_wait(c, CONNECT_WAIT_MS, &err) != CHAN_OK)
        fatal("cannot talk to master: %s", err.text);
    if (proto_get_wait(c, &f, CONTROL_WAIT_MS, &err) != CHAN_OK ||
        proto_decode(&f, &msg_result, &result, &err) == -1)
        fatal("no answer from master: %s", err.text);
    ret = result.status == PROTO_OK ? 0 : 1;
    if (ret != 0)
        log_error("%.*s", SLICE_FMT(result.text));
    else if (op == CONTROL_STATUS && log_verbosity() > 0)
        log_info("%.*s", SLICE_FMT(result.text));
    if (fd != NULL)
        *fd = f.fd;
    else
        fd_close(&f.fd);
    chan_free(&c);
    buf_fini(&path);
    return ret;
}

static int control(struct postfix *p, uint32_t op, const char *arg)
{
    return ask_master(p, op, arg, NULL);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void add_metric(const char *name, int64_t value, void *arg)
{
    struct buf line = BUF_INIT(METRICS_NAME_MAX + 64);

    buf_printf(&line, "%s\t%lld", name, (long long) value);
    vec_push(arg, buf_take(&line));
}

/* Master hands over the memory in which all daemons count. */
static int do_metrics(struct postfix *p)
{
    struct vec lines = VEC_INIT;
    struct err err = ERR_INIT;
    int fd = -1;

    if (ask_master(p, CONTROL_METRICS, "", &fd) != 0)
        return 1;
    if (fd == -1 || metrics_attach(fd, &err) == -1)
        fatal("metrics of the mail system: %s", fd == -1 ? "master has none" : err.text);
    fd_close(&fd);
    metrics_each(add_metric, &lines);
    vec_sort(&lines, by_text);
    for (size_t i = 0; i < lines.len; i++)
        (void) puts(lines.items[i]);
    vec_clear(&lines, free);
    vec_fini(&lines);
    if (fflush(stdout) == EOF)
        fatal("write to standard output: errno %d", errno);
    return 0;
}

static int do_reload(struct postfix *p)
{
    if (running(p) != 0)
        log_info("refreshing the Postfix mail system");
    return control(p, CONTROL_RELOAD, "");
}

static int do_flush(struct postfix *p)
{
    const char *const words[] = {"-c", config_dir(p->gen->cfg), "-f", NULL};

    if (running(p) == 0)
        fatal("the Postfix mail system is not running");
    run(p->gen->common.command_directory, "postqueue", words, daemon_environment(p->gen));
}

/* The mail system may run or not; import-queue finds out by itself. */
static int do_import_queue(struct postfix *p)
{
    const char *words[16] = {"-c", config_dir(p->gen->cfg)};
    struct err err = ERR_INIT;
    size_t n = 2;

    if (make_directories(p->gen, &err) == -1)
        fatal("%s", err.text);
    for (int i = 0; i < log_verbosity() && n < ARRAY_LEN(words) - 3; i++)
        words[n++] = "-v";
    words[n++] = "--";
    words[n] = p->argument;
    run(p->gen->common.daemon_directory, "import-queue", words, daemon_environment(p->gen));
}

static int do_status(struct postfix *p)
{
    pid_t pid = running(p);

    if (pid == 0) {
        log_info("the Postfix mail system is not running");
        return 1;
    }
    log_info("the Postfix mail system is running: PID: %d", (int) pid);
    return log_verbosity() > 0 ? control(p, CONTROL_STATUS, "") : 0;
}

/* The format is the administrator's, as maillog_file_rotate_suffix. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static size_t print_time(char *out, size_t len, const char *format)
{
    time_t now = (time_t) wall_seconds(wall_now());
    struct tm tm;

    return localtime_r(&now, &tm) == NULL ? 0 : strftime(out, len, format, &tm);
}
#pragma GCC diagnostic pop

/* The log gets another name, master a new file, the old one is compressed. */
static int do_logrotate(struct postfix *p)
{
    const char *file = p->gen->common.maillog_file;
    const char *format = config_get(p->gen->cfg, "maillog_file_rotate_suffix");
    const char *compressor = config_get(p->gen->cfg, "maillog_file_compressor");
    struct buf name = BUF_INIT(8192);
    char suffix[128];
    int status = 0;
    pid_t pid;

    if (file[0] == '\0' || strncmp(file, "/dev/", 5) == 0)
        fatal("maillog_file is \"%s\": there is nothing to rotate", file);
    if (print_time(suffix, sizeof(suffix), format) == 0)
        fatal("maillog_file_rotate_suffix \"%s\" cannot be used", format);
    buf_printf(&name, "%s.%s", file, suffix);
    if (maillog_is_rotated(buf_cstr(&name))) /* a log that would be lost */
        fatal(
            "%s is there already: rotate again when maillog_file_rotate_suffix gives another name",
            buf_cstr(&name));
    if (rename(file, buf_cstr(&name)) == -1)
        fatal("rename %s to %s: errno %d", file, buf_cstr(&name), errno);
    if (running(p) != 0 && control(p, CONTROL_REOPEN_LOG, "") != 0) {
        status = 1;
        goto done;
    }
    if (compressor == NULL || compressor[0] == '\0')
        goto done;
    pid = fork();
    if (pid == 0) {
        execlp(compressor, compressor, buf_cstr(&name), (char *) NULL);
        _exit(127);
    }
    if (pid == -1 || waitpid(pid, &status, 0) == -1 || !WIFEXITED(status) ||
        WEXITSTATUS(status) != 0)
        fatal("%s could not be compressed with %s", buf_cstr(&name), compressor);
done:
    buf_fini(&name);
    return status;
}

static const struct {
    const char *name;
    int (*fn)(struct postfix *p);
    bool wants_services;  /* reads master.cf: the others must work while that is broken */
    const char *argument; /* what it is called; NULL: it has none */
} commands[] = {
    {"start", do_start, true, NULL},
    {"start-fg", do_start_fg, true, NULL},
    {"stop", do_stop, false, NULL},
    {"abort", do_abort, false, NULL},
    {"reload", do_reload, false, NULL},
    {"status", do_status, false, NULL},
    {"flush", do_flush, false, NULL},
    {"metrics", do_metrics, false, NULL},
    {"check", do_check, true, NULL},
    {"logrotate", do_logrotate, false, NULL},
    {"set-permissions", do_set_permissions, false, NULL},
    {"upgrade-configuration", do_upgrade_configuration, false, NULL},
    {"post-install", do_post_install, false, NULL},
    {"import-queue", do_import_queue, false, "directory"},
};

NORETURN static void usage(void)
{
    fprintf(stderr, "usage: postfix [-c config_dir] [-Dv] command\ncommands:");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        fprintf(stderr, " %s%s%s", commands[i].name, commands[i].argument != NULL ? " " : "",
                commands[i].argument != NULL ? commands[i].argument : "");
    fprintf(stderr, "\n");
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    exit(1);
}

int main(int argc, char **argv)
{
    struct postfix p = {.dir = NULL};
    struct err err = ERR_INIT;
    size_t i = 0;
    int ret;
    int c;

    log_open(&(struct log_target){.syslog_name = "postfix",
                                  .program = "postfix-script",
                                  .maillog_fd = -1,
                                  .to_stderr = true,
                                  .no_syslog = true});
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    while ((c = getopt(argc, argv, "c:Dv")) != -1) {
        if (c == 'c')
            p.dir = optarg;
        else if (c == 'D')
            p.debug = true;
        else if (c == 'v')
            log_verbose(log_verbosity() + 1);
        else
            usage();
    }
    if (optind == argc)
        usage();
    while (i < ARRAY_LEN(commands) && strcmp(argv[optind], commands[i].name) != 0)
        i++;
    if (i == ARRAY_LEN(commands) || argc - optind != (commands[i].argument != NULL ? 2 : 1))
        usage();
    p.argument = argv[optind + 1];
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    if (p.dir == NULL && getenv("MAIL_CONFIG") == NULL && p.argument == NULL)
        instances_run_wrapper(argv[optind]); /* no instance is named: all are meant */
    /* main.cf first: with it the log is known, where what is wrong in master.cf is to be found */
    if (generation_load_main(p.dir, &p.gen, &err) == -1) {
        struct err ignored = ERR_INIT;

        /* what runs can be spoken to as long as it can be found; of a reload master itself says, and logs, what is wrong */
        if (commands[i].wants_services || generation_salvage(p.dir, &p.gen, &ignored) == -1 ||
            running(&p) == 0)
            fatal("%s", err.text);
        if (commands[i].fn != do_reload)
            log_warning("%s", err.text);
    }
    command_log_open(p.gen, "postfix-script", false, true);
    if (commands[i].wants_services) {
        generation_unref(&p.gen);
        if (generation_load(p.dir, &p.gen, &err) == -1)
            fatal("%s", err.text);
    }
    ret = commands[i].fn(&p);
    generation_unref(&p.gen);
    return ret;
}
