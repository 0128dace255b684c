/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_sched.c - see qmgr_sched.h.
 *
 * Invariants: (1) a destination stands in its transport's ready list of a lane exactly when it has a job in that lane, is not
 * dead, has room in its window and its rate delay is over (update() restores this after every change); (2) a job that exists has
 * at least one recipient; (3) a destination without jobs and requests stands in the idle list, and is forgotten
 * after a while, with what was learnt of its concurrency.
 */
#include "qmgr/qmgr_sched.h"

#include <stdlib.h>

#include "base/htable.h"
#include "base/vec.h"

#define LANES          2 /* 0: small messages, 1: bulk */
#define IDLE_KEEP_MS   60000
#define IDLE_MAX       2000 /* idle destinations of one transport */
#define NEXTHOP_MARK   '\0' /* between next hop and recipient in a key */
#define FEEDBACK_ERROR 1e-9 /* sums of thirds are never quite 1 */

TAILQ_HEAD(dest_list, sched_dest);

struct sched_job {
    struct sched_dest *dest;
    struct sched_jobs *owner;
    void *message;
    unsigned lane;
    struct sched_rcpt *first, **tail;
    size_t count;
    TAILQ_ENTRY(sched_job) of_dest;
    TAILQ_ENTRY(sched_job) of_message;
};

struct sched_dest {
    struct sched_transport *transport;
    char *key; /* next hop, and with a recipient limit of 1 the recipient behind NEXTHOP_MARK */
    size_t key_len;
    size_t nexthop_len;
    TAILQ_HEAD(, sched_job) jobs[LANES];
    bool is_ready[LANES];
    TAILQ_ENTRY(sched_dest) ready[LANES];
    struct sched_job *last_job; /* where the last recipient was added, or NULL */
    unsigned busy;
    unsigned window;
    double success, failure, failed_cohorts;
    struct mono_time dead_until; /* 0: alive */
    struct mono_time not_before; /* rate delay; 0: none */
    bool is_waiting;             /* in the transport's list of dead or delayed ones */
    TAILQ_ENTRY(sched_dest) waiting;
    bool is_idle;
    struct mono_time idle_since;
    TAILQ_ENTRY(sched_dest) idle;
    char code[12];
    char *reason;
};

struct sched_transport {
    struct sched *sched;
    char *name;
    void *data;
    struct sched_limits limits;
    unsigned busy;
    struct htable *dests;
    struct dest_list ready[LANES];
    struct dest_list idle; /* oldest first */
    struct dest_list waiting;
    size_t nidle;
    unsigned turn; /* the lane that comes next */
};

struct sched {
    struct htable *transports;
    struct vec list;
    size_t nwaiting, nbusy;
};

/* --- feedback ---------------------------------------------------------------------------------- */

int sched_feedback_parse(struct slice text, struct sched_feedback *out, struct err *err)
{
    char number[32];
    struct slice s = slice_trim(text, NULL);
    ptrdiff_t bar = slice_find(s, '/');
    struct slice first = slice_trim(slice_sub(s, 0, bar == -1 ? s.len : (size_t) bar), NULL);
    struct slice kind = SLICE_EMPTY;
    char *end;
    double value;

    if (bar != -1)
        kind = slice_trim(slice_sub(s, (size_t) bar + 1, s.len), NULL);
    if (first.len == 0 || first.len >= sizeof(number))
        return err_input(err, "bad feedback value: %.*s", SLICE_FMT(text));
    memcpy(number, first.ptr, first.len);
    number[first.len] = '\0';
    value = strtod(number, &end);
    if (*end != '\0' || !(value >= 0 && value <= 1))
        return err_input(err, "bad feedback value: %.*s: want a number from 0 to 1",
                         SLICE_FMT(text));
    if (bar == -1)
        out->kind = FEEDBACK_NUMBER;
    else if (slice_caseeq_str(kind, "concurrency"))
        out->kind = FEEDBACK_CONCURRENCY;
    else if (slice_caseeq_str(kind, "sqrt_concurrency"))
        out->kind = FEEDBACK_SQRT_CONCURRENCY;
    else
        return err_input(err, "bad feedback value: %.*s: want / concurrency or / sqrt_concurrency",
                         SLICE_FMT(text));
    out->numerator = value;
    return 0;
}

