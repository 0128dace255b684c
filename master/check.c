/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check.c - every finding about a generation: parameters, tables, what the folders say of their own, services.
 *
 * What is wrong in a parameter that is effective, or in a table that a parameter names, is fatal: the daemons would meet it
 * with every client. What merely has no effect, or is hardly what was meant, is a warning.
 */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mtime.h"
#include "maps/map_check.h"
#include "master/master_int.h"
#include "master/worker_int.h"

#define APART_LIMIT_MS 60000
#define FINDINGS_MAX   (1U << 20)

struct check {
    const struct generation *g;
    check_report_fn fn;
    void *arg;
    int fatal;
    const struct config *cfg;             /* main.cf, or with a service's -o */
    const struct master_service *service; /* NULL: main.cf */
    struct map_env *env;
    struct findings *findings;
};

PRINTF_LIKE(3, 4) static void report(struct check *c, bool is_fatal, const char *fmt, ...)
{
    struct buf text = BUF_INIT(8192);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    c->fn(is_fatal, buf_cstr(&text), c->arg);
    c->fatal += is_fatal;
    buf_fini(&text);
}

/* --- parameters and tables ---------------------------------------------------------------------- */

static void on_config(enum config_finding kind, const char *file, int line, const char *text,
                      void *arg)
{
    struct check *c = arg;

    if (c->service != NULL) {
        /* main.cf's own findings were reported once; what a service's -o breaks is its */
        if (kind == CONFIG_FATAL && line == 0 && strstr(text, "/main.cf, line ") == NULL)
            report(c, true, "%s, line %d: service %s: %s", c->g->cf->path, c->service->line,
                   c->service->name, text);
    } else if (file != NULL && line > 0) {
        report(c, kind == CONFIG_FATAL, "%s, line %d: %s", file, line, text);
    } else {
        report(c, kind == CONFIG_FATAL, "%s", text);
    }
}

/* What the folders say of their own values. */
static void check_sets(struct check *c)
{
    for (const struct param_set *const *const *folder = all_param_sets; *folder != NULL; folder++)
        for (const struct param_set *const *set = *folder; *set != NULL; set++)
            if ((*set)->check != NULL)
                (*set)->check(c->env, c->findings);
}

/* main.cf, or what a service makes of it. What cannot be read keeps nobody from looking at the rest. */
static void check_values(struct check *c)
{
    config_check(c->cfg, on_config, c);
    c->env = map_env_new(findings_config(c->findings));
    map_check_parameters(c->env, c->findings);
    check_sets(c);
    map_env_free(&c->env);
}

static void on_finding(bool is_fatal, const char *text, void *arg)
{
    report(arg, is_fatal, "%s", text);
}

/* --- services ----------------------------------------------------------------------------------- */

/* The configuration as this service sees it, if it has -o. */
static void check_overrides(struct check *c, const struct master_service *s)
{
    struct buf text = BUF_INIT(SIZE_MAX);
    struct buf place = BUF_INIT(8192);
    struct config *cfg = NULL;
    struct err err = ERR_INIT;
    size_t n = 0;

    while (s->overrides[n] != NULL)
        n++;
    if (n == 0)
        return;
    c->service = s;
    if (worker_read_config(c->g->config_fd, &text, &err) == -1 ||
        config_load_text(config_dir(c->g->cfg), buf_view(&text), (const char *const *) s->overrides,
                         n, s->name, &cfg, &err) == -1) {
        report(c, true, "%s, line %d: service %s: %s", c->g->cf->path, s->line, s->name, err.text);
    } else {
        buf_printf(&place, "%s, line %d: service %s", c->g->cf->path, s->line, s->name);
        c->cfg = cfg;
        findings_of_service(c->findings, cfg, buf_cstr(&place));
        check_values(c);
        findings_of_service(c->findings, NULL, NULL);
        config_unref(&cfg);
    }
    c->service = NULL;
    c->cfg = c->g->cfg;
    buf_fini(&place);
    buf_fini(&text);
}

static void check_service(struct check *c, const struct master_service *s)
{
    const char *path = c->g->cf->path;

    switch (service_kind(c->g, s)) {
    case SERVICE_RUN:
        check_overrides(c, s);
        break;
    case SERVICE_ABSORBED:
        break;
    case SERVICE_MISSING:
        report(c, false, "%s, line %d: service %s is not started: there is no program %s in %s",
               path, s->line, s->name, s->command, c->g->common.daemon_directory);
        break;
    case SERVICE_NO_TYPE:
        report(c, false, "%s, line %d: service %s is not started: type %s is not served", path,
               s->line, s->name, service_type_name(s->type));
        break;
    }
}

