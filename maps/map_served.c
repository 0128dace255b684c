/* SPDX-License-Identifier: Apache-2.0 */
/* map_served.c - see map_served.h. */
#include "maps/map_served.h"

#include <stdlib.h>

int map_served_open(const struct map_served_type *type, const char *path, struct map_env *env,
                    struct map_served *s, void *options, struct err *err)
{
    struct map_servers_config c = {.nservers = 0};
    struct vec servers = VEC_INIT;
    struct buf name = BUF_INIT(SIZE_MAX);
    int ret = -1;

    buf_printf(&name, "%s:%s", type->name, path);
    s->name = buf_take(&name);
    if (map_source_open(path, env, type->rows, type->nrows, options, &s->source, err) == 0 &&
        map_servers_defaults(env, &c, err) == 0) {
        ret = type->configure(s, env, &c, &servers, err);
        if (ret == -1)
            err_prefix(err, "%s: ", path);
    }
    if (ret == 0) {
        c.table = s->name;
        c.servers = (const char *const *) servers.items;
        c.nservers = servers.len;
        s->servers = map_servers_new(&c, type->ops, s);
    }
    vec_clear(&servers, free);
    vec_fini(&servers);
    return ret;
}

void map_served_disconnect(struct map_served *s)
{
    map_servers_free(&s->servers);
}

void map_served_close(struct map_served *s)
{
    map_served_disconnect(s);
    map_source_free(&s->source);
    free(s->name);
}

bool map_served_is_stale(void *table, const char *path)
{
    return map_source_is_stale(((const struct map_served *) table)->source, path);
}
