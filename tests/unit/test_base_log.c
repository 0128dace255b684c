/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_base_log.c - lib/base/log.h: lines as they arrive at a maillog file, a syslog daemon, standard error.
 *
 * Each case runs in a child of its own, since the target belongs to the process.
 */
#include "test_base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

static char dir[] = "/tmp/test_base_log.XXXXXX";
static char socket_path[64];

static int make_dir(void **state)
{
    (void) state;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(socket_path, sizeof(socket_path), "%s/log", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void) state;
    return rmdir(dir);
}

struct run {
    int status;
    char maillog[16384];
    char err[16384];
};

static void read_back(int fd, char *text, size_t size)
{
    ssize_t n = fd_pread_all(fd, text, size - 1, 0);

    assert_true(n >= 0);
    text[n] = '\0';
    fd_close(&fd);
}

/* Runs fn in a child whose maillog and standard error are caught. */
static struct run *run(void (*fn)(int maillog_fd))
{
    static struct run r;
    int maillog = memfd_create("maillog", MFD_CLOEXEC);
    int err = memfd_create("stderr", MFD_CLOEXEC);
    pid_t pid;

    assert_true(maillog >= 0 && err >= 0);
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (dup2(err, STDERR_FILENO) == -1)
            _exit(99);
        fn(maillog);
        _exit(0);
    }
    while (waitpid(pid, &r.status, 0) == -1)
        assert_int_equal(errno, EINTR);
    read_back(maillog, r.maillog, sizeof(r.maillog));
    read_back(err, r.err, sizeof(r.err));
    return &r;
}

/* The next line of *text without its stamp and tag "HOST postfix/test[PID]: ". */
static const char *next_line(char **text)
{
    char *line = *text;
    char *end = strchr(line, '\n');
    char *tag;

    if (end == NULL)
        return NULL;
    *end = '\0';
    *text = end + 1;
    if (strlen(line) < 17 || line[3] != ' ' || line[9] != ':' || line[15] != ' ')
        fail_msg("stamp: got \"%s\", wanted \"Mon dd hh:mm:ss ...\"", line);
    tag = strstr(line, " postfix/test[");
    if (tag == NULL || strstr(tag, "]: ") == NULL)
        fail_msg("tag: got \"%s\", wanted postfix/test[PID]", line);
    return strstr(tag, "]: ") + 3;
}

static void open_maillog(int fd)
{
    log_open(&(struct log_target){
        .syslog_name = "postfix", .program = "test", .facility = "mail", .maillog_fd = fd});
}

static void all_kinds(int fd)
{
    struct slice qid = SLICE_LIT("4Z1x");

    open_maillog(fd);
    log_info("info %d", 1);
    log_warning("warning %d", 2);
    log_error("error %d", 3);
    log_debug("not shown");
    log_verbose(1);
    log_debug("debug %d", log_verbosity());
    log_info("a\nb\r\033[31mc\177d\xc3\xa4 \xff \xc2\x85 \xed\xa0\x80 \xe2\x82\xac");
    log_event(LOG_LEVEL_INFO, "delivery", qid, LF_ADDR("to", SLICE_LIT("a@b")),
              LF_OPT_ADDR("orig_to", SLICE_EMPTY), LF_TEXT("relay", SLICE_LIT("none")),
              LF_INT("size", -5), LF_OPT_TEXT("sasl", SLICE_EMPTY),
              LF_TEXT("status", SLICE_LIT("sent")), LF_PAREN("why", SLICE_LIT("250 ok\n")));
    log_event(LOG_LEVEL_INFO, "reject", SLICE_EMPTY, LF_RAW("text", SLICE_LIT("reject: x")),
              LF_OPT_ADDR("orig_to", SLICE_LIT("o@b")), LF_OPT_TEXT("sasl", SLICE_LIT("u")));
    log_event(LOG_LEVEL_INFO, "removed", qid, LF_RAW("text", SLICE_LIT("removed")));
    log_event(LOG_LEVEL_INFO, "null sender", qid, LF_ADDR("from", SLICE_EMPTY));
}

