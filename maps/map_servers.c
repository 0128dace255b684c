/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_servers.c - see map_servers.h: connections that threads share, and servers that may be down.
 *
 * A connection is idle in its server's list, or leased to one lookup; both count as open, and open never exceeds the limit. The
 * lock is never held while a connection is opened, used or closed.
 *
 * A server is in one of three states:
 *   up       asked by any lookup; a failure makes it down for down_min.
 *   down     asked by none until `until`; then by the first lookup that comes: probing.
 *   probing  asked by one lookup, passed over by all others; it becomes up, or down for twice as long as before.
 * An answer that comes from a server makes it up, whatever it was.
 */
#include "maps/map_servers.h"

#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/blocking.h"
#include "base/lock.h"
#include "base/log.h"
#include "maps/map_int.h"

/* A server that swallows packets must not hold a probe for the whole time limit; but one that is slow to accept would never
 * come back: every fourth probe may take as long as it likes. */
#define PROBE_CONNECT_MS 2000
#define PROBE_PATIENT    4

struct idle {
    struct idle *next;
    void *conn;
    struct mono_time since;
};

struct server {
    char *name;
    struct idle *idle; /* most recently used first */
    bool down, probing;
    unsigned failures; /* since it was up */
    int64_t wait_ms;
    struct mono_time until, since;
    char cause[ERR_TEXT_MAX];
};

struct map_servers {
    struct map_servers_config c;
    const struct map_servers_ops *ops;
    void *arg;
    struct lock lock;
    pthread_cond_t freed;                    /* a connection came back, or a place became free */
    struct server *servers GUARDED_BY(lock); /* name: immutable */
    size_t open GUARDED_BY(lock);            /* idle and leased */
    uint64_t random GUARDED_BY(lock);
    pid_t owner GUARDED_BY(lock); /* whose connections these are */
};

/* What one attempt of a lookup holds. */
struct lease {
    struct server *server;
    void *conn;        /* NULL: the place is ours, the connection is to be made */
    struct idle *shut; /* connections to close, once the lock is released */
    struct mono_time deadline;
    struct mono_time connect_deadline;
    bool probe;  /* the server is down: this lookup finds out */
    bool waited; /* for a place: it began with less than its share of time */
};

enum lease_result { LEASE_OK, LEASE_NO_SERVER, LEASE_NO_PLACE };

struct map_servers *map_servers_new(const struct map_servers_config *config,
                                    const struct map_servers_ops *ops, void *arg)
{
    struct map_servers *s = xcalloc(1, sizeof(*s));

    s->c = *config;
    s->c.table = xstrdup(config->table);
    s->c.servers = NULL;
    s->ops = ops;
    s->arg = arg;
    lock_init(&s->lock, LOCK_MAP_SERVERS);
    pthread_cond_init(&s->freed, NULL);
    s->servers = xcalloc(config->nservers, sizeof(*s->servers));
    for (size_t i = 0; i < config->nservers; i++)
        s->servers[i].name = xstrdup(config->servers[i]);
    if (getrandom(&s->random, sizeof(s->random), 0) != (ssize_t) sizeof(s->random))
        s->random = (uint64_t) mono_now().us;
    s->random |= 1; /* xorshift stands still at 0 */
    s->owner = getpid();
    return s;
}

static void shut(const struct map_servers *s, struct idle **list)
{
    while (*list != NULL) {
        struct idle *i = *list;

        *list = i->next;
        s->ops->close(i->conn);
        free(i);
    }
}

void map_servers_free(struct map_servers **sp)
{
    struct map_servers *s = *sp;

    if (s == NULL)
        return;
    for (size_t i = 0; i < s->c.nservers; i++) {
        if (s->owner == getpid())
            shut(s, &s->servers[i].idle);
        free(s->servers[i].name);
    }
    free(s->servers);
    pthread_cond_destroy(&s->freed);
    lock_fini(&s->lock);
    free((char *) (uintptr_t) s->c.table);
    free(s);
    *sp = NULL;
}

/* --- choosing ------------------------------------------------------------------------------------- */

static bool is_usable_locked(const struct server *srv, struct mono_time now)
{
    return !srv->down || (!srv->probing && mono_diff_us(now, srv->until) >= 0);
}

static uint64_t random_locked(struct map_servers *s)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return s->random;
}

/* A server of random order is chosen among those with an idle connection, if there are any: so order does not cost connections. */
static struct server *choose_locked(struct map_servers *s, const bool *tried, struct mono_time now)
{
    struct server *best = NULL;
    size_t rivals = 0;

    for (size_t i = 0; i < s->c.nservers; i++) {
        struct server *srv = &s->servers[i];

        if (i == s->c.nfirst && best != NULL)
            return best;
        if (tried[i] || !is_usable_locked(srv, now))
            continue;
        if (!s->c.random_order)
            return srv;
        if (best != NULL && best->idle != NULL && srv->idle == NULL)
            continue;
        if (best != NULL && best->idle == NULL && srv->idle != NULL)
            rivals = 0;
        if (random_locked(s) % ++rivals == 0)
            best = srv;
    }
    return best;
}

