/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_master_worker.c - the worker framework, with this program as the worker and as its master.
 *
 * With arguments it is a daemon, of the shape that its name tells ("echo" threaded, "single", "looper"); the scenario tests
 * of master have it in their daemon_directory. Its clients send lines: "pid", "get PARAMETER", "uid", "block MS", "begin MS" (as block, and says so first), "crash", "quit".
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/num.h"
#include "master/worker_int.h"

/* --- the daemon -------------------------------------------------------------------------------- */

static int say(int fd, const char *text)
{
    return fd_write_all(fd, text, strlen(text));
}

/* Carries out the lines that are there. False: the session is over. */
static bool serve_lines(struct worker *w, int fd)
{
    char line[512];
    ssize_t n = read(fd, line, sizeof(line) - 1);
    struct slice rest;
    struct slice word;

    if (n == -1 && errno == EAGAIN)
        return true;
    if (n <= 0)
        return false;
    rest = slice_of(line, (size_t) n);
    while (slice_token(&rest, "\r\n", &word)) {
        struct slice arg = slice_sub(word, 4, word.len);
        struct buf out = BUF_INIT(4096);
        struct err err = ERR_INIT;
        char *name = slice_dup(arg);
        int64_t ms;
        int said;

        if (slice_eq_str(word, "quit")) {
            free(name);
            return false;
        }
        if (slice_eq_str(word, "crash"))
            abort();
        if (slice_eq_str(word, "pid"))
            buf_printf(&out, "%d\n", (int) getpid());
        else if (slice_eq_str(word, "uid"))
            buf_printf(&out, "%d\n", (int) geteuid());
        else if (slice_starts_with(word, SLICE_LIT("get ")))
            buf_printf(&out, "%s\n", config_get(worker_config(w), name));
        else if (slice_starts_with(word, SLICE_LIT("block ")) &&
                 num_parse_i64(slice_sub(word, 6, word.len), 0, 1000000, &ms, &err) == 0) {
            (void) poll(NULL, 0, (int) ms);
            buf_puts(&out, "done\n");
        } else if (slice_starts_with(word, SLICE_LIT("begin ")) &&
                   num_parse_i64(slice_sub(word, 6, word.len), 0, 1000000, &ms, &err) == 0) {
            if (say(fd, "begun\n") == -1)
                ms = 0;
            (void) poll(NULL, 0, (int) ms);
            buf_puts(&out, "done\n");
        } else {
            buf_puts(&out, "what?\n");
        }
        free(name);
        said = say(fd, buf_cstr(&out));
        buf_fini(&out);
        if (said == -1)
            return false;
    }
    return true;
}

struct session {
    struct worker *w;
    struct worker_session *ws;
    int fd;
    bool greeted;
};

static void *session_open(struct worker *w, struct worker_session *ws,
                          const struct worker_client *c)
{
    struct session *s = xcalloc(1, sizeof(*s));

    s->w = w;
    s->ws = ws;
    s->fd = c->fd;
    return s;
}

static enum worker_verdict session_work(void *arg, unsigned events)
{
    struct session *s = arg;

    if (!s->greeted) {
        s->greeted = true;
        if (say(s->fd, "220 hello\r\n") == -1)
            return WORKER_CLOSE;
    }
    if ((events & POLLER_TIMEOUT) != 0 || !serve_lines(s->w, s->fd))
        return WORKER_CLOSE;
    worker_wait_for(s->ws, s->fd, POLLER_READ, mono_after_ms(mono_now(), 60000));
    return WORKER_WAIT;
}

static void serve(struct worker *w, const struct worker_client *c)
{
    if (say(c->fd, "220 hello\r\n") == -1)
        return;
    while (worker_wait_readable(w, c->fd, 60000) == 1 && serve_lines(w, c->fd)) {
        /* the next line */
    }
}

#define LOOP_CLIENTS_MAX 1024

/* Kept in a table by descriptor, so that none is lost to a leak check when the loop ends. */
static struct loop_client {
    struct worker *w;
    struct loop_io *io;
    int fd;
} loop_clients[LOOP_CLIENTS_MAX];