static void test_maillog(void **state)
{
    static const char *const wanted[] = {
        "info 1",
        "warning: warning 2",
        "error: error 3",
        "debug 1",
        "a?b??[31mc?d\xc3\xa4 ? ?? ??? \xe2\x82\xac",
        "4Z1x: to=<a@b>, relay=none, size=-5, status=sent (250 ok?)",
        "reject: x, orig_to=<o@b>, sasl=u",
        "4Z1x: removed",
        "4Z1x: from=<>",
    };
    struct run *r = run(all_kinds);
    char *text = r->maillog;

    (void) state;
    check_int("status", r->status, 0);
    check_str("nothing on standard error", r->err, "");
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        check_str("line", next_line(&text), wanted[i]);
    check_str("no more", text, "");
}

static void long_lines(int fd)
{
    char text[5000];

    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    open_maillog(fd);
    log_info("%s", text);
    log_event(LOG_LEVEL_INFO, "long", SLICE_LIT("Q"), LF_TEXT("x", slice_str(text)),
              LF_TEXT("y", slice_str(text)));
    log_info("%.1990s\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4", text);
}

static void test_long_lines(void **state)
{
    struct run *r = run(long_lines);
    char *text = r->maillog;

    (void) state;
    check_int("message", (long long) strlen(next_line(&text)), 1999);
    check_int("event", (long long) strlen(next_line(&text)), 2000);
    check_contains("a character cut in two", next_line(&text), "\xc3\xa4?");
}

static void repeat(int fd)
{
    open_maillog(fd);
    for (int i = 0; i < 15; i++)
        log_warning("database %s is down", "db1");
    for (int i = 0; i < 10; i++)
        log_warning("database %s is down", "db2");
    /* so many others that the first is forgotten, and its number told */
    for (int i = 0; i < 16; i++)
        log_warning("other %d", i);
    for (int i = 0; i < 20; i++)
        log_info("information is not limited");
}

static int count_of(const char *text, const char *part)
{
    int n = 0;

    for (const char *p = strstr(text, part); p != NULL; p = strstr(p + 1, part))
        n++;
    return n;
}

static void test_repeats(void **state)
{
    struct run *r = run(repeat);

    (void) state;
    check_int("ten of fifteen", count_of(r->maillog, ": warning: database db1 is down\n"), 10);
    check_int(
        "told once",
        count_of(r->maillog, ": warning: database db1 is down ... last warning repeated 5 times\n"),
        1);
    check_int("ten of ten", count_of(r->maillog, ": warning: database db2 is down\n"), 10);
    check_int("nothing to tell", count_of(r->maillog, "repeated"), 1);
    check_int("others", count_of(r->maillog, ": warning: other "), 16);
    check_int("information", count_of(r->maillog, "information"), 20);
}

static void not_opened(int fd)
{
    (void) fd;
    log_info("early");
    log_warning("early %d", 2);
}

static void to_stderr(int fd)
{
    (void) fd;
    log_open(&(struct log_target){
        .program = "postmap", .maillog_fd = -1, .to_stderr = true, .no_syslog = true});
    log_info("info");
    log_fatal_status(75);
    fatal("no %s", "such file");
}

static void do_panic(int fd)
{
    open_maillog(fd);
    panic("broken %d", 1);
}

static void bad_maillog(int fd)
{
    (void) fd;
    open_maillog(9999);
    log_info("lost?");
}

static void test_stderr_and_exits(void **state)
{
    struct run *r = run(not_opened);
    char *text;

    (void) state;
    check_str("before log_open", r->err, "early\nwarning: early 2\n");
    r = run(to_stderr);
    check_str("command", r->err, "postmap: info\npostmap: fatal: no such file\n");
    check_int("exited", WIFEXITED(r->status), true);
    check_int("status", WEXITSTATUS(r->status), 75);
    r = run(do_panic);
    check_int("aborted", WIFSIGNALED(r->status), true);
    text = r->maillog;
    check_str("panic", next_line(&text), "panic: broken 1");
    r = run(bad_maillog);
    check_str("maillog cannot be written", r->err, "test: lost?\n");
}

