/* SPDX-License-Identifier: Apache-2.0 */
/* pool.c - see pool.h: a queue, and threads that leave when the pool is freed. */
#include "base/pool.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/lock.h"
#include "base/log.h"

struct job {
    struct job *next;
    void (*fn)(void *);
    void *arg;
};

struct pool {
    struct lock lock;
    pthread_cond_t work;
    struct job *head GUARDED_BY(lock);
    struct job **tail GUARDED_BY(lock);
    size_t queued GUARDED_BY(lock);
    unsigned idle GUARDED_BY(lock);
    unsigned nthreads GUARDED_BY(lock);
    bool stopping GUARDED_BY(lock);
    unsigned max_threads;
    size_t stack_bytes;
    pthread_t *threads;
    char name[16];
};

static void *run(void *arg)
{
    struct pool *p = arg;

    (void) pthread_setname_np(pthread_self(), p->name);
    lock_take(&p->lock);
    for (;;) {
        struct job *j = p->head;

        if (j == NULL) {
            if (p->stopping)
                break;
            p->idle++;
            lock_wait(&p->lock, &p->work);
            p->idle--;
            continue;
        }
        p->head = j->next;
        if (p->head == NULL)
            p->tail = &p->head;
        p->queued--;
        lock_release(&p->lock);
        j->fn(j->arg);
        free(j);
        lock_take(&p->lock);
    }
    lock_release(&p->lock);
    return NULL;
}

struct pool *pool_new(const char *name, unsigned max_threads, size_t stack_bytes)
{
    struct pool *p = xcalloc(1, sizeof(*p));

    lock_init(&p->lock, LOCK_POOL);
    pthread_cond_init(&p->work, NULL);
    p->tail = &p->head;
    p->max_threads = max_threads > 0 ? max_threads : 1;
    p->stack_bytes = stack_bytes > 0 ? stack_bytes : (size_t) 256 * 1024;
    p->threads = xcalloc(p->max_threads, sizeof(*p->threads));
    snprintf(p->name, sizeof(p->name), "%s", name);
    return p;
}

static void start_thread_locked(struct pool *p) REQUIRES(p->lock)
{
    pthread_attr_t attr;
    int code;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, p->stack_bytes);
    code = pthread_create(&p->threads[p->nthreads], &attr, run, p);
    pthread_attr_destroy(&attr);
    if (code == 0)
        p->nthreads++;
    else if (p->nthreads == 0)
        panic("pool %s: no thread can be started", p->name);
}

void pool_run(struct pool *p, void (*fn)(void *), void *arg)
{
    struct job *j = xcalloc(1, sizeof(*j));

    j->fn = fn;
    j->arg = arg;
    lock_take(&p->lock);
    *p->tail = j;
    p->tail = &j->next;
    p->queued++;
    /* while the pool is being freed, the threads that are joined run what their jobs still queue */
    if (p->queued > p->idle && p->nthreads < p->max_threads && !p->stopping)
        start_thread_locked(p);
    pthread_cond_signal(&p->work);
    lock_release(&p->lock);
}

size_t pool_queued(struct pool *p)
{
    size_t n;

    lock_take(&p->lock);
    n = p->queued;
    lock_release(&p->lock);
    return n;
}

void pool_free(struct pool **pool)
{
    struct pool *p = *pool;
    unsigned n;

    if (p == NULL)
        return;
    lock_take(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->work);
    n = p->nthreads;
    lock_release(&p->lock);
    for (unsigned i = 0; i < n; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->work);
    lock_fini(&p->lock);
    free(p->threads);
    free(p);
    *pool = NULL;
}
