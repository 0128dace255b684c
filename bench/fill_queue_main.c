/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fill_queue_main.c - fill-queue: puts many deferred messages into a queue, as cleanup would, but without it.
 *
 * fill-queue [-c config_dir] [-d domains] [-n count] [-s bytes] [-t seconds]: message i is from sender<i mod 1000>@s.test to
 * user<i>@d<i mod domains>.test, was tried once, and is due in `seconds`, spread over as much again. Run it as mail_owner.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mtime.h"
#include "base/num.h"
#include "mail/queue_id.h"
#include "qmgr/store.h"

struct fill {
    const char *config_dir;
    int64_t count, domains, bytes, due_s;
    int64_t failed;
};

static int64_t number(const char *text, int64_t min)
{
    struct err err = ERR_INIT;
    int64_t n = 0;

    if (num_parse_i64(slice_str(text), min, 100000000, &n, &err) == -1)
        fatal("%s: %s", text, err.text);
    return n;
}

static void parse(struct fill *f, int argc, char **argv)
{
    int ch;

    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    while ((ch = getopt(argc, argv, "c:d:n:s:t:")) != -1) {
        switch (ch) {
        case 'c':
            f->config_dir = optarg;
            break;
        case 'd':
            f->domains = number(optarg, 1);
            break;
        case 'n':
            f->count = number(optarg, 1);
            break;
        case 's':
            f->bytes = number(optarg, 100);
            break;
        case 't':
            f->due_s = number(optarg, 1);
            break;
        default:
            fatal("usage: fill-queue [-c config_dir] [-d domains] [-n count] [-s bytes] "
                  "[-t seconds]");
        }
    }
}

static void committed(void *arg, uint64_t source, uint64_t end)
{
    (void) arg;
    (void) source;
    (void) end; /* the queue manager finds them when it starts */
}

static void done(void *arg, int result, const struct err *err)
{
    struct fill *f = arg;

    if (result == -1 && f->failed++ == 0)
        log_warning("%s", err->text);
}

/* Head and lines that fill it up to the size. */
static void make_content(const struct fill *f, struct buf *out)
{
    buf_puts(out, "From: <sender@s.test>\r\nSubject: one of many\r\n\r\n");
    while ((int64_t) out->len < f->bytes)
        buf_puts(out, "All work and no play makes a queue a dull place to be in.\r\n");
}

static void put_one(struct fill *f, struct store_writer *w, int64_t i, struct slice content)
{
    int64_t now = wall_now().us;
    char id[QUEUE_ID_MAX + 1];
    char sender[64];
    char addr[64];
    struct mail_envelope env = {.arrival_us = (uint64_t) now, .rcpt_count = 1};
    struct mail_rcpt rcpt = {.code = SLICE_LIT("4.4.1")};
    struct store_put *p = store_put_begin(w);
    struct err err = ERR_INIT;

    if (store_put_write(p, content, &err) == -1)
        fatal("%s", err.text);
    queue_id_new(false, id);
    snprintf(sender, sizeof(sender), "sender%lld@s.test", (long long) (i % 1000));
    snprintf(addr, sizeof(addr), "user%lld@d%lld.test", (long long) i,
             (long long) (i % f->domains));
    env.queue_id = slice_str(id);
    env.sender = slice_str(sender);
    env.header_bytes = (uint32_t) (strstr(content.ptr, "\r\n\r\n") - content.ptr + 4);
    env.longest_line = 60;
    env.next_retry_us = (uint64_t) (now + f->due_s * 1000000 + i * f->due_s * 1000000 / f->count);
    rcpt.addr = slice_str(addr);
    rcpt.reason = SLICE_LIT("connect to mx.test[192.0.2.1]:25: Connection timed out");
    store_put_commit(&p, &env, &rcpt, 1, done, f);
}

int main(int argc, char **argv)
{
    struct fill f = {.count = 1000000, .domains = 1000, .bytes = 500, .due_s = 86400};
    struct buf content = BUF_INIT(SIZE_MAX);
    struct store_options opt;
    struct store_writer *w;
    struct config *cfg;
    struct err err = ERR_INIT;

    log_open(&(struct log_target){
        .program = "fill-queue", .maillog_fd = -1, .to_stderr = true, .no_syslog = true});
    parse(&f, argc, argv);
    if (config_load(f.config_dir, NULL, 0, NULL, &cfg, &err) == -1 ||
        store_options_from(cfg, &opt, &err) == -1 ||
        store_writer_open(&opt, committed, NULL, &w, &err) == -1)
        fatal("%s", err.text);
    make_content(&f, &content);
    buf_putc(&content, '\0');
    for (int64_t i = 0; i < f.count; i++)
        put_one(&f, w, i, slice_of(content.ptr, content.len - 1));
    store_writer_close(&w);
    config_unref(&cfg);
    buf_fini(&content);
    if (f.failed > 0)
        fatal("%lld messages could not be stored", (long long) f.failed);
    return 0;
}
