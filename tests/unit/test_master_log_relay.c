/* SPDX-License-Identifier: Apache-2.0 */
/* test_master_log_relay.c - master/log_relay.h with processes that log, and a syslog daemon's socket. */
#include "test_base.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "master/log_relay.h"

#define WRITERS 3
#define TURNS   400

static char dir[] = "/tmp/test_log_relay.XXXXXX";
static char socket_path[64];
static int daemon_fd = -1;

static int make_daemon(void **state)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};

    (void) state;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(socket_path, sizeof(socket_path), "%s/log", dir);
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", socket_path);
    daemon_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (daemon_fd == -1 || bind(daemon_fd, (struct sockaddr *) &un, sizeof(un)) == -1)
        return -1;
    log_open(&(struct log_target){.syslog_name = "postfix",
                                  .program = "test",
                                  .facility = "mail",
                                  .maillog_fd = -1,
                                  .syslog_path = socket_path});
    return 0;
}

static int remove_daemon(void **state)
{
    (void) state;
    fd_close(&daemon_fd);
    (void) unlink(socket_path);
    return rmdir(dir);
}

/* The text of the next line that the daemon gets; "none" after a while. */
static const char *next(void)
{
    static char text[5000];
    struct pollfd p = {.fd = daemon_fd, .events = POLLIN};
    const char *colon;
    ssize_t n;

    if (poll(&p, 1, 10000) != 1)
        return "none";
    n = recv(daemon_fd, text, sizeof(text) - 1, 0);
    assert_true(n > 0);
    text[n] = '\0';
    colon = strstr(text, "]: ");
    if (text[0] != '<' || colon == NULL)
        fail_msg("not a line: %s", text);
    return colon + 3;
}

struct writer {
    pid_t pid;
    struct log_source *source;
};

/* A process whose lines go into a ring. fn does not return before it is done. */
static struct writer writer(struct log_relay *relay, void (*fn)(void *arg), void *arg)
{
    struct err err = ERR_INIT;
    struct writer w;
    int fd = -1;

    w.source = log_relay_add(relay, &fd, &err);
    assert_non_null(w.source);
    w.pid = fork();
    assert_true(w.pid >= 0);
    if (w.pid == 0) {
        log_use_ring(log_ring_map(fd, log_relay_wake_fd(relay), &err));
        fn(arg);
        _exit(0);
    }
    fd_close(&fd);
    return w;
}

static void finish(struct log_relay *relay, struct writer *w)
{
    int status;

    assert_int_equal(waitpid(w->pid, &status, 0), w->pid);
    log_relay_end(relay, &w->source);
    assert_null(w->source);
}

struct turns {
    int from, to;
    int first;
};

/* Logs the number it gets, and passes the next one on. */
static void take_turns(void *arg)
{
    const struct turns *t = arg;
    int n;

    while (read(t->from, &n, sizeof(n)) == (ssize_t) sizeof(n)) {
        if (n < WRITERS * TURNS)
            log_info("%d", n);
        n++;
        if (write(t->to, &n, sizeof(n)) != (ssize_t) sizeof(n) || n > WRITERS * TURNS)
            return;
    }
}

static void test_order(void **state)
{
    struct err err = ERR_INIT;
    struct log_relay *relay = log_relay_start(&err);
    struct writer writers[WRITERS];
    struct turns turns[WRITERS];
    int pipes[WRITERS][2];
    int n = 0;

    (void) state;
    assert_non_null(relay);
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pipe(pipes[i]), 0);
    for (int i = 0; i < WRITERS; i++) {
        turns[i] = (struct turns){.from = pipes[i][0], .to = pipes[(i + 1) % WRITERS][1]};
        writers[i] = writer(relay, take_turns, &turns[i]);
    }
    assert_int_equal(write(pipes[0][1], &n, sizeof(n)), sizeof(n));
    for (; n < WRITERS * TURNS; n++) {
        char wanted[16];

        snprintf(wanted, sizeof(wanted), "%d", n);
        check_str("the next line", next(), wanted);
    }
    for (int i = 0; i < WRITERS; i++) {
        fd_close(&pipes[i][0]);
        fd_close(&pipes[i][1]);
    }
    for (int i = 0; i < WRITERS; i++)
        kill(writers[i].pid, SIGTERM);
    for (int i = 0; i < WRITERS; i++)
        finish(relay, &writers[i]);
    log_relay_stop(&relay);
    assert_null(relay);
}