static double square_root(double x)
{
    double r = x > 1 ? x : 1;

    for (int i = 0; i < 40; i++)
        r = (r + x / r) / 2;
    return r;
}

static double feedback(const struct sched_feedback *f, unsigned window)
{
    double w = window > 0 ? window : 1;

    switch (f->kind) {
    case FEEDBACK_NUMBER:
        return f->numerator;
    case FEEDBACK_CONCURRENCY:
        return f->numerator / w;
    case FEEDBACK_SQRT_CONCURRENCY:
        return f->numerator / square_root(w);
    }
    return 0;
}

/* --- transports -------------------------------------------------------------------------------- */

struct sched *sched_new(void)
{
    struct sched *s = xcalloc(1, sizeof(*s));

    s->transports = htable_new(false);
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
    for (unsigned i = 0; i < LANES; i++)
        TAILQ_INIT(&t->ready[i]);
    TAILQ_INIT(&t->idle);
    TAILQ_INIT(&t->waiting);
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

static bool has_jobs(const struct sched_dest *d)
{
    return !TAILQ_EMPTY(&d->jobs[0]) || !TAILQ_EMPTY(&d->jobs[1]);
}

static unsigned limit_of(const struct sched_dest *d)
{
    const struct sched_limits *l = &d->transport->limits;

    if (l->rate_delay_ms > 0)
        return 1;
    return d->window;
}

/* Restores invariants 1 and 3. */
static void update(struct sched_dest *d, struct mono_time now)
{
    struct sched_transport *t = d->transport;
    bool waits = d->dead_until.us != 0 || (d->not_before.us != 0 && has_jobs(d));
    bool open = d->dead_until.us == 0 && d->not_before.us == 0 && d->busy < limit_of(d);
    bool idle = !has_jobs(d) && d->busy == 0 && d->dead_until.us == 0;

    for (unsigned i = 0; i < LANES; i++) {
        bool want = open && !TAILQ_EMPTY(&d->jobs[i]);

        if (want && !d->is_ready[i])
            TAILQ_INSERT_TAIL(&t->ready[i], d, ready[i]);
        else if (!want && d->is_ready[i])
            TAILQ_REMOVE(&t->ready[i], d, ready[i]);
        d->is_ready[i] = want;
    }
    if (waits && !d->is_waiting)
        TAILQ_INSERT_TAIL(&t->waiting, d, waiting);
    else if (!waits && d->is_waiting)
        TAILQ_REMOVE(&t->waiting, d, waiting);
    d->is_waiting = waits;
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
        if (d->is_waiting)
            TAILQ_REMOVE(&t->waiting, d, waiting);
        dest_free(d);
    }
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
        d->window = t->limits.initial;
        if (t->limits.concurrency > 0 && d->window > t->limits.concurrency)
            d->window = t->limits.concurrency;
        for (unsigned i = 0; i < LANES; i++)
            TAILQ_INIT(&d->jobs[i]);
        (void) htable_put(t->dests, slice_of(d->key, d->key_len), d);
        if (t->nidle > IDLE_MAX)
            forget_idle(t, mono_now());
        update(d, mono_now());
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

static void restart(struct sched_dest *d)
{
    const struct sched_limits *l = &d->transport->limits;

    d->dead_until.us = 0;
    d->failed_cohorts = d->failure = d->success = 0;
    d->window = l->initial;
    if (l->concurrency > 0 && d->window > l->concurrency)
        d->window = l->concurrency;
}

void sched_dest_kill(struct sched_dest *d, struct mono_time until)
{
    d->dead_until = until;
    update(d, mono_now());
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
    for (d = TAILQ_FIRST(&t->waiting); d != NULL; d = next) {
        next = TAILQ_NEXT(d, waiting);
        if (t->limits.rate_delay_ms == 0)
            d->not_before.us = 0;
        update(d, mono_now());
    }
}

/* --- jobs -------------------------------------------------------------------------------------- */

static void job_free(struct sched_job *j)
{
    struct sched_dest *d = j->dest;

    TAILQ_REMOVE(&d->jobs[j->lane], j, of_dest);
    TAILQ_REMOVE(j->owner, j, of_message);
    if (d->last_job == j)
        d->last_job = NULL;
    free(j);
}

static struct sched_job *job_new(struct sched_dest *d, struct sched_jobs *jobs, void *message,
                                 bool bulk, bool in_front)
{
    struct sched_job *j = xcalloc(1, sizeof(*j));

    j->dest = d;
    j->owner = jobs;
    j->message = message;
    j->lane = bulk ? 1 : 0;
    j->tail = &j->first;
    if (in_front)
        TAILQ_INSERT_HEAD(&d->jobs[j->lane], j, of_dest);
    else
        TAILQ_INSERT_TAIL(&d->jobs[j->lane], j, of_dest);
    TAILQ_INSERT_TAIL(jobs, j, of_message);
    return j;
}

void sched_add(struct sched_dest *d, struct sched_jobs *jobs, void *message, bool bulk,
               struct sched_rcpt *r)
{
    struct sched_job *j = d->last_job;