/* Moves what was idle too long to the lease's list. */
static void expire_locked(struct map_servers *s, struct mono_time now, struct lease *l)
{
    for (size_t i = 0; i < s->c.nservers; i++) {
        struct idle **p = &s->servers[i].idle;

        while (*p != NULL && mono_diff_ms(now, (*p)->since) < s->c.idle_timeout_ms)
            p = &(*p)->next;
        while (*p != NULL) { /* the rest is older still */
            struct idle *old = *p;

            *p = old->next;
            old->next = l->shut;
            l->shut = old;
            s->open--;
        }
    }
}

/* After a fork the idle connections are the parent's: closing them here would say goodbye in its name. */
static void disown_locked(struct map_servers *s)
{
    if (s->owner == getpid())
        return;
    s->owner = getpid();
    s->open = 0;
    for (size_t i = 0; i < s->c.nservers; i++)
        s->servers[i].idle = NULL;
}

/* A place for one more connection; an idle one of another server gives way. */
static bool take_place_locked(struct map_servers *s, struct lease *l)
{
    if (s->open < s->c.max_connections) {
        s->open++;
        return true;
    }
    for (size_t i = 0; i < s->c.nservers; i++) {
        struct idle *victim = s->servers[i].idle;

        if (victim == NULL)
            continue;
        s->servers[i].idle = victim->next;
        victim->next = l->shut;
        l->shut = victim;
        return true;
    }
    return false;
}

/* The time that is left is shared among the servers that may yet be asked. */
static void set_deadlines_locked(struct map_servers *s, const bool *tried, struct mono_time now,
                                 struct mono_time deadline, struct lease *l)
{
    int64_t left = mono_diff_ms(deadline, now);
    int64_t share = 0;

    for (size_t i = 0; i < s->c.nservers; i++)
        share += !tried[i] && is_usable_locked(&s->servers[i], now);
    l->deadline = share > 1 ? mono_after_ms(now, left / share) : deadline;
    l->connect_deadline = l->deadline;
    if (l->server->down && l->server->failures % PROBE_PATIENT != 0) {
        struct mono_time soon = mono_after_ms(now, PROBE_CONNECT_MS);

        if (mono_diff_us(l->connect_deadline, soon) > 0)
            l->connect_deadline = soon;
    }
}

static enum lease_result lease(struct map_servers *s, bool *tried, struct mono_time deadline,
                               struct lease *l)
{
    enum lease_result res = LEASE_OK;

    *l = (struct lease){.server = NULL};
    lock_take(&s->lock);
    disown_locked(s);
    for (;;) {
        struct mono_time now = mono_now();

        expire_locked(s, now, l);
        l->server = choose_locked(s, tried, now);
        if (l->server == NULL) {
            res = LEASE_NO_SERVER;
            break;
        }
        if (l->server->idle != NULL) {
            struct idle *i = l->server->idle;

            l->server->idle = i->next;
            l->conn = i->conn;
            free(i);
        } else if (!take_place_locked(s, l)) {
            l->waited = true;
            if (mono_diff_us(deadline, now) > 0 && lock_wait_until(&s->lock, &s->freed, deadline))
                continue;
            res = LEASE_NO_PLACE;
            break;
        }
        set_deadlines_locked(s, tried, now, deadline, l);
        tried[l->server - s->servers] = true;
        if (l->server->down)
            l->server->probing = l->probe = true;
        break;
    }
    lock_release(&s->lock);
    shut(s, &l->shut);
    return res;
}

/* --- outcomes ------------------------------------------------------------------------------------- */

/* The server is up. Its connection is kept, or closed already. */
static void answered(struct map_servers *s, struct lease *l)
{
    struct idle *i = l->conn != NULL ? xcalloc(1, sizeof(*i)) : NULL;
    struct mono_time now = mono_now();
    int64_t down_ms = -1;

    lock_take(&s->lock);
    if (i != NULL) {
        i->conn = l->conn;
        i->since = now;
        i->next = l->server->idle;
        l->server->idle = i;
    } else {
        s->open--;
    }
    if (l->server->down) {
        down_ms = mono_diff_ms(now, l->server->since);
        l->server->down = false;
        l->server->failures = 0;
    }
    if (l->probe)
        l->server->probing = false;
    pthread_cond_signal(&s->freed);
    lock_release(&s->lock);
    if (down_ms >= 0 && !s->c.quiet)
        log_info("table %s: server %s answers again after %.1f s", s->c.table, l->server->name,
                 (double) down_ms / 1000);
}

