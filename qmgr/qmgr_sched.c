/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_sched.c - see qmgr_sched.h: transports and destinations, and what time does to them.
 *
 * Invariants: (1) a destination stands in its transport's ready list of a lane exactly when it has a job in that lane, is not
 * dead, has room in its window and its rate delay is over (sched_update() restores this after every change); (2) a job that exists
 * has at least one recipient; (3) a destination without jobs, requests and delays stands in the idle list, and is
 * forgotten after a while, with what was learnt of its concurrency; (4) the delayed list is in order of time, as all of a
 * transport are delayed for as long.
 */
#include <stdlib.h>

#include "qmgr/qmgr_sched_int.h"

#define IDLE_KEEP_MS 60000
#define IDLE_MAX     2000 /* idle destinations of one transport */
#define NEXTHOP_MARK '\0' /* between next hop and recipient in a key */

/* --- transports -------------------------------------------------------------------------------- */

struct sched *sched_new(void)
{
    struct sched *s = xcalloc(1, sizeof(*s));

    s->transports = htable_new(false);
    TAILQ_INIT(&s->giving_up);
    return s;
}

static void dest_free(void *value)
{
    struct sched_dest *d = value;

    free(d->key);
    free(d->reason);
    free(d);
}

void sched_free(struct sched **sp)
{
    struct sched *s = *sp;

    if (s == NULL)
        return;
    for (size_t i = 0; i < s->list.len; i++) {
        struct sched_transport *t = s->list.items[i];

        htable_free(&t->dests, dest_free);
        free(t->name);
        free(t);
    }
    vec_fini(&s->list);
    htable_free(&s->transports, NULL);
    free(s);
    *sp = NULL;
}

struct sched_transport *sched_transport(struct sched *s, struct slice name, bool *made)
{
    struct sched_transport *t = htable_get(s->transports, name);

    if (made != NULL)
        *made = t == NULL;
    if (t != NULL)
        return t;
    t = xcalloc(1, sizeof(*t));
    t->sched = s;
    t->name = slice_dup(name);
    t->limits.initial = 1;
    t->dests = htable_new(true);
    t->last_slow = SCHED_BULK;
    for (unsigned i = 0; i < SCHED_LANES; i++)
        TAILQ_INIT(&t->ready[i]);
    TAILQ_INIT(&t->idle);
    TAILQ_INIT(&t->dead);
    TAILQ_INIT(&t->delayed);
    (void) htable_put(s->transports, name, t);
    vec_push(&s->list, t);
    return t;
}

const char *sched_transport_name(const struct sched_transport *t)
{
    return t->name;
}

const struct sched_limits *sched_transport_limits(const struct sched_transport *t)
{
    return &t->limits;
}

void sched_transport_set_data(struct sched_transport *t, void *data)
{
    t->data = data;
}

void *sched_transport_data(const struct sched_transport *t)
{
    return t->data;
}

unsigned sched_transport_busy(const struct sched_transport *t)
{
    return t->busy;
}

void sched_each_transport(struct sched *s, void (*fn)(struct sched_transport *t, void *arg),
                          void *arg)
{
    for (size_t i = 0; i < s->list.len; i++)
        fn(s->list.items[i], arg);
}

void sched_counts(const struct sched *s, size_t *waiting, size_t *busy)
{
    *waiting = s->nwaiting;
    *busy = s->nbusy;
}

/* --- destinations ------------------------------------------------------------------------------ */

bool sched_has_jobs(const struct sched_dest *d)
{
    for (unsigned i = 0; i < SCHED_LANES; i++)
        if (!TAILQ_EMPTY(&d->jobs[i]))
            return true;
    return false;
}

static unsigned limit_of(const struct sched_dest *d)
{
    return d->transport->limits.rate_delay_ms > 0 ? 1 : d->window;
}

