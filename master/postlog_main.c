/* SPDX-License-Identifier: Apache-2.0 */
/* postlog_main.c - postlog(1): log lines from scripts, in the mail system's log and form. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "master/master_int.h"

#define LINE_BYTES 4096

static const struct priority {
    const char *name;
    enum log_level level;
    const char *prefix;
    bool
        pause; /* Postfix's programs wait a second after these, so that a script in a loop does no harm */
} priorities[] = {
    {"info", LOG_LEVEL_INFO, "", false},
    {"warn", LOG_LEVEL_WARNING, "warning: ", false},
    {"warning", LOG_LEVEL_WARNING, "warning: ", false},
    {"error", LOG_LEVEL_ERROR, "error: ", false},
    {"fatal", LOG_LEVEL_FATAL, "fatal: ", true},
    {"panic", LOG_LEVEL_PANIC, "panic: ", true},
};

static void put(const struct priority *p, struct slice text)
{
    struct buf line = BUF_INIT(LINE_BYTES + 16);

    buf_puts(&line, p->prefix);
    buf_put_slice(&line, text);
    log_event(p->level, "postlog", SLICE_EMPTY, LF_RAW("text", buf_view(&line)));
    buf_fini(&line);
    if (p->pause)
        /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
        (void) sleep(1);
}

/* The words as one line, or each line of standard input. */
static void put_all(const struct priority *p, char **words)
{
    struct buf text = BUF_INIT(LINE_BYTES);
    char line[LINE_BYTES];

    for (char **w = words; *w != NULL; w++)
        buf_printf(&text, "%s%s", w == words ? "" : " ", *w);
    if (*words != NULL)
        put(p, buf_view(&text));
    else
        while (fgets(line, sizeof(line), stdin) != NULL)
            put(p, slice_trim(slice_str(line), "\r\n"));
    buf_fini(&text);
}

NORETURN static void usage(void)
{
    fprintf(stderr, "usage: postlog [-iv] [-c config_dir] [-p priority] [-t tag] [text...]\n");
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    exit(1);
}

int main(int argc, char **argv)
{
    const struct priority *priority = &priorities[0];
    struct generation *g = NULL;
    struct err err = ERR_INIT;
    const char *dir = NULL;
    const char *tag = NULL;
    size_t i;
    int c;

    log_open(&(struct log_target){
        .program = "postlog", .maillog_fd = -1, .to_stderr = true, .no_syslog = true});
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    while ((c = getopt(argc, argv, "+c:ip:t:v")) != -1) {
        switch (c) {
        case 'c':
            dir = optarg;
            break;
        case 'i':
            break; /* the process id is always there */
        case 'p':
            for (i = 0; i < ARRAY_LEN(priorities); i++)
                if (strcmp(optarg, priorities[i].name) == 0)
                    break;
            if (i == ARRAY_LEN(priorities))
                fatal("invalid severity: %s", optarg);
            priority = &priorities[i];
            break;
        case 't':
            tag = optarg;
            break;
        case 'v':
            log_verbose(log_verbosity() + 1);
            break;
        default:
            usage();
        }
    }
    if (generation_load_main(dir, &g, &err) == -1)
        fatal("%s", err.text);
    /* a tag is the whole of what stands before the process id */
    command_log_open(g, tag != NULL ? tag : "postlog", tag != NULL, isatty(STDERR_FILENO));
    put_all(priority, argv + optind);
    generation_unref(&g);
    return 0;
}