    if (j == NULL || j->message != message)
        j = d->last_job = job_new(d, jobs, message, bulk, false);
    r->next = NULL;
    *j->tail = r;
    j->tail = &r->next;
    j->count++;
    d->transport->sched->nwaiting++;
    update(d, mono_now());
}

void sched_put_back(struct sched_dest *d, struct sched_jobs *jobs, void *message, bool bulk,
                    struct sched_rcpt *first)
{
    struct sched_job *j;

    if (first == NULL)
        return;
    j = job_new(d, jobs, message, bulk, true);
    j->first = first;
    for (struct sched_rcpt *r = first; r != NULL; r = r->next) {
        j->tail = &r->next;
        j->count++;
    }
    d->transport->sched->nwaiting += j->count;
    update(d, mono_now());
}

struct sched_rcpt *sched_withdraw(struct sched_jobs *jobs)
{
    struct sched_rcpt *all = NULL;
    struct sched_rcpt **tail = &all;
    struct sched_job *j;

    while ((j = TAILQ_FIRST(jobs)) != NULL) {
        struct sched_dest *d = j->dest;

        *tail = j->first;
        tail = j->tail;
        d->transport->sched->nwaiting -= j->count;
        job_free(j);
        update(d, mono_now());
    }
    return all;
}

struct sched_rcpt *sched_dest_take(struct sched_dest *d, void **message)
{
    struct sched_job *j = TAILQ_FIRST(&d->jobs[0]);
    struct sched_rcpt *r;

