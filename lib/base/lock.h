/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock.h - named mutexes. One list gives the order in which they may be taken; debug builds check it.
 *
 * No lock is held across I/O. A function that wants one held ends in _locked and carries REQUIRES().
 */
#ifndef PR_LOCK_H
#define PR_LOCK_H

#include <pthread.h>

#include "base/mtime.h"

/* Lower ranks are taken first. A new lock is a row here. */
enum lock_rank {
    LOCK_SESSION = 5,         /* one session's, where two threads meet in it */
    LOCK_DELIVERY = 6,        /* local: one request's, likewise */
    LOCK_WORKER = 10,         /* master/worker: session table, counters */
    LOCK_MAP_DOMAINS = 23,    /* maps: the list of a table's domains is opened */
    LOCK_MAP_PROXY = 24,      /* maps: the connections to proxymap are made */
    LOCK_CONFIG = 25,         /* postconf/config: the values that were expanded */
    LOCK_MAP_SET = 30,        /* maps: the table cache, reload */
    LOCK_MAP_WRITE = 33,      /* maps: all calls of a table that the process writes */
    LOCK_MAP_STATE = 35,      /* maps: which implementation of a table is current */
    LOCK_MAP_REOPEN = 36,     /* maps: the tables that are to be opened anew */
    LOCK_MAP = 40,            /* maps: one table's handle */
    LOCK_MAP_SERVERS = 45,    /* maps: one table's servers and connections */
    LOCK_DNS = 48,            /* lib/dns: client names */
    LOCK_SMTP_CACHE = 50,     /* smtp: idle connections */
    LOCK_JOURNAL_COMMIT = 60, /* qmgr/store: the commit queue */
    LOCK_JOURNAL_APPEND = 61, /* qmgr/store: the open segment's tail */
    LOCK_STORE = 64,          /* qmgr/store: segments and messages of the owner */
    LOCK_STORE_JOBS = 65,     /* qmgr/store: the owner's background jobs */
    LOCK_MAILDIR = 68,        /* local: messages that wait for a flush */
    LOCK_MAILDIR_JOBS = 69,   /* local: who of them is answered */
    LOCK_INTAKE = 70,         /* lib/mail/intake: idle connections to cleanup */
    LOCK_POOL = 80,
    LOCK_LOOP_POST = 81,
    LOCK_BENCH = 84,     /* bench/floor: its queue, its journal; never both */
    LOCK_POLLER = 85,    /* lib/base/poller: slots, time-outs, who is at work */
    LOCK_LOG_FORK = 87,  /* master/log_relay: its thread is at work; fork() */
    LOCK_LOG_RELAY = 88, /* master/log_relay: the list of rings */
    LOCK_LOG = 90,       /* leaf */
};

struct CAPABILITY("mutex") lock {
    pthread_mutex_t mutex;
    enum lock_rank rank;
};

void lock_init(struct lock *l, enum lock_rank rank);
void lock_fini(struct lock *l);
void lock_take(struct lock *l) ACQUIRES(*l);
void lock_release(struct lock *l) RELEASES(*l);
void lock_wait(struct lock *l, pthread_cond_t *cond) REQUIRES(*l);
/* False: deadline is over. */
bool lock_wait_until(struct lock *l, pthread_cond_t *cond, struct mono_time deadline) REQUIRES(*l);

#endif
