/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postcat_main.c - postcat(1): shows queued messages. Looks only; needs no lock, so the system may run.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "postconf/config.h"
#include "qmgr/postcat.h"
#include "qmgr/queue_maildrop.h"
#include "qmgr/store_int.h"

struct command {
    struct postcat_options show;
    const char *config_dir;
    bool in_queue;
    uint64_t skip;
};

static void usage(void)
{
    fatal(
        "usage: postcat [-b (body text)] [-c config_dir] [-d (decimal record type)] [-e (envelope records)] "
        "[-h (header text)] [-o (print offsets)] [-q (access queue)] [-r (file order)] [-s skip_offset] [-v] "
        "[file(s)...]");
}

static struct command parse(int argc, char **argv)
{
    struct command c = {0};
    struct err err;
    int ch;

    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    while ((ch = getopt(argc, argv, "bc:defhoqrs:v")) != -1) {
        switch (ch) {
        case 'b':
            c.show.body = true;
            break;
        case 'c':
            c.config_dir = optarg;
            break;
        case 'd':
            c.show.types = true;
            break;
        case 'e':
            c.show.envelope = true;
            break;
        case 'f': /* what -r was called once */
        case 'r':
            c.show.record_order = true;
            break;
        case 'h':
            c.show.header = true;
            break;
        case 'o':
            c.show.offsets = true;
            break;
        case 'q':
            c.in_queue = true;
            break;
        case 's':
            if (num_parse_u64_base(slice_str(optarg), 10, INT64_MAX, &c.skip, &err) == -1)
                fatal("bad offset: %s", optarg);
            break;
        case 'v':
            log_verbose(log_verbosity() + 1);
            c.show.record_names = true;
            break;
        default:
            usage();
        }
    }
    if (!c.show.envelope && !c.show.header && !c.show.body)
        c.show.envelope = c.show.header = c.show.body = true;
    return c;
}

static void damaged(void *arg, const char *text)
{
    (void) arg;
    log_debug("%s", text);
}

/* 0: shown; 1: not there. */
static int show_from_queue(const struct command *c, const struct store_options *opt, const char *id,
                           struct err *err)
{
    static const struct store_events events = {NULL, damaged};
    struct store *s = NULL;
    struct store_msg *found;
    struct arena *arena = arena_new(0);
    struct buf name = BUF_INIT(SIZE_MAX);
    struct postcat_message m = {0};
    struct store_rcpt *rcpts;
    int ret = -1;

    if (store_open_readonly(opt, &events, NULL, &s, err) == -1 ||
        store_recover_id(s, slice_str(id), err) == -1)
        goto done;
    found = store_find(s, slice_str(id));
    if (found == NULL) {
        ret = 1;
        goto done;
    }
    if (store_msg_read(s, found, arena, &m.env, &rcpts, &m.nrcpts, err) == -1 ||
        store_msg_content(s, found, &m.fd, &m.content_at, &m.content_bytes, err) == -1) {
        err_prefix(err, "%s: ", id);
        goto done;
    }
    m.rcpts = rcpts;
    m.state = store_msg_state(found);
    (void) store_path_message(&name, "", store_msg_queue(found), slice_str(id));
    m.name = buf_cstr(&name) + 1;
    m.record_at = store_msg_record_at(found);
    ret = postcat_print(&c->show, &m, stdout, err);
done:
    store_close(&s);
    buf_fini(&name);
    arena_free(&arena);
    return ret;
}

/* The same. Its content has frames around it there, which do not show. */
static int show_from_maildrop(const struct command *c, const char *queue_directory, const char *id,
                              struct err *err)
{
    struct arena *arena = arena_new(0);
    struct buf name = BUF_INIT(SIZE_MAX);
    struct postcat_message m = {0};
    struct store_rcpt *rcpts;
    FILE *content = tmpfile();
    int ret = -1;

    if (content == NULL) {
        err_sys(err, "temporary file");
        goto done;
    }
    m.fd = fileno(content);
    switch (queue_maildrop_read(queue_directory, id, arena, m.fd, &m.env, &rcpts, &m.nrcpts, err)) {
    case 0:
        ret = 1;
        goto done;
    case -1:
        goto done;
    }
    buf_printf(&name, "maildrop/%s", id);
    m.name = buf_cstr(&name);
    m.rcpts = rcpts;
    m.content_bytes = m.env.content_bytes;
    m.env.flags |= MAIL_LOCAL_ORIGIN; /* as pickup makes it */
    m.env.queue_id = SLICE_EMPTY;     /* a placeholder until then */
    ret = postcat_print(&c->show, &m, stdout, err);
done:
    if (content != NULL)
        fclose(content);
    buf_fini(&name);
    arena_free(&arena);
    return ret;
}

/* pread() wants a file. */
static int standard_input(struct err *err)
{
    FILE *f = tmpfile();
    struct buf data = BUF_INIT(SIZE_MAX);
    int fd = -1;
    ssize_t n;

    if (f == NULL) {
        err_sys(err, "temporary file");
        return -1;
    }
    do {
        buf_reset(&data);
        n = fd_read_some(STDIN_FILENO, buf_reserve(&data, 65536), 65536);
        if (n > 0 && fd_write_all(fileno(f), data.ptr, (size_t) n) == -1)
            n = -1;
    } while (n > 0);
    if (n == 0)
        fd = dup(fileno(f));
    if (fd == -1)
        err_sys(err, "standard input");
    fclose(f);
    buf_fini(&data);
    return fd;
}

static int show_file(const struct command *c, const char *queue_directory, const char *path,
                     struct err *err)
{
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? standard_input(err) : open(path, O_RDONLY | O_CLOEXEC);
    int ret;

    if (fd == -1) {
        if (!is_stdin)
            err_sys(err, "open %s", path);
        fatal("%s", err->text);
    }
    ret = postcat_file(&c->show, queue_directory, is_stdin ? "stdin" : path, fd, c->skip, stdout,
                       err);
    fd_close(&fd);
    return ret;
}

int main(int argc, char **argv)
{
    struct command c;
    struct config *cfg;
    struct store_options opt;
    struct err err;

    log_open(&(struct log_target){.syslog_name = "postfix",
                                  .program = "postcat",
                                  .facility = "mail",
                                  .maillog_fd = -1,
                                  .to_stderr = true,
                                  .no_syslog = true});
    c = parse(argc, argv);
    if (config_load(c.config_dir, NULL, 0, NULL, &cfg, &err) == -1 ||
        store_options_from(cfg, &opt, &err) == -1)
        fatal("%s", err.text);
    for (int i = optind; i < argc && c.in_queue; i++) {
        int shown;

        if (!queue_id_valid(slice_str(argv[i])))
            fatal("bad mail queue ID: %s", argv[i]);
        shown = show_from_queue(&c, &opt, argv[i], &err);
        if (shown == 1)
            shown = show_from_maildrop(&c, opt.queue_directory, argv[i], &err);
        if (shown == -1)
            fatal("%s", err.text);
        if (shown == 1)
            fatal("open queue file %s: No such file or directory", argv[i]);
    }
    for (int i = optind; i < argc + (optind == argc) && !c.in_queue; i++) {
        if (show_file(&c, opt.queue_directory, i < argc ? argv[i] : "-", &err) == -1)
            log_warning("%s", err.text); /* and exit status 0, as Postfix */
    }
    config_unref(&cfg);
    return 0;
}
