/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_table.c - a worker's answer to "postmap --live": what a table says in this process, as it is loaded here.
 *
 * Only a table that the process has open is asked: none is opened for the question. One that may wait for a server is asked by a
 * thread of its own in a threaded worker, and not at all in a loop worker, which must not wait.
 */
#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "master/worker_int.h"

struct question {
    struct worker *w;
    struct map *map; /* NULL: not open here */
    uint64_t id;
    char *key;
    size_t key_len;
};

static void say(struct worker *w, const struct proto_table_said *said)
{
    struct err err = ERR_INIT;

    lock_take(&w->lock);
    if (proto_put(w->status, &msg_table_said, said, -1, &err) == -1 ||
        chan_flush(w->status, &err) == CHAN_ERROR)
        log_debug("answer to master: %s", err.text);
    lock_release(&w->lock);
}

static void *answer(void *arg)
{
    struct question *q = arg;
    struct proto_table_said said = {.id = q->id, .status = PROTO_TABLE_NOT_OPEN};
    struct buf value = BUF_INIT(MAP_VALUE_MAX);
    struct err why = ERR_INIT;

    if (q->map != NULL) {
        switch (map_lookup(q->map, slice_of(q->key, q->key_len), &value, &why)) {
        case MAP_FOUND:
            said.status = PROTO_TABLE_FOUND;
            break;
        case MAP_NOTFOUND:
            said.status = PROTO_TABLE_NOT_FOUND;
            break;
        case MAP_RETRY:
            said.status = PROTO_TABLE_RETRY;
            break;
        }
        said.loaded_us = (uint64_t) map_loaded(q->map).us;
    }
    if (value.len > PROTO_TABLE_SAID_MAX) {
        said.status = PROTO_TABLE_RETRY;
        (void) err_temporary(&why, "the value is longer than %d bytes", PROTO_TABLE_SAID_MAX);
    }
    if (said.status == PROTO_TABLE_FOUND)
        said.value = buf_view(&value);
    said.text = slice_str(why.text);
    say(q->w, &said);
    buf_fini(&value);
    free(q->key);
    free(q);
    return NULL;
}

static void cannot_ask(struct question *q, const char *why)
{
    struct proto_table_said said = {
        .id = q->id, .status = PROTO_TABLE_SILENT, .text = slice_str(why)};

    say(q->w, &said);
    free(q->key);
    free(q);
}

static void answer_on_thread(struct question *q)
{
    pthread_attr_t attr;
    pthread_t thread;
    int code;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    code = pthread_create(&thread, &attr, answer, q);
    pthread_attr_destroy(&attr);
    if (code != 0)
        cannot_ask(q, "no thread can be started");
}

void worker_table_ask(struct worker *w, const struct frame *f)
{
    struct proto_table_ask ask;
    struct err err = ERR_INIT;
    struct question *q;

    if (proto_decode(f, &msg_table_ask, &ask, &err) == -1) {
        log_warning("from master: %s", err.text);
        return;
    }
    q = xcalloc(1, sizeof(*q));
    q->w = w;
    q->id = ask.id;
    q->key = slice_dup(ask.key);
    q->key_len = ask.key.len;
    q->map = map_opened(worker_maps_in_force(w), ask.table);
    if (q->map == NULL || (map_flags(q->map) & MAP_FLAG_LOCAL) != 0 ||
        w->service->shape == WORKER_SINGLE)
        (void) answer(q);
    else if (w->service->shape == WORKER_THREADED)
        answer_on_thread(q);
    else
        cannot_ask(q, "this process must not wait for the table's server");
}