static void on_line(void *arg, unsigned events)
{
    struct loop_client *c = arg;

    (void) events;
    if (serve_lines(c->w, c->fd))
        return;
    loop_io_free(&c->io);
    fd_close(&c->fd);
}

static void accepted(struct worker *w, struct loop *l, const struct worker_client *client)
{
    struct loop_client *c = &loop_clients[client->fd % LOOP_CLIENTS_MAX];

    c->w = w;
    c->fd = client->fd;
    c->io = loop_io_new(l, c->fd, LOOP_READ, on_line, c);
    if (say(c->fd, "220 hello\r\n") == -1)
        log_debug("client has gone");
}

static bool reload(struct worker *w, const struct config *cfg, struct err *err)
{
    const char *answer = config_get(cfg, "test_answer");

    (void) w;
    if (answer != NULL && strcmp(answer, "refuse") == 0) {
        err_input(err, "this one is refused");
        return false;
    }
    log_info("reloaded with %s", answer != NULL ? answer : "nothing");
    return true;
}

static int start(struct worker *w, struct err *err)
{
    const char *how = config_get(worker_config(w), "test_start");

    if (how == NULL || how[0] == '\0')
        return 0;
    if (strcmp(how, "crash") == 0)
        abort();
    return err_permanent(err, "start was told to fail: %s", how);
}

/* Where a check of the configuration does not come. */
static int ready(struct worker *w, struct err *err)
{
    const char *how = config_get(worker_config(w), "test_ready");

    if (how == NULL || how[0] == '\0')
        return 0;
    if (strcmp(how, "crash") == 0)
        abort();
    return err_permanent(err, "start was told to fail: %s", how);
}

static void wakeup(struct worker *w)
{
    (void) w;
    log_info("woken up");
}

static int be_daemon(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    const char *name = slash != NULL ? slash + 1 : argv[0];
    struct worker_service service = {
        .program = name,
        .shape = strcmp(name, "single") == 0   ? WORKER_SINGLE
                 : strcmp(name, "looper") == 0 ? WORKER_LOOP
                                               : WORKER_THREADED,
        .start = start,
        .ready = ready,
        .session_open = session_open,
        .session_work = session_work,
        .session_close = free,
        .serve = serve,
        .accepted = accepted,
        .reload = reload,
        .wakeup = wakeup,
    };

    return worker_main(argc, argv, &service);
}

/* --- its master -------------------------------------------------------------------------------- */

struct test {
    char dir[64];
    char path[96]; /* of the socket */
    int listener;
    pid_t pid;
    struct chan *chan;
    struct proto_worker_status st; /* the last */
    bool gone;
};

static int text_fd(const char *dir, const char *more)
{
    struct buf text = BUF_INIT(4096);
    int fd = memfd_create("main.cf", 0);

    buf_printf(&text, "queue_directory = %s\nmyhostname = a.example\n%s\n", dir, more);
    assert_int_equal(fd_write_all(fd, text.ptr, text.len), 0);
    buf_fini(&text);
    return fd;
}