    if (j == NULL)
        j = TAILQ_FIRST(&d->jobs[1]);
    if (j == NULL)
        return NULL;
    r = j->first;
    *message = j->message;
    j->first = r->next;
    j->count--;
    d->transport->sched->nwaiting--;
    r->next = NULL;
    if (j->first == NULL) {
        job_free(j);
        update(d, mono_now());
    }
    return r;
}

/* --- handing out ------------------------------------------------------------------------------- */

bool sched_is_ready(const struct sched_transport *t)
{
    return (t->limits.processes == 0 || t->busy < t->limits.processes) &&
           (!TAILQ_EMPTY(&t->ready[0]) || !TAILQ_EMPTY(&t->ready[1]));
}

bool sched_next(struct sched_transport *t, struct mono_time now, struct sched_request *out)
{
    unsigned lane = t->turn;
    struct sched_dest *d;
    struct sched_job *j;
    struct sched_rcpt **end;

    if (!sched_is_ready(t))
        return false;
    if (TAILQ_EMPTY(&t->ready[lane]))
        lane = 1 - lane;
    t->turn = 1 - lane;
    d = TAILQ_FIRST(&t->ready[lane]);
    j = TAILQ_FIRST(&d->jobs[lane]);
    *out = (struct sched_request){.dest = d, .message = j->message, .rcpts = j->first};
    for (end = &j->first;
         *end != NULL && (t->limits.recipients == 0 || out->count < t->limits.recipients);
         end = &(*end)->next)
        out->count++;
    j->count -= out->count;
    t->sched->nwaiting -= out->count;
    if (*end == NULL) {
        job_free(j);
    } else {
        j->first = *end;
        *end = NULL;
        TAILQ_REMOVE(&d->jobs[lane], j, of_dest);
        TAILQ_INSERT_TAIL(&d->jobs[lane], j, of_dest);
    }
    d->busy++;
    t->busy++;
    t->sched->nbusy++;
    if (t->limits.rate_delay_ms > 0)
        d->not_before = mono_after_ms(now, t->limits.rate_delay_ms);
    /* to the end of the line of destinations */
    TAILQ_REMOVE(&t->ready[lane], d, ready[lane]);
    d->is_ready[lane] = false;
    update(d, now);
    out->more = has_jobs(d);
    return true;
}

static void learn_good(struct sched_dest *d)
{
    const struct sched_limits *l = &d->transport->limits;

    d->failed_cohorts = 0;
    d->failure = 0;
    if (l->concurrency > 0 && d->window >= l->concurrency) {
        d->window = l->concurrency;
        d->success = 0;
        return;
    }
    /* grows only while the room that there is is used (busy still counts this request) */
    if (d->busy < d->window)
        return;
    d->success += feedback(&l->positive, d->window);
    if (d->success + FEEDBACK_ERROR >= 1) {
        d->window++;
        d->success = 0;
    }
}

static void learn_bad(struct sched_dest *d)
{
    const struct sched_limits *l = &d->transport->limits;

    d->success = 0;
    d->failed_cohorts += 1.0 / d->window;
    d->failure += feedback(&l->negative, d->window);
    if (d->failure + FEEDBACK_ERROR >= 1) {
        if (d->window > 1)
            d->window--;
        d->failure = 0;
    }
}

bool sched_done(struct sched_dest *d, enum sched_outcome outcome, struct mono_time now)
{
    const struct sched_limits *l = &d->transport->limits;
    bool dead = false;

    if (d->dead_until.us == 0) {
        if (outcome == SCHED_GOOD)
            learn_good(d);
        else if (outcome == SCHED_BAD)
            learn_bad(d);
        dead = outcome == SCHED_BAD && l->failed_cohorts > 0 &&
               d->failed_cohorts + FEEDBACK_ERROR >= l->failed_cohorts;
    }
    d->busy--;
    d->transport->busy--;
    d->transport->sched->nbusy--;
    if (l->rate_delay_ms > 0)
        d->not_before = mono_after_ms(now, l->rate_delay_ms);
    update(d, now);
    return dead;
}

/* --- time -------------------------------------------------------------------------------------- */

static void wake_waiting(struct sched_transport *t, struct mono_time now, bool all)
{
    struct sched_dest *next;

    for (struct sched_dest *d = TAILQ_FIRST(&t->waiting); d != NULL; d = next) {
        next = TAILQ_NEXT(d, waiting);
        if (d->dead_until.us != 0 && (all || now.us >= d->dead_until.us))
            restart(d);
        if (d->not_before.us != 0 && now.us >= d->not_before.us)
            d->not_before.us = 0;
        update(d, now);
    }
}

void sched_tick(struct sched *s, struct mono_time now)
{
    for (size_t i = 0; i < s->list.len; i++) {
        wake_waiting(s->list.items[i], now, false);
        forget_idle(s->list.items[i], now);
    }
}

void sched_revive_all(struct sched *s)
{
    for (size_t i = 0; i < s->list.len; i++)
        wake_waiting(s->list.items[i], mono_now(), true);
}