/* The lease's connection, if any, is closed already; its place is given back. */
static void failed(struct map_servers *s, const struct lease *l, const struct err *why)
{
    struct server *srv = l->server;
    struct mono_time now = mono_now();
    struct idle *dead;
    bool news;

    lock_take(&s->lock);
    s->open--;
    if (l->waited && !l->probe && mono_diff_us(l->deadline, now) <= 0) {
        /* many lookups, little time left for this one: not the server's fault */
        pthread_cond_broadcast(&s->freed);
        lock_release(&s->lock);
        return;
    }
    news = !srv->down;
    /* Lookups that were under way when it went down fail late: only the probe's failure says something new. */
    if (news || l->probe) {
        srv->wait_ms = news ? s->c.down_min_ms : srv->wait_ms * 2;
        if (srv->wait_ms > s->c.down_max_ms)
            srv->wait_ms = s->c.down_max_ms;
        srv->until = mono_after_ms(now, srv->wait_ms);
        srv->failures++;
    }
    if (news)
        srv->since = now;
    srv->down = true;
    if (l->probe)
        srv->probing = false;
    memcpy(srv->cause, why->text, sizeof(srv->cause));
    dead = srv->idle;
    srv->idle = NULL;
    for (const struct idle *i = dead; i != NULL; i = i->next)
        s->open--;
    pthread_cond_broadcast(&s->freed);
    lock_release(&s->lock);
    shut(s, &dead);
    if (news && !s->c.quiet)
        log_warning("table %s: server %s is down: %s", s->c.table, srv->name, why->text);
}

/* Idle connections that are as old as one that proved dead are dead, too. */
static void drop_idle(struct map_servers *s, const struct lease *l)
{
    struct idle *dead;

    lock_take(&s->lock);
    dead = l->server->idle;
    l->server->idle = NULL;
    for (const struct idle *i = dead; i != NULL; i = i->next)
        s->open--;
    pthread_cond_broadcast(&s->freed);
    lock_release(&s->lock);
    shut(s, &dead);
}

static void close_conn(struct map_servers *s, struct lease *l)
{
    s->ops->close(l->conn);
    l->conn = NULL;
}

/* One server's turn. 0: it answered. -1, and *answer WRONG: there is nothing to ask others. */
static int try_server(struct map_servers *s, struct lease *l,
                      enum map_servers_answer (*ask)(void *conn, struct mono_time deadline,
                                                     void *arg, struct err *err),
                      void *arg, enum map_servers_answer *answer, struct err *err)
{
    struct err why = ERR_INIT;

    *answer = MAP_SERVERS_BROKEN;
    if (l->conn != NULL) {
        *answer = ask(l->conn, l->deadline, arg, &why);
        if (*answer != MAP_SERVERS_BROKEN)
            goto alive;
        close_conn(s, l);
        if (mono_diff_us(l->deadline, mono_now()) <= 0)
            goto fail;
        drop_idle(s, l);
        why = ERR_INIT;
    }
    if (s->ops->connect(l->server->name, l->connect_deadline, s->arg, &l->conn, &why) == -1)
        goto fail;
    *answer = ask(l->conn, l->deadline, arg, &why);
    if (*answer != MAP_SERVERS_BROKEN)
        goto alive;
    close_conn(s, l);
fail:
    failed(s, l, &why);
    return err_temporary(err, "server %s: %s", l->server->name, why.text);
alive:
    if (*answer == MAP_SERVERS_WRONG)
        close_conn(s, l);
    answered(s, l);
    return *answer == MAP_SERVERS_DONE
               ? 0
               : err_temporary(err, "server %s: %s", l->server->name, why.text);
}

static int all_down(struct map_servers *s, struct err *err)
{
    struct buf text = BUF_INIT(ERR_TEXT_MAX);

    lock_take(&s->lock);
    for (size_t i = 0; i < s->c.nservers; i++)
        if (s->servers[i].down)
            buf_printf(&text, "%sserver %s: %s", text.len > 0 ? "; " : "", s->servers[i].name,
                       s->servers[i].cause);
    lock_release(&s->lock);
    /* what did not fit is left out; a server may have come back in this moment */
    err_temporary(err, "%s", text.len > 0 ? buf_cstr(&text) : "no server answered");
    buf_fini(&text);
    return -1;
}

int map_servers_ask(struct map_servers *s,
                    enum map_servers_answer (*ask)(void *conn, struct mono_time deadline, void *arg,
                                                   struct err *err),
                    void *arg, struct err *err)
{
    struct mono_time deadline = mono_after_ms(mono_now(), s->c.query_timeout_ms);
    bool *tried = xcalloc(s->c.nservers, sizeof(*tried));
    int ret = -1;

    blocking_begin();
    for (;;) {
        enum map_servers_answer answer;
        struct lease l;
        enum lease_result res = lease(s, tried, deadline, &l);

        if (res == LEASE_NO_SERVER) {
            ret = all_down(s, err);
            break;
        }
        if (res == LEASE_NO_PLACE) {
            ret = err_temporary(err, "all %zu connections were in use for %.1f s",
                                s->c.max_connections, (double) s->c.query_timeout_ms / 1000);
            break;
        }
        if (try_server(s, &l, ask, arg, &answer, err) == 0) {
            ret = 0;
            break;
        }
        if (answer == MAP_SERVERS_WRONG || mono_diff_us(deadline, mono_now()) <= 0)
            break;
    }
    blocking_end();
    free(tried);
    return ret;
}
