/* SPDX-License-Identifier: Apache-2.0 */
/* postmulti_main.c - postmulti(1): lists the instances, and does the same to each. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "master/postmulti_int.h"

static const char usage[] =
    "usage: postmulti [-aRv] [-g group] [-i name] -l | -p command | -x command ...\n"
    "       postmulti [-av] [-g group] [-i name] [-I name] [-G group] -e "
    "init|create|import|destroy|deport|enable|disable|assign [name=value ...]";

bool postmulti_has_name(const struct instance *i, const char *name)
{
    if (strcmp(name, "-") == 0)
        return i->is_primary;
    return strcmp(name, name[0] == '/' ? config_dir(i->cfg) : i->p.name) == 0;
}

/* out_fd: its standard output; -1: ours. */
static pid_t start(const struct instance *i, const char *program, char *const *words, int out_fd)
{
    char **environment = instance_environment(i);
    posix_spawn_file_actions_t actions;
    pid_t pid = -1;
    int code;

    posix_spawn_file_actions_init(&actions);
    if (out_fd != -1)
        posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
    code = posix_spawnp(&pid, program, &actions, NULL, words, environment);
    posix_spawn_file_actions_destroy(&actions);
    for (char **e = environment; *e != NULL; e++)
        free(*e);
    free(environment);
    if (code != 0) {
        log_error("cannot run %s: errno %d", program, code);
        return -1;
    }
    return pid;
}

