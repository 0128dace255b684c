/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postmap_live.c - "postmap --live": what a table says in the processes of the running mail system, as each has it loaded.
 *
 * Master passes the question on to its workers; those that use the table answer. Nothing is opened for the question, so that a worker
 * that goes on with an old file, or with settings from before an edit of main.cf, shows it.
 */
#include "maps/postmap_int.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/log.h"
#include "mail/proto.h"

#define WAIT_MS 20000 /* master waits for its workers, but not as long */

static struct chan *connect_master(const struct command *c)
{
    struct buf path = BUF_INIT(8192);
    struct err err = ERR_INIT;
    struct chan *chan;

    buf_printf(&path, "%s/private/control", config_get(c->cfg, "queue_directory"));
    chan = proto_connect(buf_cstr(&path), "postmap", WAIT_MS, &err);
    if (chan == NULL)
        fatal("the running mail system cannot be asked: %s", err.text);
    buf_fini(&path);
    return chan;
}

static void receive(struct chan *chan, struct frame *f)
{
    struct err err = ERR_INIT;

    switch (proto_get_wait(chan, f, WAIT_MS, &err)) {
    case CHAN_OK:
        fd_close(&f->fd);
        return;
    case CHAN_AGAIN:
        fatal("no answer from master");
    case CHAN_EOF:
        fatal("the mail system has stopped, or does not answer this user");
    case CHAN_ERROR:
        fatal("no answer from master: %s", err.text);
    }
}

static void put_time(uint64_t us)
{
    time_t seconds = (time_t) (us / 1000000);
    struct tm tm;
    char text[64];

    if (gmtime_r(&seconds, &tm) != NULL &&
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm) > 0)
        (void) printf("\"%s.%03uZ\"", text, (unsigned) (us / 1000 % 1000));
}

/* One process's answer as JSON. */
static void put_object(const char *table, struct slice key, const struct proto_table_said *s)
{
    static const char *const results[] = {"", "found", "not found", "try again", "", "no answer"};

    (void) fputs("{\"table\":", stdout);
    postmap_put_json(slice_str(table));
    (void) fputs(",\"key\":", stdout);
    postmap_put_json(key);
    (void) fputs(",\"program\":", stdout);
    postmap_put_json(s->program);
    (void) printf(",\"pid\":%u,\"result\":\"%s\",\"value\":", s->pid, results[s->status]);
    if (s->status == PROTO_TABLE_FOUND)
        postmap_put_json(s->value);
    else
        (void) fputs("null", stdout);
    if (s->text.len > 0) {
        (void) fputs(",\"reason\":", stdout);
        postmap_put_json(s->text);
    }
    if (s->loaded_us != 0) {
        (void) fputs(",\"loaded\":", stdout);
        put_time(s->loaded_us);
    }
    (void) fputs("}\n", stdout);
}

static void put_line(struct slice key, bool with_key, const struct proto_table_said *s)
{
    if (with_key)
        (void) printf("%.*s\t", SLICE_FMT(key));
    (void) printf("%.*s[%u]\t%.*s\n", SLICE_FMT(s->program), s->pid, SLICE_FMT(s->value));
}

struct live {
    const struct command *c;
    struct chan *chan;
    bool any;     /* found */
    bool trouble; /* some process could not say */
};

/* All processes' answers for one table. False: none has it open. */
static bool ask_table(struct live *l, const char *table, struct slice key, bool with_key)
{
    struct proto_table_ask ask = {.table = slice_str(table), .key = key};
    struct err err = ERR_INIT;
    struct frame f;
    bool open = false;

    if (proto_put(l->chan, &msg_table_ask, &ask, -1, &err) == -1 ||
        chan_flush_wait(l->chan, WAIT_MS, &err) != CHAN_OK)
        fatal("the running mail system cannot be asked: %s", err.text);
    for (;;) {
        struct proto_table_said s;

        receive(l->chan, &f);
        if (f.type == PROTO_END)
            return open;
        if (proto_decode(&f, &msg_table_said, &s, &err) == -1)
            fatal("answer from master: %s", err.text);
        if (s.status < PROTO_TABLE_FOUND || s.status == PROTO_TABLE_NOT_OPEN)
            continue;
        open |= s.status != PROTO_TABLE_SILENT;
        l->any |= s.status == PROTO_TABLE_FOUND;
        l->trouble |= s.status == PROTO_TABLE_RETRY;
        if (l->c->json)
            put_object(table, key, &s);
        else if (s.status == PROTO_TABLE_FOUND)
            put_line(key, with_key, &s);
        else if (s.text.len > 0)
            log_warning("%.*s[%u]: %.*s", SLICE_FMT(s.program), s.pid, SLICE_FMT(s.text));
    }
}

static void ask_all(struct live *l, int n, char **specs, struct slice key, bool with_key)
{
    for (int i = 0; i < n; i++) {
        struct buf space = BUF_INIT(1U << 20);
        const char *table = postmap_full_name(l->c, specs[i], &space);

        if (!ask_table(l, table, key, with_key)) {
            log_warning("no process of the mail system has %s open now", table);
            l->trouble = true;
        }
        buf_fini(&space);
    }
}

int postmap_live(const struct command *c, int n, char **specs)
{
    struct live l = {.c = c};
    char *line = NULL;
    size_t cap = 0;
    struct slice key;

    l.chan = connect_master(c);
    if (strcmp(c->query, "-") != 0) {
        ask_all(&l, n, specs, slice_str(c->query), false);
    } else {
        while (postmap_read_line(stdin, &line, &cap, &key))
            ask_all(&l, n, specs, key, true);
        free(line);
    }
    chan_free(&l.chan);
    if (fflush(stdout) == EOF || ferror(stdout) != 0)
        fatal("write to standard output failed");
    return l.any && !l.trouble ? 0 : 1;
}