void sched_update(struct sched_dest *d, struct mono_time now)
{
    struct sched_transport *t = d->transport;
    bool is_dead = d->dead_until.us != 0;
    bool is_delayed = d->not_before.us != 0;
    bool open = !is_dead && !is_delayed && d->busy < limit_of(d);
    bool idle =
        !sched_has_jobs(d) && TAILQ_EMPTY(&d->given_up) && d->busy == 0 && !is_dead && !is_delayed;

    for (unsigned i = 0; i < SCHED_LANES; i++) {
        bool want = open && !TAILQ_EMPTY(&d->jobs[i]);

        if (want && !d->is_ready[i])
            TAILQ_INSERT_TAIL(&t->ready[i], d, ready[i]);
        else if (!want && d->is_ready[i])
            TAILQ_REMOVE(&t->ready[i], d, ready[i]);
        d->is_ready[i] = want;
    }
    if (is_dead && !d->is_dead_listed)
        TAILQ_INSERT_TAIL(&t->dead, d, dead);
    else if (!is_dead && d->is_dead_listed)
        TAILQ_REMOVE(&t->dead, d, dead);
    d->is_dead_listed = is_dead;
    if (is_delayed && !d->is_delay_listed)
        TAILQ_INSERT_TAIL(&t->delayed, d, delayed);
    else if (!is_delayed && d->is_delay_listed)
        TAILQ_REMOVE(&t->delayed, d, delayed);
    d->is_delay_listed = is_delayed;
    if (idle && !d->is_idle) {
        d->idle_since = now;
        TAILQ_INSERT_TAIL(&t->idle, d, idle);
        t->nidle++;
    } else if (!idle && d->is_idle) {
        TAILQ_REMOVE(&t->idle, d, idle);
        t->nidle--;
    }
    d->is_idle = idle;
}

static void forget_idle(struct sched_transport *t, struct mono_time now)
{
    struct sched_dest *d;

    while ((d = TAILQ_FIRST(&t->idle)) != NULL &&
           /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): what is freed has left the list */
           (t->nidle > IDLE_MAX || mono_diff_ms(now, d->idle_since) > IDLE_KEEP_MS)) {
        TAILQ_REMOVE(&t->idle, d, idle);
        t->nidle--;
        (void) htable_remove(t->dests, slice_of(d->key, d->key_len));
        dest_free(d);
    }
}

const struct sched_dest *sched_dest_find(const struct sched *s, struct slice transport,
                                         struct slice nexthop, struct slice recipient)
{
    const struct sched_transport *t = htable_get(s->transports, transport);
    struct buf key = BUF_INIT(SIZE_MAX);
    const struct sched_dest *d;

    if (t == NULL)
        return NULL;
    buf_put_slice(&key, nexthop);
    if (t->limits.recipients == 1) {
        buf_putc(&key, NEXTHOP_MARK);
        buf_put_slice(&key, recipient);
    }
    d = htable_get(t->dests, buf_view(&key));
    buf_fini(&key);
    return d;
}

const struct sched_dest *sched_find_dead(const struct sched *s, struct slice nexthop)
{
    for (size_t i = 0; i < s->list.len; i++) {
        const struct sched_transport *t = s->list.items[i];
        const struct sched_dest *d = TAILQ_EMPTY(&t->dead) ? NULL : htable_get(t->dests, nexthop);

        if (d != NULL && sched_dest_is_dead(d))
            return d;
    }
    return NULL;
}

struct sched_dest *sched_dest(struct sched_transport *t, struct slice nexthop,
                              struct slice recipient)
{
    struct buf key = BUF_INIT(SIZE_MAX);
    struct sched_dest *d;

    if (t->limits.recipients == 1) {
        buf_put_slice(&key, nexthop);
        buf_putc(&key, NEXTHOP_MARK);
        buf_put_slice(&key, recipient);
        d = htable_get(t->dests, buf_view(&key));
    } else {
        d = htable_get(t->dests, nexthop);
    }
    if (d == NULL) {
        d = xcalloc(1, sizeof(*d));
        d->transport = t;
        if (key.len == 0)
            buf_put_slice(&key, nexthop);
        d->key_len = key.len;
        d->key = buf_take(&key);
        d->nexthop_len = nexthop.len;
        sched_learn_anew(d);
        for (unsigned i = 0; i < SCHED_LANES; i++)
            TAILQ_INIT(&d->jobs[i]);
        TAILQ_INIT(&d->given_up);
        (void) htable_put(t->dests, slice_of(d->key, d->key_len), d);
        if (t->nidle > IDLE_MAX)
            forget_idle(t, mono_now());
        sched_update(d, mono_now());
    }
    buf_fini(&key);
    return d;
}

struct each_dest {
    void (*fn)(struct sched_dest *d, void *arg);
    void *arg;
};

static bool each_dest(struct slice key, void *value, void *arg)
{
    struct each_dest *e = arg;

    (void) key;
    e->fn(value, e->arg);
    return true;
}

void sched_each_dest(struct sched_transport *t, void (*fn)(struct sched_dest *d, void *arg),
                     void *arg)
{
    struct each_dest e = {fn, arg};

    htable_each(t->dests, each_dest, &e);
}

struct slice sched_dest_nexthop(const struct sched_dest *d)
{
    return slice_of(d->key, d->nexthop_len);
}

struct sched_transport *sched_dest_transport(const struct sched_dest *d)
{
    return d->transport;
}

