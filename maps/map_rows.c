/* SPDX-License-Identifier: Apache-2.0 */
/* map_rows.c - rows in memory: what types share that keep a table of key -> heap string. */
#include "maps/map_int.h"

#include "base/htable.h"

enum map_result map_rows_lookup(const struct htable *rows, struct slice key, struct buf *value)
{
    const char *found = htable_get(rows, key);

    if (found == NULL)
        return MAP_NOTFOUND;
    buf_puts(value, found);
    return MAP_FOUND;
}

struct each {
    bool (*fn)(struct slice key, struct slice value, void *arg);
    void *arg;
};

static bool pass_on(struct slice key, void *value, void *arg)
{
    struct each *e = arg;

    return e->fn(key, slice_str(value), e->arg);
}

void map_rows_each(struct htable *rows, bool (*fn)(struct slice key, struct slice value, void *arg),
                   void *arg)
{
    struct each e = {fn, arg};

    htable_each(rows, pass_on, &e);
}