int check_generation(const struct generation *g, bool network, check_report_fn fn, void *arg)
{
    static const char *const needed[] = {"queue_service_name", "cleanup_service_name"};
    struct check c = {.g = g, .fn = fn, .arg = arg, .cfg = g->cfg};

    c.findings = findings_new(g->cfg, network, on_finding, &c);
    check_values(&c);
    config_check_names(g->cfg, g->cf, on_config, &c);
    if (g->daemons != NULL)
        report(
            &c, false,
            "%s/main.cf, line %d: daemon_directory: there is no mail system in %s: the programs in %s are run",
            config_dir(g->cfg), config_line(g->cfg, "daemon_directory"),
            config_get(g->cfg, "daemon_directory"), g->daemons);
    for (size_t i = 0; i < g->cf->warnings.len; i++)
        report(&c, false, "%s", (const char *) g->cf->warnings.items[i]);
    for (size_t i = 0; i < g->cf->services.len; i++)
        check_service(&c, g->cf->services.items[i]);
    for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
        const char *name = config_get(g->cfg, needed[i]);
        const struct master_service *s =
            name == NULL ? NULL : master_cf_find(g->cf, name, SERVICE_UNIX);

        if (s == NULL && name != NULL)
            s = master_cf_find(g->cf, name, SERVICE_FIFO);
        if (s == NULL && name != NULL)
            report(&c, false, "%s: there is no service \"%s unix\": no mail will flow", g->cf->path,
                   name);
        else if (s != NULL && service_kind(g, s) == SERVICE_MISSING)
            report(&c, true,
                   "%s, line %d: service %s: no mail would flow: there is no program %s in %s",
                   g->cf->path, s->line, s->name, s->command, g->common.daemon_directory);
    }
    findings_free(&c.findings);
    /* what is wrong already would be said once more for each daemon */
    if (c.fatal == 0)
        c.fatal = check_trials(g, fn, arg);
    return c.fatal;
}

/* --- in a process of its own -------------------------------------------------------------------- */

static void send_finding(bool is_fatal, const char *text, void *arg)
{
    struct buf line = BUF_INIT(FINDINGS_MAX);
    const int *fd = arg;

    buf_printf(&line, "%c%s\n", is_fatal ? 'F' : 'W', text);
    if (fd_write_all(*fd, line.ptr, line.len) == -1)
        _exit(2);
    buf_fini(&line);
}

/* All that the process says, until it ends; -1: the time is up. */
static int read_findings(int fd, struct buf *out)
{
    struct mono_time deadline = mono_after_ms(mono_now(), APART_LIMIT_MS);

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        char piece[4096];
        ssize_t n;

        if (poll(&p, 1, mono_poll_ms(deadline)) == 0)
            return -1;
        n = fd_read_some(fd, piece, sizeof(piece));
        if (n <= 0)
            return 0;
        buf_put(out, piece, (size_t) n);
    }
}

int check_generation_apart(const struct generation *g, check_report_fn fn, void *arg)
{
    struct buf findings = BUF_INIT(FINDINGS_MAX);
    struct slice rest;
    struct slice line;
    const char *trouble = NULL;
    int fatal = 0;
    int status = 0;
    int pair[2];
    pid_t pid;

    if (pipe(pair) == -1) {
        fn(true, "the configuration check cannot be started: no pipe", arg);
        return 1;
    }
    pid = fork();
    if (pid == 0) {
        (void) close(pair[0]);
        _exit(check_generation(g, false, send_finding, &pair[1]) > 0 ? 1 : 0);
    }
    fd_close(&pair[1]);
    if (pid == -1) {
        trouble = "the configuration check cannot be started: no process";
    } else {
        if (read_findings(pair[0], &findings) == -1) {
            trouble = "the configuration check takes too long";
            (void) kill(pid, SIGKILL);
        }
        if (waitpid(pid, &status, 0) == -1 || !WIFEXITED(status) || WEXITSTATUS(status) > 1)
            trouble = trouble != NULL ? trouble : "the configuration check ended untimely";
    }
    fd_close(&pair[0]);
    rest = buf_view(&findings);
    while (slice_token(&rest, "\n", &line)) {
        char *text = slice_dup(slice_sub(line, 1, line.len));

        fatal += line.ptr[0] == 'F';
        fn(line.ptr[0] == 'F', text, arg);
        free(text);
    }
    if (trouble != NULL) {
        fn(true, trouble, arg);
        fatal++;
    }
    buf_fini(&findings);
    return fatal;
}
