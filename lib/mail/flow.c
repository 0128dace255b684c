/* SPDX-License-Identifier: Apache-2.0 */
/* flow.c - see flow.h. */
#include "mail/flow.h"

#include <stdatomic.h>
#include <stddef.h>

#include "base/metrics.h"

#define TOKENS_MAX 1000 /* kept while nobody wants to enter */

/* Found once in each process; two threads that look for it find the same. */
static _Atomic int64_t *counter(_Atomic(_Atomic int64_t *) *slot, const char *name)
{
    _Atomic int64_t *c = atomic_load_explicit(slot, memory_order_relaxed);

    if (c == NULL) {
        c = metrics_counter(name);
        atomic_store_explicit(slot, c, memory_order_relaxed);
    }
    return c;
}

static _Atomic int64_t *backlog(void)
{
    static _Atomic(_Atomic int64_t *) slot;

    return counter(&slot, "qmgr_backlog");
}

static _Atomic int64_t *tokens(void)
{
    static _Atomic(_Atomic int64_t *) slot;

    return counter(&slot, "qmgr_backlog_tokens");
}

void flow_set_backlog(bool is_backlog)
{
    if ((atomic_load(backlog()) != 0) == is_backlog)
        return;
    atomic_store(tokens(), 0);
    atomic_store(backlog(), is_backlog ? 1 : 0);
}

void flow_left(void)
{
    if (atomic_load(backlog()) != 0 && atomic_load(tokens()) < TOKENS_MAX)
        atomic_fetch_add(tokens(), 1);
}

bool flow_must_pause(void)
{
    if (atomic_load(backlog()) == 0)
        return false;
    if (atomic_fetch_sub(tokens(), 1) > 0)
        return false;
    atomic_fetch_add(tokens(), 1);
    return true;
}