static void log_and_die(void *arg)
{
    (void) arg;
    log_info("last words");
    log_warning("of mine");
    kill(getpid(), SIGKILL);
}

static void test_killed(void **state)
{
    struct err err = ERR_INIT;
    struct log_relay *relay = log_relay_start(&err);

    (void) state;
    assert_non_null(relay);
    for (int i = 0; i < 20; i++) {
        struct writer w = writer(relay, log_and_die, NULL);

        finish(relay, &w);
        check_str("first", next(), "last words");
        check_str("second", next(), "warning: of mine");
    }
    log_relay_stop(&relay);
}

/* More at once than fits into the ring, and than the daemon's socket holds: nothing is lost, and it ends. */
static void log_much(void *arg)
{
    const int *count = arg;

    for (int i = 0; i < *count; i++)
        log_info("%d %0500d", i, 0);
}

static void test_much(void **state)
{
    struct err err = ERR_INIT;
    struct log_relay *relay = log_relay_start(&err);
    int count = 1000;
    bool *seen = calloc((size_t) count, sizeof(*seen));
    struct writer w;

    (void) state;
    assert_non_null(relay);
    assert_non_null(seen);
    w = writer(relay, log_much, &count);
    for (int i = 0; i < count; i++) {
        const char *text = next();
        const char *space = strchr(text, ' ');
        int64_t n;

        if (space == NULL ||
            num_parse_i64(slice_of(text, (size_t) (space - text)), 0, count - 1, &n, &err) == -1 ||
            seen[n])
            fail_msg("line %d: got \"%.40s\"", i, text);
        seen[n] = true;
    }
    finish(relay, &w);
    log_relay_stop(&relay);
    free(seen);
}

/* Without its reader a process sends what is left, in order, and then each line. */
static void leave(void *arg)
{
    struct err err = ERR_INIT;
    int fd = log_ring_create(&err);
    int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    (void) arg;
    /* a ring that nobody reads */
    log_use_ring(log_ring_map(fd, wake_fd, &err));
    log_info("a");
    log_info("b");
    log_leave_ring();
    log_info("c");
    log_leave_ring();
}

/* What a child does that goes on in its parent's code: it needs memory, and the time. */
static void live(void)
{
    time_t now = time(NULL);
    struct tm tm;

    (void) alarm(60);
    for (size_t size = 1; size < 100000; size *= 2)
        free(xcalloc(3, size));
    log_warning("child %ld", (long) getpid());
    _exit(localtime_r(&now, &tm) != NULL ? 0 : 1);
}

/* The thread has nothing that a child of fork() would wait for: not when it has just begun, not while it takes lines. */
static void test_fork(void **state)
{
    struct err err = ERR_INIT;

    (void) state;
    for (int i = 0; i < 100; i++) {
        struct log_relay *relay = log_relay_start(&err);

        assert_non_null(relay);
        for (int k = 0; k < 3; k++) {
            pid_t pid = fork();
            int status;

            if (pid == 0)
                live();
            check_int("waitpid", waitpid(pid, &status, 0), pid);
            check_int("its end", status, 0);
            assert_string_not_equal(next(), "none");
        }
        log_relay_stop(&relay);
    }
}

static void test_leave(void **state)
{
    int status;
    pid_t pid = fork();

    (void) state;
    assert_true(pid >= 0);
    if (pid == 0) {
        leave(NULL);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    check_int("status", status, 0);
    check_str("first", next(), "a");
    check_str("second", next(), "b");
    check_str("third", next(), "c");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order), cmocka_unit_test(test_killed), cmocka_unit_test(test_much),
        cmocka_unit_test(test_fork),  cmocka_unit_test(test_leave),
    };

    return cmocka_run_group_tests(tests, make_daemon, remove_daemon);
}