size_t sched_dest_messages(const struct sched_dest *d)
{
    return d->njobs + d->busy;
}

bool sched_dest_may_warn(struct sched_dest *d, struct mono_time now, int64_t every_ms)
{
    if (d->warned.us != 0 && mono_diff_ms(now, d->warned) < every_ms)
        return false;
    d->warned = now;
    return true;
}

bool sched_dest_is_dead(const struct sched_dest *d)
{
    return d->dead_until.us != 0;
}

void sched_dest_set_reason(struct sched_dest *d, struct slice code, struct slice text)
{
    code = slice_sub(code, 0, sizeof(d->code) - 1);
    memcpy(d->code, code.ptr != NULL ? code.ptr : "", code.len);
    d->code[code.len] = '\0';
    free(d->reason);
    d->reason = slice_dup(text);
}

struct slice sched_dest_reason_code(const struct sched_dest *d)
{
    return slice_str(d->code);
}

struct slice sched_dest_reason_text(const struct sched_dest *d)
{
    return slice_str(d->reason);
}

void sched_dest_info(const struct sched_dest *d, struct sched_dest_info *out)
{
    *out = (struct sched_dest_info){.limit = d->transport->limits.concurrency,
                                    .window = d->window,
                                    .busy = d->busy,
                                    .success = d->success,
                                    .failure = d->failure,
                                    .failed_cohorts = d->failed_cohorts,
                                    .dead_until = d->dead_until,
                                    .not_before = d->not_before,
                                    .transport_not_before = d->transport->not_before};
}

static void restart(struct sched_dest *d)
{
    d->dead_until.us = 0;
    sched_learn_anew(d);
}

void sched_dest_revive(struct sched_dest *d)
{
    if (d->dead_until.us == 0)
        return;
    restart(d);
    sched_update(d, mono_now());
}

void sched_dest_kill(struct sched_dest *d, struct mono_time until)
{
    d->dead_until = until;
    sched_update(d, mono_now());
}

void sched_transport_set_limits(struct sched_transport *t, const struct sched_limits *limits)
{
    struct sched_dest *d;
    struct sched_dest *next;

    t->limits = *limits;
    if (t->limits.initial == 0)
        t->limits.initial = 1;
    /* busy ones follow by feedback; idle ones begin anew, as their keys may mean something else now */
    for (d = TAILQ_FIRST(&t->idle); d != NULL; d = next) {
        next = TAILQ_NEXT(d, idle);
        restart(d);
    }
    /* delays begin anew, as the documentation of the reference says */
    t->not_before.us = 0;
    while ((d = TAILQ_FIRST(&t->delayed)) != NULL) {
        d->not_before.us = 0;
        sched_update(d, mono_now());
    }
}

/* --- time -------------------------------------------------------------------------------------- */

static void wake_dead(struct sched_transport *t, struct mono_time now, bool all)
{
    struct sched_dest *next;

    for (struct sched_dest *d = TAILQ_FIRST(&t->dead); d != NULL; d = next) {
        next = TAILQ_NEXT(d, dead);
        if (all || now.us >= d->dead_until.us) {
            restart(d);
            sched_update(d, now);
        }
    }
}

static void wake_delayed(struct sched_transport *t, struct mono_time now)
{
    struct sched_dest *d;

    if (now.us >= t->not_before.us)
        t->not_before.us = 0;
    while ((d = TAILQ_FIRST(&t->delayed)) != NULL && now.us >= d->not_before.us) {
        d->not_before.us = 0;
        sched_update(d, now);
    }
}

static void earlier(struct mono_time *best, struct mono_time t)
{
    if (t.us != 0 && (best->us == 0 || t.us < best->us))
        *best = t;
}

struct mono_time sched_delayed_until(const struct sched *s)
{
    struct mono_time best = {0};

    for (size_t i = 0; i < s->list.len; i++) {
        const struct sched_transport *t = s->list.items[i];

        earlier(&best, t->not_before);
        if (!TAILQ_EMPTY(&t->delayed))
            earlier(&best, TAILQ_FIRST(&t->delayed)->not_before);
    }
    return best;
}

void sched_tick(struct sched *s, struct mono_time now)
{
    for (size_t i = 0; i < s->list.len; i++) {
        wake_dead(s->list.items[i], now, false);
        wake_delayed(s->list.items[i], now);
        forget_idle(s->list.items[i], now);
    }
}

void sched_revive_all(struct sched *s)
{
    for (size_t i = 0; i < s->list.len; i++)
        wake_dead(s->list.items[i], mono_now(), true);
}