static int daemon_socket(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    (void) unlink(socket_path);
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", socket_path);
    if (fd == -1 || bind(fd, (struct sockaddr *) &un, sizeof(un)) == -1)
        _exit(98);
    return fd;
}

/* The daemon's next datagram, as a line of standard error. */
static void show(int fd)
{
    char text[3000];
    ssize_t n = recv(fd, text, sizeof(text), 0);

    fprintf(stderr, "%.*s\n", n > 0 ? (int) n : 4, n > 0 ? text : "none");
}

static void syslog_restart(int maillog_fd)
{
    int daemon_fd = daemon_socket();

    (void) maillog_fd;
    log_open(&(struct log_target){.syslog_name = "postfix/submission",
                                  .program = "smtpd",
                                  .facility = "mail",
                                  .maillog_fd = -1,
                                  .syslog_path = socket_path});
    log_info("one");
    log_warning("two");
    show(daemon_fd);
    show(daemon_fd);
    /* the daemon restarts: its old socket is gone, a new one has its name */
    fd_close(&daemon_fd);
    daemon_fd = daemon_socket();
    log_info("three");
    show(daemon_fd);
    show(daemon_fd);
    /* it does not come back: standard error, and again once it is there */
    fd_close(&daemon_fd);
    (void) unlink(socket_path);
    log_info("four");
    log_info("five");
}

static void test_syslog(void **state)
{
    struct run *r = run(syslog_restart);
    char *text = r->err;
    static const struct {
        const char *start, *end;
    } wanted[] = {
        {"<22>", ": one"}, {"<20>", ": warning: two"}, {"<22>", ": three"},
        {"none", "none"},  {"smtpd: four", "four"},    {"smtpd: five", "five"},
    };

    (void) state;
    check_int("status", r->status, 0);
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        char *end = strchr(text, '\n');

        assert_non_null(end);
        if (!slice_starts_with(slice_of(text, (size_t) (end - text)), slice_str(wanted[i].start)) ||
            !slice_ends_with(slice_of(text, (size_t) (end - text)), slice_str(wanted[i].end)))
            fail_msg("got \"%.*s\", wanted \"%s...%s\"", (int) (end - text), text, wanted[i].start,
                     wanted[i].end);
        if (text[0] == '<') {
            check_int("stamp", text[4 + 3] == ' ' && text[4 + 9] == ':', true);
            check_contains("tag", text, " postfix/submission/smtpd[");
        }
        text = end + 1;
    }
    check_str("no more", text, "");
}

static void no_daemon(int fd)
{
    (void) fd;
    log_open(&(struct log_target){.syslog_name = "postfix",
                                  .program = "test",
                                  .facility = "local7",
                                  .maillog_fd = -1,
                                  .syslog_path = socket_path});
    log_info("nowhere");
    log_info("nowhere");
}

static void full_daemon(int fd)
{
    int daemon_fd = daemon_socket();

    (void) fd;
    log_open(&(struct log_target){.syslog_name = "postfix",
                                  .program = "test",
                                  .facility = "mail",
                                  .maillog_fd = -1,
                                  .syslog_path = socket_path});
    /* nobody reads: the queue is full soon, and the first line that does not fit is not waited for long */
    for (int i = 0; i < 5000; i++) {
        char seen[8];

        log_info("line %d", i);
        if (fd_pread_all(STDERR_FILENO, seen, 5, 0) > 0)
            break;
    }
    fd_close(&daemon_fd);
    (void) unlink(socket_path);
}

static void test_no_daemon(void **state)
{
    struct run *r = run(no_daemon);

    (void) state;
    check_int("status", r->status, 0);
    check_str("goes nowhere", r->err, "");
    r = run(full_daemon);
    check_int("status", r->status, 0);
    check_contains("standard error instead", r->err, "test: line ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_maillog), cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_repeats), cmocka_unit_test(test_stderr_and_exits),
        cmocka_unit_test(test_syslog),  cmocka_unit_test(test_no_daemon),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