/* Starts a worker of a shape that may have so many clients. */
static void begin(struct test *t, const char *shape, int capacity, const char *settings)
{
    struct err err = ERR_INIT;
    int pair[2];
    int metrics;
    int config;
    char max[16];

    memset(t, 0, sizeof(*t));
    (void) snprintf(t->dir, sizeof(t->dir), "/tmp/test-worker-XXXXXX");
    assert_non_null(mkdtemp(t->dir));
    assert_int_equal(chmod(t->dir, 0755), 0);
    (void) snprintf(t->path, sizeof(t->path), "%s/socket", t->dir);
    t->listener = unix_listen(t->path, 0666, 100, &err);
    assert_true(t->listener >= 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    metrics = metrics_create(&err);
    config = text_fd(t->dir, settings);
    (void) snprintf(max, sizeof(max), "%d", capacity);
    t->pid = fork();
    if (t->pid == 0) {
        const int from[] = {
            pair[1],    metrics, open("/dev/null", O_WRONLY), config, open("/dev/null", O_WRONLY),
            t->listener};
        int high[ARRAY_LEN(from)];

        for (size_t i = 0; i < ARRAY_LEN(from); i++)
            high[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 50);
        for (size_t i = 0; i < ARRAY_LEN(from); i++)
            (void) dup2(high[i], WORKER_FD_STATUS + (int) i);
        execl("/proc/self/exe", shape, "-n", "test", "-t", "unix", "-s", "1", "-m", max, "-L", "-o",
              "mail_owner=daemon", (char *) NULL);
        _exit(127);
    }
    fd_close(&pair[1]);
    fd_close(&metrics);
    fd_close(&config);
    t->chan = chan_new(pair[0]);
}

/* The next status; false when the worker has gone. */
static bool hear(struct test *t, int timeout_ms)
{
    struct err err = ERR_INIT;
    struct frame f;
    enum chan_result res = chan_get_wait(t->chan, &f, timeout_ms, &err);

    if (res == CHAN_EOF || res == CHAN_ERROR)
        t->gone = true;
    if (res != CHAN_OK)
        return false;
    assert_int_equal(proto_decode(&f, &msg_worker_status, &t->st, &err), 0);
    return true;
}

static void tell(struct test *t, uint16_t type, int fd)
{
    struct err err = ERR_INIT;

    chan_put(t->chan, type, SLICE_EMPTY, fd);
    assert_int_equal(chan_flush_wait(t->chan, 5000, &err), CHAN_OK);
}

/* Its exit status, or minus the signal. */
static int end(struct test *t)
{
    int status = 0;

    for (int i = 0; i < 1000 && waitpid(t->pid, &status, WNOHANG) == 0; i++) {
        (void) poll(NULL, 0, 10);
        if (i == 999) {
            (void) kill(t->pid, SIGKILL);
            fail_msg("the worker does not end");
        }
    }
    chan_free(&t->chan);
    fd_close(&t->listener);
    (void) unlink(t->path);
    (void) rmdir(t->dir);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int connect_to(struct test *t)
{
    struct err err = ERR_INIT;
    int fd = unix_connect(t->path, 5000, &err);

    assert_true(fd >= 0);
    return fd;
}

/* Reads one line; "" at the end of the connection, NULL when the time is up. */
static const char *line(int fd, int timeout_ms)
{
    static char text[512];
    size_t len = 0;

    while (len < sizeof(text) - 1) {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        if (poll(&p, 1, timeout_ms) == 0)
            return NULL;
        if (read(fd, text + len, 1) <= 0 || text[len] == '\n')
            break;
        len++;
    }
    while (len > 0 && text[len - 1] == '\r')
        len--;
    text[len] = '\0';
    return text;
}

static int greeted(struct test *t)
{
    int fd = connect_to(t);

    assert_string_equal(line(fd, 5000), "220 hello");
    return fd;
}

static const char *ask(int fd, const char *command)
{
    assert_int_equal(say(fd, command), 0);
    return line(fd, 5000);
}

static void hear_until(struct test *t, bool (*fn)(const struct proto_worker_status *))
{
    while (hear(t, 5000))
        if (fn(&t->st))
            return;
    fail_msg("the status that was waited for did not come");
}

static bool is_full(const struct proto_worker_status *st)
{
    return st->capacity == 0;
}

static bool has_place(const struct proto_worker_status *st)
{
    return st->capacity > 0;
}

static bool is_leaving(const struct proto_worker_status *st)
{
    return st->leaving == 1;
}

/* --- the tests ---------------------------------------------------------------------------------- */

static void test_says_what_it_is(void **state)
{
    static const struct {
        const char *name;
        enum worker_shape shape;
    } shapes[] = {{"echo", WORKER_THREADED}, {"single", WORKER_SINGLE}, {"looper", WORKER_LOOP}};

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        struct test t;
        int fd;

        begin(&t, shapes[i].name, 5, "");
        assert_true(hear(&t, 5000));
        assert_int_equal(t.st.ready, 1);
        assert_int_equal(t.st.shape, 1 + shapes[i].shape);
        fd = greeted(&t);
        assert_string_equal(ask(fd, "get myhostname\n"), "a.example");
        (void) close(fd);
        tell(&t, PROTO_WORKER_DRAIN, -1);
        assert_int_equal(end(&t), 0);
    }
}

static void test_full_and_granted(void **state)
{
    struct proto_worker_status grant = {.capacity = 3};
    struct err err = ERR_INIT;
    struct test t;
    int fd[4];

    (void) state;
    begin(&t, "echo", 2, "");
    assert_true(hear(&t, 5000));
    assert_int_equal(t.st.capacity, 2);
    fd[0] = greeted(&t);
    fd[1] = greeted(&t);
    hear_until(&t, is_full);
    assert_int_equal(t.st.sessions, 2);
    fd[2] = connect_to(&t);
    assert_null(line(fd[2], 200)); /* one more than it may have: waits in the socket */
    assert_int_equal(proto_put(t.chan, &msg_worker_status, &grant, -1, &err), 0);
    assert_int_equal(chan_flush_wait(t.chan, 5000, &err), CHAN_OK);
    assert_string_equal(line(fd[2], 5000), "220 hello");
    fd[3] = connect_to(&t);
    assert_null(line(fd[3], 200));
    (void) close(fd[0]);
    assert_string_equal(line(fd[3], 5000), "220 hello");
    for (int i = 1; i < 4; i++)
        (void) close(fd[i]);
    hear_until(&t, has_place);
    tell(&t, PROTO_WORKER_DRAIN, -1);
    assert_int_equal(end(&t), 0);
}

static void test_drain_keeps_clients(void **state)
{
    struct test t;
    int first;
    int second;

    (void) state;
    begin(&t, "echo", 5, "");
    first = greeted(&t);
    tell(&t, PROTO_WORKER_DRAIN, -1);
    hear_until(&t, is_leaving);
    assert_int_equal(t.st.sessions, 1);
    second = connect_to(&t); /* for another worker: ours does not take it */
    assert_null(line(second, 200));
    assert_string_equal(ask(first, "get myhostname\n"), "a.example");
    assert_int_equal(say(first, "quit\n"), 0);
    assert_int_equal(end(&t), 0);
    (void) close(first);
    (void) close(second);
}

static void test_drain_gives_up_the_socket(void **state)
{
    struct err err = ERR_INIT;
    struct test t;
    int fd;

    (void) state;
    begin(&t, "echo", 1, ""); /* full with one: its listener is paused when the order comes */
    fd = greeted(&t);
    tell(&t, PROTO_WORKER_DRAIN, -1);
    hear_until(&t, is_leaving);
    fd_close(&t.listener); /* the last but the worker's */
    for (int i = 0; i < 500; i++) {
        int other = unix_connect(t.path, 100, &err);

        if (other == -1)
            break;
        (void) close(other);
        (void) poll(NULL, 0, 10);
        assert_int_not_equal(i, 499);
    }
    (void) close(fd);
    assert_int_equal(end(&t), 0);
}

static void test_stop_and_gone(void **state)
{
    static const char *const shapes[] = {"echo", "single", "looper"};

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        for (int gone = 0; gone < 2; gone++) {
            struct test t;
            int fd;

            begin(&t, shapes[i], 5, "");
            fd = greeted(&t); /* and silent */
            if (gone)
                (void) shutdown(chan_fd(t.chan), SHUT_RDWR);
            else
                tell(&t, PROTO_WORKER_STOP, -1);
            assert_string_equal(line(fd, 5000), "");
            assert_int_equal(end(&t), 0);
            (void) close(fd);
        }
    }
}

