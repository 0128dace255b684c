/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.c - see metrics.h. The region: a head with the clock of queue ids, then slots; a slot is taken by moving its
 * state from 0 to 1 (being named) to 2 (named). Names never change after that.
 */
#include "base/metrics.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mtime.h"

#define MAGIC         0x3153544dU /* "MTS1" */
#define NAMING_MS_MAX 200

struct slot {
    _Atomic uint32_t state;
    char name[METRICS_NAME_MAX];
    _Atomic int64_t value;
};

struct region {
    uint32_t magic;
    uint32_t slots;
    _Atomic int64_t last_us;
    struct slot slot[METRICS_SLOTS];
};

static struct region private_region = {.magic = MAGIC, .slots = METRICS_SLOTS};
static struct region *region = &private_region;
static _Atomic int64_t scratch;

int metrics_create(struct err *err)
{
    int fd = memfd_create("metrics", 0);
    uint32_t head[2] = {MAGIC, METRICS_SLOTS};

    if (fd == -1)
        return err_sys(err, "memfd_create");
    if (ftruncate(fd, sizeof(struct region)) == -1 ||
        fd_pwrite_all(fd, head, sizeof(head), 0) == -1) {
        err_sys(err, "metrics region");
        fd_close(&fd);
    }
    return fd;
}

int metrics_attach(int fd, struct err *err)
{
    struct stat st;
    struct region *r;

    if (fstat(fd, &st) == -1)
        return err_sys(err, "metrics region");
    if (st.st_size < (off_t) sizeof(*r))
        return err_input(err, "metrics region of another version");
    r = mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (r == MAP_FAILED)
        return err_sys(err, "map the metrics region");
    if (r->magic != MAGIC || r->slots != METRICS_SLOTS) {
        munmap(r, sizeof(*r));
        return err_input(err, "metrics region of another version");
    }
    region = r;
    return 0;
}

_Atomic int64_t *metrics_counter(const char *name)
{
    for (size_t i = 0; i < METRICS_SLOTS; i++) {
        struct slot *s = &region->slot[i];
        uint32_t state = 0;

        if (atomic_compare_exchange_strong(&s->state, &state, 1)) {
            snprintf(s->name, sizeof(s->name), "%s", name);
            atomic_store(&s->state, 2);
            return &s->value;
        }
        /* a process that died while naming a slot leaves it at 1: passed over after a while */
        for (int k = 0; k < NAMING_MS_MAX && atomic_load(&s->state) == 1; k++)
            (void) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        if (atomic_load(&s->state) == 2 && strncmp(s->name, name, sizeof(s->name) - 1) == 0)
            return &s->value;
    }
    return &scratch;
}

void metrics_add(_Atomic int64_t *counter, int64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

void metrics_each(void (*fn)(const char *name, int64_t value, void *arg), void *arg)
{
    for (size_t i = 0; i < METRICS_SLOTS; i++) {
        char name[METRICS_NAME_MAX];

        if (atomic_load(&region->slot[i].state) != 2)
            continue;
        /* a copy with an end: every worker can write to the region */
        memcpy(name, region->slot[i].name, sizeof(name) - 1);
        name[sizeof(name) - 1] = '\0';
        fn(name, atomic_load(&region->slot[i].value), arg);
    }
}

int64_t metrics_unique_us(void)
{
    int64_t now = wall_now().us;
    int64_t last = atomic_load(&region->last_us);
    int64_t next;

    do
        next = now > last ? now : last + 1;
    while (!atomic_compare_exchange_weak(&region->last_us, &last, next));
    return next;
}

void metrics_unique_raise(int64_t us)
{
    int64_t last = atomic_load(&region->last_us);

    while (last < us && !atomic_compare_exchange_weak(&region->last_us, &last, us))
        continue;
}
