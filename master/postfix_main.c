/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postfix_main.c - postfix(1): start, stop, reload, status, check and their kin.
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
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mtime.h"
#include "base/num.h"
#include "master/master_int.h"

#define STOP_WAIT_MS    30000
#define CONTROL_WAIT_MS 60000

static struct generation *gen;

NORETURN static void usage(void)
{
    fprintf(stderr, "usage: postfix [-c config_dir] [-Dv] command\n"
                    "commands: start start-fg stop abort flush reload status check\n");
    exit(1);
}

static void open_log(void)
{
    int fd = -1;

    if (gen != NULL && gen->common.maillog_file[0] != '\0')
        fd = open(gen->common.maillog_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    log_open(&(struct log_target){.syslog_name = gen != NULL ? gen->common.syslog_name : "postfix",
                                  .program = "postfix-script",
                                  .facility = "mail",
                                  .maillog_fd = fd,
                                  .to_stderr = true,
                                  .no_syslog = gen != NULL && gen->common.maillog_file[0] != '\0'});
}

static void load(void)
{
    struct err err = ERR_INIT;

    if (generation_load(NULL, &gen, &err) == -1) {
        open_log();
        fatal("%s", err.text);
    }
    open_log();
}

/* The running master's process id, or 0. It holds the lock on the pid file. */
static pid_t running(void)
{
    struct buf path = BUF_INIT(8192);
    struct buf text = BUF_INIT(64);
    struct err err = ERR_INIT;
    int64_t pid = 0;
    int fd;

    path_join(&path, gen->common.queue_directory, "pid/master.pid");
    fd = open(buf_cstr(&path), O_RDONLY | O_CLOEXEC);
    if (fd != -1 && flock(fd, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK) {
        if (file_read(buf_cstr(&path), &text, &err) == -1 ||
            num_parse_i64(slice_trim(buf_view(&text), NULL), 1, INT32_MAX, &pid, &err) == -1)
            pid = -1; /* runs, but has not said as what yet */
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

static int do_check(void)
{
    struct err err = ERR_INIT;
    int findings = check_generation(gen, print_finding, NULL);

    if (geteuid() == 0 || access(gen->common.queue_directory, W_OK) == 0) {
        if (make_directories(gen, &err) == -1) {
            log_error("%s", err.text);
            findings++;
        }
    }
    return findings > 0 ? 1 : 0;
}

static void exec_master(int ready)
{
    struct buf path = BUF_INIT(8192);
    char number[16];

    path_join(&path, gen->common.daemon_directory, "master");
    snprintf(number, sizeof(number), "%d", ready);
    if (ready != -1)
        execl(buf_cstr(&path), "master", "-c", config_dir(gen->cfg), "-r", number, (char *) NULL);
    else
        execl(buf_cstr(&path), "master", "-c", config_dir(gen->cfg), (char *) NULL);
    fprintf(stderr, "postfix: cannot run %s: errno %d\n", buf_cstr(&path), errno);
    _exit(1);
}

static int do_start(bool foreground)
{
    char answer[4096];
    size_t len = 0;
    ssize_t n;
    int pair[2];
    pid_t pid;

    if (running() != 0)
        fatal("the Postfix mail system is already running");
    if (do_check() != 0)
        fatal("the mail system is not started: see above");
    log_info("starting the Postfix mail system");
    if (foreground)
        exec_master(-1);
    if (pipe(pair) == -1)
        fatal("pipe: errno %d", errno);
    pid = fork();
    if (pid == -1)
        fatal("fork: errno %d", errno);
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);

        close(pair[0]);
        setsid();
        if (null == -1 || dup2(null, 0) == -1 || dup2(null, 1) == -1 || dup2(null, 2) == -1)
            _exit(1);
        exec_master(pair[1]);
    }
    close(pair[1]);
    while (len < sizeof(answer) - 1 &&
           (n = fd_read_some(pair[0], answer + len, sizeof(answer) - 1 - len)) > 0) {
        len += (size_t) n;
        if (len == 2 && memcmp(answer, "ok", 2) == 0)
            return 0;
    }
    answer[len] = '\0';
    fatal("%s", len > 0 ? answer : "master ended at its start: see the log");
}

static int do_stop(int sig)
{
    pid_t pid = running();
    struct mono_time deadline =
        mono_after_ms(mono_now(), STOP_WAIT_MS + gen->p.stop_grace_s * 1000);

    if (pid <= 0)
        fatal("the Postfix mail system is not running");
    log_info(sig == SIGQUIT ? "aborting the Postfix mail system"
                            : "stopping the Postfix mail system");
    if (kill(pid, sig) == -1)
        fatal("cannot signal process %d: errno %d", (int) pid, errno);
    while (running() != 0) {
        if (mono_poll_ms(deadline) == 0)
            fatal("the mail system does not stop: process %d", (int) pid);
        (void) poll(NULL, 0, 20);
    }
    return 0;
}

/* Asks master; prints what it says. */
static int control(uint32_t op, const char *arg)
{
    struct buf path = BUF_INIT(8192);
    struct proto_control msg = {.op = op, .arg = slice_str(arg)};
    struct proto_result result;
    struct err err = ERR_INIT;
    struct frame f;
    struct chan *c;

    path_join(&path, gen->common.queue_directory, "private/control");
    c = proto_connect(buf_cstr(&path), "postfix", 5000, &err);
    if (c == NULL || proto_put(c, &msg_control, &msg, -1, &err) == -1 ||
        chan_flush_wait(c, 5000, &err) != CHAN_OK)
        fatal("%s", err.text);
    if (proto_get_wait(c, &f, CONTROL_WAIT_MS, &err) != CHAN_OK ||
        proto_decode(&f, &msg_result, &result, &err) == -1)
        fatal("no answer from master: %s", err.text);
    if (result.status != PROTO_OK)
        log_error("%.*s", SLICE_FMT(result.text));
    op = result.status;
    chan_free(&c);
    buf_fini(&path);
    return op == PROTO_OK ? 0 : 1;
}

static int do_reload(void)
{
    if (running() == 0)
        fatal("the Postfix mail system is not running");
    log_info("refreshing the Postfix mail system");
    return control(CONTROL_RELOAD, "");
}

static int do_flush(void)
{
    struct buf path = BUF_INIT(8192);

    if (running() == 0)
        fatal("the Postfix mail system is not running");
    path_join(&path, gen->common.command_directory, "postqueue");
    execl(buf_cstr(&path), "postqueue", "-f", (char *) NULL);
    fatal("cannot run %s: errno %d", buf_cstr(&path), errno);
}

static int do_status(void)
{
    pid_t pid = running();

    if (pid == 0) {
        log_info("the Postfix mail system is not running");
        return 1;
    }
    log_info("the Postfix mail system is running: PID: %d", (int) pid);
    return 0;
}

int main(int argc, char **argv)
{
    const char *command;
    int c;

    log_open(&(struct log_target){.syslog_name = "postfix",
                                  .program = "postfix-script",
                                  .maillog_fd = -1,
                                  .to_stderr = true,
                                  .no_syslog = true});
    while ((c = getopt(argc, argv, "c:Dv")) != -1) {
        if (c == 'c') {
            if (setenv("MAIL_CONFIG", optarg, 1) ==
                -1) /* NOLINT(concurrency-mt-unsafe): no threads */
                fatal("out of memory");
        } else if (c == 'v') {
            log_verbose(log_verbosity() + 1);
        } else if (c != 'D') {
            usage();
        }
    }
    if (optind + 1 != argc)
        usage();
    command = argv[optind];
    /* stop and status must work with a broken master.cf, but they need the queue directory all the same */
    if (strcmp(command, "reload") == 0 || strcmp(command, "stop") == 0 ||
        strcmp(command, "abort") == 0 || strcmp(command, "status") == 0) {
        struct err err = ERR_INIT;

        gen = xcalloc(1, sizeof(*gen));
        if (config_load(NULL, NULL, 0, NULL, &gen->cfg, &err) == -1 ||
            config_bind(gen->cfg, &config_common_params, &gen->common, &err) == -1 ||
            config_bind(gen->cfg, &master_params, &gen->p, &err) == -1)
            fatal("%s", err.text);
        open_log();
    } else {
        load();
    }
    if (strcmp(command, "start") == 0)
        return do_start(false);
    if (strcmp(command, "start-fg") == 0)
        return do_start(true);
    if (strcmp(command, "stop") == 0)
        return do_stop(SIGTERM);
    if (strcmp(command, "abort") == 0)
        return do_stop(SIGQUIT);
    if (strcmp(command, "reload") == 0)
        return do_reload();
    if (strcmp(command, "flush") == 0)
        return do_flush();
    if (strcmp(command, "status") == 0)
        return do_status();
    if (strcmp(command, "check") == 0)
        return do_check();
    usage();
}