static void test_stop_lets_work_end(void **state)
{
    struct test t;
    int fd;

    (void) state;
    begin(&t, "echo", 5, "");
    fd = greeted(&t);
    assert_int_equal(say(fd, "block 300\n"), 0);
    (void) poll(NULL, 0, 50);
    tell(&t, PROTO_WORKER_STOP, -1);
    assert_string_equal(line(fd, 5000), "done");
    assert_int_equal(end(&t), 0);
    (void) close(fd);
}

static void test_leaves_by_itself(void **state)
{
    static const struct {
        const char *shape;
        const char *settings;
        int clients;
    } rows[] = {
        {"echo", "max_idle = 1", 1},
        {"single", "max_idle = 1", 1},
        {"single", "max_use = 3", 3},
        {"echo", "max_use = 2", 4}, /* times the clients it has at once: 2 */
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct test t;

        begin(&t, rows[i].shape, 2, rows[i].settings);
        for (int k = 0; k < rows[i].clients; k++) {
            int fd = greeted(&t);

            assert_int_equal(say(fd, "quit\n"), 0);
            assert_string_equal(line(fd, 5000), "");
            (void) close(fd);
        }
        assert_int_equal(end(&t), 0);
    }
}

static void test_loop_reloads(void **state)
{
    struct test t;
    int config;
    int fd;

    (void) state;
    begin(&t, "looper", 1, "test_answer = one");
    fd = greeted(&t);
    assert_string_equal(ask(fd, "get test_answer\n"), "one");
    config = text_fd(t.dir, "test_answer = two");
    tell(&t, PROTO_WORKER_RELOAD, config);
    (void) close(config);
    for (int i = 0; i < 500 && strcmp(ask(fd, "get test_answer\n"), "two") != 0; i++)
        (void) poll(NULL, 0, 10);
    assert_string_equal(ask(fd, "get test_answer\n"), "two");
    config = text_fd(t.dir, "test_answer = refuse");
    tell(&t, PROTO_WORKER_RELOAD, config);
    (void) close(config);
    (void) poll(NULL, 0, 100);
    assert_string_equal(ask(fd, "get test_answer\n"), "two");
    (void) close(fd);
    tell(&t, PROTO_WORKER_STOP, -1);
    assert_int_equal(end(&t), 0);
}

