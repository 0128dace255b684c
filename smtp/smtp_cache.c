/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp_cache.c - idle connections to servers, by next hop, for the threads of this process.
 *
 * Few at a time: a list. A janitor thread closes those whose time is over. While it waits for a time it is not woken: every
 * connection is kept as long as the others, so that a new one's time comes later.
 */
#include "smtp/smtp_int.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/vec.h"

#define CACHE_MAX 500 /* idle connections of one process */

struct entry {
    char *nexthop;
    struct smtp_conn *conn;
    struct mono_time expires;
};

struct smtp_cache {
    struct lock lock;
    pthread_cond_t changed;
    pthread_t janitor;
    bool has_janitor;
    bool janitor_rests; /* it waits until there is something at all */
    bool stopping;
    struct vec entries; /* oldest first */
    int64_t idle_s, reuse_s, reuse_count;
};

struct smtp_cache *smtp_cache_new(int64_t idle_s, int64_t reuse_s, int64_t reuse_count)
{
    struct smtp_cache *c = xcalloc(1, sizeof(*c));
    pthread_condattr_t attr;

    lock_init(&c->lock, LOCK_SMTP_CACHE);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &attr);
    pthread_condattr_destroy(&attr);
    c->idle_s = idle_s;
    c->reuse_s = reuse_s;
    c->reuse_count = reuse_count;
    return c;
}

static void entry_free(struct entry *e)
{
    static const char quit[] = "QUIT\r\n";

    /* a farewell that may be lost */
    if (e->conn != NULL &&
        send(e->conn->fd, quit, sizeof(quit) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) == -1)
        e->conn->features = 0;
    smtp_conn_free(&e->conn);
    free(e->nexthop);
    free(e);
}

/* Moves what has expired at `now` to dead. */
static void sweep_locked(struct smtp_cache *c, struct mono_time now, struct vec *dead)
    REQUIRES(c->lock)
{
    size_t kept = 0;

    for (size_t i = 0; i < c->entries.len; i++) {
        struct entry *e = c->entries.items[i];

        if (mono_diff_us(e->expires, now) <= 0)
            vec_push(dead, e);
        else
            c->entries.items[kept++] = e;
    }
    c->entries.len = kept;
}

static void *janitor(void *arg)
{
    struct smtp_cache *c = arg;

    lock_take(&c->lock);
    while (!c->stopping) {
        struct vec dead = VEC_INIT;

        if (c->entries.len == 0) {
            c->janitor_rests = true;
            lock_wait(&c->lock, &c->changed);
            c->janitor_rests = false;
            continue;
        }
        sweep_locked(c, mono_now(), &dead);
        if (dead.len > 0) {
            lock_release(&c->lock);
            for (size_t i = 0; i < dead.len; i++)
                entry_free(dead.items[i]);
            vec_fini(&dead);
            lock_take(&c->lock);
            continue;
        }
        vec_fini(&dead);
        struct mono_time until = ((struct entry *) c->entries.items[0])->expires;
        struct timespec ts = {.tv_sec = until.us / 1000000, .tv_nsec = (until.us % 1000000) * 1000};
        (void) pthread_cond_timedwait(&c->changed, &c->lock.mutex, &ts);
    }
    lock_release(&c->lock);
    return NULL;
}

void smtp_cache_free(struct smtp_cache **cache)
{
    struct smtp_cache *c = *cache;

    if (c == NULL)
        return;
    lock_take(&c->lock);
    c->stopping = true;
    pthread_cond_signal(&c->changed);
    lock_release(&c->lock);
    if (c->has_janitor)
        pthread_join(c->janitor, NULL);
    for (size_t i = 0; i < c->entries.len; i++)
        entry_free(c->entries.items[i]);
    vec_fini(&c->entries);
    pthread_cond_destroy(&c->changed);
    lock_fini(&c->lock);
    free(c);
    *cache = NULL;
}

struct smtp_conn *smtp_cache_take(struct smtp_cache *c, struct slice nexthop)
{
    for (;;) {
        struct entry *found = NULL;
        struct smtp_conn *conn;

        lock_take(&c->lock);
        for (size_t i = c->entries.len; i-- > 0 && found == NULL;) {
            struct entry *e = c->entries.items[i];

            if (slice_caseeq_str(nexthop, e->nexthop)) {
                found = e;
                vec_remove(&c->entries, i);
            }
        }
        lock_release(&c->lock);
        if (found == NULL)
            return NULL;
        conn = found->conn;
        found->conn = NULL;
        entry_free(found);
        if (smtp_conn_is_fresh(conn))
            return conn;
        smtp_conn_free(&conn);
    }
}

void smtp_cache_put(struct smtp_cache *c, struct slice nexthop, struct smtp_conn **conn)
{
    struct entry *e = xcalloc(1, sizeof(*e));
    struct mono_time now = mono_now();
    bool full;

    e->conn = *conn;
    *conn = NULL;
    e->nexthop = slice_dup(nexthop);
    e->expires = mono_after_ms(now, c->idle_s * 1000);
    if (mono_diff_ms(now, e->conn->since) > c->reuse_s * 1000 ||
        (c->reuse_count > 0 && e->conn->uses >= (uint64_t) c->reuse_count)) {
        entry_free(e);
        return;
    }
    lock_take(&c->lock);
    full = c->entries.len >= CACHE_MAX || c->stopping;
    if (!full) {
        vec_push(&c->entries, e);
        if (!c->has_janitor)
            c->has_janitor = pthread_create(&c->janitor, NULL, janitor, c) == 0;
        full = !c->has_janitor;
        if (full) {
            vec_remove(&c->entries, c->entries.len - 1);
        } else if (c->janitor_rests) {
            c->janitor_rests = false; /* once is enough */
            pthread_cond_signal(&c->changed);
        }
    }
    lock_release(&c->lock);
    if (full)
        entry_free(e);
}