static int wait_status(pid_t pid)
{
    int status;

    if (pid == -1)
        return 1;
    while (waitpid(pid, &status, 0) == -1)
        if (errno != EINTR)
            return 1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int postmulti_run(const struct instance *i, const char *program, char *const *words)
{
    /* what we have printed comes before what it prints */
    if (fflush(stdout) != 0)
        fatal("write to standard output failed");
    return wait_status(start(i, program, words, -1));
}

int postmulti_capture(const struct instance *i, const char *program, char *const *words,
                      struct buf *out)
{
    char piece[4096];
    ssize_t n;
    int pair[2];
    pid_t pid;

    if (pipe2(pair, O_CLOEXEC) == -1)
        fatal("pipe: errno %d", errno);
    pid = start(i, program, words, pair[1]);
    (void) close(pair[1]);
    while (pid != -1 && (n = fd_read_some(pair[0], piece, sizeof(piece))) > 0)
        buf_put(out, piece, (size_t) n);
    (void) close(pair[0]);
    return wait_status(pid);
}

static bool is_selected(const struct postmulti *m, const struct instance *i)
{
    if (m->select_name != NULL)
        return postmulti_has_name(i, m->select_name);
    return m->select_group == NULL || strcmp(i->p.group, m->select_group) == 0;
}

/* Calls fn for each selected instance; the worst of what it returns. One that fails keeps the others from nothing. */
static int each_selected(const struct postmulti *m, bool reverse,
                         int (*fn)(const struct instance *i, void *arg), void *arg)
{
    int worst = 0;

    for (size_t n = 0; n < m->instances.len; n++) {
        const struct instance *i = m->instances.items[reverse ? m->instances.len - 1 - n : n];

        if (is_selected(m, i)) {
            int status = fn(i, arg);

            worst = status > worst ? status : worst;
        }
    }
    return worst;
}

/* A name that is misspelt must not look like work that is done. */
static void check_selection(const struct postmulti *m)
{
    for (size_t n = 0; n < m->instances.len; n++)
        if (is_selected(m, m->instances.items[n]))
            return;
    if (m->select_name != NULL)
        fatal("no instance is called %s", m->select_name);
    fatal("no instance is in group %s", m->select_group);
}

static int list_one(const struct instance *i, void *arg)
{
    (void) arg;
    printf("%-15s %-15s %-9s %s\n", i->p.name[0] != '\0' ? i->p.name : "-",
           i->p.group[0] != '\0' ? i->p.group : "-", i->p.enable ? "y" : "n", config_dir(i->cfg));
    return 0;
}

static int run_unix_command(const struct instance *i, void *arg)
{
    char *const *words = arg;

    return postmulti_run(i, words[0], words);
}

struct word_search {
    const char *word;
    bool found;
};

static void compare(struct slice element, void *arg)
{
    struct word_search *s = arg;

    s->found |= slice_eq_str(element, s->word);
}

static bool is_among(const char *list, const char *word)
{
    struct word_search s = {word, false};

    config_list_each(list, compare, &s);
    return s.found;
}

struct postfix_command {
    char *const *words;
    bool starts, wants_running; /* is among the primary instance's lists */
};

static int run_postfix_command(const struct instance *i, void *arg)
{
    const struct postfix_command *c = arg;
    struct buf path = BUF_INIT(8192);
    struct vec argv = VEC_INIT;
    int status;

    if (!i->p.enable && c->wants_running)
        return 0;
    path_join(&path, i->common.command_directory, "postfix");
    vec_push(&argv, (void *) (uintptr_t) "postfix");
    for (int v = 0; v < log_verbosity(); v++)
        vec_push(&argv, (void *) (uintptr_t) "-v");
    /* a disabled instance is not started, but what is wrong with it is still told */
    if (!i->p.enable && c->starts)
        vec_push(&argv, (void *) (uintptr_t) "check");
    else
        for (char *const *word = c->words; *word != NULL; word++)
            vec_push(&argv, *word);
    vec_push(&argv, NULL);
    status = postmulti_run(i, buf_cstr(&path), (char *const *) argv.items);
    vec_fini(&argv);
    buf_fini(&path);
    return status;
}

static int iterate_postfix(struct postmulti *m, char *const *words)
{
    const struct instance *primary = m->instances.items[0];
    bool stops = is_among(primary->p.stop_commands, words[0]);
    struct postfix_command c = {
        .words = words,
        .starts = is_among(primary->p.start_commands, words[0]),
        .wants_running = stops || is_among(primary->p.control_commands, words[0]),
    };

    return each_selected(m, stops, run_postfix_command, &c);
}

struct options {
    char mode; /* l, p, x, e; 0: none yet */
    const char *argument;
};

static void take_mode(struct options *o, int mode, const char *argument)
{
    if (o->mode != 0)
        fatal("specify only one of -e, -l, -p, -x");
    o->mode = (char) mode;
    o->argument = argument;
}

static void take_options(struct postmulti *m, struct options *o, int argc, char **argv)
{
    int c;

    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    while ((c = getopt(argc, argv, "+ae:g:G:i:I:lpRvx")) != -1) {
        if (c == 'a')
            m->all = true;
        else if (c == 'g')
            m->select_group = optarg;
        else if (c == 'i')
            m->select_name = optarg;
        else if (c == 'G')
            m->new_group = optarg;
        else if (c == 'I')
            m->new_name = optarg;
        else if (c == 'R')
            m->reverse = true;
        else if (c == 'v')
            log_verbose(log_verbosity() + 1);
        else if (c == 'l' || c == 'p' || c == 'x' || c == 'e')
            take_mode(o, c, optarg);
        else
            fatal("%s", usage);
    }
    m->words = argv + optind;
    m->count = (size_t) (argc - optind);
    if (o->mode == 0 || ((o->mode == 'p' || o->mode == 'x') && m->count == 0) ||
        (o->mode == 'l' && m->count > 0))
        fatal("%s", usage);
    if (m->all + (m->select_name != NULL) + (m->select_group != NULL) > 1)
        fatal("specify only one of -a, -g, -i");
    if (o->mode != 'e' && (m->new_name != NULL || m->new_group != NULL))
        fatal("options -I and -G are for -e");
    if (m->reverse && o->mode != 'l' && o->mode != 'x')
        fatal("option -R is for -l and -x");
}

/* Only the default configuration directory can be that of a primary instance. */
static void check_environment(void)
{
    const char *dir = getenv("MAIL_CONFIG"); /* NOLINT(concurrency-mt-unsafe): no threads */

    if (dir != NULL && dir[0] != '\0' && strcmp(dir, CONFIG_DEFAULT_DIR) != 0)
        fatal("MAIL_CONFIG is \"%s\": instances are managed from %s only", dir, CONFIG_DEFAULT_DIR);
}

int main(int argc, char **argv)
{
    struct postmulti m = {.all = false};
    struct options o = {.mode = 0};
    struct err err = ERR_INIT;
    int status = 1;

    log_open(&(struct log_target){.syslog_name = "postfix",
                                  .program = "postmulti",
                                  .maillog_fd = -1,
                                  .to_stderr = true,
                                  .no_syslog = true});
    check_environment();
    take_options(&m, &o, argc, argv);
    if (instances_load(&m.instances, &err) == -1)
        fatal("%s", err.text);
    if (o.mode != 'e')
        check_selection(&m);
    switch (o.mode) {
    case 'l':
        status = each_selected(&m, m.reverse, list_one, NULL);
        break;
    case 'x':
        status = each_selected(&m, m.reverse, run_unix_command, (void *) (uintptr_t) m.words);
        break;
    case 'p':
        status = iterate_postfix(&m, m.words);
        break;
    case 'e':
        status = postmulti_edit(&m, o.argument);
        break;
    }
    instances_free(&m.instances);
    if (fflush(stdout) != 0 || ferror(stdout) != 0)
        fatal("write to standard output failed");
    return status;
}