static void test_watchdog(void **state)
{
    static const struct {
        const char *shape;
        int wanted;
    } rows[] = {{"echo", 1}, {"single", -SIGALRM}, {"looper", -SIGALRM}};

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct test t;
        int fd;

        begin(&t, rows[i].shape, 5, "daemon_timeout = 1");
        fd = greeted(&t);
        assert_int_equal(say(fd, "block 60000\n"), 0);
        assert_int_equal(end(&t), rows[i].wanted);
        (void) close(fd);
    }
}

static void test_start_that_fails(void **state)
{
    struct test t;

    (void) state;
    begin(&t, "echo", 5, "test_start = no");
    assert_false(hear(&t, 5000));
    assert_true(t.gone);
    assert_int_equal(end(&t), 1);
    begin(&t, "echo", 5, "max_use = many");
    assert_int_equal(end(&t), 1);
}

/* Many clients come and go at once, on few threads. */
static void test_many_clients(void **state)
{
    enum { CLIENTS = 200 };
    struct test t;
    int fd[CLIENTS];

    (void) state;
    begin(&t, "echo", 50, "worker_threads = 4");
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < CLIENTS; i++)
            fd[i] = -1;
        for (int i = 0; i < CLIENTS; i++) {
            fd[i] = connect_to(&t);
            if (i >= 50) /* one leaves, another gets its place */
                (void) close(fd[i - 50]);
        }
        for (int i = CLIENTS - 50; i < CLIENTS; i++) {
            assert_string_equal(line(fd[i], 5000), "220 hello");
            assert_string_equal(ask(fd[i], "get myhostname\n"), "a.example");
            (void) close(fd[i]);
        }
    }
    tell(&t, PROTO_WORKER_DRAIN, -1);
    assert_int_equal(end(&t), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_says_what_it_is),
        cmocka_unit_test(test_full_and_granted),
        cmocka_unit_test(test_drain_keeps_clients),
        cmocka_unit_test(test_drain_gives_up_the_socket),
        cmocka_unit_test(test_stop_and_gone),
        cmocka_unit_test(test_stop_lets_work_end),
        cmocka_unit_test(test_leaves_by_itself),
        cmocka_unit_test(test_loop_reloads),
        cmocka_unit_test(test_watchdog),
        cmocka_unit_test(test_start_that_fails),
        cmocka_unit_test(test_many_clients),
    };

    if (argc > 1)
        return be_daemon(argc, argv);
    (void) signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
